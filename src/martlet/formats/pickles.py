"""What a pickle would import, read from its opcodes: nothing of it is run."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickletools
import zlib
from pathlib import Path
from typing import IO

_MAX_BYTES = 64 << 20
_COMPRESSED = (b"\x78", b"\x1f\x8b", b"BZ", b"\xfd7zXZ", b"\x5d\0\0")


def imports(path: Path) -> set[str]:
    """
    Return the ``module.name`` that the pickle at *path* would import; none: it is no pickle.

    joblib's files are pickles with arrays between their opcodes: what comes before the first
    array is read, which names the model's own class. Compressed ones are looked into.
    """
    try:
        with path.open("rb") as file:
            head = file.read(8)
        if not looks_like(head):
            return set()
        with _opened(path, head) as stream:
            return found_in(stream.read(_MAX_BYTES))
    except (OSError, EOFError, ValueError, MemoryError, zlib.error, lzma.LZMAError):
        return set()


def looks_like(head: bytes) -> bool:
    """Return whether *head* may begin a pickle: protocol 2 to 5, or a compressed one's."""
    return (head[:1] == b"\x80" and head[1:2] in b"\2\3\4\5") or head.startswith(_COMPRESSED)


def _opened(path: Path, head: bytes) -> IO[bytes] | gzip.GzipFile:
    if head[:1] == b"\x78":
        with path.open("rb") as file:
            packed = file.read(_MAX_BYTES)
        return io.BytesIO(zlib.decompressobj().decompress(packed, _MAX_BYTES))
    if head.startswith(b"\x1f\x8b"):
        return gzip.open(path, "rb")
    if head.startswith(b"BZ"):
        return bz2.open(path, "rb")
    if head.startswith((b"\xfd7zXZ", b"\x5d\0\0")):
        return lzma.open(path, "rb")
    return path.open("rb")


def found_in(data: bytes) -> set[str]:
    """Return the ``module.name`` that the opcodes in *data* would import."""
    found: set[str] = set()
    strings: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "GLOBAL":
                found.add(str(argument).replace(" ", "."))
            elif opcode.name == "STACK_GLOBAL" and len(strings) >= 2:
                found.add(".".join(strings[-2:]))
            elif isinstance(argument, str):
                strings.append(argument)
    except Exception:  # an array between joblib's opcodes, or damage: what was read stands
        pass
    return found


# By these a pickle imports what its text does not name beside them: from its stack or a registry.
_HIDING = frozenset({"INST", "OBJ", "STACK_GLOBAL", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"})


def plainly_imported(data: bytes) -> set[str]:
    """
    Return the ``module.name`` that the opcodes in *data* would import, and all of them.

    Raises:
        ValueError: it is no whole pickle, or one of its imports is not named where it is made.
    """
    found: set[str] = set()
    for opcode, argument, _ in pickletools.genops(data):
        if opcode.name in _HIDING:
            raise ValueError(f"it imports by {opcode.name}")
        if opcode.name == "GLOBAL":
            found.add(str(argument).replace(" ", "."))
    return found
