"""Trees, forests and boosted trees, as Spark and MLeap keep them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from martlet.errors import UnsupportedModel
from martlet.formats.stages.classes import (
    Chooser,
    Logistic,
    Mirrored,
    Names,
    argmax_choice,
    classifier,
    regressor,
)
from martlet.formats.stages.stage import Kind, Port, Stage
from martlet.formats.stages.vectors import Dense, Floats, Ints, Vector, picked
from martlet.formats.trees.builder import Trees
from martlet.formats.trees.forest import Forest, TreeSum

_WIDE = 512


@dataclass(frozen=True, slots=True)
class Split:
    """``x <= threshold`` goes left; or, with *size* categories, x among *left* goes left."""

    feature: int
    threshold: float = 0.0
    left: tuple[int, ...] = ()
    size: int = -1


@dataclass(frozen=True, slots=True)
class Node:
    """
    A node of a tree: *split* and the places of its children in the tree's list, or a leaf.

    Args:
        prediction: What the leaf answers.
        stats: Of a classifier's leaf the weight of each class.
        impurity: Of a regressor's leaf the variance.
    """

    prediction: float
    stats: tuple[float, ...] = ()
    impurity: float = 0.0
    split: Split | None = None
    children: tuple[int, int] = (-1, -1)


class _Ids(dict[int, int]):
    """The ids that nodes have in the forest under construction, each reserved when first asked."""

    def __init__(self, built: Trees) -> None:
        super().__init__()
        self._built = built

    def __missing__(self, node: int) -> int:
        self[node] = self._built.reserve()
        return self[node]


class Ensemble:
    """
    Trees over vectors of *width* numbers; the first node of each list is the root.

    NaN goes right at a threshold. A category in neither half goes to the half that Spark did not
    write down as a set, which is the larger one.
    """

    def __init__(self, name: str, trees: Sequence[Sequence[Node]], width: int) -> None:
        if not trees or not all(trees):
            raise UnsupportedModel(f"{name} holds a tree without nodes")
        tested = sorted({node.split.feature for tree in trees for node in tree if node.split})
        if tested and not (tested[0] >= 0 and (width < 0 or tested[-1] < width)):
            raise UnsupportedModel(f"{name}: a tree tests feature {tested[-1]} of {width}")
        # Of very wide vectors only the columns that some tree tests are spread out.
        self._columns: Ints | None = None
        if width < 0 or width > _WIDE:
            self._columns = np.array(tested or [0], dtype=np.int64)
        self.width = width
        self.leaves: list[Node] = []
        self._number: list[int] = []
        place = None if self._columns is None else {c: i for i, c in enumerate(tested)}
        built = Trees(width if place is None else max(1, len(tested)))
        for tree in trees:
            self._add(name, built, tree, place)
        self.forest: Forest = built.build()

    def _add(
        self, name: str, built: Trees, tree: Sequence[Node], place: dict[int, int] | None
    ) -> None:
        ids = _Ids(built)
        visited: set[int] = set()
        pending = [0]
        leaves = 0
        while pending:
            i = pending.pop()
            if i in visited:
                raise UnsupportedModel(f"{name}: two nodes of a tree point to node {i}")
            visited.add(i)
            node = tree[i]
            if node.split is None:
                built.leaf(len(self.leaves), at=ids[i])
                self.leaves.append(node)
                self._number.append(leaves)
                leaves += 1
                continue
            left, right = node.children
            if not (0 <= left < len(tree) and 0 <= right < len(tree)):
                raise UnsupportedModel(f"{name}: a tree points outside itself")
            pending.extend((right, left))
            feature = node.split.feature if place is None else place[node.split.feature]
            if node.split.size < 0:
                built.compare(
                    feature, "<=", node.split.threshold,
                    yes=ids[left], no=ids[right], missing=ids[right], at=ids[i],
                )  # fmt: skip
            elif len(node.split.left) <= node.split.size // 2:
                built.member(
                    feature, node.split.left,
                    yes=ids[left], no=ids[right], missing=ids[right], at=ids[i],
                )  # fmt: skip
            else:
                rest = set(range(node.split.size)) - set(node.split.left)
                built.member(
                    feature, rest, yes=ids[right], no=ids[left], missing=ids[left], at=ids[i]
                )
        built.add(ids[0])

    def matrix(self, x: Vector) -> Floats:
        """Return the columns that the trees test."""
        if self._columns is None:
            return x.dense()
        return picked(x, self._columns)

    @property
    def columns(self) -> Ints | None:
        """The columns of the vectors that the forest's are; None: all, in order."""
        return self._columns

    @property
    def numbers(self) -> Sequence[int]:
        """The number that each answer of the forest has in its tree, counted from the left."""
        return self._number

    def adder(self, values: Floats, weights: Sequence[float] | None) -> Added:
        """Return what sums *values* [leaves, k], each tree times its weight. [rows, k]."""
        return Added(self, self.forest.sum(values, weights=weights))

    def leaf_numbers(self, x: Vector) -> Floats:
        """Return the number of the leaf, counted from the left in its tree. [rows, trees]."""
        number = np.array(self._number, dtype=np.float64)
        return np.asarray(number[self.forest.leaves(self.matrix(x))])


