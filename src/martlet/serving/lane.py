"""A lane: the threads and the bounded queue of one version, for calls that leave the loop."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from typing import TypeVar

from martlet import deadline
from martlet.errors import DeadlineExceeded, NotAvailable, Overloaded
from martlet.serving.settings import DEFAULT, ModelSettings

Result = TypeVar("Result")

_MOST_TOGETHER = 64
"""Calls of a batched version that may wait inside it: each holds a thread."""


GRACE_S = 0.1
"""How long after its limit a waiting caller gives a call up. A model's process that is killed at
the deadline raises an error that says more, so it gets the time to do so."""


class LaneClosed(NotAvailable):
    """The version has been replaced; the table in force names the next one."""


class Lane:
    """
    Threads and a bounded queue that one version has to itself.

    A version that is slow or stuck fills its own lane and no other.

    Args:
        name: For messages and thread names.
        settings: How many calls work at once, and how many may wait.
    """

    def __init__(self, name: str, settings: ModelSettings = DEFAULT) -> None:
        self._name = name
        self.settings = settings
        self.on_loop = settings.on_loop
        together = min(_MOST_TOGETHER, settings.max_queue) if settings.max_rows else 0
        threads = settings.at_once + together
        self._room = settings.at_once + settings.max_queue
        self._lock = threading.Lock()
        self._working: dict[int, float] = {}
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)

    def submit(self, work: Callable[[], Result], timeout_s: float) -> Future[Result]:
        """
        Have a thread do *work*, whose ``deadline`` is *timeout_s* from now.

        Work is not begun once its deadline has passed or it was cancelled.

        Raises:
            Overloaded: too much waits already.
            LaneClosed: the version has been replaced, and closed; ask the table again.
        """
        if self.full:
            raise self.overloaded()
        # The clock runs while it waits for a thread.
        end = time.monotonic() + self.limit_s(timeout_s)

        def begin() -> Result:
            with deadline.until(end):
                deadline.check(f"{self._name!r} began to answer")
                return self.here(work)

        try:
            # Who logs there names the request.
            future = self._pool.submit(copy_context().run, begin)
        except RuntimeError:
            raise LaneClosed(f"{self._name!r} is being replaced; try again") from None
        with self._lock:
            self._room -= 1
        future.add_done_callback(self._done)
        return future

    def ask(
        self, work: Callable[[], Result], timeout_s: float, after: Callable[[], object]
    ) -> Result:
        """
        Return what *work* returns, done by a thread of this lane; the caller's own waits.

        Args:
            after: Called once, from any thread, when the work has ended or will never begin:
                which may be long after the caller has given up.

        Raises:
            DeadlineExceeded: *timeout_s*, or the model's own limit, has passed.
            Overloaded: too much waits already.
        """
        try:
            future = self.submit(work, timeout_s)
        except BaseException:
            after()
            raise
        future.add_done_callback(lambda _: after())
        limit_s = self.limit_s(timeout_s)
        done, _ = wait([future], limit_s + GRACE_S)
        if not done:
            future.cancel()
            raise late(limit_s)
        return future.result()

    def here(self, work: Callable[[], Result]) -> Result:
        """Do *work* in the caller's thread, and count it among the calls that work in this lane."""
        thread = threading.get_ident()
        self._working[thread] = time.monotonic()
        try:
            return work()
        finally:
            self._working.pop(thread, None)

    def limit_s(self, timeout_s: float) -> float:
        """Return how long a call may take: *timeout_s*, or the model's own limit where shorter."""
        return min(timeout_s, self.settings.deadline_ms / 1000 or timeout_s)

    def _done(self, _: object) -> None:
        with self._lock:
            self._room += 1

    @property
    def full(self) -> bool:
        """Whether one more call would be refused."""
        return self._room <= 0

    def overloaded(self) -> Overloaded:
        """Return the error of a call that comes when the lane is full."""
        return Overloaded(
            f"{self._name!r} has {self.settings.max_queue} calls waiting, which is its limit"
        )

    @property
    def under_way(self) -> int:
        """How many calls work or wait here."""
        return self.settings.at_once + self.settings.max_queue - self._room

    def longest_s(self, now: float) -> float:
        """Return for how long the oldest call has worked here; 0: none does."""
        if not self._working:
            return 0.0
        # A copy: the threads change it.
        return now - min([*self._working.values()], default=now)

    def close(self) -> None:
        """
        Take no more calls.

        Those that wait still begin: they ask the table for their version, and find the next one.
        """
        self._pool.shutdown(wait=False)


def late(limit_s: float) -> DeadlineExceeded:
    """Return the error of a call that its caller has given up."""
    return DeadlineExceeded(f"no answer after {limit_s * 1000:g} ms, which is the limit")
