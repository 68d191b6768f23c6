"""Names, versions and labels, in one SQLite file that several processes may use at once."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

from martlet.errors import AlreadyExists, InvalidInput, ModelNotFound
from martlet.names import ModelRef, check_name, check_version
from martlet.registry import queries
from martlet.registry.database import Database
from martlet.registry.version import File, Kind, Lineage, Model, Move, Standing, Version


class Catalog:
    """
    What is registered. Any thread and any process may use it; each change is one transaction.

    Args:
        path: The SQLite file; made if absent. It must lie on a local disk (write-ahead logging
            needs shared memory).
    """

    def __init__(self, path: Path) -> None:
        self._database = Database(path)

    def close(self) -> None:
        """Let go of the file."""
        self._database.close()

    # Reading

    def revision(self) -> int:
        """Return a number that grows with each change: ask it, rather than reread, in a watch."""
        with self._database.reading() as db:
            return int(db.execute("SELECT number FROM revision").fetchone()[0])

    def models(self, kind: Kind | None = None) -> list[Model]:
        """Return every name (of *kind*), sorted."""
        with self._database.reading() as db:
            rows = db.execute("SELECT id, name, kind FROM models ORDER BY name").fetchall()
            return [queries.model(db, row) for row in rows if kind is None or kind is Kind(row[2])]

    def model(self, name: str) -> Model:
        """
        Return what is known of *name*.

        Raises:
            ModelNotFound: nothing is registered under it; the text lists what is.
        """
        with self._database.reading() as db:
            id, kind = queries.find(db, name)
            return queries.model(db, (id, name, kind.value))

    def versions(
        self,
        name: str | None = None,
        *,
        generation: str | None = None,
        deleted: bool = False,
    ) -> list[Version]:
        """
        Return versions by name, newest first, with retired ones, and *deleted* ones on request.

        Raises:
            ModelNotFound: *name* is given and not registered.
        """
        where, values = ["1"], list[str | int]()
        with self._database.reading() as db:
            if name is not None:
                where.append("m.id = ?")
                values.append(queries.find(db, name)[0])
            if generation is not None:
                where.append("v.generation = ?")
                values.append(generation)
            if not deleted:
                where.append("v.standing != 'deleted'")
            query = f"{queries.VERSION} WHERE {' AND '.join(where)} ORDER BY m.name, v.number DESC"
            return [queries.version(db, row) for row in db.execute(query, values).fetchall()]

    def get(self, ref: ModelRef) -> Version:
        """
        Return the version that *ref* names: by number, by label, or the latest available.

        Raises:
            ModelNotFound: no such name, version or label; the text lists those there are.
        """
        with self._database.reading() as db:
            return queries.resolve(db, ref)

    def get_uuid(self, uuid: UUID) -> Version:
        """
        Return the version whose UUID is *uuid*.

        Raises:
            ModelNotFound: no version has it.
        """
        with self._database.reading() as db:
            row = db.execute(f"{queries.VERSION} WHERE v.uuid = ?", [str(uuid)]).fetchone()
            if row is None:
                raise ModelNotFound(f"no version has the uuid {uuid}")
            return queries.version(db, row)

    def moves(self, name: str, label: str | None = None) -> list[Move]:
        """
        Return how the labels of *name* (or one of them) moved, oldest first.

        Raises:
            ModelNotFound: *name* is not registered.
        """
        with self._database.reading() as db:
            model, _ = queries.find(db, name)
            rows = db.execute(
                'SELECT label, before, after, at, "by" FROM moves '
                "WHERE model = ? AND (? IS NULL OR label = ?) ORDER BY id",
                [model, label, label],
            ).fetchall()
            return [
                Move(name, row[0], row[1], row[2], datetime.fromisoformat(row[3]), row[4])
                for row in rows
            ]

    # Changing

    def expect(self, name: str, kind: Kind, number: int | None) -> None:
        """
        Refuse what ``publish`` would refuse, before a large file is copied for nothing.

        Raises:
            InvalidInput: *name* or *number* cannot be one.
            AlreadyExists: the number is or was taken, or *name* holds another kind.
        """
        check_name(name, kind.value)
        with self._database.reading() as db:
            with suppress(ModelNotFound):
                _allot(db, _claimed(db, name, kind), name, number)
            if number is not None:
                check_version(number)

    def publish(
        self,
        name: str,
        kind: Kind,
        number: int | None,
        uuid: UUID,
        entry: str,
        files: tuple[File, ...],
        lineage: Lineage,
        place: Callable[[int], None],
    ) -> Version:
        """
        Add a version under *number*, or under the next free one.

        *place* is called with the number while the catalog is locked for writing, before the
        version is recorded: it moves the files to where readers will look.

        Raises:
            AlreadyExists: the number is or was taken, or *name* holds another kind.
        """
        check_name(name, kind.value)
        with self._changing() as db:
            model = _claim(db, name, kind)
            number = _allot(db, model, name, number)
            place(number)
            version = db.execute(
                "INSERT INTO versions (model, number, uuid, standing, entry, source, imported_at,"
                " imported_by, format, generation, notes, metrics)"
                " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    model,
                    number,
                    str(uuid),
                    Standing.AVAILABLE.value,
                    entry,
                    lineage.source,
                    lineage.imported_at.isoformat(),
                    lineage.imported_by,
                    lineage.format,
                    lineage.generation,
                    json.dumps(dict(lineage.notes)),
                    json.dumps(dict(lineage.metrics)),
                ],
            ).lastrowid
            db.executemany(
                "INSERT INTO files VALUES (?, ?, ?, ?)",
                [(version, file.path, file.size, file.sha256) for file in files],
            )
            return queries.resolve(db, ModelRef(name, version=number))

    def label(self, label: str, to: Mapping[str, int | None], by: str) -> list[Move]:
        """
        Move *label* to a version of each name in *to*, all at once; None takes it away.

        Raises:
            ModelNotFound: no such name or version, or there is no label to take away.
            InvalidInput: a version is retired, or *label* cannot be one.
        """
        if check_name(label, "label").isdigit():
            raise InvalidInput(f"label {label!r} would read as a version number; add a letter")
        with self._changing() as db:
            moves = [_move(db, name, label, number, by) for name, number in to.items()]
            return [move for move in moves if move.before != move.after]

    def stand(self, ref: ModelRef, standing: Standing) -> Version:
        """
        Change whether the version that *ref* names may serve.

        Raises:
            ModelNotFound: no such version, or it is deleted.
            InvalidInput: *ref* does not say which version, or a label names what would no longer
                serve.
        """
        if ref.version is None and ref.label is None:
            raise InvalidInput(f"say which version of {ref.name!r}: {ref.name}@1, for example")
        with self._changing() as db:
            version = queries.resolve(db, ref)
            if standing is not Standing.AVAILABLE and version.labels:
                labels = ", ".join(map(repr, version.labels))
                raise InvalidInput(
                    f"{version} is labelled {labels}: move the label before it is {standing.value}"
                )
            db.execute(
                "UPDATE versions SET standing = ? WHERE uuid = ?",
                [standing.value, str(version.uuid)],
            )
            return queries.resolve(db, ModelRef(version.name, version=version.number), deleted=True)

    @contextmanager
    def _changing(self) -> Iterator[sqlite3.Connection]:
        with self._database.writing() as db:
            yield db
            db.execute("UPDATE revision SET number = number + 1")

    def numbers(self) -> dict[str, frozenset[int]]:
        """Return the numbers that have files, by name."""
        with self._database.reading() as db:
            return queries.numbers(db)

    @contextmanager
    def held(self) -> Iterator[dict[str, frozenset[int]]]:
        """Give the same, and let nobody change anything, in any process, until the block ends."""
        with self._database.writing() as db:
            yield queries.numbers(db)


def _claim(db: sqlite3.Connection, name: str, kind: Kind) -> int:
    db.execute("INSERT OR IGNORE INTO models (name, kind) VALUES (?, ?)", [name, kind.value])
    return _claimed(db, name, kind)


def _claimed(db: sqlite3.Connection, name: str, kind: Kind) -> int:
    model, found = queries.find(db, name)
    if found is not kind:
        raise AlreadyExists(
            f"{name!r} is registered as {found.value}, not as {kind.value}: choose another name"
        )
    return model


def _allot(db: sqlite3.Connection, model: int, name: str, number: int | None) -> int:
    query = "SELECT number FROM versions WHERE model = ? ORDER BY number DESC"
    # Deleted versions count: a number that once meant something never means something else.
    taken = [row[0] for row in db.execute(query, [model])]
    if number is None:
        return check_version(taken[0] + 1) if taken else 1
    if check_version(number) in taken:
        raise AlreadyExists(
            f"{name}@{number} is or was taken, and a version never changes; "
            f"the next free one is {taken[0] + 1}"
        )
    return number


def _move(db: sqlite3.Connection, name: str, label: str, number: int | None, by: str) -> Move:
    model, _ = queries.find(db, name)
    row = db.execute(
        "SELECT number FROM versions WHERE id = "
        "(SELECT version FROM labels WHERE model = ? AND label = ?)",
        [model, label],
    ).fetchone()
    before = None if row is None else int(row[0])
    now = datetime.now(UTC)
    move = Move(name, label, before, number, now, by)
    if number is None:
        if before is None:
            # Raises, and lists the labels there are.
            queries.resolve(db, ModelRef(name, label=label))
        db.execute("DELETE FROM labels WHERE model = ? AND label = ?", [model, label])
    else:
        version = queries.resolve(db, ModelRef(name, version=number))
        if version.standing is Standing.RETIRED:
            raise InvalidInput(f"{version} is retired, so no label may name it; restore it first")
        db.execute(
            "INSERT INTO labels SELECT ?, ?, id FROM versions WHERE uuid = ? "
            "ON CONFLICT (model, label) DO UPDATE SET version = excluded.version",
            [model, label, str(version.uuid)],
        )
    if before != number:
        db.execute(
            'INSERT INTO moves (model, label, before, after, at, "by") VALUES (?, ?, ?, ?, ?, ?)',
            [model, label, before, number, now.isoformat(), by],
        )
    return move
