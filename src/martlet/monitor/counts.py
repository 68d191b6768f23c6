"""Counts of one process's answers: by model, door, outcome and time."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from martlet.errors import Code

BOUNDS_US: tuple[float, ...] = tuple(10 * 1.8**i for i in range(32))
"""Upper bounds of a latency's buckets, in microseconds; one more takes the rest.

Source: tensorflow_serving/servables/tensorflow/util.cc (ExponentialBucketsSampler, 10, 1.8, 33).
"""

_FOLD_AT = 1024

_Who = tuple[str, str, str, int, Code | None]
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


class Counts:
    """
    A sink that keeps count. To note an answer appends to a queue; the sums are made every
    thousand answers and when somebody reads them.
    """

    def __init__(self) -> None:
        self._queue: deque[tuple[str, str, str, int, Code | None, int, int, int]] = deque()
        self._lock = threading.Lock()
        self._requests: dict[tuple[str, str], int] = {}
        self._latency: dict[tuple[str, str, str], Histogram] = {}
        self._runtime: dict[tuple[str, str], Histogram] = {}
        self._work: dict[tuple[str, int], Work] = {}
        self._rows: dict[str, int] = {}

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
        queue = self._queue
        queue.append((door, api, model, version, code, rows, total_ns, model_ns))
        if len(queue) >= _FOLD_AT:
            self.fold()

    def fold(self) -> None:
        """Take what is queued into the sums."""
        with self._lock:
            now_ms = time.time_ns() // 1_000_000
            alike: dict[_Who, list[tuple[int, int, int]]] = {}
            for _ in range(len(self._queue)):
                answer = self._queue.popleft()
                alike.setdefault(answer[:5], []).append(answer[5:])
            for who, found in alike.items():
                self._take(who, np.array(found), now_ms)

    def _take(self, who: _Who, figures: NDArray[np.int64], now_ms: int) -> None:
        """Take answers of one kind; *figures* has rows, total_ns and model_ns of each."""
        door, api, model, version, code = who
        rows, total_ns, model_ns = (int(each) for each in figures.sum(axis=0))
        status = "OK" if code is None else code.name
        self._requests[model, status] = self._requests.get((model, status), 0) + len(figures)
        if version:
            work = self._work.setdefault((model, version), Work())
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
            self._latency.setdefault((model, api, door), Histogram()).add(times_us[:, 1])
            self._runtime.setdefault((model, api), Histogram()).add(times_us[:, 2])
            self._rows[model] = self._rows.get(model, 0) + rows

    @property
    def requests(self) -> Mapping[tuple[str, str], int]:
        """Answers by (model, canonical code)."""
        self.fold()
        return self._requests

    @property
    def latency(self) -> Mapping[tuple[str, str, str], Histogram]:
        """Times of good answers by (model, api, door)."""
        self.fold()
        return self._latency

    @property
    def runtime(self) -> Mapping[tuple[str, str], Histogram]:
        """Times that good answers spent in the model, by (model, api)."""
        self.fold()
        return self._runtime

    @property
    def rows(self) -> Mapping[str, int]:
        """Rows scored by model."""
        self.fold()
        return self._rows

    @property
    def work(self) -> Mapping[tuple[str, int], Work]:
        """What each (model, version) has done."""
        self.fold()
        return self._work
