"""PFA, the Portable Format for Analytics: JSON or YAML documents, compiled to Python functions."""

from __future__ import annotations

import re
from pathlib import Path

from martlet.formats import Format, LoadOptions
from martlet.servable import Servable

_HEAD_BYTES = 1 << 16
_YAML_KEY = re.compile(rb"^(action|input|output|method|cells|pools|fcns|name)\s*:", re.MULTILINE)


def _load(path: Path, options: LoadOptions) -> Servable:
    from martlet.formats.pfa.servable import PfaServable

    return PfaServable(path)


def _sniff(path: Path) -> bool:
    try:
        if not path.is_file():
            return False
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
            # The keys that every document has may stand after a large cell.
            file.seek(max(0, size - _HEAD_BYTES))
            whole = head + file.read(_HEAD_BYTES) if size > _HEAD_BYTES else head
    except OSError:
        return False
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"{"):
        return all(
            re.search(rb'"' + key + rb'"\s*:', whole) for key in (b"input", b"output", b"action")
        )
    found = {match[1] for match in _YAML_KEY.finditer(whole)}
    return {b"input", b"output", b"action"} <= found


FORMAT = Format(name="pfa", suffixes=(".pfa",), sniff=_sniff, load=_load, extra="pfa")
