"""CatBoost's categories as numbers that its trees can test, to CatBoost's last bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.formats.catboost.cityhash import category_hash
from martlet.native import find
from martlet.tensors import Tensor

Floats = NDArray[np.float32]

_COMBINE = 0x4906BA494954CB65
_APART = pow(_COMBINE, -2, 1 << 64)


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """
    The ctrs of one combination, by the hash of its categories and tests.

    Args:
        elements: What is hashed: a category's number, or ~t for the test t.
        keys: Shape [keys], uint64.
        values: Of what no key is for, then of each key. Shape [1 + keys, ctrs].
    """

    elements: tuple[int, ...]
    keys: NDArray[np.uint64]
    values: Floats


@dataclass(frozen=True, slots=True, eq=False)
class Ctrs:
    """
    Makes of a row of features a row of numbers.

    Those are the numbers in their places, 0 in a category's; 1 or 0 for each test of *equal*; what
    each table says.

    Args:
        features: How many come.
        categories: The column of each.
        above: Tests of numbers, for the tables alone: column, and whether NaN lies above.
            Shape [tests, 2].
        borders: Of those. Shape [tests].
        equal: Tests of categories: number and hash. Shape [tests, 2].
        tables: One a combination.

    Source:
        Prokhorenkova et al., "CatBoost: unbiased boosting with categorical features", 2018;
        CatBoost ``catboost/libs/model/static_ctr_provider.cpp``.
    """

    features: int
    categories: NDArray[np.int32]
    above: NDArray[np.int32]
    borders: Floats
    equal: NDArray[np.int32]
    tables: Sequence[Table]
    columns: int = field(init=False)
    """How many numbers a row has."""
    _native: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        widths = [table.values.shape[1] for table in self.tables]
        object.__setattr__(self, "columns", self.features + len(self.equal) + sum(widths))
        native = find("ctrs")
        object.__setattr__(self, "_native", native and native.Ctrs(self.features, *self._flat()))

    def _flat(self) -> tuple[NDArray[Any], ...]:
        tables = self.tables
        shapes = [(len(t.elements), t.values.shape[1], len(t.keys)) for t in tables]
        return (
            self.categories,
            self.above,
            self.borders,
            self.equal,
            np.array([each for t in tables for each in t.elements], np.int32),
            np.array(shapes, np.int64).reshape(-1, 3),
            np.concatenate([np.zeros(0, np.uint64), *(t.keys for t in tables)]),
            np.concatenate([np.zeros(0, np.float32), *(t.values.ravel() for t in tables)]),
        )

    def rows(self, columns: list[Tensor]) -> Floats | None:
        """
        Return the numbers of rows, ``[rows, columns]``; None where a category is no text.

        Args:
            columns: Of each feature, of one length: float64, or texts, bytes and whole numbers.
        """
        if self._native is None:
            return self._filled(columns)
        out = np.empty((len(columns[0]), self.columns), np.float32)
        return out if self._native.fill(columns, out) else None

    def _filled(self, columns: list[Tensor]) -> Floats | None:
        hashes = [self._hashes(columns[at]) for at in self.categories]
        known = [each for each in hashes if each is not None]
        if len(known) < len(hashes):
            return None
        out = np.zeros((len(columns[0]), self.columns), np.float32)
        with np.errstate(over="ignore"):
            for at in set(range(self.features)) - set(self.categories.tolist()):
                out[:, at] = columns[at]
        numbers = out[:, self.above[:, 0]]
        beyond = np.isnan(numbers) & (self.above[:, 1] != 0)
        equal = [known[category] == value for category, value in self.equal]
        tests = [*((numbers > self.borders) | beyond).T, *equal]
        at = self.features + len(equal)
        for i, test in enumerate(equal):
            out[:, self.features + i] = test
        for table in self.tables:
            width = table.values.shape[1]
            keys = np.zeros(len(out), np.uint64)
            for element in table.elements:
                part = known[element] if element >= 0 else tests[~element]
                keys = combined(keys, part.astype(np.int64))
            out[:, at : at + width] = table.values[places(table.keys, keys)]
            at += width
        return out

    @staticmethod
    def _hashes(column: Tensor) -> NDArray[np.int32] | None:
        cells = [_text(cell) for cell in column.tolist()]
        texts = [cell for cell in cells if cell is not None]
        return (
            np.array([category_hash(text) for text in texts], np.int32)
            if len(texts) == len(cells)
            else None
        )


def combined(keys: NDArray[np.uint64], part: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Return the keys of combinations with one part more."""
    factor = np.uint64(_COMBINE)
    with np.errstate(over="ignore"):
        found: NDArray[np.uint64] = factor * (keys + factor * part.view(np.uint64))
    return found


def alone(keys: NDArray[np.uint64]) -> NDArray[np.int32]:
    """Return the hashes of categories from keys of each by itself."""
    with np.errstate(over="ignore"):
        return (keys * np.uint64(_APART)).view(np.int64).astype(np.int32)


def places(known: NDArray[np.uint64], keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return one more than where each of *keys* stands in *known*, sorted; 0 where it does not."""
    if not len(known):
        return np.zeros(len(keys), np.int64)
    at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    return np.where(known[at] == keys, at + 1, 0)


def _text(cell: object) -> bytes | None:
    if isinstance(cell, bytes):
        return cell
    if isinstance(cell, str):
        try:
            return cell.encode()
        except UnicodeEncodeError:
            return None
    return str(int(cell)).encode() if isinstance(cell, int | np.integer) else None
