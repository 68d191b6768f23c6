"""MLflow's model folders: the native flavour within, under the names of the folder's signature."""

from __future__ import annotations

from pathlib import Path

from martlet.formats import Format, LoadOptions
from martlet.formats.mlflow.schema import SPEC
from martlet.servable import Servable


def _load(path: Path, options: LoadOptions) -> Servable:
    from martlet.formats.mlflow.servable import load

    return load(path, options)


def _sniff(path: Path) -> bool:
    return path.is_dir() and (path / SPEC).is_file()


FORMAT = Format(name="mlflow", suffixes=(), sniff=_sniff, load=_load, extra="mlflow")
