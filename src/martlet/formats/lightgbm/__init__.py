"""LightGBM's text model (``model.txt``), run by LightGBM's C library."""

from __future__ import annotations

from pathlib import Path

from martlet.formats import Format, LoadOptions
from martlet.servable import Servable


def _load(path: Path, options: LoadOptions) -> Servable:
    from martlet.formats.lightgbm.servable import LightGBMServable

    return LightGBMServable(path, options)


def _sniff(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(256).replace(b"\r\n", b"\n")
    dump = head[:1] == b"{" and b'"name":"tree"' in head.replace(b" ", b"").replace(b"\n", b"")
    return dump or (head.startswith(b"tree\n") and b"num_class=" in head)


FORMAT = Format(name="lightgbm", suffixes=(), sniff=_sniff, load=_load, extra="lightgbm")
