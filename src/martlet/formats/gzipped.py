"""A model file packed by gzip: unpacked beside, within limits, and opened as what it is."""

from __future__ import annotations

import gzip
import tempfile
import zlib
from pathlib import Path

from martlet import formats
from martlet.errors import UnsupportedModel
from martlet.formats import Format, LoadOptions, archives, pickles
from martlet.servable import Servable

_MAGIC = b"\x1f\x8b\x08"
_HEAD = 4 << 20
_BLOCK = 1 << 20


def load(path: Path, options: LoadOptions) -> Servable:
    """
    Open the model that is packed in the file at *path*.

    Raises:
        UnsupportedModel: it is cut short, unpacks to far more than it is, or holds no model.
    """
    most = archives.room(path.stat().st_size)
    with tempfile.TemporaryDirectory(prefix="martlet-") as folder:
        inner = Path(folder) / (path.name.removesuffix(".gz") or "model")
        try:
            with gzip.open(path, "rb") as packed, inner.open("wb") as file:
                while block := packed.read(_BLOCK):
                    most -= len(block)
                    if most < 0:
                        raise UnsupportedModel(f"{path} would unpack to far more than it is")
                    file.write(block)
        except (OSError, EOFError, zlib.error) as exc:
            raise UnsupportedModel(f"{path} does not unpack: {exc}") from exc
        return formats.load(inner, options)


def _sniff(path: Path) -> bool:
    """A packed pickle is its own format's: its process opens the file as it lies there."""
    try:
        with path.open("rb") as file:
            if file.read(3) != _MAGIC:
                return False
        if pickles.imports(path):
            return False
        with gzip.open(path, "rb") as packed:
            head = packed.read(_HEAD)
    except (OSError, EOFError, zlib.error):
        return False
    if head.startswith(_MAGIC):
        return False
    try:
        with tempfile.TemporaryDirectory(prefix="martlet-") as folder:
            inner = Path(folder) / "head"
            inner.write_bytes(head)
            return formats.recognise(inner) is not None
    except OSError as exc:
        raise UnsupportedModel(
            f"{path} is packed by gzip, and there is no room to look into it: {exc}; TMPDIR names "
            "the folder that is used"
        ) from exc


FORMAT = Format(name="gzip", suffixes=(), sniff=_sniff, load=load)
