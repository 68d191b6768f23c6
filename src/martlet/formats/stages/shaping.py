"""Vectors from columns, and vectors of another width: assembler, slices, products, projections."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from martlet.errors import InvalidInput, UnsupportedModel
from martlet.formats.stages.invalid import Invalid
from martlet.formats.stages.stage import Kind, Port, Stage
from martlet.formats.stages.vectors import (
    Blocks,
    Bools,
    Dense,
    Floats,
    Ints,
    OneHot,
    Vector,
    allowed,
    kept_sparse,
    picked,
)

_MAX_WIDTH = 1 << 31
_MAX_TERMS = 1 << 21


@dataclass(frozen=True, slots=True)
class Assembler:
    """Numbers and vectors side by side; *refuses* a missing number among *inputs*."""

    inputs: Sequence[str]
    refuses: bool

    def __call__(self, *columns: Any) -> Vector:
        parts: list[Vector] = []
        start = 0
        for j, column in enumerate(columns):
            if isinstance(column, np.ndarray):
                continue
            if start < j:
                parts.append(self._packed(columns[start:j], start))
            parts.append(column)
            start = j + 1
        if start < len(columns):
            parts.append(self._packed(columns[start:], start))
        return parts[0] if len(parts) == 1 else Blocks(parts)

    def _packed(self, columns: Sequence[Any], first: int) -> Dense:
        out = np.empty((len(columns[0]), len(columns)))
        for j, column in enumerate(columns):
            out[:, j] = column
        if self.refuses:
            missing = np.isnan(out)
            if missing.any():
                bad = first + int(np.argmax(missing.any(axis=0)))
                raise InvalidInput(f"column {self.inputs[bad]!r} holds a missing value")
        return Dense(out)


def assembler(
    name: str,
    inputs: Sequence[str],
    output: str,
    kinds: Sequence[Port],
    invalid: Invalid,
) -> Stage:
    """
    Return the stage that puts numbers and vectors side by side.

    Numbers that follow one another share a matrix; vectors stay as they are, uncopied. A missing
    number (not one within a vector, as in Spark) is refused, kept as NaN, or drops its row.

    Args:
        kinds: What each input is known to be; ``Kind.ANY`` where only the caller knows.

    Raises:
        UnsupportedModel: there is no input, and so no rows.
    """
    if not inputs:
        raise UnsupportedModel(f"{name} puts no columns side by side: it has no input")

    def keep(*columns: Any) -> Bools:
        numbers = [np.isnan(each) for each in columns if isinstance(each, np.ndarray)]
        if not numbers:
            return np.ones(columns[0].rows, dtype=np.bool_)
        return np.asarray(~np.logical_or.reduce(numbers))

    sizes = [
        1 if port.kind is not Kind.VECTOR and port.kind is not Kind.ANY else port.width
        for port in kinds
    ]
    width = -1 if any(size < 0 for size in sizes) else sum(sizes)
    return Stage(
        name,
        tuple(kinds),
        (Port(output, Kind.VECTOR, width),),
        Assembler(inputs, invalid is Invalid.ERROR),
        keep if invalid is Invalid.SKIP else None,
        parts=True,
    )


@dataclass(frozen=True, slots=True)
class Slicer:
    """The elements at *at*, in that order."""

    at: Ints
    source: str

    def __call__(self, column: Vector) -> Vector:
        at = self.at
        if at.size and at.max() >= column.width:
            raise InvalidInput(
                f"column {self.source!r} has {column.width} elements; {at.max() + 1} are wanted"
            )
        return Dense(picked(column, at))


def slicer(name: str, source: str, output: str, indices: Sequence[int], width: int = -1) -> Stage:
    """Return the stage that keeps the elements at *indices*, in that order."""
    run = Slicer(np.asarray(indices, dtype=np.int64), source)
    return Stage(
        name,
        (Port(source, Kind.VECTOR, width),),
        (Port(output, Kind.VECTOR, len(run.at)),),
        run,
    )


@dataclass(frozen=True, slots=True)
class Projection:
    """Each row times *matrix* [width, k]."""

    matrix: Floats

    def __call__(self, column: Vector) -> Vector:
        return Dense(column.dot(self.matrix))


def projection(name: str, source: str, output: str, matrix: Floats) -> Stage:
    """Return the stage that multiplies each row by *matrix* [width, k]."""
    return Stage(
        name,
        (Port(source, Kind.VECTOR, matrix.shape[0]),),
        (Port(output, Kind.VECTOR, matrix.shape[1]),),
        Projection(matrix),
    )


def polynomial_expansion(name: str, source: str, output: str, degree: int, width: int) -> Stage:
    """
    Return the stage that gives every product of at most *degree* elements.

    The order is Spark's: for (x, y) and degree 2, ``x, xx, y, xy, yy``.
    """

    @lru_cache(maxsize=4)
    def terms(size: int) -> list[tuple[int, int, int]]:
        found = _terms(size, degree)
        place = {term: i for i, term in enumerate(found)}
        # Each product is a shorter one (all but its first factor) times one element.
        return [(place[term], place[term[1:]], term[0]) for term in sorted(found[1:], key=len)]

    def run(column: Vector) -> Vector:
        values = column.dense()
        plan = terms(values.shape[1])
        if len(values) == 1:
            return Dense(np.array([_products(values[0].tolist(), plan)])[:, 1:])
        out = np.zeros(allowed(len(values), len(plan) + 1))
        out[:, 0] = 1.0
        for product, shorter, element in plan:
            # From the last element to the first, as Spark: what is 0 stays 0, NaN or not.
            rest = out[:, shorter]
            np.multiply(rest, values[:, element], out=out[:, product], where=rest != 0)
        return Dense(out[:, 1:])

    size = -1
    if width >= 0:
        size = math.comb(width + degree, degree) - 1
        try:
            terms(width)
        except InvalidInput as exc:
            raise UnsupportedModel(f"{name}: {exc}") from None
    return Stage(name, (Port(source, Kind.VECTOR, width),), (Port(output, Kind.VECTOR, size),), run)


def _terms(size: int, degree: int) -> list[tuple[int, ...]]:
    """Return the products of at most *degree* of *size* elements, in Spark's order, none first."""
    if math.comb(size + degree, degree) > _MAX_TERMS:
        raise InvalidInput(f"{size} elements have too many products of degree {degree}")
    # Of at most so many factors each, among the elements so far: one more element adds to the end.
    found: list[list[tuple[int, ...]]] = [[()] for _ in range(degree + 1)]
    for element in range(size):
        counts = [len(each) for each in found]
        for most in range(degree, 0, -1):
            for power in range(1, most + 1):
                shorter = found[most - power][: counts[most - power]]
                found[most] += [(*term, *[element] * power) for term in shorter]
    return found[degree]


