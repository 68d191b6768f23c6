"""Counts of answers: by model, door, outcome and time."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from martlet.errors import Code

BOUNDS_US: tuple[float, ...] = tuple(10 * 1.8**i for i in range(32))
"""Upper bounds of a latency's buckets, in microseconds; one more takes the rest.

Source: tensorflow_serving/servables/tensorflow/util.cc (ExponentialBucketsSampler, 10, 1.8, 33).
"""

_FOLD_AT = 1024

Who = tuple[str, str, str, int, Code | None]
"""Door, api, model, version and code of an answer."""


@dataclass(slots=True)
class Histogram:
    """Times, in microseconds, by BOUNDS_US."""

    buckets: list[int] = field(default_factory=lambda: [0] * (len(BOUNDS_US) + 1))
    count: int = 0
    total: float = 0.0

    def add(self, values: NDArray[np.float64]) -> None:
        """Count times. Shape [n]."""
        places = np.searchsorted(BOUNDS_US, values)
        for place, count in zip(*np.unique(places, return_counts=True), strict=True):
            self.buckets[place] += int(count)
        self.count += len(values)
        self.total += float(values.sum())

    def include(self, other: Histogram) -> None:
        """Add *other*'s counts to these."""
        self.buckets = [a + b for a, b in zip(self.buckets, other.buckets, strict=True)]
        self.count += other.count
        self.total += other.total

    def since(self, before: Histogram) -> Histogram:
        """Return what was counted after *before*, an earlier state of the same counts."""
        buckets = [a - b for a, b in zip(self.buckets, before.buckets, strict=True)]
        return Histogram(buckets, self.count - before.count, self.total - before.total)

    def quantile(self, share: float) -> float:
        """
        Return the time, in microseconds, that *share* of them took at most; 0 of none.

        Within a bucket times are taken for evenly spread: it is off by less than the bucket.
        """
        wanted, seen, low = share * self.count, 0, 0.0
        for high, count in zip(BOUNDS_US, self.buckets, strict=False):
            if count and seen + count >= wanted:
                return low + (high - low) * (wanted - seen) / count
            seen, low = seen + count, high
        return low if self.count else 0.0


@dataclass(slots=True)
class Work:
    """What one version has done."""

    succeeded: int = 0
    succeeded_ns: int = 0
    failed: int = 0
    failed_ns: int = 0
    model_ns: int = 0
    rows: int = 0
    last_ms: int = 0

    def include(self, other: Work) -> None:
        """Add *other*'s sums to these; the later of the two is the last."""
        self.succeeded += other.succeeded
        self.succeeded_ns += other.succeeded_ns
        self.failed += other.failed
        self.failed_ns += other.failed_ns
        self.model_ns += other.model_ns
        self.rows += other.rows
        self.last_ms = max(self.last_ms, other.last_ms)


@dataclass(slots=True)
class Totals:
    """
    Sums.

    Args:
        requests: Answers by (model, canonical code).
        latency: Times of good answers by (model, api, door).
        runtime: Of them, in the model, by (model, api).
        rows: Rows scored by model.
        work: What each (model, version) has done.
    """

    requests: dict[tuple[str, str], int] = field(default_factory=dict)
    latency: dict[tuple[str, str, str], Histogram] = field(default_factory=dict)
    runtime: dict[tuple[str, str], Histogram] = field(default_factory=dict)
    rows: dict[str, int] = field(default_factory=dict)
    work: dict[tuple[str, int], Work] = field(default_factory=dict)

    def take(self, who: Who, figures: NDArray[np.int64], now_ms: int) -> None:
        """Take answers of one kind; *figures* has rows, total_ns and model_ns of each."""
        door, api, model, version, code = who
        rows, total_ns, model_ns = (int(each) for each in figures.sum(axis=0))
        status = "OK" if code is None else code.name
        self.requests[model, status] = self.requests.get((model, status), 0) + len(figures)
        if version:
            work = self.work.setdefault((model, version), Work())
            work.last_ms = now_ms
            if code is None:
                work.succeeded += len(figures)
                work.succeeded_ns += total_ns
                work.model_ns += model_ns
                work.rows += rows
            else:
                work.failed += len(figures)
                work.failed_ns += total_ns
        if code is None:
            times_us = figures / 1000
            self.latency.setdefault((model, api, door), Histogram()).add(times_us[:, 1])
            self.runtime.setdefault((model, api), Histogram()).add(times_us[:, 2])
            self.rows[model] = self.rows.get(model, 0) + rows

    def include(self, other: Totals) -> None:
        """Add *other*'s sums to these."""
        for request, count in other.requests.items():
            self.requests[request] = self.requests.get(request, 0) + count
        for model, rows in other.rows.items():
            self.rows[model] = self.rows.get(model, 0) + rows
        for key, times in other.latency.items():
            self.latency.setdefault(key, Histogram()).include(times)
        for called, times in other.runtime.items():
            self.runtime.setdefault(called, Histogram()).include(times)
        for version, work in other.work.items():
            self.work.setdefault(version, Work()).include(work)


class Counts:
    """
    A sink that keeps count. To note an answer appends to a queue; the sums are made every
    thousand answers and when somebody reads them.

    Args:
        before: What was counted already, by whom this one follows.
    """

    def __init__(self, before: Totals | None = None) -> None:
        self._queue: deque[tuple[Who, tuple[int, int, int]]] = deque()
        self._who: Who = ("", "", "", 0, None)
        self._lock = threading.Lock()
        self._totals = before or Totals()
        self._folded = 0

    def answered(
        self,
        door: str,
        api: str,
        model: str,
        version: int,
        code: Code | None,
        rows: int,
        total_ns: int,
        model_ns: int,
    ) -> None:
        """Note one answer."""
        who, queue = self._who, self._queue
        # One answer is mostly like the one before: the same tuple names both, and the fold
        # compares it by identity.
        if (
            who[2] is not model
            or who[3] != version
            or who[1] is not api
            or who[0] is not door
            or who[4] is not code
        ):
            who = self._who = (door, api, model, version, code)
        queue.append((who, (rows, total_ns, model_ns)))
        if len(queue) >= _FOLD_AT:
            with self._lock:
                self._fold()

    @property
    def noted(self) -> int:
        """How many answers were noted here; it only rises."""
        return self._folded + len(self._queue)

    def _fold(self) -> None:
        now_ms = time.time_ns() // 1_000_000
        alike: dict[Who, list[tuple[int, int, int]]] = {}
        last, group = self._who, alike.setdefault(self._who, [])
        take = self._queue.popleft
        for _ in range(len(self._queue)):
            who, figures = take()
            if who is not last:
                last, group = who, alike.setdefault(who, [])
            group.append(figures)
            self._folded += 1
        for who, found in alike.items():
            if found:
                self._totals.take(who, np.array(found), now_ms)

    def totals(self) -> Totals:
        """Return a copy of the sums, up to the last answer."""
        found = Totals()
        with self._lock:
            self._fold()
            found.include(self._totals)
        return found
