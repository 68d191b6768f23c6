"""Who holds a thing is counted exactly, compiled or not."""

from __future__ import annotations

import threading

import pytest

from martlet.native import find
from martlet.serving.lease import lease


@pytest.fixture(params=["0", "1"])
def native(request, monkeypatch):
    monkeypatch.setenv("MARTLET_NATIVE", request.param)
    if request.param == "1" and find("lease") is None:
        pytest.skip("the compiled part is not built")


@pytest.mark.usefixtures("native")
class TestLease:
    def test_the_last_who_lets_go_of_what_drains_says_so(self):
        told: list[int] = []
        held = lease(lambda: told.append(1))
        assert held.acquire() and held.acquire()
        held.release()
        held.drain()
        assert (held.acquire(), told) == (False, [])
        held.release()
        assert told == [1]

    def test_what_nobody_holds_has_drained_at_once(self):
        drained = threading.Event()
        lease(drained.set).drain()
        assert drained.is_set()

    def test_threads_are_counted_exactly(self):
        drained = threading.Event()
        held = lease(drained.set)
        refused = threading.Barrier(5)

        def hold() -> None:
            refused.wait()
            while held.acquire():
                held.release()

        threads = [threading.Thread(target=hold) for _ in range(4)]
        for thread in threads:
            thread.start()
        assert held.acquire()
        refused.wait()
        held.drain()
        for thread in threads:
            thread.join()
        assert not drained.is_set()
        held.release()
        assert drained.is_set()
