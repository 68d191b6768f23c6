"""What is asked of the catalog's tables, and how a row becomes a value."""

from __future__ import annotations

import json
import sqlite3
from datetime import datetime
from typing import Any
from uuid import UUID

from martlet.errors import ModelNotFound
from martlet.names import ModelRef
from martlet.registry.version import File, Kind, Lineage, Model, Standing, Version

# A version's own columns; its files and labels are asked for apart.
VERSION = """
    SELECT v.id, m.name, m.kind, v.number, v.uuid, v.standing, v.entry, v.source, v.imported_at,
           v.imported_by, v.format, v.generation, v.notes, v.metrics
    FROM versions v JOIN models m ON m.id = v.model
"""


def find(db: sqlite3.Connection, name: str) -> tuple[int, Kind]:
    """Return the row id and kind of *name*, or raise ModelNotFound with the names there are."""
    row = db.execute("SELECT id, kind FROM models WHERE name = ?", [name]).fetchone()
    if row is None:
        known = ", ".join(row[0] for row in db.execute("SELECT name FROM models ORDER BY name"))
        raise ModelNotFound(f"no model {name!r}; available: {known or 'none'}")
    return row[0], Kind(row[1])


def resolve(db: sqlite3.Connection, ref: ModelRef, deleted: bool = False) -> Version:
    """Return what *ref* names, or raise ModelNotFound with the versions and labels there are."""
    id, _ = find(db, ref.name)
    if ref.label is not None:
        where = "v.id = (SELECT version FROM labels WHERE model = ? AND label = ?)"
        row = db.execute(f"{VERSION} WHERE {where}", [id, ref.label]).fetchone()
    elif ref.version is not None:
        where = "v.model = ? AND v.number = ?" + ("" if deleted else " AND standing != 'deleted'")
        row = db.execute(f"{VERSION} WHERE {where}", [id, ref.version]).fetchone()
    else:
        where = "v.model = ? AND v.standing = 'available' ORDER BY v.number DESC LIMIT 1"
        row = db.execute(f"{VERSION} WHERE {where}", [id]).fetchone()
    if row is None:
        found = model(db, (id, ref.name, "model"))
        versions = ", ".join(map(str, found.versions)) or "none"
        labels = ", ".join(found.labels) or "none"
        raise ModelNotFound(f"no version {str(ref)!r}; versions: {versions}; labels: {labels}")
    return version(db, row)


def model(db: sqlite3.Connection, row: tuple[int, str, str]) -> Model:
    """Read the rest of a model whose id, name and kind are *row*."""
    id, name, kind = row
    versions = db.execute(
        "SELECT number, standing FROM versions "
        "WHERE model = ? AND standing != 'deleted' ORDER BY number DESC",
        [id],
    ).fetchall()
    labels = db.execute(
        "SELECT l.label, v.number FROM labels l JOIN versions v ON v.id = l.version "
        "WHERE l.model = ? ORDER BY l.label",
        [id],
    ).fetchall()
    latest = next((number for number, standing in versions if standing == "available"), None)
    return Model(name, Kind(kind), tuple(number for number, _ in versions), latest, dict(labels))


def version(db: sqlite3.Connection, row: tuple[Any, ...]) -> Version:
    """Read the rest of a version whose row of VERSION is *row*."""
    id, name, kind, number, uuid, standing, entry, source, at, by, format, generation = row[:12]
    files = db.execute("SELECT path, size, sha256 FROM files WHERE version = ? ORDER BY path", [id])
    labels = db.execute("SELECT label FROM labels WHERE version = ? ORDER BY label", [id])
    return Version(
        name=name,
        kind=Kind(kind),
        number=number,
        uuid=UUID(uuid),
        standing=Standing(standing),
        entry=entry,
        files=tuple(File(*file) for file in files.fetchall()),
        lineage=Lineage(
            source=source,
            imported_at=datetime.fromisoformat(at),
            imported_by=by,
            format=format,
            generation=generation,
            notes=json.loads(row[12]),
            metrics=json.loads(row[13]),
        ),
        labels=tuple(label for (label,) in labels.fetchall()),
    )


def numbers(db: sqlite3.Connection) -> dict[str, frozenset[int]]:
    """Return the numbers of versions that have files, by name."""
    found: dict[str, set[int]] = {}
    for name, number in db.execute(
        "SELECT m.name, v.number FROM versions v JOIN models m ON m.id = v.model "
        "WHERE v.standing != 'deleted'"
    ):
        found.setdefault(name, set()).add(number)
    return {name: frozenset(numbers) for name, numbers in found.items()}
