"""Finds live rows that appear beside tables which are open in this process."""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import Final, Protocol
from weakref import WeakSet

from martlet.errors import MartletError

log = logging.getLogger(__name__)

LOOK_S: Final = 0.2
"""How often it is looked: a table that nobody ever set a row of costs one ``stat`` each time."""


class Watched(Protocol):
    """An open table."""

    def look(self) -> None:
        """See whether live rows lie beside it now."""
        ...


_open: WeakSet[Watched] = WeakSet()
_refused: WeakSet[Watched] = WeakSet()
_lock = threading.Lock()
_thread: threading.Thread | None = None


def watched(table: Watched) -> None:
    """Have *table* look for live rows from now on, for as long as it is in use."""
    global _thread
    with _lock:
        _open.add(table)
        if _thread is None:
            # A daemon: it does nothing that must be finished.
            _thread = threading.Thread(target=_watch, name="live-rows", daemon=True)
            _thread.start()


def _watch() -> None:
    while True:
        time.sleep(LOOK_S)
        with _lock:
            tables = list(_open)
        for table in tables:
            try:
                table.look()
            except MartletError as exc:
                if table not in _refused:
                    _refused.add(table)
                    log.error("%s; the table answers without them", exc)
            del table
        tables.clear()


def _after_fork() -> None:
    # Threads do not survive a fork: the next table that opens, or is open already, needs another.
    global _thread, _lock
    _lock, _thread = threading.Lock(), None
    for table in list(_open):
        watched(table)


os.register_at_fork(after_in_child=_after_fork)
