"""The SQLite file behind the catalog: one connection a process, one lock, one way to write."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from martlet.errors import NotAvailable
from martlet.registry.schema import migrate

_BUSY_TIMEOUT_S = 10.0

# A connection must not be touched, not even closed, by a child of fork: it is kept instead.
# Source: https://www.sqlite.org/howtocorrupt.html, section 2.6
_of_the_parent: list[sqlite3.Connection] = []


class Database:
    """
    Reads and writes for any thread of any process, children of fork too.

    Args:
        path: The file; made if absent. It must lie on a local disk, since write-ahead logging
            needs shared memory.

    Raises:
        NotAvailable: from every method: the file is damaged, locked too long, or from a newer
            martlet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._pid = 0
        self._db: sqlite3.Connection
        with self.reading():
            pass

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            if self._pid == os.getpid():
                self._db.close()
            self._pid = 0

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Give a view of one moment, whatever others write meanwhile."""
        with self._transaction("BEGIN") as db:
            yield db

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Give a transaction that no other writer can share; an exception undoes it."""
        # The lock is taken before anything is read, so what was read is still true at the
        # commit, and no two writers can wait for each other.
        with self._transaction("BEGIN IMMEDIATE") as db:
            yield db

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[sqlite3.Connection]:
        with self._lock:
            try:
                if self._pid != os.getpid():
                    self._connect()
                self._db.execute(begin)
                try:
                    yield self._db
                    self._db.execute("COMMIT")
                finally:
                    if self._db.in_transaction:
                        self._db.execute("ROLLBACK")
            except sqlite3.Error as exc:
                raise NotAvailable(f"the catalog {self._path} cannot be used: {exc}") from exc

    def _connect(self) -> None:
        if self._pid:
            _of_the_parent.append(self._db)
        self._db = sqlite3.connect(
            self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA foreign_keys = ON")
        migrate(self._db)
        self._pid = os.getpid()
