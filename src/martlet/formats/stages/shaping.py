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
from martlet.formats.stages.vectors import Blocks, Bools, Dense, Floats, Ints, OneHot, Vector

_MAX_WIDTH = 1 << 24


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
        return Dense(column.dense()[:, at])


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
        if math.comb(size + degree, degree) > _MAX_WIDTH:
            raise InvalidInput(f"{size} elements have too many products of degree {degree}")
        found: list[tuple[int, ...]] = []

        def expand(last: int, left: int, tail: tuple[int, ...]) -> None:
            if left == 0 or last < 0:
                found.append(tail)
                return
            for power in range(left + 1):
                expand(last - 1, left - power, (*([last] * power), *tail))

        expand(size - 1, degree, ())
        place = {term: i for i, term in enumerate(found)}
        # Each product is a shorter one (all but its first factor) times one element.
        return [(place[term], place[term[1:]], term[0]) for term in sorted(found[1:], key=len)]

    def run(column: Vector) -> Vector:
        values = column.dense()
        plan = terms(values.shape[1])
        if len(values) == 1:
            return Dense(np.array([_products(values[0].tolist(), plan)])[:, 1:])
        out = np.zeros((len(values), len(plan) + 1))
        out[:, 0] = 1.0
        for product, shorter, element in plan:
            # From the last element to the first, as Spark: what is 0 stays 0, NaN or not.
            rest = out[:, shorter]
            np.multiply(rest, values[:, element], out=out[:, product], where=rest != 0)
        return Dense(out[:, 1:])

    size = -1 if width < 0 else math.comb(width + degree, degree) - 1
    return Stage(name, (Port(source, Kind.VECTOR, width),), (Port(output, Kind.VECTOR, size),), run)


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


def interaction(
    name: str, ports: Sequence[Port], output: str, categories: Sequence[int | None]
) -> Stage:
    """
    Return the stage that multiplies every element of each column with every one of the others.

    Args:
        categories: Of an index column, how many values it has: it is spread one-hot first.
    """

    def spread(column: Any, size: int | None, port: Port) -> Any:
        if not isinstance(column, np.ndarray):
            return column
        if size is None:
            return Dense(column[:, None])
        codes = column.astype(np.int64)
        if codes.size and not (codes.min() >= 0 and codes.max() < size):
            raise InvalidInput(f"column {port.name!r} holds an index outside 0..{size - 1}")
        return OneHot(codes, None, size)

    def run(*columns: Any) -> Vector:
        parts = [spread(*each) for each in zip(columns, categories, ports, strict=True)]
        if all(isinstance(each, OneHot) for each in parts):
            return _one_hot_product(parts)
        width = math.prod(each.width for each in parts)
        if width > _MAX_WIDTH:
            raise InvalidInput(f"{width} products are too many")
        out = parts[0].dense()
        for part in parts[1:]:
            # Nothing times infinity, or a missing value, is nothing: Spark leaves zeros out.
            one, other = out[:, :, None], part.dense()[:, None, :]
            wider = np.zeros(np.broadcast_shapes(one.shape, other.shape))
            np.multiply(one, other, where=(one != 0) & (other != 0), out=wider)
            out = wider.reshape(len(out), out.shape[1] * part.width)
        return Dense(out)

    sizes = [
        port.width if port.kind is Kind.VECTOR else (size or 1)
        for port, size in zip(ports, categories, strict=True)
    ]
    width = -1 if any(size < 0 for size in sizes) else math.prod(sizes)
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
