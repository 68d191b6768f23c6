"""How many models' answers become one: averaged, summed, voted on.

Source: PMML 4.4.1, MultipleModels, "multipleModelMethod" and "missingPredictionTreatment".
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.formats.pmml.column import Mask
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.prediction import Floats, winners

VOTES = ("majorityVote", "weightedMajorityVote")
_TREATMENTS = ("continue", "skipSegment", "returnMissing")


@dataclass(frozen=True, slots=True)
class Combination:
    """
    A method, and what a segment without an answer does to the whole.

    Args:
        method: As ``multipleModelMethod`` names it.
        treatment: ``continue`` carries the lack into the result (a vote goes on without),
            ``skipSegment`` goes on without it, ``returnMissing`` gives no result.
        threshold: The share of the active segments' weight that ``skipSegment`` may skip.
    """

    method: str
    treatment: str = "continue"
    threshold: float = 1.0

    @classmethod
    def of(cls, segmentation: Element, method: str) -> Combination:
        """Read a Segmentation's attributes, plain or with the prefix of before 4.4."""
        name = "missingPredictionTreatment"
        name = name if segmentation.get(name) is not None else f"x-{name}"
        limit = "missingThreshold"
        limit = limit if segmentation.get(limit) is not None else f"x-{limit}"
        treatment = segmentation.choice(name, _TREATMENTS, "continue")
        return cls(method, treatment, segmentation.number(limit, 1.0))

    @property
    def skips(self) -> bool:
        return self.treatment == "skipSegment"

    @property
    def is_weighted(self) -> bool:
        return self.method.startswith("weighted")

    def numbers(self, values: Floats, weights: Floats, active: Mask) -> Floats:
        """
        Return one number a row, NaN where there is none.

        Args:
            values: Shape [rows, segments]; NaN where a segment has no answer.
            weights: Of each segment. Shape [rows, segments].
            active: Where a segment is asked at all. Shape [rows, segments].
        """
        lacking = np.isnan(values) & active
        kept = active & ~lacking
        found = _combined(values, weights, kept, self.method)
        found[~active.any(axis=1)] = np.nan
        found[self._without(lacking, weights, active)] = np.nan
        return found

    def shares(self, shares: Floats, weights: Floats, active: Mask) -> Floats:
        """
        Return each class's share of a row, NaN in rows without a result. Shape [rows, classes].

        Args:
            shares: What each segment says of each class: its probability, or one vote. Shape
                [rows, segments, classes]; NaN where a segment has no answer.
            weights, active: As of :meth:`numbers`.
        """
        lacking = np.isnan(shares).any(axis=2) & active
        kept = active & ~lacking
        if self.method in VOTES and self.treatment == "continue":
            return self._voted(shares, weights, kept, lacking)
        if self.method in ("max", "median"):
            found = _of_contributors(shares, kept, self.method)
        else:
            method = _OF_SHARES.get(self.method, self.method)
            columns = [
                _combined(shares[:, :, code], weights, kept, method)
                for code in range(shares.shape[2])
            ]
            found = np.stack(columns, axis=1)
        found[~kept.any(axis=1) | self._without(lacking, weights, active)] = np.nan
        return found

    def winners(self, shares: Floats, whole: Floats, active: Mask) -> NDArray[np.int64]:
        """
        Return the place of each row's class, -1 where there is none.

        Of classes with as many votes, the one that was voted for first wins.

        Args:
            shares, active: As of :meth:`shares`.
            whole: What that returned.
        """
        best = winners(whole)
        if self.method not in VOTES:
            return best
        tied = np.flatnonzero((whole == whole.max(axis=1)[:, None]).sum(axis=1) > 1)
        if tied.size:
            voted = (shares[tied] > 0) & active[tied, :, None]
            earliest = np.where(voted.any(axis=1), voted.argmax(axis=1), voted.shape[1])
            is_most = whole[tied] == whole[tied].max(axis=1)[:, None]
            best[tied] = np.where(is_most, earliest, voted.shape[1] + 1).argmin(axis=1)
        return best

    def _without(self, lacking: Mask, weights: Floats, active: Mask) -> Mask:
        """Return the rows that have no result, for segments that are *lacking*."""
        if not self.skips:
            return np.asarray(lacking.any(axis=1))
        gone = np.where(lacking, weights, 0.0).sum(axis=1)
        whole = np.where(active, weights, 0.0).sum(axis=1)
        return np.asarray(gone > self.threshold * whole)

    def number(self, values: list[float | None], weights: list[float]) -> float | None:
        """
        Return :meth:`numbers` of one row of float64.

        Args:
            values, weights: Of the segments that are asked; None: one has no answer.
        """
        kept = self._kept(values, weights)
        if not values or kept is None:
            return None
        found, factors = kept
        return _combined_one(found, factors, self.method)

    def share(
        self, shares: list[list[float] | None], weights: list[float], count: int
    ) -> list[float] | None:
        """
        Return :meth:`shares` of one row, of all methods but ``max`` and ``median``.

        Args:
            shares, weights: Of the segments that are asked; None: one has no answer.
            count: How many classes there are.
        """
        if self.method in VOTES and self.treatment == "continue":
            return self._vote(shares, weights, count)
        kept = self._kept(shares, weights)
        if kept is None or not kept[0]:
            return None
        rows, factors = kept
        method = _OF_SHARES.get(self.method, self.method)
        found = [_combined_one([row[c] for row in rows], factors, method) for c in range(count)]
        return None if None in found else found  # type: ignore[return-value] # none is None

    def _kept(
        self, values: list[Any], weights: list[float]
    ) -> tuple[list[Any], list[float]] | None:
        """Return what there is, and its weights; None: for what lacks there is no result."""
        if None not in values:
            return values, weights
        pairs = [(x, w) for x, w in zip(values, weights, strict=True) if x is not None]
        gone = sum(weights) - sum(w for _, w in pairs)
        if not self.skips or gone > self.threshold * sum(weights):
            return None
        return [x for x, _ in pairs], [w for _, w in pairs]

    def _vote(
        self, shares: list[list[float] | None], weights: list[float], count: int
    ) -> list[float] | None:
        votes, cast, lacking = [0.0] * count, 0.0, 0.0
        for share, weight in zip(shares, weights, strict=True):
            weighed = weight if self.is_weighted else 1.0
            if share is None:
                lacking += weighed
                continue
            cast += weighed
            votes = [vote + x * weighed for vote, x in zip(votes, share, strict=True)]
        if not cast or lacking > max(votes):
            return None
        return [vote / cast for vote in votes]

    def _voted(self, shares: Floats, weights: Floats, kept: Mask, lacking: Mask) -> Floats:
        """Return the share of the votes cast; nothing where most votes are for nothing."""
        weighed = weights if self.is_weighted else np.ones_like(weights)
        cast = np.where(kept, weighed, 0.0)
        votes = (np.where(kept[:, :, None], shares, 0.0) * cast[:, :, None]).sum(axis=1)
        with np.errstate(invalid="ignore"):
            found: Floats = votes / cast.sum(axis=1, keepdims=True)
        found[np.where(lacking, weighed, 0.0).sum(axis=1) > votes.max(axis=1, initial=0.0)] = np.nan
        return found


