"""CatBoost's oblivious trees as martlet's forest, whose compiled walk costs less than a call."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from martlet.formats.catboost_file import MAGIC, trees_of
from martlet.formats.forest import Forest, TreeSum
from martlet.native import find

_MOST_LEAVES = 1 << 21
_TREATMENTS = ("AsIs", "AsFalse", "AsTrue")  # of a missing value, by their numbers in a .cbm


@dataclass(frozen=True, slots=True)
class ObliviousTrees:
    """
    Trees in which all nodes of a level test the same border.

    Args:
        depths: Of each tree. Shape [trees].
        feature, border: What each split tests, tree by tree. Shape [splits].
        above: Whether a missing value lies above the border. Shape [splits].
    """

    depths: NDArray[np.int64]
    feature: NDArray[np.int32]
    border: NDArray[np.float32]
    above: NDArray[np.bool_]


def read(path: Path) -> ObliviousTrees | None:
    """Return the trees of a ``.cbm`` or JSON; None where they test more than numbers, or lie."""
    content = path.read_bytes()
    try:
        found = _from_cbm(content) if content.startswith(MAGIC) else _from_json(content)
    except (IndexError, KeyError, TypeError, ValueError, struct.error):
        return None  # CatBoost says what is wrong with it, or reads it all the same
    return found if found is not None and len(found.depths) else None


def _from_cbm(content: bytes) -> ObliviousTrees | None:
    """Source: CatBoost ``libs/model/flatbuffers/model.fbs`` and ``features.fbs``."""
    trees = trees_of(content)
    if len(trees.array(10, "<u4")):  # nodes of trees that grow leaf by leaf
        return None
    features = trees.tables(5)
    borders = [each.array(3, "<f4") for each in features]
    counts = [len(each) for each in borders]
    columns = np.repeat([each.number(2, "i", -1) for each in features], counts)
    treatment = np.repeat([each.number(5, "b", 0) for each in features], counts)
    # A split's number counts the borders of all features; categories and text come after them.
    split = trees.array(1, "<i4")
    return ObliviousTrees(
        trees.array(2, "<i4").astype(np.int64),
        columns.astype(np.int32)[split],
        np.concatenate(borders)[split],
        treatment[split] == _TREATMENTS.index("AsTrue"),
    )


def _from_json(content: bytes) -> ObliviousTrees | None:
    told = orjson.loads(content)
    trees = told["oblivious_trees"]
    splits = [split for tree in trees for split in tree["splits"] or ()]
    if any(split["split_type"] != "FloatFeature" for split in splits):
        return None
    columns = told["features_info"]["float_features"]
    tested = np.array([split["float_feature_index"] for split in splits], np.int64)
    above = np.array([each["nan_value_treatment"] == "AsTrue" for each in columns])
    return ObliviousTrees(
        np.array([len(tree["splits"] or ()) for tree in trees], np.int64),
        np.array([each["flat_feature_index"] for each in columns], np.int32)[tested],
        np.array([split["border"] for split in splits], np.float32),
        above[tested],
    )


def sum_of(trees: ObliviousTrees, values: NDArray[np.float64], features: int) -> TreeSum | None:
    """
    Return what adds up *trees* as CatBoost does, before scale and bias.

    None where they are very many, where the numbers do not fit each other, and without the
    compiled walk.

    Args:
        values: Of the leaves, tree by tree, as CatBoost read them (from JSON not to the last
            bit). Bit i of a leaf's place: above the border of split i. Shape [leaves, outputs].
        features: Columns of the rows.
    """
    depths = trees.depths
    if find("forest") is None or depths.min() < 0 or depths.max() > 16:
        return None
    leaves = 1 << depths
    fits = len(trees.border) == depths.sum() and len(values) == leaves.sum()
    if not fits or leaves.sum() > _MOST_LEAVES or not _within(trees.feature, features):
        return None
    first, node, leaf = (np.cumsum([0, *each]) for each in (depths, leaves - 1, leaves))
    levels, children = [], []
    for tree, depth in enumerate(depths.tolist()):
        level, below = _shape(depth)
        levels.append(level + first[tree])
        children.append(np.where(below >= 0, below + node[tree], below - leaf[tree]))
    split = np.concatenate(levels)
    low, high = np.concatenate(children).T
    forest = Forest(
        features=features,
        float32=True,
        roots=np.where(depths == 0, -leaf[:-1] - 2, node[:-1]).astype(np.int32),
        feature=trees.feature[split],
        threshold=trees.border[split].astype(np.float64),
        children=np.stack([low, high, np.where(trees.above[split], high, low)], 1).astype(np.int32),
        set_of=np.full(len(split), -1, np.int32),
        sets=np.zeros((0, 3), np.int64),
        words=np.zeros(0, np.uint64),
    )
    return forest.sum(values)


def _within(feature: NDArray[np.int32], features: int) -> bool:
    return bool(((feature >= 0) & (feature < features)).all())


@cache
def _shape(depth: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the level of each node of one tree, and its children, up to the border and above."""
    levels, children = [np.zeros(0, np.int64)], [np.zeros((0, 2), np.int64)]
    for level in range(depth):
        path = np.arange(1 << level)
        both = np.stack([path, path + (1 << level)], 1)
        last = level == depth - 1
        children.append(-both - 2 if last else both + (2 << level) - 1)
        levels.append(np.full(1 << level, level))
    return np.concatenate(levels), np.concatenate(children)
