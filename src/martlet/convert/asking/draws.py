"""Rows to ask a model with: drawn at random from what its inputs take, or at the edges of that."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from martlet.convert.asking.ranges import Domain, Range
from martlet.tensors import DType, Spec, Tensor

_ODD_TEXTS = ("", " ", "no such word", "\u00e9\u4e16\U0001f600", "0", "-1", "NaN", "x" * 300)
_SCALES = (1.0, 1.0, 10.0, 1000.0, 1e5)
_NAMED = 0.125
"""The share of drawn numbers that are among those that the file names."""


def random_rows(
    domain: Domain, rows: int, random: np.random.Generator, *, calm: bool = False
) -> dict[str, Tensor]:
    """Return *rows* rows of values drawn from each input's range; *calm*: small numbers alone."""
    return {
        spec.name: random_values(domain, spec, domain.shape(spec, rows), random, calm=calm)
        for spec in domain.signature.inputs.values()
        if spec.name in domain.ranges
    }


def random_values(
    domain: Domain,
    spec: Spec,
    shape: tuple[int, ...],
    random: np.random.Generator,
    *,
    calm: bool = False,
) -> Tensor:
    """Return an array of *shape* with values that the input *spec* may hold."""
    known = domain.ranges[spec.name]
    count = int(np.prod(shape))
    found: Tensor
    if spec.dtype is DType.STRING:
        made_up = [] if known.values else [*map(str, range(20)), "a", "A", "yes", "no", "1.0"]
        words = np.array([*known.values, *made_up, "no such word"], object)
        found = words[random.integers(0, len(words), count)]
    elif spec.dtype is DType.BOOL:
        found = random.integers(0, 2, count).astype(bool)
    elif spec.dtype.is_integer:
        found = _integers(known, spec, count, random, calm)
    else:
        found = _floats(known, spec, count, random, calm)
    return found.reshape(shape)


def _integers(
    known: Range, spec: Spec, count: int, random: np.random.Generator, calm: bool
) -> Tensor:
    limits = np.iinfo(spec.dtype.numpy)
    low = int(limits.min) if known.low is None else known.low
    high = int(limits.max) if known.high is None else known.high
    if known.high is not None:
        # An id in a table. A number below 0 may mean "missing": draw a few of those too.
        drawn = random.integers(max(low, 0) if high >= 0 else low, high, count, endpoint=True)
        rare = random.random(count) < 0.02
        drawn[rare] = random.integers(max(low, -3), max(low, -3, 0), int(rare.sum()), endpoint=True)
    else:
        sizes = np.array([10, 100] if calm else [10, 100, 2000, 100_000, 2**30])
        tops = np.minimum(sizes[random.integers(0, len(sizes), count)], high)
        drawn = np.maximum((random.random(count) * tops).astype(np.int64), low)
    if known.named and not calm:
        named = random.random(count) < _NAMED
        drawn[named] = np.array(known.named, drawn.dtype)[
            random.integers(0, len(known.named), int(named.sum()))
        ]
    return _some_seen(drawn.astype(spec.dtype.numpy), known, spec, random)


def _floats(
    known: Range, spec: Spec, count: int, random: np.random.Generator, calm: bool
) -> Tensor:
    scales = np.array([1.0] if calm else _SCALES)
    scale = scales[random.integers(0, len(scales), count)]
    drawn = random.standard_normal(count) * scale
    drawn[random.random(count) < 0.2] = 0.0
    whole = random.random(count) < 0.2
    drawn[whole] = np.round(drawn[whole])
    if known.nan and spec.nullable:
        drawn[random.random(count) < 0.05] = np.nan
    if known.named and not calm:
        named = random.random(count) < _NAMED
        chosen = np.array(known.named)[random.integers(0, len(known.named), int(named.sum()))]
        # Near a threshold, not on it: there the answer depends on how a number is rounded.
        drawn[named] = chosen * (1 + 1e-3 * random.standard_normal(len(chosen)))
    limit = np.finfo(spec.dtype.numpy).max if spec.dtype.is_float else np.inf
    return _some_seen(
        np.clip(drawn, -float(limit), float(limit)).astype(spec.dtype.numpy), known, spec, random
    )


def _some_seen(drawn: Tensor, known: Range, spec: Spec, random: np.random.Generator) -> Tensor:
    """Replace three in four by values that were seen, if there are any; nearly all, if declared."""
    if known.values:
        seen = np.array(known.values, spec.dtype.numpy)
        real = random.random(len(drawn)) < (0.98 if known.declared else 0.75)
        drawn[real] = seen[random.integers(0, len(seen), int(real.sum()))]
    return drawn


def edge_values(spec: Spec, known: Range) -> list[Any]:
    """Return the values at and beyond the ends of what the input *spec* takes."""
    if spec.dtype is DType.STRING:
        return [*_ODD_TEXTS, *known.values[:3], *([None] if known.nan else [])]
    if spec.dtype is DType.BOOL:
        return [False, True]
    if spec.dtype.is_integer:
        limits = np.iinfo(spec.dtype.numpy)
        low = int(limits.min) if known.low is None else known.low
        high = int(limits.max) if known.high is None else known.high
        wanted = {low - 1, low, low + 1, -2, -1, 0, 1, 2, high - 1, high, high + 1}
        return sorted(v for v in wanted if limits.min <= v <= limits.max)
    if not spec.dtype.is_float:
        return [0, 1, -1]
    info = np.finfo(spec.dtype.numpy)
    ends = [0.0, -0.0, 1.0, -1.0, 0.5, 1e-7, 1e3, -1e3, 1e6, float(info.tiny)]
    return [*ends, np.inf, -np.inf, np.nan]


def edge_rows(domain: Domain, random: np.random.Generator) -> Iterator[dict[str, Tensor]]:
    """Give rows that differ from random ones in one input, which is at an edge."""
    specs = [spec for spec in domain.signature.inputs.values() if spec.name in domain.ranges]
    for spec in specs:
        values = edge_values(spec, domain.ranges[spec.name])
        rows = random_rows(domain, len(values), random)
        shape = domain.shape(spec, len(values))
        if shape and shape[0] == len(values):
            column = np.empty(len(values), spec.dtype.numpy)
            column[:] = np.array(values, spec.dtype.numpy)
            rows[spec.name] = np.broadcast_to(
                column.reshape(-1, *[1] * (len(shape) - 1)), shape
            ).copy()
            yield rows


def count_rows(rows: Mapping[str, Tensor]) -> int:
    """Return how many rows there are."""
    return min((len(value) for value in rows.values() if value.ndim), default=0)


def take(rows: Mapping[str, Tensor], which: Tensor) -> dict[str, Tensor]:
    """Return the rows numbered *which*; an input that is one number stays as it is."""
    return {name: value[which] if value.ndim else value for name, value in rows.items()}


def concatenate(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the rows of all *parts*, which have the same inputs."""
    if not parts:
        return {}
    return {
        name: np.concatenate([part[name] for part in parts])
        if parts[0][name].ndim
        else parts[0][name]
        for name in parts[0]
    }
