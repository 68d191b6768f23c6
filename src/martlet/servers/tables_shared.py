"""Served tables whose rows are shared with other machines through Redis."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence

from martlet.errors import MartletError, WrongState
from martlet.servers.tables_served import Served, TablesServed
from martlet.serving.engine import Engine
from martlet.stores.shared import SharedRows
from martlet.stores.updates import Applied, Update

log = logging.getLogger(__name__)

_LOOK_S = 0.5
_WAIT_MS = 200
_REST_S = 1.0

_Which = tuple[str, int, int]


class TablesShared:
    """
    Applies, for every table that answers here, what any machine publishes.

    Args:
        engine: Whose tables.
        url: Of Redis.

    Raises:
        MissingExtra, InvalidInput: as of ``SharedRows``.
    """

    def __init__(self, engine: Engine, url: str) -> None:
        self._tables = TablesServed(engine)
        self._url = url
        self._shared: dict[_Which, SharedRows] = {}
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin, in threads that end with the process."""
        threading.Thread(target=self._look, name="shared-tables", daemon=True).start()

    def apply(self, served: Served, updates: Sequence[Update]) -> Applied:
        """
        Tell all machines of *updates*; they are applied here once this returns.

        Raises:
            InvalidInput: one does not fit the table.
            NotAvailable: Redis cannot be reached; nothing is changed.
        """
        shared = self._of(served)
        shared.reach(shared.publish(updates))
        removed = sum(update.vector is None for update in updates)
        return Applied(len(updates) - removed, removed)

    def _of(self, served: Served) -> SharedRows:
        which = _which(served)
        with self._lock:
            if which not in self._shared:
                self._shared[which] = SharedRows(self._url, served.name, served.table)
            return self._shared[which]

    def _look(self) -> None:
        followed: set[_Which] = set()
        while True:
            answering = {_which(each): each for each in self._tables.all()}
            for which in answering.keys() - followed:
                threading.Thread(target=self._follow, args=(answering[which],), daemon=True).start()
            followed = set(answering)
            with self._lock:
                self._shared = {w: s for w, s in self._shared.items() if w in followed}
            time.sleep(_LOOK_S)

    def _follow(self, served: Served) -> None:
        shared, well = self._of(served), True
        while self._shared.get(_which(served)) is shared:
            try:
                applied = shared.catch_up(_WAIT_MS)
                if applied is not None and applied.refused:
                    log.warning("%s: %d refused: %s", served, applied.refused, applied.why)
                well = True
            except WrongState as exc:
                log.info("%s: %s", served, exc)
                return
            except MartletError as exc:
                if well:
                    log.error("%s: %s", served, exc)
                well = False
                time.sleep(_REST_S)


def _which(served: Served) -> _Which:
    return served.name, served.version, id(served.table)
