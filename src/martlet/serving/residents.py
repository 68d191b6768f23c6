"""Residents: the versions of a process that are opened on demand, and the memory they share."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Callable
from contextvars import copy_context

from martlet import deadline
from martlet.errors import MartletError, NotAvailable, Overloaded
from martlet.servable import Servable
from martlet.serving import memory
from martlet.serving.ondemand import Failure, OnDemand
from martlet.serving.versions import MAX_RETRIES, retry_at

log = logging.getLogger(__name__)

LONGEST_WAIT_S = 60.0
"""How long a call without a deadline waits for its version to open."""

_EARLY_S, _EARLY = 0.02, 0.1
"""A waiting call is told to come again this long, and this share of its remaining time, before its
deadline (whichever is more): at the deadline itself its client has gone."""

_MB = 1 << 20


class Residents:
    """
    The versions of one process that are opened on demand.

    Any thread may call. A version is opened by one thread, however many calls wait for it, and is
    never closed while a call uses it.

    Args:
        limit: Bytes that the process may hold; 0: no limit, and nothing is closed.
        held: Returns the bytes that the process holds now.
        frozen: Whether the manager freezes what lives long (``gc.freeze``).
        open_s: How long opening may take.
    """

    def __init__(
        self,
        limit: int = 0,
        held: Callable[[], int] = lambda: memory.held_with_children(os.getpid()),
        frozen: bool = False,
        open_s: float = 600.0,
    ) -> None:
        self._limit = limit
        self._held = held
        self._frozen = frozen
        self.open_s = open_s
        self._changed = threading.Condition()
        self._making_room = threading.Lock()
        self._open: set[OnDemand] = set()
        self._reserved = 0
        self._moves = 0
        self.opened = self.evicted = 0

    @property
    def count(self) -> int:
        """How many are open."""
        return len(self._open)

    @property
    def size(self) -> int:
        """Bytes that the open versions are estimated to take."""
        with self._changed:
            return sum(each.size for each in self._open)

    # -- a call ----------------------------------------------------------------------------

    def enter(
        self, entry: OnDemand, wait_s: float = LONGEST_WAIT_S, room_s: float = LONGEST_WAIT_S
    ) -> Servable:
        """
        Return the servable within *entry*, which stays open until ``leave``.

        Args:
            wait_s: How long a caller without a deadline waits for it to open.
            room_s: How long to wait for others, which are in use, to make room for it.

        Raises:
            NotAvailable: it is not open by the caller's deadline, or cannot be opened.
            Overloaded: it does not fit, whatever else is closed.
        """
        until = time.monotonic() + min(wait_s, _heard_s(deadline.remaining()))
        with self._changed:
            # A caller that waits counts as a user: it is not closed again before that call.
            entry.users += 1
            try:
                while entry.within is None:
                    self._check(entry)
                    if not entry.opening_since:
                        self._begin(entry, room_s)
                    self._wait(entry, until)
            except BaseException:
                self._let_go(entry)
                raise
            entry.used_at = time.monotonic()
            return entry.within

    def leave(self, entry: OnDemand) -> None:
        """Let go of *entry*."""
        with self._changed:
            self._let_go(entry)

    def _let_go(self, entry: OnDemand) -> None:
        entry.users -= 1
        if not entry.users:
            self._changed.notify_all()

    @staticmethod
    def _check(entry: OnDemand) -> None:
        if entry.closed:
            raise NotAvailable(f"{entry.label} is being replaced; try again")
        failure = entry.failure
        if failure is not None and time.monotonic() < failure.retry_at:
            raise NotAvailable(failure.message)

    def _wait(self, entry: OnDemand, until: float) -> None:
        """Wait for the end of the attempt to open *entry*, and raise what ended it."""
        attempt = entry.attempts
        if not self._changed.wait_for(
            lambda: entry.attempts > attempt or entry.closed, until - time.monotonic()
        ):
            raise NotAvailable(f"{entry.label} is still being opened; try again")
        if entry.within is None and entry.error is not None:
            # An exception of its own for each caller: they are raised in several threads.
            raise type(entry.error)(str(entry.error)) if entry.known else entry.error

    # -- opening ---------------------------------------------------------------------------

    def _begin(self, entry: OnDemand, room_s: float) -> None:
        """Have a thread open *entry*: the caller's time may be up before it is open."""
        thread = threading.Thread(
            # In a copy of the context: what is logged there names the request.
            target=copy_context().run,
            args=(self._open_one, entry, room_s),
            name=f"opens {entry.label}",
            daemon=True,
        )
        thread.start()
        entry.opening_since = time.monotonic()

    def _open_one(self, entry: OnDemand, room_s: float) -> None:
        reserved, moves, grown = 0, -1, 0
        within: Servable | None = None
        error: Exception | None = None
        failure: Failure | None = None
        with deadline.anew(None):
            try:
                reserved = self._reserve(entry.label, entry.size, time.monotonic() + room_s)
                moves, before = self._move(), self._held()
                try:
                    within = entry.open_it()
                except Exception as exc:
                    error, failure = _failed(entry, exc)
                # Count what it keeps, not what opening it needed for a moment.
                memory.give_back()
                grown = self._held() - before
            except (NotAvailable, Overloaded) as exc:
                # There is no room now: not a fault of the version, so no failure is remembered.
                error = exc
        with self._changed:
            if within is not None and self._moves == moves:
                # Nothing else was opened or closed meanwhile: the growth is this version's.
                entry.size = max(grown, entry.least)
            self._moves += 1
            self._reserved -= reserved
            entry.error, entry.failure = error, failure
            if within is not None:
                entry.within, within = within, None
                self._open.add(entry)
                self.opened += 1
        # Its waiting callers keep it open, so this closes others, before the callers go on.
        self._trim()
        with self._changed:
            entry.opening_since = 0.0
            entry.attempts += 1
            if entry.closed:
                self._take([entry])
            self._changed.notify_all()
        self._part(entry)

    def _move(self) -> int:
        """Note that something is opened or closed; return the number of this move."""
        with self._changed:
            self._moves += 1
            return self._moves

    # -- room ------------------------------------------------------------------------------

    def make_room(self, label: str, size: int) -> None:
        """
        Close what is unused until *size* bytes more fit, for what is opened elsewhere.

        Raises:
            NotAvailable, Overloaded: they do not fit.
        """
        reserved = self._reserve(label, size, time.monotonic() + LONGEST_WAIT_S)
        with self._changed:
            self._reserved -= reserved

    def _reserve(self, label: str, need: int, until: float) -> int:
        """Take room for *need* bytes, closing what is unused; return how much was taken."""
        if not self._limit:
            return 0
        if not self._making_room.acquire(timeout=max(0.0, until - time.monotonic())):
            raise NotAvailable(f"{label} waits for memory; try again")
        try:
            while (leaving := self._choose(label, need, until)) is not None:
                for each in leaving:
                    self._evict(each)
        finally:
            self._making_room.release()
        return need

    def _choose(self, label: str, need: int, until: float) -> list[OnDemand] | None:
        """Return what to close for *need* bytes; None: there is room, and it is now reserved."""
        with self._changed:
            while True:
                held = self._held()
                missing = held + self._reserved + need - self._limit
                if missing <= 0:
                    self._reserved += need
                    return None
                unused = self._unused()
                busy = bool(self._reserved) or len(unused) < len(self._open)
                if unused and (not busy or sum(size for _, _, size in unused) >= missing):
                    return self._take(memory.leavers(unused, missing))
                if not busy:
                    raise Overloaded(
                        f"{label} takes about {need // _MB} MB; this worker holds {held // _MB} MB "
                        f"without it, and may hold {self._limit // _MB} MB"
                    )
                # What is in use will be let go; what is being opened may turn out smaller.
                if not self._changed.wait(until - time.monotonic()):
                    raise NotAvailable(f"{label} waits for memory that others use; try again")

    def _unused(self) -> list[tuple[OnDemand, float, int]]:
        return [(each, each.used_at, each.size) for each in self._open if not each.users]

    def _take(self, leaving: list[OnDemand]) -> list[OnDemand]:
        """Mark *leaving* as closed: the next caller opens them again."""
        for entry in leaving:
            if entry.within is not None:
                entry.parting, entry.within = entry.within, None
            self._open.discard(entry)
        return leaving

    def _trim(self) -> None:
        """Close unused versions while the process is over its limit: an estimate was too low."""
        if not self._limit or not self._making_room.acquire(blocking=False):
            return
        try:
            with self._changed:
                missing = self._held() + self._reserved - self._limit
                leaving = self._take(memory.leavers(self._unused(), missing))
            for each in leaving:
                self._evict(each)
        finally:
            self._making_room.release()

    def _evict(self, entry: OnDemand) -> None:
        moves, before = self._move(), self._held()
        self._part(entry)
        given_back = before - self._held()
        with self._changed:
            self.evicted += 1
            if self._moves == moves and given_back > 0:
                # Less than opening it took, maybe: a library that was loaded with it stays.
                entry.size = max(entry.least, min(entry.size, given_back))

    def _part(self, entry: OnDemand) -> None:
        within, entry.parting = entry.parting, None
        if within is None:
            return
        within.close()
        try:
            ghost = weakref.ref(within)
        except TypeError:
            ghost = None
        del within
        if ghost is None or ghost() is None:
            memory.give_back()
        else:
            # It is part of a reference cycle: only the collector frees it.
            memory.collect(self._frozen)

    def dismiss(self, entry: OnDemand) -> None:
        """Close *entry*, which nobody calls any more, for good."""
        with self._changed:
            entry.closed = True
            self._take([entry])
            self._changed.notify_all()
        self._part(entry)


def _heard_s(left_s: float | None) -> float:
    """Return how long a caller with *left_s* left may wait and still be told why in time."""
    return float("inf") if left_s is None else left_s - max(_EARLY_S, _EARLY * left_s)


def _failed(entry: OnDemand, exc: Exception) -> tuple[Exception, Failure]:
    """Return the error for the callers of *entry*, and the failure that is remembered."""
    count = 1 + (entry.failure.count if entry.failure is not None else 0)
    why = str(exc) if isinstance(exc, MartletError) else f"{type(exc).__name__}: {exc}"
    code = exc.code if isinstance(exc, MartletError) else MartletError.code
    again = retry_at(min(count, MAX_RETRIES), time.monotonic()) or 0.0
    failure = Failure(code, f"{entry.label} cannot be opened: {why}", again, count)
    log.error("%s", failure.message)
    # While it is first admitted, the load fails with its own error; later a caller can only retry.
    return (NotAvailable(failure.message) if entry.known else exc), failure
