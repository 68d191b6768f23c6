"""Numbers to numbers: buckets, thresholds, missing values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from martlet.errors import InvalidInput, UnsupportedModel
from martlet.formats.stages.invalid import Invalid
from martlet.formats.stages.stage import Kind, Port, Stage
from martlet.formats.stages.vectors import Bools, Dense, Floats


@dataclass(frozen=True, slots=True)
class Bucketizer:
    """The number of the interval of *edges* that a value is in, for each column."""

    edges: Sequence[Floats]
    invalid: Invalid
    inputs: Sequence[str]

    def __call__(self, *columns: Floats) -> Any:
        found = []
        for column, edge, source in zip(columns, self.edges, self.inputs, strict=True):
            bucket = np.searchsorted(edge, column, side="right") - 1.0
            bucket[column == edge[-1]] = len(edge) - 2
            missing = np.isnan(column)
            outside = (column < edge[0]) | (column > edge[-1])
            if outside.any():
                value = column[int(np.argmax(outside))]
                raise InvalidInput(
                    f"column {source!r} holds {value}, outside the splits {edge[0]} to {edge[-1]}"
                )
            if missing.any():
                if self.invalid is Invalid.ERROR:
                    raise InvalidInput(f"column {source!r} holds a missing value")
                bucket[missing] = len(edge) - 1
            found.append(bucket)
        return found[0] if len(found) == 1 else tuple(found)


def bucketizer(
    name: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    splits: Sequence[Sequence[float]],
    invalid: Invalid,
) -> Stage:
    """
    Return the stage that numbers the interval ``splits[i] <= x < splits[i + 1]`` a value is in.

    The last interval holds its end too. NaN is invalid (kept: one bucket more); a value outside
    all splits is refused whatever *invalid* says, as Spark does.
    """
    edges = [np.asarray(each, dtype=np.float64) for each in splits]
    for each in edges:
        if len(each) < 2 or not (np.diff(each) > 0).all():
            raise UnsupportedModel(f"{name}: its splits are not two or more rising numbers")

    return Stage(
        name,
        tuple(Port(each, Kind.NUMBER) for each in inputs),
        tuple(Port(each, Kind.NUMBER) for each in outputs),
        Bucketizer(edges, invalid, inputs),
        _no_nan if invalid is Invalid.SKIP else None,
    )


def _no_nan(*columns: Floats) -> Bools:
    return np.asarray(~np.logical_or.reduce([np.isnan(each) for each in columns]))


@dataclass(frozen=True, slots=True)
class Binarizer:
    """1 above the column's threshold, else 0."""

    thresholds: Sequence[float]

    def __call__(self, *columns: Any) -> Any:
        found: list[Any] = []
        for column, threshold in zip(columns, self.thresholds, strict=True):
            if isinstance(column, np.ndarray):
                found.append((column > threshold).astype(np.float64))
            else:
                found.append(Dense((column.dense() > threshold).astype(np.float64)))
        return found[0] if len(found) == 1 else tuple(found)


def binarizer(
    name: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    thresholds: Sequence[float],
    vectors: Sequence[int | None],
) -> Stage:
    """
    Return the stage that gives 1 above a threshold, else 0 (NaN too).

    Args:
        vectors: Of each input its width if it is a vector (-1: not known), None if a number.
    """

    def ports(names: Sequence[str]) -> tuple[Port, ...]:
        return tuple(
            Port(each, Kind.NUMBER) if width is None else Port(each, Kind.VECTOR, width)
            for each, width in zip(names, vectors, strict=True)
        )

    return Stage(name, ports(inputs), ports(outputs), Binarizer(thresholds))


@dataclass(frozen=True, slots=True)
class Imputer:
    """The column's surrogate where a value is *missing* or NaN."""

    surrogates: Sequence[float]
    missing: float

    def __call__(self, *columns: Floats) -> Any:
        found = []
        for column, surrogate in zip(columns, self.surrogates, strict=True):
            absent = np.isnan(column)
            if self.missing == self.missing:
                absent |= column == self.missing
            found.append(np.where(absent, surrogate, column))
        return found[0] if len(found) == 1 else tuple(found)


def imputer(
    name: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    surrogates: Sequence[float],
    missing: float,
) -> Stage:
    """Return the stage that puts *surrogates* in the place of *missing*, and of NaN in any case."""
    return Stage(
        name,
        tuple(Port(each, Kind.NUMBER) for each in inputs),
        tuple(Port(each, Kind.NUMBER) for each in outputs),
        Imputer(surrogates, missing),
    )
