"""A lease: a count of the requests that hold one thing, which tells when a draining one is free."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from martlet.native import find


class Lease(Protocol):
    """What the compiled lease and its pure twin do. Any thread may call them."""

    def acquire(self) -> bool:
        """Hold it; False: it drains. Each True is followed by a ``release``."""
        ...

    def release(self) -> object:
        """Let go of it."""
        ...

    def drain(self) -> object:
        """Refuse new holders from now on."""
        ...


def lease(drained: Callable[[], object]) -> Lease:
    """Return a lease that calls *drained* once it drains and nobody holds it."""
    native = find("lease")
    if native is None:
        return PureLease(drained)
    made: Lease = native.Lease(drained)
    return made


class PureLease:
    """The pure twin of ``native/lease.c``."""

    def __init__(self, drained: Callable[[], object]) -> None:
        self._drained = drained
        self._lock = threading.Lock()
        self._held = 0
        self._draining = False

    def acquire(self) -> bool:
        """Hold it."""
        with self._lock:
            if self._draining:
                return False
            self._held += 1
            return True

    def release(self) -> None:
        """Let go of it."""
        with self._lock:
            self._held -= 1
            if self._draining and self._held == 0:
                self._drained()

    def drain(self) -> None:
        """Refuse from now on."""
        with self._lock:
            self._draining = True
            if self._held == 0:
                self._drained()
