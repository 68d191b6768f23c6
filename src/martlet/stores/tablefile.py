r"""One file of named arrays, mapped into every process that opens it and copied into none.

::

    0    magic "MARTLET\\0"                      8 bytes
    8    format version                         uint32, little-endian like all that follows
    12   length of the header                   uint32
    16   length of the whole file               uint64
    24   sha256 of the header                   32 bytes
    56   zeros                                  8 bytes
    64   header: JSON with kind, generation, meta, and of each section: offset, dtype, shape, sha256
    ...  sections, each at a multiple of 64 bytes
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from martlet.errors import InvalidInput, ModelNotFound, NotAvailable, UnsupportedModel

Array = NDArray[Any]
Sections = Mapping[str, Array]

MAGIC: Final = b"MARTLET\0"
VERSION: Final = 1

_PREAMBLE = struct.Struct("<8sIIQ32s8x")
_ALIGNMENT = 64
_CHUNK_BYTES = 1 << 24
_DTYPES = frozenset({"|b1", "|u1", "|i1", "<i4", "<i8", "<u4", "<f2", "<f4", "<f8"})


class TableFile:
    """
    An open file. Its arrays are read-only views of the mapping, and keep it alive.

    The file must not be changed while it is open; replace it by renaming another onto it.

    Args:
        path: The file.
        kind: What it must hold, as ``write_table`` was told.

    Raises:
        ModelNotFound: there is no such file.
        UnsupportedModel: it is not a table, is cut short, has a damaged header, is of another kind,
            or a newer martlet wrote it. Only the header is read: ``verify`` reads the rest.
    """

    def __init__(self, path: Path, kind: str) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                about = os.fstat(file.fileno())
                size = about.st_size
                if size < _PREAMBLE.size:
                    raise UnsupportedModel(f"{path} is not a table file: it holds {size} bytes")
                mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except FileNotFoundError:
            raise ModelNotFound(f"there is no table file at {path}") from None
        except OSError as exc:
            raise NotAvailable(f"the table file {path} cannot be read: {exc.strerror}") from exc
        header = _header(path, mapping)
        if header["kind"] != kind:
            raise UnsupportedModel(f"{path} holds {header['kind']}, where {kind} are wanted")
        self.generation: str = header["generation"]
        self.meta: dict[str, Any] = header["meta"]
        self.size = size
        self._inode = (about.st_dev, about.st_ino)
        self._sections: dict[str, dict[str, Any]] = header["sections"]
        self._mapping = mapping

    @property
    def identity(self) -> bytes:
        """The sha256 of the header, which holds that of every section. 32 bytes."""
        digest: bytes = _PREAMBLE.unpack_from(self._mapping)[4]
        return digest

    @property
    def replaced(self) -> bool:
        """Whether another file has taken its place since it was opened."""
        try:
            about = self.path.stat()
        except OSError:
            return True
        return (about.st_dev, about.st_ino) != self._inode

    def __getitem__(self, name: str) -> Array:
        section = self._sections[name]
        dtype = np.dtype(section["dtype"])
        count = int(np.prod(section["shape"], dtype=np.int64))
        flat = np.frombuffer(self._mapping, dtype, count, section["offset"])
        return flat.reshape(section["shape"])

    def find(self, name: str) -> Array | None:
        """Return a section that not every file of this kind has."""
        return self[name] if name in self._sections else None

    def digest(self, name: str) -> str:
        """Return the sha256 of a section, in hex, as it was when it was written."""
        return str(self._sections[name]["sha256"])

    def verify(self) -> None:
        """
        Read the whole file and compare every section's digest.

        Raises:
            UnsupportedModel: a section is damaged; the text names it.
        """
        for name, section in self._sections.items():
            if _digest(self[name]) != section["sha256"]:
                raise UnsupportedModel(f"{self.path} is damaged in its section {name!r}")


def write_table(
    path: Path, kind: str, sections: Sections, *, generation: str = "", meta: Mapping[str, Any]
) -> None:
    """
    Write a table file; who opens *path* finds the old file or the whole new one.

    Args:
        path: Where it will be.
        kind: What it holds.
        sections: Arrays by name.
        generation: The id shared by all that was trained together.
        meta: What else a reader must know; plain JSON.

    Raises:
        NotAvailable: the disk is full, or refuses.
    """
    arrays = {name: np.ascontiguousarray(array) for name, array in sections.items()}
    entries: dict[str, dict[str, Any]] = {}
    for name, array in arrays.items():
        assert array.dtype.str in _DTYPES, f"section {name!r} is {array.dtype}"
        entries[name] = {
            "offset": 0,
            "dtype": array.dtype.str,
            "shape": list(array.shape),
            "sha256": _digest(array),
        }
    header = {"kind": kind, "generation": generation, "meta": dict(meta), "sections": entries}
    # An offset has at most 20 digits, so the header written with zeros and this much to spare
    # is not shorter than the one with offsets.
    end = _aligned(_PREAMBLE.size + len(json.dumps(header).encode()) + 20 * len(entries))
    for name, array in arrays.items():
        entries[name]["offset"] = end
        end = _aligned(end + array.nbytes)
    text = json.dumps(header).encode()
    preamble = _PREAMBLE.pack(MAGIC, VERSION, len(text), end, hashlib.sha256(text).digest())

    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            file.write(preamble + text)
            for name, array in arrays.items():
                file.seek(entries[name]["offset"])
                file.write(array.reshape(-1).view(np.uint8).data)
            file.truncate(end)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        _sync(path.parent)
    except OSError as exc:
        raise NotAvailable(f"{path} cannot be written: {exc.strerror}; it is as it was") from exc
    finally:
        temporary.unlink(missing_ok=True)


def kind_of(path: Path) -> str | None:
    """Return what the table file *path* holds, or None if it is none."""
    try:
        with path.open("rb") as file:
            if file.read(len(MAGIC)) != MAGIC:
                return None
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return str(_header(path, mapping)["kind"])
    except (OSError, ValueError, UnsupportedModel):
        return None


def check_unique(keys: list[Any]) -> None:
    """
    Refuse keys of which one comes twice.

    Raises:
        InvalidInput: the text names the first such key and its rows.
    """
    seen: dict[Any, int] = {}
    for row, key in enumerate(keys):
        if seen.setdefault(key, row) != row:
            raise InvalidInput(f"key {key!r} comes twice, in rows {seen[key]} and {row}")


def _header(path: Path, mapping: mmap.mmap) -> dict[str, Any]:
    magic, version, length, size, digest = _PREAMBLE.unpack_from(mapping)
    if magic != MAGIC:
        raise UnsupportedModel(f"{path} is not a table file: it does not begin with {MAGIC!r}")
    if version > VERSION:
        raise UnsupportedModel(
            f"{path} is table format {version} and this martlet reads {VERSION}: upgrade it"
        )
    if size != len(mapping):
        raise UnsupportedModel(
            f"{path} is cut short: {len(mapping)} bytes, where {size} were written"
        )
    text = mapping[_PREAMBLE.size : _PREAMBLE.size + length]
    if hashlib.sha256(text).digest() != digest:
        raise UnsupportedModel(f"{path} has a damaged header")
    header: dict[str, Any] = json.loads(text)
    return header


def _digest(array: Array) -> str:
    digest = hashlib.sha256()
    flat = array.reshape(-1).view(np.uint8)
    for start in range(0, flat.size, _CHUNK_BYTES):
        digest.update(flat[start : start + _CHUNK_BYTES].data)
    return digest.hexdigest()


def _aligned(offset: int) -> int:
    return -(-offset // _ALIGNMENT) * _ALIGNMENT


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