_OF_SHARES = {
    "majorityVote": "average",
    "weightedMajorityVote": "weightedAverage",
    "weightedSum": "weightedAverage",
}


def _combined_one(values: list[float], weights: list[float], method: str) -> float | None:
    """Return :func:`_combined` of one row; None: there is nothing to divide by, or to rank."""
    if method == "sum":
        return sum(values, 0.0)
    if not values:
        return 0.0 if method == "weightedSum" else None
    match method:
        case "average":
            return sum(values) / len(values)
        case "weightedSum":
            return sum(x * w for x, w in zip(values, weights, strict=True))
        case "weightedAverage":
            whole = sum(weights)
            return (
                sum(x * w for x, w in zip(values, weights, strict=True)) / whole if whole else None
            )
        case "max":
            return max(values)
        case "median":
            return float(median(values))
        case "weightedMedian":
            half, heaped = 0.5 * sum(weights), 0.0
            for x, weight in sorted(zip(values, weights, strict=True)):
                heaped += weight
                if heaped >= half:
                    return x
            return None
        case _:
            raise AssertionError(method)


def _combined(values: Floats, weights: Floats, kept: Mask, method: str) -> Floats:
    """Return one number a row of the values that are *kept*; a sum of none is 0."""
    filled = np.where(kept, values, 0).astype(values.dtype)
    factors = np.where(kept, weights, 0).astype(values.dtype)
    with np.errstate(invalid="ignore", divide="ignore"):
        match method:
            case "sum":
                found = _add(filled)
            case "average":
                found = _add(filled) / kept.sum(axis=1).astype(values.dtype)
            case "weightedSum":
                found = _add(filled * factors)
            case "weightedAverage":
                found = _add(filled * factors) / np.where(kept, weights, 0.0).sum(axis=1)
            case "max":
                found = np.where(kept, values, -np.inf).max(axis=1)
                found = np.where(kept.any(axis=1), found, np.nan)
            case "median":
                found = _median(np.where(kept, values, np.nan), kept)
            case "weightedMedian":
                found = _weighted_median(np.where(kept, values, np.nan), factors)
            case _:
                raise AssertionError(method)
    return np.array(found, dtype=values.dtype)


def _add(values: Floats) -> Floats:
    """Return each row's sum, added from left to right: float32 sums depend on the order."""
    total: Floats = np.zeros(len(values), dtype=values.dtype)
    for column in values.T:
        total += column
    return total


def _median(values: Floats, kept: Mask) -> Floats:
    found: Floats = np.full(len(values), np.nan)
    some = kept.any(axis=1)
    if some.any():
        found[some] = np.nanmedian(values[some], axis=1)
    return found


def _weighted_median(values: Floats, weights: Floats) -> Floats:
    """Return the first value whose weight, with that of all below it, is half of the total."""
    order: NDArray[np.intp] = np.argsort(values, axis=1)  # NaN last
    ranked = np.take_along_axis(values, order, axis=1)
    heaped = np.take_along_axis(weights, order, axis=1).cumsum(axis=1)
    place = (heaped >= 0.5 * heaped[:, -1:]).argmax(axis=1)
    return np.asarray(ranked[np.arange(len(values)), place])


def _of_contributors(shares: Floats, kept: Mask, method: str) -> Floats:
    """
    Return the average of the segments that gave the winning class its maximum, or its median.

    Of an even number, the median is of the two in the middle: both count, with their equals.
    They are told by their rank, as rounding would put the median nearer to one of them.
    """
    found = np.full((len(shares), shares.shape[2]), np.nan)
    some = np.flatnonzero(kept.any(axis=1))
    if some.size:
        known = np.where(kept[some, :, None], shares[some], np.nan)
        middle = np.nanmax(known, axis=1) if method == "max" else np.nanmedian(known, axis=1)
        rows, winner = np.arange(len(some)), middle.argmax(axis=1)
        told = known[rows, :, winner]
        ranked, last = np.sort(told, axis=1), kept[some].sum(axis=1) - 1  # NaN beyond the last
        lower, upper = (last, last) if method == "max" else (last // 2, (last + 1) // 2)
        counts = (told == ranked[rows, lower, None]) | (told == ranked[rows, upper, None])
        found[some] = np.nanmean(np.where(counts[:, :, None], known, np.nan), axis=1)
    return found
