"""Where a call is made: on the loop, or in a thread of its model's lane if the model is slow.

A hop to a thread costs as much as a small request, so a quick model is called on the loop. A slow
one would block the loop. In a thread a deadline can also be kept: work that has not begun when its
deadline passes, or when its client has gone, is dropped.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from martlet.serving.lane import GRACE_S, Lane, late

Result = TypeVar("Result")

SLOW_NS = 3_000_000
"""After two calls of a path that took longer, the next goes to a thread."""

VERY_SLOW_NS = 100_000_000
"""After one call that took longer, the next goes to a thread."""

_SURE = 4


class Pace:
    """
    Whether the last calls of one path were slow. A single slow call may be the machine's fault.

    A path counts as slow at first: its first calls must not block the loop to find out.
    """

    __slots__ = ("_slow_calls", "slow")

    def __init__(self) -> None:
        self._slow_calls = 2
        self.slow = True

    @property
    def uneven(self) -> bool:
        """Whether a recent call was slow, so that the next one must be noted too."""
        return self._slow_calls > 0

    def note(self, took_ns: int) -> None:
        """Take in one call."""
        if took_ns > SLOW_NS:
            more = _SURE if took_ns > VERY_SLOW_NS else 1
            self._slow_calls = min(self._slow_calls + more, _SURE)
        elif self._slow_calls:
            self._slow_calls -= 1
        self.slow = self._slow_calls > 1

    def held_up(self) -> None:
        """Take in a call that the loop could not wait for."""
        self.note(VERY_SLOW_NS + 1)


async def run(lane: Lane, work: Callable[[], Result], timeout_s: float) -> Result:
    """
    Return what *work* returns, called in a thread of *lane*; not begun if late or cancelled.

    Raises:
        Overloaded: too many wait already.
        DeadlineExceeded: *timeout_s*, or the model's own limit, has passed.
    """
    limit_s = lane.limit_s(timeout_s)
    future = asyncio.wrap_future(lane.submit(work, timeout_s))
    try:
        return await asyncio.wait_for(future, limit_s + GRACE_S)
    except TimeoutError:
        raise late(limit_s) from None
