"""Decision trees as flat arrays, and their evaluation: the one engine of every reader of trees.

:mod:`martlet.formats.trees.builder` builds a :class:`Forest`; the compiled twin of what follows is
``native/forest.c``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from martlet.errors import InvalidInput, UnsupportedModel
from martlet.native import find

Floats = NDArray[np.float64]
Rows = NDArray[np.floating[Any]]
"""float64 or float32; NaN is a missing value. Shape [rows, features]."""
Row = Sequence[float | None] | Rows
"""One row: a list or tuple of numbers (None is missing), or an array. Shape [features]."""

YES, NO, MISSING = 0, 1, 2
"""The columns of :attr:`Forest.children`: the test holds; it does not; the value is NaN."""

_MOST_NODES = (2**31 - 1) // 24
_CELLS = 1 << 18  # of [rows, trees] that the numpy path walks at a time


@dataclass(frozen=True, slots=True, eq=False)
class Forest:
    """
    Binary trees over a matrix [rows, features] in which NaN is a missing value.

    A child or root below zero is a leaf with the answer ``-child - 2``. An answer is the
    reader's own number for what a row ends at, -1 where it ends at nothing. Children come after
    their parents, so no walk can turn in a circle; a node may have several parents.

    Keep answers dense: every number up to the largest takes room.

    Args:
        features: Columns of the matrix.
        float32: Values are rounded to float32 before they are compared.
        roots: The first node of each tree. Shape [trees].
        feature: The column that each node tests. Shape [nodes].
        threshold: The test holds where ``x <= threshold``. Shape [nodes].
        children: Where a row goes by :data:`YES`, :data:`NO`, :data:`MISSING`. Shape [nodes, 3].
        set_of: Where >= 0, the test is instead that the value is a code of this set. Shape [nodes].
        sets: Start, base and size in 64-bit words of *words*: bit b of word start + w says
            whether code (base + w) * 64 + b belongs. Shape [sets, 3].
        words: The bits of all sets. Shape [words].
        truncates: The code of a value is what it is rounded to, towards zero; or else only whole
            numbers are codes.

    Raises:
        UnsupportedModel: an index is out of range, a child comes before its parent, or nodes and
            answers together are more than 89 million.
    """

    features: int
    float32: bool
    roots: NDArray[np.int32]
    feature: NDArray[np.int32]
    threshold: Floats
    children: NDArray[np.int32]
    set_of: NDArray[np.int32]
    sets: NDArray[np.int64]
    words: NDArray[np.uint64]
    truncates: bool = False
    answers: int = field(init=False)
    """One more than the largest answer."""
    _native: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._check()
        last = min(int(self.children.min(initial=-1)), int(self.roots.min(initial=-1)))
        object.__setattr__(self, "answers", -last - 1)
        if len(self.feature) - last > _MOST_NODES:
            raise UnsupportedModel(
                f"{len(self.feature)} tree nodes with answers up to {self.answers - 1} are too many"
            )
        native = find("forest")
        object.__setattr__(
            self,
            "_native",
            native
            and native.Forest(
                self.features,
                self.float32,
                self.truncates,
                self.roots,
                self.feature,
                self.threshold,
                self.children,
                self.set_of,
                self.sets,
                self.words,
            ),
        )

    @property
    def trees(self) -> int:
        """How many there are."""
        return len(self.roots)

    @property
    def kept(self) -> int:
        """How many of them are compiled for many rows at once, by the vectors of this machine."""
        return 0 if self._native is None else int(self._native.kept())

    def leaves(self, x: Rows) -> NDArray[np.int32]:
        """
        Return the answer that each row ends at in each tree, -1 for none. Shape [rows, trees].

        Raises:
            InvalidInput: *x* is no float matrix [rows, features].
        """
        x = self._matrix(x)
        out = np.empty((len(x), self.trees), np.int32)
        if self._native is not None:
            self._native.leaves(x, out)
        else:
            for some in self._blocks(len(x)):
                out[some] = self._walk(x[some])
        return out

    def leaves_of(self, row: Row) -> list[int]:
        """
        Return the answers for one row, [trees]: :meth:`leaves` without the cost of arrays.

        Raises:
            InvalidInput: *row* does not have one number for each feature.
        """
        if self._native is None:
            answers: list[int] = self._walk(self._matrix_of(row))[0].tolist()
            return answers
        try:
            found: list[int] = self._native.row(row)
        except (TypeError, ValueError, OverflowError) as exc:
            raise self._misfit(row) from exc
        return found

    def sum(
        self,
        values: ArrayLike,
        *,
        target: ArrayLike | None = None,
        weights: ArrayLike | None = None,
        start: ArrayLike = 0.0,
        no_answer: float = np.nan,
        float32: bool = False,
    ) -> TreeSum:
        """
        Return what adds up *values* over the trees: start, and weight times value of each tree.

        Added in the order of the trees, in float64, or in float32 as XGBoost does and as PMML's
        ``x-mathContext="float"`` asks.

        Args:
            values: What an answer adds to every output, [answers, outputs]; with *target*, what
                it adds to its tree's output, [answers].
            target: The output that each tree adds to, [trees].
            weights: Of each tree, [trees]; 1 by default.
            start: Of each output, [outputs], or one for all.
            no_answer: What answer -1 adds: NaN makes the sum missing, 0 passes over the tree.
            float32: Every product and sum is rounded to float32.

        Raises:
            UnsupportedModel: the shapes do not fit the forest.
        """
        table = np.ascontiguousarray(values, np.float64)
        columns = None if target is None else np.ascontiguousarray(target, np.int32)
        if table.ndim != (2 if columns is None else 1) or len(table) < self.answers:
            raise UnsupportedModel(
                f"values of shape {list(table.shape)} do not fit a forest of {self.answers} answers"
            )
        table = table[: self.answers]
        if columns is None:
            outputs = table.shape[1]
        else:
            outputs = max(int(columns.max(initial=0)) + 1, np.size(start))
            if columns.shape != (self.trees,) or columns.min(initial=0) < 0:
                raise UnsupportedModel(f"target of shape {list(columns.shape)} or below 0")
        factors = np.ones(self.trees) if weights is None else np.array(weights, np.float64)
        if factors.shape != (self.trees,) or np.size(start) not in (1, outputs) or outputs == 0:
            raise UnsupportedModel(
                f"{np.size(factors)} weights and {np.size(start)} starts do not fit "
                f"{self.trees} trees and {outputs} outputs"
            )
        begin = np.array(np.broadcast_to(np.asarray(start, np.float64).reshape(-1), (outputs,)))
        # Last, so that answer -1 finds it.
        table = np.concatenate([table, np.full_like(table, no_answer, shape=(1, *table.shape[1:]))])
        if float32:
            table, factors, begin = (
                each.astype(np.float32).astype(np.float64) for each in (table, factors, begin)
            )
        return TreeSum(self, table, columns, factors, begin, float32)

    def _matrix(self, x: Rows) -> Rows:
        if x.dtype != np.float32 or x.ndim != 2:
            x = np.asarray(x, np.float64)
        if x.ndim != 2 or x.shape[1] != self.features:
            raise InvalidInput(
                f"a matrix of shape {list(x.shape)}; the trees take [rows, {self.features}]"
            )
        return x if x.flags.forc and x.flags.aligned else np.require(x, requirements=("C", "A"))

    def _matrix_of(self, row: Row) -> Rows:
        try:
            values = np.asarray(row, np.float64)
        except (TypeError, ValueError, OverflowError) as exc:
            raise self._misfit(row) from exc
        if values.shape != (self.features,):
            raise self._misfit(row)
        return values.reshape(1, -1)

    def _misfit(self, row: Row) -> InvalidInput:
        return InvalidInput(
            f"a row of {np.size(np.asarray(row, object))} values; the trees take one number (or "
            f"None) for each of {self.features} features"
        )

    def _blocks(self, rows: int) -> list[slice]:
        most = max(1, _CELLS // max(1, self.trees))
        return [slice(at, at + most) for at in range(0, rows, most)]

    def _walk(self, x: Rows) -> NDArray[np.int32]:
        """Walk all trees level by level. Shape [rows, trees]."""
        with np.errstate(over="ignore"):
            x = x.astype(np.float32 if self.float32 else np.float64, copy=False)
        at = np.repeat(self.roots[np.newaxis], len(x), axis=0).ravel()
        live = np.flatnonzero(at >= 0)
        while live.size:
            node = at[live]
            value = x[live // self.trees, self.feature[node]]
            which = np.where(value <= self.threshold[node], YES, NO)
            in_set = np.flatnonzero(self.set_of[node] >= 0)
            if in_set.size:
                member = self._is_member(self.set_of[node[in_set]], value[in_set])
                which[in_set] = np.where(member, YES, NO)
            which[np.isnan(value)] = MISSING
            node = self.children[node, which]
            at[live] = node
            live = live[node >= 0]
        return (-at - 2).reshape(len(x), self.trees)

    def _is_member(self, sets: NDArray[np.int32], value: Rows) -> NDArray[np.bool_]:
        start, base, size = self.sets[sets].T
        with np.errstate(invalid="ignore"):
            in_range = (value > -1) & (value < 2.0**31)
            codes = np.where(in_range, value, -1).astype(np.int64)
        word = codes // 64 - base
        known = in_range & (self.truncates | (codes == value)) & (word >= 0) & (word < size)
        bits = self.words[np.where(known, start + word, 0)] >> (codes % 64).astype(np.uint64)
        found: NDArray[np.bool_] = known & ((bits & np.uint64(1)) != 0)
        return found

    def _check(self) -> None:
        nodes = len(self.feature)
        fits = (
            self.roots.shape == (self.trees,)
            and self.threshold.shape == self.feature.shape == self.set_of.shape == (nodes,)
            and self.children.shape == (nodes, 3)
            and self.sets.shape[1:] == (3,)
            and (self.feature >= 0).all()
            and (self.feature < self.features).all()
            and (self.set_of < len(self.sets)).all()
            and (self.sets >= 0).all()
            and (self.sets[:, 0] + self.sets[:, 2] <= len(self.words)).all()
            and (self.roots < nodes).all()
            and (self.children < nodes).all()
        )
        parent = np.arange(nodes, dtype=np.int32)[:, np.newaxis]
        if not fits or not ((self.children > parent) | (self.children < 0)).all():
            raise UnsupportedModel("the trees point outside themselves or back to a parent")


@dataclass(frozen=True, slots=True, eq=False)
class TreeSum:
    """
    A forest whose answers are added up; :meth:`Forest.sum` makes one.

    Call it with a matrix, or :meth:`of` with one row.
    """

    forest: Forest
    values: Floats
    """[answers + 1, outputs], or [answers + 1] with *target*; the last row is for no answer."""
    target: NDArray[np.int32] | None
    weights: Floats
    start: Floats
    float32: bool
    _native: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        native = None
        if self.forest._native is not None:
            module = find("forest")
            assert module is not None, "the forest is compiled"
            native = module.Sum(
                self.forest._native, self.values, self.target, self.weights, self.start,
                self.float32,
            )  # fmt: skip
        object.__setattr__(self, "_native", native)

    @property
    def outputs(self) -> int:
        """How many sums a row has."""
        return len(self.start)

    def __call__(self, x: Rows) -> Floats:
        """
        Return the sums of each row. Shape [rows, outputs].

        Raises:
            InvalidInput: *x* is no float matrix [rows, features].
        """
        x = self.forest._matrix(x)
        out = np.empty((len(x), self.outputs))
        if self._native is not None:
            self._native.rows(x, out)
        else:
            for some in self.forest._blocks(len(x)):
                out[some] = self.add(self.forest._walk(x[some]))
        return out

    def of(self, row: Row) -> list[float]:
        """
        Return the sums of one row, [outputs], without the cost of arrays.

        Raises:
            InvalidInput: *row* does not have one number for each feature.
        """
        if self._native is None:
            sums: list[float] = self.add(self.forest._walk(self.forest._matrix_of(row)))[0].tolist()
            return sums
        try:
            found: list[float] = self._native.row(row)
        except (TypeError, ValueError, OverflowError) as exc:
            raise self.forest._misfit(row) from exc
        return found

    def add(self, leaves: NDArray[np.int32]) -> Floats:
        """Return the sums of rows that end at *leaves*, [rows, trees]. Shape [rows, outputs]."""
        dtype = np.float32 if self.float32 else np.float64
        values, weights = self.values.astype(dtype), self.weights.astype(dtype)
        sums = np.repeat(self.start.astype(dtype)[np.newaxis], len(leaves), axis=0)
        with np.errstate(over="ignore", invalid="ignore"):
            for tree, answers in enumerate(leaves.T):
                terms = values[answers] * weights[tree]
                if self.target is None:
                    sums += terms
                else:
                    sums[:, self.target[tree]] += terms
        return sums.astype(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class Grown:
    """
    A model that is trees and what is done with their sums.

    Args:
        trees: They give the raw scores.
        raw: The output that is the raw score itself.
        links: What makes each other output of the raw score.
        scale, bias: The raw score is the sum times *scale* plus *bias*.
        float32: Rows are rounded to float32 before they come to the trees.
    """

    trees: TreeSum
    raw: str
    links: Mapping[str, Callable[[Any], Any]]
    scale: float = 1.0
    bias: Any = 0.0
    float32: bool = False
