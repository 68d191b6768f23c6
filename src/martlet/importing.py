"""Registers a file, whatever it is: a model, a table, or a recommender's declaration."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from martlet import formats
from martlet.recommend.reading import parse
from martlet.registry import Kind, Registry, Version
from martlet.stores.plain import PLAIN, make_table
from martlet.stores.tablefile import kind_of

Progress = Callable[[int, int], None]


def import_path(
    registry: Registry,
    path: Path,
    name: str,
    *,
    version: int | None = None,
    format: str | None = None,
    generation: str = "",
    notes: Mapping[str, str] | None = None,
    trusted: bool = False,
    progress: Progress | None = None,
) -> Version:
    """
    Register *path* as a version of *name*; what it is, is found by content.

    A model is opened from its staged copy before anybody can see it. A plain table (npz, csv,
    json) is made into a table file first, and where it came from is kept.

    Raises:
        ModelNotFound: there is nothing at *path*.
        UnsupportedModel: it is nothing that can be registered, or does not open.
        InvalidInput: a table or declaration is wrong.
        AlreadyExists: the version is or was taken, or *name* holds another kind.
        NotAvailable: the disk is full, or the catalog is locked.
    """

    def register(
        what: Path, kind: Kind, check: Callable[[Path], object], format: str = ""
    ) -> Version:
        return registry.import_(
            what,
            name,
            kind=kind,
            version=version,
            format=format,
            generation=generation,
            source=str(path.absolute()),
            notes=notes,
            check=check,
            progress=progress,
        )

    if path.suffix == ".toml":
        return register(path, Kind.RECOMMENDER, _check_declaration)
    kind = kind_of(path) if path.is_file() else None
    if kind is not None:
        return register(path, Kind(kind), lambda staged: kind_of(staged) == kind)
    recognised = formats.recognise(path)
    if format is None and recognised is None and path.suffix in PLAIN:
        with tempfile.TemporaryDirectory(prefix="martlet-") as scratch:
            made = Path(scratch) / f"{path.stem}.table"
            kind = make_table(path, made, generation=generation)
            return register(made, Kind(kind), kind_of)
    chosen = format or (recognised or formats.sniff(path)).name
    options = formats.LoadOptions(trusted=trusted)
    return register(
        path, Kind.MODEL, lambda staged: formats.load(staged, options, chosen).close(), chosen
    )


def _check_declaration(staged: Path) -> None:
    parse(staged.read_bytes(), staged.name)
