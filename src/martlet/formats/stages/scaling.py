"""Vectors to vectors of the same width: scalers, normaliser, products, category maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from martlet.errors import InvalidInput
from martlet.formats.stages.invalid import Invalid
from martlet.formats.stages.stage import Kind, Port, Stage
from martlet.formats.stages.vectors import Bools, Dense, Floats, Sparse, Vector

_WIDE = 512


def elementwise(
    name: str, source: str, output: str, width: int, run: Callable[[Vector], Vector]
) -> Stage:
    """Return a stage whose output vector is as wide as its input vector."""
    return Stage(
        name,
        (Port(source, Kind.VECTOR, width),),
        (Port(output, Kind.VECTOR, width),),
        run,
        same_width=True,
    )


@dataclass(frozen=True, slots=True)
class StandardScaler:
    """``(x - mean) * factors``; None leaves that part out."""

    mean: Floats | None
    factors: Floats | None

    def __call__(self, column: Vector) -> Vector:
        if self.mean is not None:
            column = Dense(column.dense() - self.mean)
        return column if self.factors is None else column.scale(self.factors)


def standard_scaler(
    name: str, source: str, output: str, mean: Floats | None, std: Floats | None
) -> Stage:
    """Return ``(x - mean) / std``; a column whose std is 0 becomes 0. None leaves that part out."""
    width = len(mean) if mean is not None else len(std) if std is not None else -1
    factors = None
    if std is not None:
        factors = np.divide(1.0, std, out=np.zeros_like(std), where=std != 0)
    return elementwise(name, source, output, width, StandardScaler(mean, factors))


@dataclass(frozen=True, slots=True)
class MinMaxScaler:
    """``(x - low) * factors + least``; *middle* in the columns that are *constant*."""

    low: Floats
    factors: Floats
    least: float
    constant: Bools
    middle: float

    def __call__(self, column: Vector) -> Vector:
        values = column.dense()
        scaled = (values - self.low) * self.factors + self.least
        # NaN stays NaN, in a constant column too.
        return Dense(np.where(self.constant & ~np.isnan(values), self.middle, scaled))


def min_max_scaler(
    name: str, source: str, output: str, low: Floats, high: Floats, to_min: float, to_max: float
) -> Stage:
    """Return the stage that maps *low*..*high* to *to_min*..*to_max*; a constant to the middle."""
    span = high - low
    constant = span == 0
    factors = np.divide(to_max - to_min, span, out=np.zeros_like(span), where=~constant)
    run = MinMaxScaler(low, factors, to_min, constant, 0.5 * (to_max + to_min))
    return elementwise(name, source, output, len(low), run)


def scaler(name: str, source: str, output: str, factors: Floats) -> Stage:
    """Return the stage that multiplies each column by its factor."""
    return elementwise(name, source, output, len(factors), StandardScaler(None, factors))


@dataclass(frozen=True, slots=True)
class Normalizer:
    """Each row over its p-norm; a row of zeros stays."""

    p: float

    def __call__(self, column: Vector) -> Vector:
        if column.width > _WIDE and not isinstance(column, Dense):
            return self._sparse(column.sparse())
        values, p = column.dense(), self.p
        size = np.abs(values)
        if p == 2:
            norm = np.sqrt(np.square(values).sum(axis=1))
        elif p == 1:
            norm = size.sum(axis=1)
        elif p == np.inf:
            norm = np.fmax.reduce(size, axis=1, initial=0.0)  # which passes over NaN, as Spark does
        else:
            norm = np.power(np.power(size, p).sum(axis=1), 1.0 / p)
        inverse = np.divide(1.0, norm, out=np.ones_like(norm), where=norm != 0)
        return Dense(values * inverse[:, None])

    def _sparse(self, entries: Sparse) -> Vector:
        """Return the same without spreading the zeros out."""
        size, p = np.abs(entries.values), self.p
        if p == np.inf:
            norm = np.zeros(entries.rows)
            np.fmax.at(norm, entries.at, size)
        else:
            sums = np.bincount(entries.at, np.power(size, p), entries.rows)
            norm = np.power(np.asarray(sums, dtype=np.float64), 1.0 / p)
        inverse = np.divide(1.0, norm, out=np.ones_like(norm), where=norm != 0)
        return replace(entries, values=entries.values * inverse[entries.at])


def normalizer(name: str, source: str, output: str, p: float) -> Stage:
    """Return the stage that divides each row by its p-norm."""
    return elementwise(name, source, output, -1, Normalizer(p))


def vector_indexer(
    name: str,
    source: str,
    output: str,
    width: int,
    maps: Mapping[int, Mapping[float, int]],
    invalid: Invalid,
) -> Stage:
    """Return the stage that numbers the values of the columns in *maps*; others stay."""
    tables = {column: dict(table) for column, table in maps.items()}

    def coded(values: Floats, column: int) -> Floats:
        find = tables[column].get
        return np.array([find(v, -1) for v in values[:, column].tolist()], dtype=np.float64)

    def run(column: Vector) -> Vector:
        values = column.dense()
        out = values.copy()
        for j, table in tables.items():
            codes = coded(values, j)
            unseen = codes < 0
            if unseen.any():
                if invalid is Invalid.ERROR:
                    value = values[int(np.argmax(unseen)), j]
                    raise InvalidInput(
                        f"element {j} of column {source!r} is {value}, which the model has not seen"
                    )
                codes[unseen] = len(table)
            out[:, j] = codes
        return Dense(out)

    def keep(column: Vector) -> Bools:
        values = column.dense()
        stay = np.ones(column.rows, dtype=np.bool_)
        for j in tables:
            stay &= coded(values, j) >= 0
        return stay

    return Stage(
        name,
        (Port(source, Kind.VECTOR, width),),
        (Port(output, Kind.VECTOR, width),),
        run,
        keep if invalid is Invalid.SKIP else None,
        same_width=True,
    )
