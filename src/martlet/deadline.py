"""How long the caller still waits: known to whatever runs in its thread, at any depth.

A loop waits for a moment only: all that its process does waits with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

from martlet.errors import DeadlineExceeded, NotAvailable

_until: ContextVar[float | None] = ContextVar("until", default=None)


@contextmanager
def until(moment: float | None) -> Iterator[None]:
    """
    Have the block know that its caller waits until *moment*, a time.monotonic(); None: for ever.

    A deadline only shrinks: a later one within an earlier one changes nothing.
    """
    outer = _until.get()
    if outer is not None and (moment is None or outer < moment):
        moment = outer
    token = _until.set(moment)
    try:
        yield
    finally:
        _until.reset(token)


def within(seconds: float | None) -> AbstractContextManager[None]:
    """Have the block know that its caller waits *seconds* from now; None: for ever."""
    return until(None if seconds is None else time.monotonic() + seconds)


@contextmanager
def anew(moment: float | None) -> Iterator[None]:
    """Have the block, which works for several callers, wait until *moment* whoever calls."""
    token = _until.set(moment)
    try:
        yield
    finally:
        _until.reset(token)


def moment() -> float | None:
    """Return when the caller stops waiting, as time.monotonic(); None: never."""
    return _until.get()


def remaining() -> float | None:
    """Return the seconds that are left, 0 or more; None where nobody has set a deadline."""
    until = _until.get()
    return None if until is None else max(0.0, until - time.monotonic())


def check(what: str) -> None:
    """
    Check that the caller still waits.

    Raises:
        DeadlineExceeded: it does not; *what* was not begun.
    """
    if remaining() == 0.0:
        raise DeadlineExceeded(f"the deadline passed before {what}")


LONGEST_ON_LOOP_S = 0.1
"""How long a call may wait for another process while it holds up a loop."""


class HeldUp(NotAvailable):
    """The answer takes longer than the loop that asks may wait; it comes to whoever asks next."""


_loops: list[Callable[[], bool]] = []


def spare(on_loop: Callable[[], bool]) -> None:
    """Have those who wait spare the loop of which *on_loop* tells whether it is what calls."""
    _loops[:] = [on_loop]


def holds_up_a_loop() -> bool:
    """Whether who waits here holds up all that this process does: ``HeldUp`` is better."""
    return any(on_loop() for on_loop in _loops)
