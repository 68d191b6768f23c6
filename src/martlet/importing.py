"""Registers a file, whatever it is: a model, a table, or a recommender's declaration."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from martlet import formats
from martlet.recommend.reading import parse
from martlet.registry import Kind, Registry, Version
from martlet.stores.plain import PLAIN, make_table
from martlet.stores.tablefile import kind_of

if TYPE_CHECKING:
    from martlet.convert.bring import Wanted
    from martlet.convert.report import Report

Progress = Callable[[int, int], None]

REPORT = "report"
"""The note of a version that holds what bringing it online found, as JSON."""


@dataclass(frozen=True, slots=True)
class Brought:
    """A version that was registered, and what bringing it online found and did."""

    version: Version
    report: Report


def is_model(path: Path, format: str | None = None) -> bool:
    """Whether *path* would be registered as a model, not as a table or a declaration."""
    if format is not None:
        return True
    if path.suffix == ".toml" or (path.is_file() and kind_of(path) is not None):
        return False
    return formats.recognise(path) is not None or path.suffix not in PLAIN


def bring_path(
    registry: Registry,
    path: Path,
    name: str,
    wanted: Wanted,
    *,
    version: int | None = None,
    format: str | None = None,
    generation: str = "",
    notes: Mapping[str, str] | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Brought:
    """
    Bring the model at *path* online, and register what serves as a version of *name*.

    That is a package where one was proved equal and measured faster, else the file as it is. The
    report is kept with the version.

    Raises:
        MartletError: as ``import_path``; or *wanted* names columns or inputs that are not there.
    """
    from martlet.convert.bring import bring

    chosen = format or formats.sniff(path).name
    with tempfile.TemporaryDirectory(prefix="martlet-") as scratch:
        report = bring(path, chosen, Path(scratch), wanted, say)
        say("registering")
        found = import_path(
            registry,
            path if report.package is None else report.package,
            name,
            version=version,
            format=format if report.package is None else "package",
            generation=generation,
            notes={**(notes or {}), REPORT: json.dumps(report.to_json(), default=str)},
            trusted=wanted.trusted,
            progress=progress,
            source=path,
        )
    return Brought(found, report)


def report_of(version: Version) -> dict[str, Any] | None:
    """Return what bringing *version* online found; None where it was imported as it is."""
    text = version.lineage.notes.get(REPORT)
    if not isinstance(text, str):
        return None
    found: dict[str, Any] = json.loads(text)
    return found


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
    source: Path | None = None,
) -> Version:
    """
    Register *path* as a version of *name*; what it is, is found by content.

    A model is opened from its staged copy before anybody can see it. A plain table (npz, csv,
    json) is made into a table file first, and where it came from is kept.

    Args:
        source: Where it came from, if *path* is not what to remember.

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
            source=str((source or path).absolute()),
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
