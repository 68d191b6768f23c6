"""When a gRPC port that closes takes it that no client is about to ask."""

from __future__ import annotations

import asyncio
import selectors
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

grpc = pytest.importorskip("grpc")

from martlet.servers.grpc.closing import MOST_TURNS, QUIET_TURNS, Closing  # noqa: E402
from martlet.servers.grpc.threads import Threads  # noqa: E402


class Clock(selectors.SelectSelector):
    """Passes time by counting it, and more of it than was asked in a turn that *stalls* lists."""

    def __init__(self, stalls: dict[int, float], in_turn: Callable[[int], object]) -> None:
        super().__init__()
        self.now = 0.0
        self.turn = 0
        self._stalls = stalls
        self._in_turn = in_turn

    def select(self, timeout: float | None = None) -> Any:
        if timeout:
            self._in_turn(self.turn)
            self.now += timeout + self._stalls.get(self.turn, 0.0)
            self.turn += 1
        return super().select(0)


def turns(
    closing: Closing,
    stalls: dict[int, float] | None = None,
    in_turn: Callable[[int], object] = int,
) -> int:
    """Return after how many turns *closing* is quiet."""
    clock = Clock(stalls or {}, in_turn)
    loop = asyncio.SelectorEventLoop(clock)
    loop.time = lambda: clock.now  # type: ignore[method-assign]
    try:
        loop.run_until_complete(closing.hold())
    finally:
        loop.close()
    return clock.turn


@pytest.fixture
def threads() -> Iterator[Threads]:
    made = Threads(4, "closing")
    yield made
    made.shutdown()


@pytest.fixture
def closing(threads: Threads) -> Iterator[Closing]:
    made = Closing(threads)
    yield made
    made.release()


@pytest.fixture
def call(threads: Threads, closing: Closing) -> Callable[[], Any]:
    """Make a call, whose answer is held; return when it has come."""
    came = threading.Event()

    def answer(raw: bytes, context: Any) -> bytes:
        came.set()
        return raw

    held = closing.handler(grpc.unary_unary_rpc_method_handler(answer)).unary_unary

    def comes() -> Any:
        came.clear()
        future = threads.submit(held, b"asked", None)
        assert came.wait(60)
        return future

    return comes


def test_a_port_that_nobody_asks_is_quiet_at_once(closing):
    assert turns(closing) == QUIET_TURNS


def test_each_call_has_it_wait_anew(closing, call):
    assert turns(closing, in_turn=lambda turn: turn == 3 and call()) == 4 + QUIET_TURNS


def test_a_turn_that_came_late_tells_nothing(closing):
    assert turns(closing, {3: 0.08}) == 4 + QUIET_TURNS


def test_what_a_stall_kept_in_the_sockets_is_waited_for(closing, call):
    assert turns(closing, {3: 0.08}, lambda turn: turn == 5 and call()) == 6 + QUIET_TURNS


def test_clients_that_never_rest_are_waited_for_only_so_long(closing, call):
    assert turns(closing, in_turn=lambda _: call()) == MOST_TURNS


def test_an_answer_goes_when_it_is_released(closing, call):
    made: list[Any] = []
    turns(closing, in_turn=lambda turn: turn == 0 and made.append(call()))
    assert not made[0].done()
    closing.release()
    assert made[0].result(60) == b"asked"
