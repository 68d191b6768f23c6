"""Columns of vectors: dense, one-hot, sparse, or several side by side. Wide ones stay sparse."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from martlet.errors import InvalidInput

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


# 2 GiB of numbers.
_MOST = 1 << 28


def allowed(rows: int, width: int) -> tuple[int, int]:
    """
    Return the shape of so many numbers.

    Raises:
        InvalidInput: they are too many to be held at once.
    """
    if rows * width > _MOST:
        raise InvalidInput(
            f"{rows} rows of {width} numbers are too many to spread out: give fewer rows, or ask "
            "for a signature without such vectors"
        )
    return rows, width


class Vector(Protocol):
    """A column whose every row is a vector of ``width`` numbers."""

    @property
    def rows(self) -> int:
        """How many rows."""
        ...

    @property
    def width(self) -> int:
        """How many numbers a row."""
        ...

    def dense(self) -> Floats:
        """Return all numbers. Shape [rows, width]."""
        ...

    def dot(self, weights: Floats) -> Floats:
        """Return each row's product with *weights* [width, k]. Shape [rows, k]."""
        ...

    def scale(self, factors: Floats) -> Vector:
        """Return the rows times *factors* [width], element by element."""
        ...

    def take(self, rows: Bools) -> Vector:
        """Return the rows where *rows* is true."""
        ...

    def sparse(self) -> Sparse:
        """Return the entries that are not zero, row by row, columns ascending."""
        ...


@dataclass(frozen=True, slots=True)
class Dense:
    """Every number held. ``values`` is float64 [rows, width]."""

    values: Floats

    @property
    def rows(self) -> int:
        """How many rows."""
        return len(self.values)

    @property
    def width(self) -> int:
        """How many numbers a row."""
        return int(self.values.shape[1])

    def dense(self) -> Floats:
        """Return the numbers themselves, not a copy."""
        return self.values

    def dot(self, weights: Floats) -> Floats:
        """Multiply."""
        return self.values @ weights

    def scale(self, factors: Floats) -> Vector:
        """Multiply each column by its factor."""
        return Dense(self.values * factors)

    def take(self, rows: Bools) -> Vector:
        """Keep some rows."""
        return Dense(self.values[rows])

    def sparse(self) -> Sparse:
        """Drop the zeros."""
        at, column = np.nonzero(self.values)
        return Sparse(at, column, self.values[at, column], self.rows, self.width)


@dataclass(frozen=True, slots=True)
class OneHot:
    """
    At most one number a row: ``values[i]`` in column ``codes[i]``, or nothing where that is -1.

    No values: every code is a column, and every number 1.
    """

    codes: Ints
    values: Floats | None
    width: int

    @property
    def rows(self) -> int:
        """How many rows."""
        return len(self.codes)

    def dense(self) -> Floats:
        """Spread the numbers out."""
        out = np.zeros(allowed(len(self.codes), self.width))
        at = np.flatnonzero(self.codes >= 0)
        out[at, self.codes[at]] = 1.0 if self.values is None else self.values[at]
        return out

    def dot(self, weights: Floats) -> Floats:
        """Look one row of *weights* up for each row."""
        if self.values is None:
            return weights.take(self.codes, axis=0)
        if self.width == 0:
            return np.zeros((len(self.codes), weights.shape[1]))
        # Where the code is -1 the value is 0, and the row it reads does not matter.
        return weights.take(self.codes, axis=0, mode="wrap") * self.values[:, None]

    def scale(self, factors: Floats) -> Vector:
        """Scale the numbers that are there."""
        if self.values is None:
            return OneHot(self.codes, factors.take(self.codes), self.width)
        if self.width == 0:
            return self
        return OneHot(self.codes, self.values * factors.take(self.codes, mode="wrap"), self.width)

    def take(self, rows: Bools) -> Vector:
        """Keep some rows."""
        values = None if self.values is None else self.values[rows]
        return OneHot(self.codes[rows], values, self.width)

    def sparse(self) -> Sparse:
        """List the numbers that are there."""
        at = np.flatnonzero(self.codes >= 0)
        values = np.ones(len(at)) if self.values is None else self.values[at]
        return Sparse(at, self.codes[at], values, len(self.codes), self.width)