def _products(row: list[float], plan: Sequence[tuple[int, int, int]]) -> list[float]:
    """Return the products of one row: so few numbers cost less as they are than as arrays."""
    out = [1.0] * (len(plan) + 1)
    for product, shorter, element in plan:
        rest = out[shorter]
        out[product] = rest * row[element] if rest != 0 else 0.0
    return out


def dct(name: str, source: str, output: str, inverse: bool) -> Stage:
    """Return the stage that takes the unitary cosine transform (DCT-II; inverse: DCT-III)."""

    @lru_cache(maxsize=4)
    def basis(size: int) -> Floats:
        if size > 4096:
            raise InvalidInput(f"a cosine transform of {size} elements is not supported")
        k = np.arange(size)
        matrix = np.cos(np.pi * (2 * k[:, None] + 1) * k / (2 * size)) * np.sqrt(2 / size)
        matrix[:, 0] = np.sqrt(1 / size)
        return np.ascontiguousarray(matrix.T if inverse else matrix, dtype=np.float64)

    return Stage(
        name,
        (Port(source, Kind.VECTOR),),
        (Port(output, Kind.VECTOR),),
        lambda column: Dense(column.dot(basis(column.width))),
        same_width=True,
    )


@dataclass(frozen=True, slots=True)
class Elements:
    """
    Vectors some of whose elements are indices.

    Args:
        sizes: How many values each element has; 1: it is a number.
        sparse: Some rows are kept sparse, and an index of 0 that such a row leaves out is none.
        spark: The version that tells which.
    """

    sizes: tuple[int, ...]
    sparse: bool
    spark: tuple[int, int] = (3, 5)

    def __call__(self, column: Vector, source: str) -> Vector:
        values = column.dense()
        left_out = np.zeros((len(values), 1), dtype=np.bool_)
        if self.sparse:
            counts = (values != 0).sum(axis=1, keepdims=True)
            left_out = kept_sparse(counts, values.shape[1], self.spark)
        absent = left_out & (values == 0)
        return Blocks(
            [
                Dense(values[:, j : j + 1])
                if size == 1
                else OneHot(
                    np.where(absent[:, j], -1, _codes(values[:, j], size, source)),
                    (~absent[:, j]).astype(np.float64),
                    size,
                )
                for j, size in enumerate(self.sizes)
            ]
        )


