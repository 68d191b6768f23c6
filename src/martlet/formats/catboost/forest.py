"""CatBoost's trees as martlet's forest, whose compiled walk costs less than a call."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.formats.catboost.cityhash import text_of
from martlet.formats.catboost.content import Content, Nodes
from martlet.formats.catboost.counted import known_categories, widened
from martlet.formats.catboost.ctrs import Ctrs
from martlet.formats.lightgbm.forest import hard_rows
from martlet.formats.trees.forest import Forest, TreeSum
from martlet.native import find

_MOST_LEAVES = 1 << 21
_DEEPEST = 16  # of a tree whose levels test one border each
# A cell of rows with categories costs CatBoost as much as the walk of so many trees here.
_TREES_A_CELL = 4
_HALF = np.array([0.5], np.float32)

Longs = NDArray[np.int64]
Shape = tuple[Longs, Longs, Longs, Longs]
"""The root of each tree; of each node its split, and its children: up to the border, and above."""


@dataclass(frozen=True, slots=True, eq=False)
class Walk:
    """
    The trees of a file as martlet walks them.

    Args:
        trees: They add up what CatBoost does, before scale and bias.
        ctrs: What makes the columns of a row; None where they are its features, all numbers.
        cost: What a row costs here in trees walked (not down by vectors), less what the row itself
            costs CatBoost.
    """

    trees: TreeSum
    ctrs: Ctrs | None
    cost: int

    def __call__(self, rows: Any) -> NDArray[np.float64] | None:
        """
        Return the sums of rows, ``[rows, outputs]``; None where a category is no text.

        Args:
            rows: A matrix of numbers, or with categories a list of columns.
        """
        columns = rows if self.ctrs is None else self.ctrs.rows(rows)
        return None if columns is None else self.trees(columns)

    def probes(self, content: Content) -> Any:
        """Return rows on which two walks would part, with categories of which most are known."""
        rows = hard_rows(self.trees.forest)
        if self.ctrs is None:
            return rows.astype(np.float32)
        columns = list(rows.T[: self.ctrs.features])
        dice = np.random.default_rng(0)
        for category, hashes in known_categories(content).items():
            texts = [text_of(each) for each in dice.permutation(hashes)[: len(rows)].tolist()]
            some = dice.integers(0, len(texts) + 1, len(rows))
            columns[content.categories[category]] = np.array([*texts, b""], object)[some]
        return columns


def walk_of(content: Content, values: NDArray[np.float64], features: int) -> Walk | None:
    """
    Return the walk of the trees of a file, to be proved.

    None where they are very many or their tables very large, where its parts do not fit each
    other, and without the compiled walk.

    Args:
        content: Of the file.
        values: Of the leaves, tree by tree, as CatBoost read them (from JSON not to the last
            bit). Shape [leaves, outputs].
        features: Columns of a row as it comes.
    """
    if find("forest") is None or (content.categories and find("ctrs") is None):
        return None
    try:
        splits = splits_of(content, features)
    except (IndexError, KeyError):
        return None  # CatBoost says what is wrong with it, or reads it all the same
    if splits is None:
        return None
    trees = sum_of(content, splits, values)
    if trees is None:
        return None
    cells = 0 if splits.ctrs is None else features
    # Trees that grew leaf by leaf cost CatBoost twice what they cost here, for any number of rows,
    # and those that go down by vectors too.
    walked = trees.forest.trees - trees.forest.kept if content.nodes is None else 0
    return Walk(trees, splits.ctrs, walked - _TREES_A_CELL * cells)


@dataclass(frozen=True, slots=True, eq=False)
class Splits:
    """
    What the splits of all trees test.

    Args:
        columns: Of a row.
        feature, border: One of those, and what lies in it up to here or above. Shape [splits].
        above: Whether a missing value lies above. Shape [splits].
        ctrs: What makes the columns; None where they are the features, all numbers.
    """

    columns: int
    feature: NDArray[np.int32]
    border: NDArray[np.float32]
    above: NDArray[np.bool_]
    ctrs: Ctrs | None


def splits_of(content: Content, features: int) -> Splits | None:
    """
    Return what trees test; None where that is nothing, or tables of categories are very large.

    Args:
        content: Of the file.
        features: Columns of a row as it comes.

    Raises:
        IndexError, KeyError: something is tested that is not there.
    """
    wide = widened(content, features) if content.categories else None
    tests = [(each.column, each.borders, each.nan_is_above) for each in content.numbers.values()]
    if wide is not None:
        ctrs = zip(wide.places, content.ctrs, strict=True)
        tests += [(column, _HALF, False) for column in wide.equal]
        tests += [(column, ctr.borders, False) for column, ctr in ctrs]
    if not tests or (content.categories and wide is None):
        return None
    columns, borders, above = zip(*tests, strict=True)
    counts = [len(each) for each in borders]
    # Where a row of a tree that grew leaf by leaf ends, nothing is tested.
    split = content.splits if content.nodes is None else content.splits.clip(0, sum(counts) - 1)
    if split.min(initial=0) < 0:
        raise IndexError(f"split {split.min()}")
    return Splits(
        wide.ctrs.columns if wide is not None else features,
        np.repeat(columns, counts).astype(np.int32)[split],
        np.concatenate(borders)[split],
        np.repeat(above, counts)[split],
        wide.ctrs if wide is not None else None,
    )


def sum_of(content: Content, splits: Splits, values: NDArray[np.float64]) -> TreeSum | None:
    """Return what adds up the trees; None where they are very many, or do not fit each other."""
    feature, sizes = splits.feature, content.sizes
    fits = len(feature) == sizes.sum() and sizes.min(initial=0) >= 0
    if not fits or not len(sizes) or len(values) > _MOST_LEAVES:
        return None
    if feature.min(initial=0) < 0 or feature.max(initial=0) >= splits.columns:
        return None
    if content.nodes is None:
        shape = _level_by_level(sizes, len(values))
    else:
        shape = _leaf_by_leaf(sizes, content.nodes, values.shape[1])
    if shape is None:
        return None
    roots, split, low, high = shape
    forest = Forest(
        features=splits.columns,
        float32=True,
        roots=roots.astype(np.int32),
        feature=feature[split],
        threshold=splits.border[split].astype(np.float64),
        children=np.stack([low, high, np.where(splits.above[split], high, low)], 1).astype(
            np.int32
        ),
        set_of=np.full(len(split), -1, np.int32),
        sets=np.zeros((0, 3), np.int64),
        words=np.zeros(0, np.uint64),
    )
    return forest.sum(values) if forest.answers <= len(values) else None


def _level_by_level(depths: Longs, leaves_told: int) -> Shape | None:
    """Bit i of a leaf's place in its tree: above the border of level i."""
    if depths.max() > _DEEPEST or (1 << depths).sum() != leaves_told:
        return None
    leaves = 1 << depths
    first, node, leaf = (np.cumsum([0, *each]) for each in (depths, leaves - 1, leaves))
    levels, children = [], []
    for tree, depth in enumerate(depths.tolist()):
        level, below = _shape(depth)
        levels.append(level + first[tree])
        children.append(np.where(below >= 0, below + node[tree], below - leaf[tree]))
    low, high = np.concatenate(children).T
    return np.where(depths == 0, -leaf[:-1] - 2, node[:-1]), np.concatenate(levels), low, high


def _leaf_by_leaf(sizes: Longs, nodes: Nodes, outputs: int) -> Shape | None:
    steps, count = nodes.steps, len(nodes.steps)
    if count != sizes.sum() or len(nodes.value) != count or sizes.min() < 1:
        return None
    inner = (steps[:, 0] != 0) | (steps[:, 1] != 0)
    to = np.arange(count)[:, np.newaxis] + steps
    if to.max() >= count or nodes.value[~inner].min(initial=0) < 0:
        return None
    ends, number = -(nodes.value // outputs) - 2, np.cumsum(inner) - 1
    child = np.where((steps == 0) | ~inner[to], ends[to], number[to])
    start = np.cumsum(sizes) - sizes
    roots = np.where(inner[start], number[start], ends[start])
    return roots, np.flatnonzero(inner).astype(np.int64), child[inner, 0], child[inner, 1]


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
