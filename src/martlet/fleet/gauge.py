"""The gauge: how busy the workers were lately, from their counts, heartbeats and CPU times."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from martlet.errors import Code
from martlet.fleet.board import Board, Word
from martlet.fleet.scaling import Sample
from martlet.monitor.counts import Histogram, Totals

WINDOW_S = 3.0
"""The span that a sample describes, seconds."""

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class _Worker:
    """Sums of one worker."""

    cpu_s: float
    beats: int
    waiting: int
    full_permille: int


@dataclass(frozen=True, slots=True)
class _Reading:
    at: float
    latency: Histogram
    refused: int
    workers: Mapping[int, _Worker]
    """By process id."""


class Gauge:
    """
    Takes samples: differences of sums that only rise.

    Args:
        board: Has the workers' heartbeats and how full their lanes were.
        totals: Returns what all workers together have counted.
    """

    def __init__(self, board: Board, totals: Callable[[], Totals]) -> None:
        self._board = board
        self._totals = totals
        self._readings: deque[_Reading] = deque()

    def forget(self) -> None:
        """Begin again, because the set of workers has changed."""
        self._readings.clear()

    def sample(self, workers: Mapping[int, int], now: float) -> Sample | None:
        """Return a sample of *workers* (process ids by index); None: it is too early for one."""
        reading = self._read(workers, now)
        self._readings.append(reading)
        while len(self._readings) > 2 and self._readings[1].at <= now - WINDOW_S:
            self._readings.popleft()
        before = self._readings[0]
        if before.at >= now:
            return None
        times = reading.latency.since(before.latency)
        both = [
            (before.workers[pid], new)
            for pid, new in reading.workers.items()
            if pid in before.workers
        ]
        passed = now - before.at
        return Sample(
            at=now,
            answers=times.count,
            p95_ms=times.quantile(0.95) / 1000,
            busy=sum(_busy(*each, passed) for each in both) / max(1, len(both)),
            waiting=sum(_mean(old.waiting, new.waiting, old, new) for old, new in both),
            refused=reading.refused - before.refused,
        )

    def _read(self, workers: Mapping[int, int], now: float) -> _Reading:
        totals, latency = self._totals(), Histogram()
        for each in totals.latency.values():
            latency.include(each)
        refused = sum(
            count
            for (_, status), count in totals.requests.items()
            if status == Code.RESOURCE_EXHAUSTED.name
        )
        read = self._board.read
        told = {
            pid: _Worker(
                cpu_seconds(pid),
                read(index, Word.BEATS),
                read(index, Word.WAITING),
                read(index, Word.FULL_PERMILLE),
            )
            for index, pid in workers.items()
        }
        return _Reading(now, latency, refused, told)


def _busy(old: _Worker, new: _Worker, passed_s: float) -> float:
    """Return how busy a worker was, 0 to 1: its CPU time on one core, or its fullest lane."""
    cpu = min(1.0, (new.cpu_s - old.cpu_s) / passed_s)
    return max(cpu, _mean(old.full_permille, new.full_permille, old, new) / 1000)


def _mean(before: int, after: int, old: _Worker, new: _Worker) -> float:
    return (after - before) / max(1, new.beats - old.beats)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, all threads together; 0 if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    # The name, in brackets, may hold anything: count fields after it (proc(5): utime, stime).
    fields = stat.rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS
