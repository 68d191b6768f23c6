"""scikit-learn's models: skops by default; pickle and joblib when trusted, in another process."""

from __future__ import annotations

from pathlib import Path

from martlet.formats import Format, LoadOptions, archives, pickles
from martlet.servable import Servable


def _load(path: Path, options: LoadOptions) -> Servable:
    from martlet.formats.sklearn.file import load

    return load(path, options)


def _sniff(path: Path) -> bool:
    if not path.is_file():
        return False
    names = archives.members(path)
    if names:
        return "schema.json" in names
    return bool(pickles.imports(path))


FORMAT = Format(
    name="sklearn",
    suffixes=(".skops", ".joblib", ".pkl", ".pickle"),
    sniff=_sniff,
    load=_load,
    extra="sklearn",
)
