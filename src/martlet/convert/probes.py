"""What a model is asked to see whether two of them answer the same: random, edge, logged rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from martlet.convert.ranges import Domain, Range, answers
from martlet.servable import Servable
from martlet.tensors import DType, Spec, Tensor

_ODD_TEXTS = ("", " ", "no such word", "\u00e9\u4e16\U0001f600", "0", "-1", "NaN", "x" * 300)
_SCALES = (1.0, 1.0, 10.0, 1000.0, 1e5)
_MOST_REFUSED = 64
_JUMP = 1e-3
"""Of the difference between two far values, which neighbours must show to be called a jump."""
_ROUNDINGS = 8.0
"""How many times what rounding its other inputs does; less is no jump but a sum's last digits."""


@dataclass(frozen=True, slots=True)
class Probe:
    """
    Rows to ask both with.

    Args:
        kind: ``random``, ``edge``, ``logged``; ``jump``: the two neighbouring floats between
            which an answer changes at once; ``not finite``: edges with NaN or infinity in an
            input that declares no missing values; ``refused``: rows that the original refuses,
            each to be asked alone.
        inputs: By name, all with the same number of rows.
        labels: 0 or 1 for each row, where they are known.
        groups: Of each row, whose it is (a user): order is compared within a group.
        segments: Other columns to tell apart, by name.
    """

    kind: str
    inputs: Mapping[str, Tensor]
    labels: Tensor | None = None
    groups: Tensor | None = None
    segments: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """How many there are."""
        return min((len(value) for value in self.inputs.values() if value.ndim), default=0)

    def take(self, rows: Tensor) -> Probe:
        """Return the given rows (numbers, or a mask)."""
        return replace(
            self,
            inputs={name: value[rows] for name, value in self.inputs.items()},
            labels=None if self.labels is None else self.labels[rows],
            groups=None if self.groups is None else self.groups[rows],
            segments={name: value[rows] for name, value in self.segments.items()},
        )


def probes_for(
    servable: Servable,
    domain: Domain,
    logged: Probe | None = None,
    *,
    rows: int = 2048,
    seed: int = 0,
) -> list[Probe]:
    """
    Return probes that *servable*, the original, answers, and those single rows that it refuses.

    There are *rows* random rows, the same in batches of 1 and 7 (a rewritten graph may depend on
    how many come), each input's edges (its least and greatest, one beyond, -1, NaN, unknown
    words), the two neighbouring floats between which an answer jumps, rows that come twice,
    and *logged* ones if given.
    """
    random = np.random.default_rng(seed)
    probes: list[Probe] = []
    drawn = random_rows(domain, rows, random)
    kept, refused = _sorted_out(servable, domain, drawn)
    for count in (len(kept), 1, 7):
        if 0 < count <= len(kept):
            probes.append(Probe("random", take(drawn, kept[:count])))
    edges = concatenate(list(edge_rows(domain, random)))
    refusing = [take(drawn, refused)]
    if edges:
        odd = _not_finite(domain, edges)
        good, bad = _sorted_out(servable, domain, take(edges, np.flatnonzero(~odd)))
        sound = take(edges, np.flatnonzero(~odd))
        if len(good):
            # Each twice: what a graph does with duplicates is an edge of its own.
            probes.append(Probe("edge", take(sound, np.concatenate([good, good[::-1]]))))
        refusing.append(take(sound, bad))
        strange = take(edges, np.flatnonzero(odd))
        good, _ = _sorted_out(servable, domain, strange)
        if len(good):
            probes.append(Probe("not finite", take(strange, good)))
    jumps = concatenate(list(jump_rows(servable, domain, random)))
    if jumps:
        good, _ = _sorted_out(servable, domain, jumps)
        if len(good):
            probes.append(Probe("jump", take(jumps, good)))
    refusals = concatenate([each for each in refusing if count_rows(each)])
    if refusals:
        few = np.linspace(0, count_rows(refusals) - 1, _MOST_REFUSED).astype(int)
        probes.append(Probe("refused", take(refusals, np.unique(few))))
    if logged is not None:
        probes.append(logged)
    return probes


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
        # An id in a table. What lies below 0 means "missing", if it means anything: some of it.
        drawn = random.integers(max(low, 0) if high >= 0 else low, high, count, endpoint=True)
        rare = random.random(count) < 0.02
        drawn[rare] = random.integers(max(low, -3), max(low, -3, 0), int(rare.sum()), endpoint=True)
    else:
        sizes = np.array([10, 100] if calm else [10, 100, 2000, 100_000, 2**30])
        tops = np.minimum(sizes[random.integers(0, len(sizes), count)], high)
        drawn = np.maximum((random.random(count) * tops).astype(np.int64), low)
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
    limit = np.finfo(spec.dtype.numpy).max if spec.dtype.is_float else np.inf
    return _some_seen(
        np.clip(drawn, -float(limit), float(limit)).astype(spec.dtype.numpy), known, spec, random
    )


