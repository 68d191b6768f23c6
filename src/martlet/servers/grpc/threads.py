"""The threads that answer gRPC calls: few at work, however many wait."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from typing import Any

PATIENCE_S = 0.05
"""A thread that has worked on one task for longer does not count any more."""

_Task = tuple["Future[Any]", Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class _Seat:
    """One thread: its task, since when it works on it, and whether it counts as at work."""

    __slots__ = ("counts", "since", "task", "wake")

    def __init__(self) -> None:
        self.wake = threading.Lock()
        self.wake.acquire()
        self.task: _Task | None = None
        self.since = 0.0
        self.counts = False


class Threads(Executor):
    """
    An executor in which *count* threads work at a time: they share one interpreter, and more would
    only compete for it.

    A thread that waits for something else (a model's lane, a stream's next message) says so, and
    another works in its place. A thread that neither ends nor says so, such as one whose model is
    stuck in native code, is written off when tasks wait behind it. So calls that hang delay no
    others.

    Source:
        Java's ``ForkJoinPool.ManagedBlocker`` compensates the same way, and .NET's thread pool
        adds threads when its queue stands still.
    """

    def __init__(self, count: int, name: str, patience_s: float = PATIENCE_S) -> None:
        self._count = count
        self._patience_s = patience_s
        self._name = name
        self._lock = threading.Lock()
        self._tasks: deque[_Task] = deque()
        self._idle: list[_Seat] = []
        self._busy: set[_Seat] = set()
        self._counted = 0
        self._here = threading.local()
        self._queued = threading.Event()
        self._closed = False
        threading.Thread(target=self._watch, name=f"{name}-watch", daemon=True).start()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Have a thread call *fn*. As ``Executor.submit``."""
        future: Future[Any] = Future()
        task = (future, fn, args, kwargs)
        with self._lock:
            if self._closed:
                raise RuntimeError("the threads take nothing more")
            if self._counted < self._count:
                self._begin(task)
            else:
                self._tasks.append(task)
                self._queued.set()
        return future

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """In a thread of this executor: let another work while the block waits."""
        seat: _Seat = self._here.seat
        with self._lock:
            self._count_out(seat)
            self._fill()
        try:
            yield
        finally:
            with self._lock:
                self._count_in(seat)

    # -- the lock is held ----------------------------------------------------------------------

    def _count_in(self, seat: _Seat) -> None:
        seat.since = time.monotonic()
        seat.counts = True
        self._counted += 1

    def _count_out(self, seat: _Seat) -> None:
        if seat.counts:
            seat.counts = False
            self._counted -= 1

    def _fill(self) -> None:
        while self._tasks and self._counted < self._count:
            self._begin(self._tasks.popleft())

    def _begin(self, task: _Task) -> None:
        if self._idle:
            # Last in, first out: the thread that was busy last has warm caches.
            seat = self._idle.pop()
            seat.task = task
            seat.wake.release()
        else:
            seat = _Seat()
            seat.task = task
            threading.Thread(target=self._live, args=(seat,), name=self._name, daemon=True).start()
        self._busy.add(seat)
        self._count_in(seat)

    # -- the life of a thread ------------------------------------------------------------------

    def _live(self, seat: _Seat) -> None:
        self._here.seat = seat
        while seat.task is not None:
            _run(seat.task)
            if not self._goes_on(seat):
                seat.wake.acquire()

    def _goes_on(self, seat: _Seat) -> bool:
        """Take the next task if there is one and it is this thread's turn."""
        with self._lock:
            self._count_out(seat)
            if self._tasks and self._counted < self._count:
                seat.task = self._tasks.popleft()
                self._count_in(seat)
                return True
            seat.task = None
            self._busy.discard(seat)
            self._idle.append(seat)
            if len(self._idle) > self._count or self._closed:
                # It is handed nothing, and ends.
                self._idle.pop(0).wake.release()
            return False

    def _watch(self) -> None:
        while not self._closed:
            self._queued.wait()
            time.sleep(self._patience_s)
            with self._lock:
                if not self._tasks:
                    self._queued.clear()
                    continue
                late = time.monotonic() - self._patience_s
                for seat in self._busy:
                    if seat.since < late:
                        self._count_out(seat)
                self._fill()

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """
        Take nothing more, and end the threads that have nothing to do.

        Those at work are daemons: one that hangs does not keep the process.
        """
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            cancelled = list(self._tasks) if cancel_futures else []
            if cancel_futures:
                self._tasks.clear()
        self._queued.set()
        for seat in idle:
            seat.wake.release()
        for future, *_ in cancelled:
            future.cancel()


def _run(task: _Task) -> None:
    future, fn, args, kwargs = task
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(fn(*args, **kwargs))
    except BaseException as exc:
        future.set_exception(exc)
