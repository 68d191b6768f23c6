"""The catalog's tables, and the steps that bring an older catalog up to date."""

from __future__ import annotations

import sqlite3

from martlet.errors import NotAvailable

# A step is never edited once released: a new one is added at the end. The catalog's
# user_version counts the steps it has taken.
STEPS: tuple[tuple[str, ...], ...] = (
    (
        "CREATE TABLE revision (number INTEGER NOT NULL)",
        "INSERT INTO revision VALUES (0)",
        """CREATE TABLE models (
            id INTEGER PRIMARY KEY,
            name TEXT NOT NULL UNIQUE,
            kind TEXT NOT NULL
        )""",
        """CREATE TABLE versions (
            id INTEGER PRIMARY KEY,
            model INTEGER NOT NULL REFERENCES models (id),
            number INTEGER NOT NULL,
            uuid TEXT NOT NULL UNIQUE,
            standing TEXT NOT NULL,
            entry TEXT NOT NULL,
            source TEXT NOT NULL,
            imported_at TEXT NOT NULL,
            imported_by TEXT NOT NULL,
            format TEXT NOT NULL,
            generation TEXT NOT NULL,
            notes TEXT NOT NULL,
            metrics TEXT NOT NULL,
            UNIQUE (model, number)
        )""",
        "CREATE INDEX versions_by_generation ON versions (generation)",
        """CREATE TABLE files (
            version INTEGER NOT NULL REFERENCES versions (id),
            path TEXT NOT NULL,
            size INTEGER NOT NULL,
            sha256 TEXT NOT NULL,
            PRIMARY KEY (version, path)
        ) WITHOUT ROWID""",
        """CREATE TABLE labels (
            model INTEGER NOT NULL REFERENCES models (id),
            label TEXT NOT NULL,
            version INTEGER NOT NULL REFERENCES versions (id),
            PRIMARY KEY (model, label)
        ) WITHOUT ROWID""",
        """CREATE TABLE moves (
            id INTEGER PRIMARY KEY,
            model INTEGER NOT NULL REFERENCES models (id),
            label TEXT NOT NULL,
            before INTEGER,
            after INTEGER,
            at TEXT NOT NULL,
            "by" TEXT NOT NULL
        )""",
    ),
)


def migrate(db: sqlite3.Connection, steps: tuple[tuple[str, ...], ...] = STEPS) -> None:
    """
    Take the steps that the catalog has not taken, all or none.

    Raises:
        NotAvailable: a newer martlet wrote it.
    """
    if _taken(db) == len(steps):
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        # Asked again under the lock: another process may have migrated meanwhile.
        taken = _taken(db)
        if taken > len(steps):
            raise NotAvailable(
                f"the catalog is at schema {taken} and this martlet knows {len(steps)}: "
                "a newer martlet wrote it; upgrade this one"
            )
        for step in steps[taken:]:
            for statement in step:
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {len(steps)}")
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise


def _taken(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])