def _some_seen(drawn: Tensor, known: Range, spec: Spec, random: np.random.Generator) -> Tensor:
    """Let three in four be values that were seen, where some were."""
    if known.values:
        seen = np.array(known.values, spec.dtype.numpy)
        real = random.random(len(drawn)) < 0.75
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


def jump_rows(
    servable: Servable, domain: Domain, random: np.random.Generator
) -> Iterator[dict[str, Tensor]]:
    """
    Give, for each float input, pairs of rows with neighbouring floats that are answered apart.

    Found by halving between two values with different answers, all inputs of one dtype at once:
    where a tree splits or a bucket ends, that is the threshold itself, which a converter that
    rounds it puts elsewhere.
    """
    specs = [spec for spec in domain.signature.inputs.values() if spec.name in domain.ranges]
    for dtype in (DType.FLOAT32, DType.FLOAT64):
        cells = [
            (spec, at)
            for spec in specs
            if spec.dtype is dtype and domain.shape(spec, 2)[:1] == (2,)
            for at in range(int(np.prod(domain.shape(spec, 1))))
        ][:256]
        if not cells:
            continue
        pairs = max(1, 512 // len(cells))
        rows = random_rows(domain, len(cells) * pairs, random)
        where = [cell for cell in cells for _ in range(pairs)]
        low = _ordered(_at(rows, where))
        high = random.permutation(low)
        first = _outputs(servable, domain, _with(rows, where, _floats_of(low, dtype)))
        last = _outputs(servable, domain, _with(rows, where, _floats_of(high, dtype)))
        if first is None or last is None:
            continue
        differs = (first != last).any(axis=1)
        for _ in range(64):
            # Halves are added, since the sum of two may not fit.
            middle = low // 2 + high // 2 + (low & high & 1)
            if ((middle == low) | (middle == high)).all():
                break
            found = _outputs(servable, domain, _with(rows, where, _floats_of(middle, dtype)))
            if found is None:
                break
            same = (found == first).all(axis=1)
            low, high = np.where(same, middle, low), np.where(same, high, middle)
        after = _outputs(servable, domain, _with(rows, where, _floats_of(high, dtype)))
        if after is None:
            continue
        # What is smooth hardly moves from one float to the next; what is chosen moves at once.
        at_once, in_all = (np.abs(each - first).max(axis=1) for each in (after, last))
        sure = at_once > _ROUNDINGS * _rounding(servable, domain, rows, where, low, dtype, random)
        jumps = np.flatnonzero(differs & sure & (at_once > _JUMP * in_all))
        for ends in (low, high):
            if len(jumps):
                yield take(_with(rows, where, _floats_of(ends, dtype)), jumps)


def _rounding(
    servable: Servable,
    domain: Domain,
    rows: Mapping[str, Tensor],
    where: Sequence[tuple[Spec, int]],
    low: Tensor,
    dtype: DType,
    random: np.random.Generator,
) -> Tensor:
    """Return by how much each row's answers move when its other floats are rounded otherwise."""
    found = np.zeros(len(low))
    still = _outputs(servable, domain, _with(rows, where, _floats_of(low, dtype)))
    for _ in range(3):
        moved = {name: nudged(value, random) for name, value in rows.items()}
        other = _outputs(servable, domain, _with(moved, where, _floats_of(low, dtype)))
        if still is not None and other is not None:
            with np.errstate(invalid="ignore", over="ignore"):
                off = np.abs(other - still).max(axis=1)
            found = np.maximum(found, np.where(np.isfinite(off), off, 0.0))
    return found


def nudged(values: Tensor, random: np.random.Generator) -> Tensor:
    """Return floats moved by a unit in the last place, up or down; all else as it is."""
    if values.dtype.kind != "f":
        return values
    ends = np.where(random.random(values.shape) < 0.5, -np.inf, np.inf).astype(values.dtype)
    found: Tensor = np.nextafter(values, ends)
    return found


def _ordered(values: Tensor) -> Tensor:
    """Return floats as integers in the same order, neighbours one apart; NaN as 0."""
    values = np.nan_to_num(values)
    if values.dtype == np.float32:
        bits = values.view(np.int32).astype(np.int64)
        return np.where(bits < 0, -(1 << 31) - bits, bits)
    bits = values.view(np.int64)
    return np.where(bits < 0, np.iinfo(np.int64).min - bits, bits)


def _floats_of(ordered: Tensor, dtype: DType) -> Tensor:
    if dtype is DType.FLOAT32:
        bits = np.where(ordered < 0, -(1 << 31) - ordered, ordered)
        return bits.astype(np.int32).view(np.float32)
    bits = np.where(ordered < 0, np.iinfo(np.int64).min - ordered, ordered)
    return bits.view(np.float64)


def _at(rows: Mapping[str, Tensor], where: Sequence[tuple[Spec, int]]) -> Tensor:
    return np.array(
        [rows[spec.name][row].reshape(-1)[at] for row, (spec, at) in enumerate(where)],
        where[0][0].dtype.numpy,
    )


def _with(
    rows: Mapping[str, Tensor], where: Sequence[tuple[Spec, int]], values: Tensor
) -> dict[str, Tensor]:
    found = dict(rows)
    for name in {spec.name for spec, _ in where}:
        found[name] = rows[name].copy()
    for row, (spec, at) in enumerate(where):
        found[spec.name][row].reshape(-1)[at : at + 1] = values[row]
        if found[spec.name].ndim == 1:
            found[spec.name][row] = values[row]
    return found


def _outputs(servable: Servable, domain: Domain, rows: Mapping[str, Tensor]) -> Tensor | None:
    """Return every numeric output as one [rows, numbers] array; None where it refuses."""
    found = answers(servable, domain.name, rows)
    if found is None:
        return None
    count = count_rows(rows)
    columns = [
        np.nan_to_num(value.reshape(count, -1).astype(np.float64))
        for value in found.values()
        if value.dtype.kind in "biuf" and value.ndim and len(value) == count
    ]
    return np.concatenate(columns, axis=1) if columns else None


def _not_finite(domain: Domain, rows: Mapping[str, Tensor]) -> Tensor:
    """Return which rows hold NaN or infinity where the signature speaks of no missing values."""
    found = np.zeros(count_rows(rows), bool)
    for spec in domain.signature.inputs.values():
        value = rows.get(spec.name)
        if value is None or not value.ndim or value.dtype.kind != "f":
            continue
        strange = np.isinf(value) if spec.nullable else ~np.isfinite(value)
        found |= strange.reshape(len(value), -1).any(axis=1)
    return found


def _sorted_out(
    servable: Servable, domain: Domain, rows: Mapping[str, Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the numbers of the rows that are answered, and of those that are refused."""
    good: list[int] = []
    bad: list[int] = []

    def look(start: int, end: int) -> None:
        if start == end:
            return
        if answers(servable, domain.name, take(rows, np.arange(start, end))) is not None:
            good.extend(range(start, end))
        elif end - start == 1:
            bad.append(start)
        else:
            look(start, (start + end) // 2)
            look((start + end) // 2, end)

    look(0, count_rows(rows))
    return np.array(good, int), np.array(bad, int)


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
