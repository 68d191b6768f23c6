"""CatBoost's oblivious trees as martlet's forest, whose compiled walk costs less than a call."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from martlet.formats.catboost_content import Content
from martlet.formats.catboost_counted import widened
from martlet.formats.catboost_ctrs import Ctrs
from martlet.formats.forest import Forest, TreeSum
from martlet.native import find

_MOST_LEAVES = 1 << 21
_HALF = np.array([0.5], np.float32)


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


def trees_of(content: Content, features: int) -> tuple[ObliviousTrees, Ctrs | None] | None:
    """
    Return the trees of a file, and what makes of a row the columns that they test.

    None where the tables of categories are very large. There are no `Ctrs` where every feature is
    a number: then the columns are the features.

    Args:
        content: Of the file.
        features: Columns of a row as it comes.

    Raises:
        IndexError, KeyError: something is tested that is not there.
    """
    wide = widened(content, features) if content.categories else None
    if not len(content.depths) or (content.categories and wide is None):
        return None
    tests = [(each.column, each.borders, each.nan_is_above) for each in content.numbers.values()]
    if wide is not None:
        tests += [(column, _HALF, False) for column in wide.equal]
        tests += [
            (column, ctr.borders, False)
            for column, ctr in zip(wide.places, content.ctrs, strict=True)
        ]
    columns, borders, above = zip(*tests, strict=True)
    counts = [len(each) for each in borders]
    split = content.splits
    if split.min(initial=0) < 0:
        raise IndexError(f"split {split.min()}")
    return (
        ObliviousTrees(
            content.depths,
            np.repeat(columns, counts).astype(np.int32)[split],
            np.concatenate(borders)[split],
            np.repeat(above, counts)[split],
        ),
        wide.ctrs if wide is not None else None,
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
