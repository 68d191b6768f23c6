"""A folder of no format of its own that holds one model among other files."""

from __future__ import annotations

from pathlib import Path

from martlet import formats
from martlet.errors import UnsupportedModel
from martlet.formats import Format, LoadOptions
from martlet.servable import Servable

_MOST_FILES = 1000
# Opened by running them, or side files as often as models: they count where nothing else is there.
_WEAK = ("sklearn", "arrays")


def load(path: Path, options: LoadOptions) -> Servable:
    """
    Open the one model that lies in the folder *path*.

    Raises:
        UnsupportedModel: several do, or none.
    """
    found = _models(path)
    if not found:
        raise UnsupportedModel(f"{path} holds no model in a known format")
    if len(found) > 1:
        names = ", ".join(sorted(each.name for each in found))
        raise UnsupportedModel(f"{path} holds several models: {names}; name the one that you mean")
    return formats.load(found[0], options)


def _models(path: Path) -> list[Path]:
    """Return the files in *path* that are models; weak ones only where there is no other."""
    files = [each for each in path.iterdir() if each.is_file() and not each.is_symlink()]
    if len(files) > _MOST_FILES:
        return []
    known = [(each, formats.recognise(each)) for each in files]
    strong = [each for each, kind in known if kind is not None and kind.name not in _WEAK]
    return strong or [each for each, kind in known if kind is not None]


def _sniff(path: Path) -> bool:
    try:
        return path.is_dir() and bool(_models(path))
    except OSError:
        return False


FORMAT = Format(name="folder", suffixes=(), sniff=_sniff, load=load)
