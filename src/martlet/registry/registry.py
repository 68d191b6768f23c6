"""The registry as its users see it: a catalog of versions, and their files."""

from __future__ import annotations

import getpass
import json
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar
from uuid import UUID, uuid4

from martlet.errors import InvalidInput, MartletError, NotAvailable
from martlet.names import ModelRef
from martlet.registry import artifacts
from martlet.registry.artifacts import Artifacts, Progress
from martlet.registry.catalog import Catalog
from martlet.registry.version import Kind, Lineage, Model, Move, Note, Standing, Version

_V = TypeVar("_V", bound=Note)


class Registry:
    """
    Models, tables and recommenders by name and version, in one folder.

    Any thread and any process may use it at once. A version is whole or not there: its files are
    staged, hashed, checked and renamed into place before the catalog names it, and what a crash
    left between two steps is removed when the registry is next opened.
    """

    def __init__(self, catalog: Catalog, artifacts: Artifacts) -> None:
        self._catalog = catalog
        self._artifacts = artifacts

    @classmethod
    def open(cls, root: Path, *, create: bool = True) -> Registry:
        """
        Open the registry in the folder *root*.

        Raises:
            NotAvailable: *root* cannot be used, or is not a registry and *create* is False.
        """
        catalog = root / "catalog.db"
        if not create and not catalog.exists():
            raise NotAvailable(f"there is no registry in {root}; import a model to begin one")
        try:
            files = Artifacts(root)
        except OSError as exc:
            raise NotAvailable(f"{root} cannot hold a registry: {exc.strerror}") from exc
        registry = cls(Catalog(catalog), files)
        registry.sweep()
        return registry

    def close(self) -> None:
        """Let go of the catalog."""
        self._catalog.close()

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # What is there

    def revision(self) -> int:
        """Return a number that grows with each change; it costs microseconds to ask."""
        return self._catalog.revision()

    def models(self, kind: Kind | None = None) -> list[Model]:
        """Return every name (of *kind*), sorted."""
        return self._catalog.models(kind)

    def model(self, name: str) -> Model:
        """
        Return the versions and labels of *name*.

        Raises:
            ModelNotFound: nothing is registered under it.
        """
        return self._catalog.model(name)

    def versions(
        self, name: str | None = None, *, generation: str | None = None, deleted: bool = False
    ) -> list[Version]:
        """
        Return the versions of *name* (or all), newest first, with their lineage.

        Args:
            name: Of a model, table or recommender.
            generation: Only those trained together under this id.
            deleted: Also those whose files are gone.

        Raises:
            ModelNotFound: *name* is given and not registered.
        """
        return self._catalog.versions(name, generation=generation, deleted=deleted)

    def get(self, ref: ModelRef | UUID | str) -> Version:
        """
        Return the version that *ref* names: ``ctr`` (the latest available), ``ctr@3``,
        ``ctr@stable``, or a UUID.

        Raises:
            ModelNotFound: there is none; the text lists those there are.
        """
        if isinstance(ref, UUID):
            return self._catalog.get_uuid(ref)
        return self._catalog.get(ModelRef.parse(ref) if isinstance(ref, str) else ref)

    def path_of(self, version: Version) -> Path:
        """Return what to open: the file that was imported, or the folder."""
        return self._artifacts.path(version.name, version.number) / version.entry

    def verify(self, version: Version) -> None:
        """
        Read the files of *version* again and compare their digests.

        Raises:
            NotAvailable: a file is missing, new or damaged; the text names it.
        """
        artifacts.verify(self._artifacts.path(version.name, version.number), version.files)

    def moves(self, name: str, label: str | None = None) -> list[Move]:
        """
        Return how the labels of *name* (or one of them) moved, oldest first.

        Raises:
            ModelNotFound: *name* is not registered.
        """
        return self._catalog.moves(name, label)

    # Changing it

    def import_(
        self,
        path: Path,
        name: str,
        *,
        kind: Kind = Kind.MODEL,
        version: int | None = None,
        format: str = "",
        generation: str = "",
        source: str | None = None,
        notes: Mapping[str, Note] | None = None,
        metrics: Mapping[str, float] | None = None,
        check: Callable[[Path], object] | None = None,
        progress: Progress | None = None,
    ) -> Version:
        """
        Register a copy of the file or folder *path* as a new version of *name*.

        Args:
            path: A file or a folder; it is left as it is.
            name: Of what it becomes a version.
            kind: What it holds.
            version: Its number; None takes the next free one. A number is never used twice.
            format: As ``martlet.formats`` names it, where *kind* is a model.
            generation: The id shared by all that was trained together.
            source: Where it came from, if *path* is not what to remember.
            notes: Kept with it.
            metrics: Kept with it; figures it was judged by.
            check: Called with the staged copy, before anybody can see it; what it raises
                refuses the import. Usually opens it.
            progress: Called with the bytes done and the bytes in all.

        Raises:
            ModelNotFound: there is nothing at *path*.
            AlreadyExists: the version is or was taken, or *name* holds another kind.
            InvalidInput: *name*, a note or a metric cannot be kept, or *path* holds a link or
                changes while it is read.
            NotAvailable: the disk is full, or the catalog is locked or damaged. Nothing is left
                behind.
        """
        lineage = Lineage(
            source=source if source is not None else str(path.absolute()),
            imported_at=datetime.now(UTC),
            imported_by=_whoami(),
            format=format,
            generation=generation,
            notes=_plain(notes),
            metrics=_plain(metrics),
        )
        self._catalog.expect(name, kind, version)
        with self._artifacts.stage(path, progress) as staged:
            artifacts.protect(staged)
            if check is not None:
                check(staged.content)
            # Read back what the disk will give, and see that the check changed nothing.
            artifacts.verify(staged.path, staged.files)
            try:
                return self._catalog.publish(
                    name,
                    kind,
                    version,
                    uuid4(),
                    staged.entry,
                    staged.files,
                    lineage,
                    lambda number: self._artifacts.place(staged, name, number),
                )
            except BaseException:
                # The files may be in place with no row to name them.
                with suppress(MartletError, OSError):
                    self.sweep()
                raise

    def label(self, name: str, label: str, version: int) -> Move | None:
        """
        Let *label* name *version*, and no other version of *name*; None if it already did.

        Raises:
            ModelNotFound: no such name or version.
            InvalidInput: the version is retired, or *label* cannot be one.
        """
        return next(iter(self.label_all(label, {name: version})), None)

    def unlabel(self, name: str, label: str) -> None:
        """
        Take *label* away.

        Raises:
            ModelNotFound: no such name or label.
        """
        self.label_all(label, {name: None})

    def label_all(self, label: str, to: Mapping[str, int | None]) -> list[Move]:
        """
        Move *label* for several names at once, so that a generation goes live together.

        Args:
            label: As in ``ctr@stable``.
            to: The version by name; None takes the label away.

        Returns the moves; a label that was there already did not move.

        Raises:
            ModelNotFound, InvalidInput: as ``label``; then none is moved.
        """
        return self._catalog.label(label, to, _whoami())

    def retire(self, ref: ModelRef | str) -> Version:
        """
        Keep a version but let it serve no more, until ``restore``.

        Raises:
            ModelNotFound: no such version.
            InvalidInput: a label names it.
        """
        return self._catalog.stand(_ref(ref), Standing.RETIRED)

    def restore(self, ref: ModelRef | str) -> Version:
        """
        Let a retired version serve again.

        Raises:
            ModelNotFound: no such version, or it is deleted.
        """
        return self._catalog.stand(_ref(ref), Standing.AVAILABLE)

    def delete(self, ref: ModelRef | str) -> Version:
        """
        Remove a version's files for good. Its lineage is kept, and its number stays taken.

        Raises:
            ModelNotFound: no such version.
            InvalidInput: a label names it.
        """
        version = self._catalog.stand(_ref(ref), Standing.DELETED)
        self._artifacts.discard(self._artifacts.path(version.name, version.number))
        return version

    def sweep(self) -> None:
        """Remove what crashed imports and deletions left behind; ``open`` has done so."""
        self._artifacts.sweep_staging()
        if self._artifacts.orphans(self._catalog.numbers()):
            # Looked at again while nobody can publish: one may have been on its way in.
            with self._catalog.held() as numbers:
                for folder in self._artifacts.orphans(numbers):
                    self._artifacts.discard(folder)


def _ref(ref: ModelRef | str) -> ModelRef:
    return ModelRef.parse(ref) if isinstance(ref, str) else ref


def _plain(values: Mapping[str, _V] | None) -> dict[str, _V]:
    found = dict(values or {})
    try:
        json.dumps(found)
    except (TypeError, ValueError) as exc:
        raise InvalidInput(f"notes and metrics are plain texts and numbers: {exc}") from None
    return found


def _whoami() -> str:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"
