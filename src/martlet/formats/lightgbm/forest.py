"""LightGBM's trees as martlet's forest, whose compiled walk is several times faster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from martlet.formats.lightgbm.text import CATEGORICAL, Tree
from martlet.formats.trees.forest import Floats, Forest, TreeSum
from martlet.native import find

_GOES_LEFT, _ZERO, _NAN = 2, 1, 2
_NEAR_ZERO = float(np.float32(1e-35))


@dataclass(frozen=True, slots=True, eq=False)
class Walk:
    """
    LightGBM's sums of its trees.

    Args:
        zeros: The columns in which zero is a missing value. Shape [some features].
        coded: The columns of categories. Shape [some features].
    """

    trees: TreeSum
    zeros: NDArray[np.int64]
    coded: NDArray[np.int64]

    def __call__(self, rows: Floats) -> Floats:
        """Return the sums of each row. Shape [rows, outputs]."""
        if self.zeros.size:
            rows = np.array(rows)  # the caller's stay as they are
            some = rows[:, self.zeros]
            some[np.abs(some) <= _NEAR_ZERO] = np.nan
            rows[:, self.zeros] = some
        return self.trees(rows)

    def probes(self) -> Floats:
        """Return rows on which two walks would part; categories known, unknown and no numbers."""
        forest = self.trees.forest
        rows, dice = hard_rows(forest), np.random.default_rng(1)
        for column in self.coded:
            words = forest.sets[forest.set_of[forest.feature == column], 2]
            codes = dice.integers(-1, 64 * int(words.max(initial=0)) + 2, len(rows))
            odd = dice.choice([0.0, 0.5, -0.5, np.nan, 1e10], len(rows), p=[0.8, *[0.05] * 4])
            rows[:, column] = codes + odd
        return rows


def walk_of(trees: Sequence[Tree], features: int, classes: int) -> Walk | None:
    """
    Return what adds up *trees* as LightGBM does; None where the forest has not their tests.

    Those are linear leaves, and a feature of which trees disagree what is missing, or whether it
    is a category. None, too, for large trees of many categories, where LightGBM's own walk is as
    fast; and without the compiled walk.
    """
    if find("forest") is None or not trees or not all(tree.plain for tree in trees):
        return None
    if any(tree.sets is None for tree in trees):
        return None
    kinds = np.concatenate([tree.kinds for tree in trees])
    feature = np.concatenate([tree.feature for tree in trees])
    in_set = (kinds & CATEGORICAL) != 0
    missing = kinds >> 2 & 3
    zeros = np.unique(feature[(missing == _ZERO) & ~in_set])
    coded = np.unique(feature[in_set])
    nan = feature[(missing == _NAN) & ~in_set]
    if np.isin(nan, zeros).any() or np.isin(feature[~in_set], coded).any():
        return None
    nodes = np.cumsum([0, *(len(tree.feature) for tree in trees)])
    leaves = np.cumsum([0, *(len(tree.values) for tree in trees)])
    threshold = np.concatenate([tree.threshold for tree in trees])
    number = np.where(in_set, threshold, 0).astype(np.int64)
    # LightGBM takes values this near to zero for zero: so no threshold parts them from it.
    threshold[(threshold >= -_NEAR_ZERO) & (threshold < 0)] = np.nextafter(-_NEAR_ZERO, -np.inf)
    threshold[(threshold >= 0) & (threshold < _NEAR_ZERO)] = _NEAR_ZERO
    places = list(zip(trees, nodes[:-1], leaves[:-1], strict=True))
    left = np.concatenate([_placed(tree.left, node, leaf) for tree, node, leaf in places])
    right = np.concatenate([_placed(tree.right, node, leaf) for tree, node, leaf in places])
    # NaN is 0 where training saw none, and no category.
    goes_left = np.where(missing == 0, threshold >= 0, kinds & _GOES_LEFT) != 0
    single = np.diff(nodes) == 0
    sets = [_words(each) for tree in trees for each in tree.sets or ()]
    first_set = np.cumsum([0, *(len(tree.sets or ()) for tree in trees)])
    sizes = np.array([len(each) for each in sets], np.int64)
    forest = Forest(
        features=features,
        float32=False,
        roots=np.where(single, -leaves[:-1] - 2, nodes[:-1]).astype(np.int32),
        feature=feature.astype(np.int32),
        threshold=np.where(in_set, 0.0, threshold),
        children=np.stack([left, right, np.where(goes_left & ~in_set, left, right)], 1).astype(
            np.int32
        ),
        set_of=np.where(in_set, number + np.repeat(first_set[:-1], np.diff(nodes)), -1).astype(
            np.int32
        ),
        sets=np.stack([np.cumsum(sizes) - sizes, np.zeros_like(sizes), sizes], 1),
        words=np.concatenate([np.zeros(0, np.uint64), *sets]),
        truncates=True,
    )
    if (forest.sets[:, 2] > 1).any() and forest.kept * 2 < forest.trees:
        return None
    values = np.concatenate([tree.values for tree in trees])
    added = forest.sum(values, target=np.arange(len(trees)) % classes, start=np.zeros(classes))
    return Walk(added, zeros, coded)


def _words(halves: NDArray[np.uint32]) -> NDArray[np.uint64]:
    """Return a set's bits in words of 64, without empty ones at the end."""
    padded = np.zeros((len(halves) + 1) // 2 * 2, np.uint64)
    padded[: len(halves)] = halves
    words = padded[::2] | padded[1::2] << np.uint64(32)
    return words[: int(np.flatnonzero(words).max(initial=-1)) + 1]


def _placed(child: NDArray[np.int64], node: int, leaf: int) -> NDArray[np.int64]:
    """Return children numbered through all trees: nodes from 0, leaves from -2 down."""
    return np.where(child < 0, child - leaf - 1, child + node)


def hard_rows(forest: Forest, count: int = 300) -> Floats:
    """Return rows on which two walks would part: on thresholds, beside them, missing, infinite."""
    dice = np.random.default_rng(0)
    rows = dice.normal(size=(count, forest.features))
    order = np.argsort(forest.feature, kind="stable")
    edges = np.searchsorted(forest.feature[order], np.arange(forest.features + 1))
    for feature in np.unique(forest.feature):
        known = forest.threshold[order[edges[feature] : edges[feature + 1]]]
        if len(known):
            some = dice.choice(known, count)
            beside = np.nextafter(some, dice.choice([-np.inf, np.inf], count))
            rows[:, feature] = np.where(dice.random(count) < 0.5, some, beside)
    odd = dice.choice([np.nan, 0.0, -0.0, np.inf, -np.inf], rows.shape)
    return np.where(dice.random(rows.shape) < 0.15, odd, rows)
