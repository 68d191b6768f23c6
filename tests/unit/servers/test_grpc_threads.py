"""The executor of gRPC: few threads work at once, those that wait or hang not counted."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError

import pytest

from martlet.servers.grpc.threads import Threads

WAIT_S = 20.0


class Gauge:
    """How many are inside at once, at most."""

    def __init__(self) -> None:
        self.most = self._now = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._now -= 1


@pytest.fixture
def threads():
    found = Threads(2, "test")
    yield found
    found.shutdown(cancel_futures=True)


def test_all_are_done_and_no_more_than_its_count_work_at_once():
    gauge, threads = Gauge(), Threads(2, "test", patience_s=WAIT_S)

    def work(number: int) -> int:
        with gauge:
            return number * number

    futures = [threads.submit(work, n) for n in range(500)]
    assert [each.result(WAIT_S) for each in futures] == [n * n for n in range(500)]
    assert gauge.most <= 2


def test_what_is_raised_is_the_futures(threads):
    with pytest.raises(ZeroDivisionError):
        threads.submit(lambda: 1 / 0).result(WAIT_S)
    assert threads.submit(lambda: 1).result(WAIT_S) == 1


def test_those_that_wait_hold_up_nobody(threads):
    gate = threading.Event()

    def wait() -> bool:
        with threads.waiting():
            return gate.wait(WAIT_S)

    waiting = [threads.submit(wait) for _ in range(50)]
    assert threads.submit(lambda: "answered").result(WAIT_S) == "answered"
    assert not any(each.done() for each in waiting)
    gate.set()
    assert all(each.result(WAIT_S) for each in waiting)


def test_those_that_hang_are_written_off(threads):
    gate = threading.Event()
    hung = [threads.submit(gate.wait, WAIT_S) for _ in range(10)]
    assert threads.submit(lambda: "answered").result(WAIT_S) == "answered"
    gate.set()
    assert all(each.result(WAIT_S) for each in hung)


def test_what_waits_when_it_closes_is_cancelled(threads):
    gate = threading.Event()
    working = [threads.submit(gate.wait, WAIT_S) for _ in range(2)]
    waiting = threads.submit(lambda: 1)
    threads.shutdown(cancel_futures=True)
    with pytest.raises(CancelledError):
        waiting.result(WAIT_S)
    with pytest.raises(RuntimeError):
        threads.submit(lambda: 1)
    gate.set()
    assert all(each.result(WAIT_S) for each in working)
