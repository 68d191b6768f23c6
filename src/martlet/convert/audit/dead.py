"""Inputs that no output depends on: varied on rows that reach every part of a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import numpy as np

from martlet.convert.asking.coverage import each_branch, each_id
from martlet.convert.asking.draws import concatenate, count_rows, random_values, take
from martlet.convert.asking.probes import BLOCK, sorted_out
from martlet.convert.asking.ranges import Domain, answers
from martlet.servable import Servable
from martlet.tensors import Spec, Tensor

_TRIES = 48
_TRIES_TOGETHER = 3
_REACHING = 1 << 17
"""Most rows that are asked to reach every id and branch; of more, the first."""
_HALVINGS = 48
_NOISES = 8.0
"""A change counts if it is so many times the difference between answers to the same rows."""

Rows = Mapping[str, Tensor]


class Variation:
    """
    Asks a signature with rows that differ in some inputs, and says whether its answers do.

    Args:
        servable: The model.
        domain: What the signature takes.
        random: Draws the values.
    """

    def __init__(self, servable: Servable, domain: Domain, random: np.random.Generator) -> None:
        self._servable = servable
        self._domain = domain
        self._random = random
        self._specs = {
            spec.name: spec
            for spec in domain.signature.inputs.values()
            if spec.name in domain.ranges
        }
        self.noise: dict[str, float] = {}
        """By how much the answers to the same rows differ, by output; empty where they do not."""

    def ask(self, rows: Rows) -> dict[str, Tensor] | None:
        """Return the answers to *rows*, None where they are refused."""
        return answers(self._servable, self._domain.name, rows)

    def answered(self, rows: Rows) -> dict[str, Tensor]:
        """Return the rows of *rows* that are answered."""
        good, _ = sorted_out(self._servable, self._domain, rows)
        return dict(rows) if len(good) == count_rows(rows) else take(rows, good)

    def dead(self, bases: dict[str, Tensor]) -> dict[str, tuple[bool, int]]:
        """
        Return by input whether no output moves with it, and how many values were tried.

        Each is varied alone on *bases*. Those that changed nothing are then varied together, on
        rows that hold every id, take every branch, and lie where the answers turn. There an input
        shows that matters beside one id only, or that a saturated net drowns.
        """
        self._listen(bases)
        tried = dict.fromkeys(self._specs, 0)
        silent = []
        for name, spec in self._specs.items():
            moved, tried[name] = self._moves(bases, spec)
            if not moved:
                silent.append(name)
        for rows in self._reaching(bases):
            for _ in range(_TRIES_TOGETHER):
                if silent:
                    silent = self._silent(rows, silent, tried)
        return {name: (name in silent and tried[name] > 0, tried[name]) for name in self._specs}

    def _listen(self, bases: Rows) -> None:
        """Note by how much answers to the same rows differ: some models draw random numbers."""
        first = self.ask(bases) or {}
        for _ in range(2):
            again = self.ask(bases) or first
            for name in first:
                if not _same(first[name], again[name]):
                    apart = _apart(first[name], again[name])
                    self.noise[name] = max(self.noise.get(name, 0.0), apart)

    def _moves(self, bases: Rows, spec: Spec) -> tuple[bool, int]:
        """Return whether some output moves with one input, and how many values were tried."""
        # The same rows in the same places: in a batch, rounding may depend on a row's place.
        expected = self.ask(bases)
        tried = 0
        for _ in range(_TRIES):
            values = self._values(spec, bases)
            found = self.ask({**bases, spec.name: values})
            if expected is None or found is None:
                continue
            tried += _changed(bases[spec.name], values)
            if self._differ(expected, found):
                return True, tried
        return False, tried

    def _silent(self, rows: Rows, names: Sequence[str], tried: dict[str, int]) -> list[str]:
        """Return those of *names* that move nothing on *rows*, varied all at once."""
        values = {name: self._values(self._specs[name], rows, wide=True) for name in names}
        varied = {**rows, **values}
        good, _ = sorted_out(self._servable, self._domain, varied)
        if len(good) < count_rows(rows):
            rows, varied = take(rows, good), take(varied, good)
        for name in names:
            tried[name] += _changed(rows[name], varied[name])
        expected, found = self.ask(rows), self.ask(varied)
        if expected is None or found is None or not self._differ(expected, found):
            return list(names)
        left, now = [], dict(rows)
        for name in names:  # one after the other: an input at whose turn the answers change matters
            now[name] = varied[name]
            found = self.ask(now)
            if found is None or not self._differ(expected, found):
                left.append(name)
            else:
                expected = found
        return left

    def _reaching(self, bases: Rows) -> Iterator[dict[str, Tensor]]:
        """Give rows that hold every id, take every branch, stand where the answers turn."""
        left = _REACHING
        makers = (each_id, each_branch)
        given = (make(self._servable, self._domain, self._random) for make in makers)
        for rows in chain([self.turning(bases)], *given):
            for start in range(0, min(left, count_rows(rows)), BLOCK):
                some = np.arange(start, min(start + BLOCK, count_rows(rows)))
                found = self.answered(take(rows, some))
                left -= len(some)
                if count_rows(found):
                    yield found
            if left <= 0:
                return

    def turning(self, rows: Rows) -> dict[str, Tensor]:
        """
        Return rows on the way from *rows* to far ones, where the answers are between the two.

        Where features are far from what is usual, a net gives the same for all; not where it goes
        from one end of its answers to the other.
        """
        count = count_rows(rows)
        others = {
            name: self._values(spec, rows, wide=True)
            for name, spec in self._specs.items()
            if spec.dtype.is_float or spec.dtype.is_integer
        }

        def at(share: Tensor) -> dict[str, Tensor]:
            found = dict(rows)
            for name, far in others.items():
                near = rows[name].astype(np.float64)
                by = share.reshape(-1, *[1] * (near.ndim - 1))
                found[name] = (near + (far.astype(np.float64) - near) * by).astype(far.dtype)
            return found

        low, high = np.zeros(count), np.ones(count)
        first, last = (self._level(at(share)) for share in (low, high))
        if first is None or last is None:
            return dict(rows)
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            level = self._level(at(middle))
            if level is None:
                break
            near = (level > (first + last) / 2) == (first > last)
            low, high = np.where(near, middle, low), np.where(near, high, middle)
        apart = np.flatnonzero(first != last)
        return concatenate([take(at(share), apart) for share in (low, high)])

    def _level(self, rows: Rows) -> Tensor | None:
        """Return one number a row: the sum of what it is answered."""
        found = self.ask(rows)
        count = count_rows(rows)
        if found is None:
            return None
        level = np.zeros(count)
        for value in found.values():
            if value.dtype.kind in "iuf" and value.ndim and len(value) == count:
                with np.errstate(over="ignore", invalid="ignore"):
                    level += np.nan_to_num(value.reshape(count, -1).astype(np.float64)).sum(axis=1)
        return level

    def _values(self, spec: Spec, rows: Rows, *, wide: bool = False) -> Tensor:
        """Return values for an input of *rows*; *wide*: half of them of any size."""
        shape = rows[spec.name].shape
        drawn = random_values(self._domain, spec, shape, self._random)
        if not wide or not (spec.dtype.is_float or spec.dtype.is_integer):
            return drawn
        known = self._domain.ranges[spec.name]
        if spec.dtype.is_integer:
            limits = np.iinfo(spec.dtype.numpy)
            low = int(limits.min) if known.low is None else known.low
            high = int(limits.max) if known.high is None else known.high
        else:
            low, high = -(10**12), 10**12
        sizes = np.exp2(self._random.random(shape) * np.log2(max(abs(low), abs(high), 2)))
        signs = np.where(self._random.random(shape) < 0.25, -1.0, 1.0)
        far = np.clip(sizes * signs, low, high)
        if spec.dtype.is_integer:
            # The float next to the last integer may lie beyond it.
            far = np.clip(far, low, float(np.nextafter(high, 0)) if high > 1 << 53 else high)
        return np.where(self._random.random(shape) < 0.5, far.astype(spec.dtype.numpy), drawn)

    def _differ(self, expected: Rows, found: Rows) -> bool:
        for name, value in expected.items():
            if _same(value, found[name]):
                continue
            if _apart(value, found[name]) > _NOISES * self.noise.get(name, 0.0):
                return True
        return False


def _changed(one: Tensor, other: Tensor) -> int:
    """Return how many rows two columns differ in."""
    return int((one != other).reshape(len(one), -1).any(axis=1).sum()) if one.size else 0


def _apart(one: Tensor, other: Tensor) -> float:
    """Return by how much two answers differ at most: infinitely, where they are no numbers."""
    if one.shape != other.shape or one.dtype.kind not in "iuf":
        return np.inf
    with np.errstate(invalid="ignore", over="ignore"):
        off = np.abs(one.astype(np.float64) - other.astype(np.float64))
    off[np.isnan(one) & np.isnan(other)] = 0.0
    # -0.0 is another answer than 0.0, if no number apart.
    return max(float(np.nan_to_num(off, nan=np.inf).max(initial=0.0)), np.finfo(np.float64).tiny)


def _same(one: Tensor, other: Tensor) -> bool:
    if one.dtype.kind in "fc":
        # By the bits: -0.0 is not 0.0, and NaN is itself.
        return one.shape == other.shape and one.tobytes() == other.tobytes()
    return bool(np.array_equal(one, other))