@dataclass(frozen=True, slots=True)
class Added:
    """The sums of an ensemble's trees; [rows, outputs], or of one output [rows] where *flat*."""

    trees: Ensemble
    sum: TreeSum
    flat: bool = False

    def __call__(self, x: Vector) -> Floats:
        found: Floats = self.sum(self.trees.matrix(x))
        return found[:, 0] if self.flat else found


def shares(raw: Floats) -> Floats:
    """Return each row's numbers over their sum; of a row of zeros, zeros."""
    total = raw.sum(axis=1, keepdims=True)
    return np.asarray(np.divide(raw, total, out=np.zeros_like(raw), where=total != 0))


@dataclass(frozen=True, slots=True)
class LeafNumbers:
    """The number of the leaf in each tree, or as one column of a *single* tree."""

    trees: Ensemble
    single: bool

    def __call__(self, x: Vector) -> tuple[Any, ...]:
        found = self.trees.leaf_numbers(x)
        return (found[:, 0] if self.single else Dense(found),)


@dataclass(frozen=True, slots=True)
class Spread:
    """The variance of a tree's leaf, then what *more* gives."""

    variance: Added
    more: LeafNumbers | None

    def __call__(self, x: Vector) -> tuple[Any, ...]:
        return (self.variance(x), *(() if self.more is None else self.more(x)))


def _leaf_column(
    trees: Ensemble, column: str, single: bool
) -> tuple[tuple[Port, ...], LeafNumbers | None]:
    if not column:
        return (), None
    port = Port(column, Kind.NUMBER) if single else Port(column, Kind.VECTOR, trees.forest.trees)
    return (port,), LeafNumbers(trees, single)


def voting(
    name: str,
    trees: Ensemble,
    names: Names,
    classes: int,
    choose: Chooser,
    *,
    weights: Sequence[float] | None = None,
    single: bool = False,
    leaf: str = "",
) -> Stage:
    """
    Return the classifier in which each leaf votes with its class weights.

    Args:
        single: One tree, whose scores are the leaf's weights as they are; in a forest each
            tree's weights are divided by their sum first.
        leaf: The column for the leaf numbers, "" for none.
    """
    stats = np.array([(*node.stats, *[0.0] * (classes - len(node.stats))) for node in trees.leaves])
    if stats.shape[1] != classes:
        raise UnsupportedModel(f"{name}: a leaf has {stats.shape[1]} classes, not {classes}")
    totals = stats.sum(axis=1, keepdims=True)
    if not single:
        stats = np.divide(stats, totals, out=np.zeros_like(stats), where=totals != 0)

    extra, more = _leaf_column(trees, leaf, single)
    score = trees.adder(stats, weights)
    return classifier(name, names, trees.width, classes, score, shares, choose, extra, more)


def boosted_classifier(
    name: str,
    trees: Ensemble,
    names: Names,
    weights: Sequence[float],
    choose: Chooser = argmax_choice,
    *,
    leaf: str = "",
) -> Stage:
    """Return the two-class classifier whose margin is the trees' weighted sum."""
    margin = replace(trees.adder(_predictions(trees), weights), flat=True)
    extra, more = _leaf_column(trees, leaf, single=False)
    return classifier(
        name,
        names,
        trees.width,
        2,
        Mirrored(margin),
        # The logistic loss that Spark boosts with is log(1 + exp(-2 y m)).
        Logistic(2.0),
        choose,
        extra,
        more,
    )


def tree_regressor(
    name: str,
    trees: Ensemble,
    features: str,
    prediction: str,
    weights: Sequence[float],
    *,
    single: bool = False,
    leaf: str = "",
    variance: str = "",
) -> Stage:
    """Return the regressor that adds the trees' answers times *weights*."""
    score = replace(trees.adder(_predictions(trees), weights), flat=True)
    extra, more = _leaf_column(trees, leaf, single)
    if variance:
        impurity = np.array([[node.impurity] for node in trees.leaves])
        spread = Spread(replace(trees.adder(impurity, None), flat=True), more)
        ports = (Port(variance, Kind.NUMBER), *extra)
        return regressor(name, features, trees.width, prediction, score, ports, spread)
    return regressor(name, features, trees.width, prediction, score, extra, more)


def _predictions(trees: Ensemble) -> Floats:
    return np.array([[node.prediction] for node in trees.leaves])
