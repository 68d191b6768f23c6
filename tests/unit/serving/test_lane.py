"""A lane: threads of a version's own, a queue with an end, and deadlines that are kept."""

from __future__ import annotations

import threading

import pytest

from martlet import deadline
from martlet.errors import DeadlineExceeded, Overloaded
from martlet.serving.lane import Lane, LaneClosed
from martlet.serving.settings import ModelSettings


def test_more_than_may_wait_is_refused_at_once_and_room_comes_back():
    lane = Lane("ctr", ModelSettings(threads=1, max_queue=2))
    gate = threading.Event()
    futures = [lane.submit(gate.wait, 10) for _ in range(3)]
    with pytest.raises(Overloaded, match="'ctr' has 2 calls waiting"):
        lane.submit(gate.wait, 10)
    gate.set()
    assert all(future.result(60) for future in futures)
    assert lane.submit(lambda: 1, 10).result(60) == 1


def test_what_waits_past_its_deadline_is_not_begun():
    lane = Lane("ctr", ModelSettings(threads=1))
    gate, begun = threading.Event(), []
    first = lane.submit(gate.wait, 10)
    late = lane.submit(lambda: begun.append(1), 0.0)
    gate.set()
    with pytest.raises(DeadlineExceeded):
        late.result(60)
    assert first.result(60)
    assert begun == []


def test_work_knows_how_long_its_caller_waits():
    lane = Lane("ctr", ModelSettings(deadline_ms=50.0))
    left = lane.submit(deadline.remaining, 10).result(60)
    assert left is not None
    assert 0 < left <= 0.05


def test_what_waits_in_a_closed_lane_is_still_done_and_nothing_new_is_taken():
    lane = Lane("ctr", ModelSettings(threads=1))
    gate = threading.Event()
    futures = [lane.submit(gate.wait, 10) for _ in range(3)]
    lane.close()
    with pytest.raises(LaneClosed):
        lane.submit(gate.wait, 10)
    gate.set()
    assert all(future.result(60) for future in futures)


def test_a_deadline_only_shrinks():
    assert deadline.remaining() is None
    with deadline.within(10), deadline.within(1000):
        left = deadline.remaining()
        assert left is not None
        assert left <= 10
        with deadline.within(0), pytest.raises(DeadlineExceeded, match="before it was read"):
            deadline.check("it was read")
    assert deadline.remaining() is None
