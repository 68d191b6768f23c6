"""MLeap bundles: zip files or folders, JSON or protobuf, read without a JVM."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

from martlet.formats import Format, LoadOptions
from martlet.servable import Servable

_MAX_INFO_BYTES = 1 << 16


def _load(path: Path, options: LoadOptions) -> Servable:
    from martlet.formats.mleap.pipeline import load

    return load(path)


def _sniff(path: Path) -> bool:
    try:
        if path.is_dir():
            info = path / "bundle.json"
            data = info.read_bytes() if info.is_file() and info.stat().st_size < 1 << 16 else b""
        else:
            with path.open("rb") as file:
                if file.read(4) != b"PK\x03\x04":
                    return False
            with zipfile.ZipFile(path) as archive:
                member = archive.getinfo("bundle.json")
                with archive.open(member) as file:
                    data = file.read(_MAX_INFO_BYTES)
        found = json.loads(data)
    except (OSError, ValueError, KeyError, RuntimeError, NotImplementedError, zipfile.BadZipFile):
        return False
    return isinstance(found, dict) and {"format", "version", "uid"} <= found.keys()


FORMAT = Format(name="mleap", suffixes=(), sniff=_sniff, load=_load)
