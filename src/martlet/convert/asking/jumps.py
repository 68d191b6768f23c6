"""Where a model's answers jump: the thresholds within it, found by halving."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from martlet.convert.asking.draws import count_rows, random_rows, take
from martlet.convert.asking.ranges import Domain, answers
from martlet.servable import Servable
from martlet.tensors import DType, Spec, Tensor

Cell = tuple[Spec, int]
"""One number of a row: the input, and where in it."""

_TRIED = 16
_JUMP = 1e-3
"""The share of the difference between two far values that neighbours must show for a jump."""
_ROUNDINGS = 8.0
"""A jump is so many times what rounding the other inputs does; less is a sum's last digits."""
_NEAR = (1, 2, 3, 5, 8, 13, 21)
"""So many floats further the answers must stay; if they go back, a large sum was cancelled."""


def jump_rows(
    servable: Servable, domain: Domain, random: np.random.Generator
) -> Iterator[dict[str, Tensor]]:
    """
    Give, for each float input, pairs of rows with neighbouring floats and different answers.

    They are found by halving between two values with different answers, for all inputs of one dtype
    at once. Where a tree splits or a bucket ends, this finds the threshold itself, which a
    converter that rounds it moves.
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
        # A smooth function of a huge number is steep: rounding alone changes the answer there.
        smooth = _smooth(servable, domain, cells, random)
        for calm in (False, True):
            some = [
                cell for cell, is_smooth in zip(cells, smooth, strict=True) if is_smooth == calm
            ]
            if some:
                yield from _jumps(servable, domain, some, dtype, random, calm=calm)


def _smooth(
    servable: Servable, domain: Domain, cells: Sequence[Cell], random: np.random.Generator
) -> list[bool]:
    """Return of each number of a row whether the answers mostly move when it moves a little."""
    rows = random_rows(domain, len(cells) * _TRIED, random, calm=True)
    where = [cell for cell in cells for _ in range(_TRIED)]
    values = _at(rows, where)
    first, last = (
        _outputs(servable, domain, _with(rows, where, each.astype(values.dtype)))
        for each in (values, values * 1.01 + 1e-3)
    )
    if first is None or last is None:
        return [False] * len(cells)
    moved = (first != last).any(axis=1).reshape(len(cells), _TRIED)
    found: list[bool] = (moved.mean(axis=1) > 0.5).tolist()
    return found


def _jumps(
    servable: Servable,
    domain: Domain,
    cells: Sequence[Cell],
    dtype: DType,
    random: np.random.Generator,
    *,
    calm: bool,
) -> Iterator[dict[str, Tensor]]:
    """Give the pairs of rows for some numbers of one dtype; *calm*: between small values alone."""
    pairs = max(1, 512 // len(cells))
    rows = random_rows(domain, len(cells) * pairs, random, calm=calm)
    where = [cell for cell in cells for _ in range(pairs)]
    low = _ordered(_at(rows, where))
    high = random.permutation(low)
    first = _outputs(servable, domain, _with(rows, where, _floats_of(low, dtype)))
    last = _outputs(servable, domain, _with(rows, where, _floats_of(high, dtype)))
    if first is None or last is None:
        return
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
        return
    # From one float to the next a smooth function hardly moves; a choice moves all at once.
    at_once, in_all = (np.abs(each - first).max(axis=1) for each in (after, last))
    sure = at_once > _ROUNDINGS * _rounding(servable, domain, rows, where, low, dtype, random)
    sure &= differs & (at_once > _JUMP * in_all)
    for near in _NEAR:
        for beside, own in ((low - near, first), (high + near, after)):
            found = _outputs(servable, domain, _with(rows, where, _floats_of(beside, dtype)))
            if found is not None:
                with np.errstate(invalid="ignore", over="ignore"):
                    sure &= np.abs(found - own).max(axis=1) <= _JUMP * at_once
    jumps = np.flatnonzero(sure)
    for ends in (low, high):
        if len(jumps):
            yield take(_with(rows, where, _floats_of(ends, dtype)), jumps)


def _rounding(
    servable: Servable,
    domain: Domain,
    rows: Mapping[str, Tensor],
    where: Sequence[Cell],
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


def _at(rows: Mapping[str, Tensor], where: Sequence[Cell]) -> Tensor:
    return np.array(
        [rows[spec.name][row].reshape(-1)[at] for row, (spec, at) in enumerate(where)],
        where[0][0].dtype.numpy,
    )


def _with(rows: Mapping[str, Tensor], where: Sequence[Cell], values: Tensor) -> dict[str, Tensor]:
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
