"""What is measured of the workers: differences of what they counted."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest

from martlet.errors import Code
from martlet.fleet.board import Board
from martlet.fleet.gauge import Gauge, cpu_seconds
from martlet.fleet.scaler import Scaler, read_told
from martlet.fleet.scaling import Bounds
from martlet.monitor.counts import Counts, Histogram

US = os.getpid()


def answer(counts: Counts, *times_ms: float, code: Code | None = None) -> None:
    for each in times_ms:
        counts.answered("REST", "predict", "m", 1, code, 1, int(each * 1e6), 0)


def test_a_quantile_is_that_of_the_times_to_within_their_bucket():
    times_us = np.random.default_rng(1).lognormal(9, 1, 5000)
    found = Histogram()
    found.add(times_us)
    for share in (0.5, 0.95, 0.99):
        assert found.quantile(share) == pytest.approx(np.quantile(times_us, share), rel=0.4)
    assert Histogram().quantile(0.95) == 0.0


def test_the_p95_is_of_late_and_not_of_ever():
    counts, board = Counts(), Board(1)
    gauge = Gauge(board, counts.totals)
    answer(counts, *[500.0] * 1000)
    assert gauge.sample({0: US}, now=10.0) is None, "there is nothing before it yet"
    answer(counts, *[10.0] * 100)
    sample = gauge.sample({0: US}, now=11.0)
    assert sample is not None
    assert sample.answers == 100
    assert 5 < sample.p95_ms < 20


def test_refused_calls_are_counted_and_other_errors_not():
    counts = Counts()
    gauge = Gauge(Board(1), counts.totals)
    gauge.sample({0: US}, now=10.0)
    answer(counts, 1.0, 1.0, code=Code.RESOURCE_EXHAUSTED)
    answer(counts, 1.0, code=Code.INVALID_ARGUMENT)
    sample = gauge.sample({0: US}, now=11.0)
    assert sample is not None
    assert sample.refused == 2


def test_lanes_that_are_full_are_busy_and_what_waits_is_summed_over_workers():
    board = Board(2)
    gauge = Gauge(board, Counts().totals)
    workers = {0: US, 1: US + 1_000_000_000}
    gauge.sample(workers, now=10.0)
    for _ in range(4):
        board.beat(0, 10.5, waiting=3, full=1.0)
        board.beat(1, 10.5, waiting=1, full=0.0)
    sample = gauge.sample(workers, now=1e6)
    assert sample is not None
    assert sample.waiting == 4.0
    assert sample.busy == pytest.approx(0.5, abs=0.01)


def test_a_worker_that_has_just_come_says_nothing_yet():
    board = Board(2)
    gauge = Gauge(board, Counts().totals)
    gauge.sample({0: US}, now=10.0)
    board.beat(0, 10.5, waiting=0, full=1.0)
    board.beat(1, 10.5, waiting=50, full=1.0)
    sample = gauge.sample({0: US, 1: US + 1_000_000_000}, now=11.0)
    assert sample is not None
    assert sample.waiting == 0.0


def test_work_is_processor_time():
    before = cpu_seconds(US)
    end = time.process_time() + 0.1
    while time.process_time() < end:
        pass
    assert cpu_seconds(US) - before >= 0.05
    assert cpu_seconds(2**30) == 0.0


def test_decisions_are_written_down_with_their_reasons(tmp_path):
    counts, board = Counts(), Board(4)
    scaler = Scaler(Bounds(1, 4, 50.0), Gauge(board, counts.totals), tmp_path)
    assert read_told(tmp_path)["workers"] == 1
    workers = 1
    for now in range(5):
        answer(counts, *[300.0] * 100)
        board.beat(0, now, waiting=0, full=1.0)
        workers = scaler.turn({0: US}, workers, float(now))
        if workers > 1:
            break
    told = read_told(tmp_path)
    assert told["workers"] == workers == 2
    assert told["decisions"] == {"up": 1, "down": 0}
    assert "the target is 50 ms" in told["last"][0]["reason"]
    assert read_told(tmp_path / "elsewhere") == {}


def test_nothing_is_decided_while_workers_are_starting(tmp_path):
    counts, board = Counts(), Board(4)
    scaler = Scaler(Bounds(1, 4, 50.0), Gauge(board, counts.totals), tmp_path)
    for now in range(20):
        answer(counts, *[300.0] * 100)
        board.beat(0, now, waiting=9, full=1.0)
        assert scaler.turn({0: US}, 2, float(now)) == 2