@dataclass(frozen=True, slots=True)
class Sparse:
    """The numbers that are not zero: ``values[i]`` at row ``at[i]``, column ``column[i]``."""

    at: Ints
    column: Ints
    values: Floats
    rows: int
    width: int

    def dense(self) -> Floats:
        """Spread the numbers out."""
        out = np.zeros(allowed(self.rows, self.width))
        out[self.at, self.column] = self.values
        return out

    def dot(self, weights: Floats) -> Floats:
        """Sum, for each row, the weights of its columns times its numbers."""
        terms = weights.take(self.column, axis=0) * self.values[:, None]
        out = np.empty((self.rows, weights.shape[1]))
        for k in range(weights.shape[1]):
            out[:, k] = np.bincount(self.at, terms[:, k], self.rows)
        return out

    def scale(self, factors: Floats) -> Vector:
        """Scale the numbers that are there."""
        return Sparse(
            self.at, self.column, self.values * factors.take(self.column), self.rows, self.width
        )

    def take(self, rows: Bools) -> Vector:
        """Keep some rows, and renumber them."""
        kept = rows[self.at]
        number = np.cumsum(rows) - 1
        return Sparse(
            number[self.at[kept]],
            self.column[kept],
            self.values[kept],
            int(np.count_nonzero(rows)),
            self.width,
        )

    def sparse(self) -> Sparse:
        """Return itself."""
        return self


class Blocks:
    """Vectors side by side, none of them copied: what an assembler makes."""

    __slots__ = ("bounds", "parts", "rows", "width")

    def __init__(self, parts: Sequence[Vector]) -> None:
        self.parts = parts
        self.rows = parts[0].rows if parts else 0
        self.bounds = [0]
        for part in parts:
            self.bounds.append(self.bounds[-1] + part.width)
        self.width = self.bounds[-1]

    def dense(self) -> Floats:
        """Copy all parts into one matrix."""
        out = np.empty(allowed(self.rows, self.width))
        for part, start in zip(self.parts, self.bounds, strict=False):
            out[:, start : start + part.width] = part.dense()
        return out

    def dot(self, weights: Floats) -> Floats:
        """Sum what each part makes of its slice of *weights*."""
        bounds = self.bounds
        total = self.parts[0].dot(weights[: bounds[1]])
        for i, part in enumerate(self.parts[1:], 1):
            total += part.dot(weights[bounds[i] : bounds[i + 1]])
        return total

    def scale(self, factors: Floats) -> Vector:
        """Scale each part by its slice."""
        return Blocks(
            [
                part.scale(factors[start : start + part.width])
                for part, start in zip(self.parts, self.bounds, strict=False)
            ]
        )

    def take(self, rows: Bools) -> Vector:
        """Keep some rows of each part."""
        return Blocks([part.take(rows) for part in self.parts])

    def sparse(self) -> Sparse:
        """List the numbers that are there, in all parts."""
        parts = [part.sparse() for part in self.parts]
        at = np.concatenate([part.at for part in parts])
        column = np.concatenate(
            [part.column + start for part, start in zip(parts, self.bounds, strict=False)]
        )
        order = np.lexsort((column, at))
        values = np.concatenate([part.values for part in parts])
        return Sparse(at[order], column[order], values[order], self.rows, self.width)


def kept_sparse(counts: Ints, width: int, spark: tuple[int, int] = (3, 5)) -> Bools:
    """
    Return which rows an assembler keeps sparse: where that takes fewer bytes.

    Args:
        counts: How many numbers of each row are not 0.
        spark: Its version: 4 counts some bytes more for a sparse vector.
    """
    return np.asarray(1.5 * counts + (2.0 if spark >= (4, 0) else 1.5) < width)


def picked(x: Vector, columns: Ints) -> Floats:
    """Return the elements at *columns*, in that order, of each row. Shape [rows, columns]."""
    if isinstance(x, Dense):
        return x.values[:, columns]
    entries = x.sparse()
    places, back = np.unique(columns, return_inverse=True)
    out = np.zeros(allowed(entries.rows, len(places)))
    if len(places):
        at = np.searchsorted(places, entries.column)
        at[at == len(places)] = 0
        here = places[at] == entries.column
        out[entries.at[here], at[here]] = entries.values[here]
    return out[:, back]