def _codes(column: Floats, size: int, source: str) -> Ints:
    codes = np.full(len(column), -1, dtype=np.int64)
    np.copyto(codes, column, where=np.isfinite(column), casting="unsafe")
    if not ((codes >= 0) & (codes < size) & (codes == column)).all():
        raise InvalidInput(f"column {source!r} holds an index outside 0..{size - 1}")
    return codes


def interaction(
    name: str,
    ports: Sequence[Port],
    output: str,
    categories: Sequence[int | Elements | None],
) -> Stage:
    """
    Return the stage that multiplies every element of each column with every one of the others.

    Args:
        categories: Of an index column, how many values it has, and of a vector with indices,
            which those are: they are spread one-hot first, but an index of one value.
    """

    def spread(column: Any, size: int | Elements | None, port: Port) -> Any:
        if isinstance(size, Elements):
            return size(column, port.name)
        if not isinstance(column, np.ndarray):
            return column
        if size is None or size == 1:
            return Dense(column[:, None])
        return OneHot(_codes(column, size, port.name), None, size)

    def run(*columns: Any) -> Vector:
        parts = [spread(*each) for each in zip(columns, categories, ports, strict=True)]
        if all(isinstance(each, OneHot) for each in parts):
            return _one_hot_product(parts)
        allowed(parts[0].rows, math.prod(each.width for each in parts))
        out = parts[0].dense()
        for part in parts[1:]:
            # Nothing times infinity, or a missing value, is nothing: Spark leaves zeros out.
            one, other = out[:, :, None], part.dense()[:, None, :]
            wider = np.zeros(np.broadcast_shapes(one.shape, other.shape))
            np.multiply(one, other, where=(one != 0) & (other != 0), out=wider)
            out = wider.reshape(len(out), out.shape[1] * part.width)
        return Dense(out)

    sizes = [
        sum(size.sizes)
        if isinstance(size, Elements)
        else port.width
        if port.kind is Kind.VECTOR
        else (size or 1)
        for port, size in zip(ports, categories, strict=True)
    ]
    width = -1 if any(size < 0 for size in sizes) else math.prod(sizes)
    if width > _MAX_WIDTH:
        raise UnsupportedModel(f"{name}: {width} products are too many")
    return Stage(name, tuple(ports), (Port(output, Kind.VECTOR, width),), run)


def _one_hot_product(parts: Sequence[OneHot]) -> OneHot:
    codes: Ints = parts[0].codes
    width = parts[0].width
    values = np.ones(len(codes)) if parts[0].values is None else parts[0].values
    for part in parts[1:]:
        here = (codes >= 0) & (part.codes >= 0)
        codes = np.where(here, codes * part.width + part.codes, -1)
        width *= part.width
        if part.values is not None:
            values = values * part.values
    return OneHot(codes, values, width)


def size_hint(name: str, column: str, size: int) -> Stage:
    """Return the stage that refuses vectors of another width than *size*."""
    if size < 0:
        raise UnsupportedModel(f"{name}: its size is {size}")

    def run(found: Vector) -> Vector:
        if found.width != size:
            raise InvalidInput(f"column {column!r} has {found.width} elements; {size} are wanted")
        return found

    return Stage(name, (Port(column, Kind.VECTOR, size),), (Port(column, Kind.VECTOR, size),), run)
