"""What a Parquet file's footer claims of its size, read before Arrow allocates for it."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

_MAGIC = b"PAR1"
_MAX_BYTES = 64 << 20
_MAX_DEPTH = 32
_BOOLEANS, _BYTE, _INTEGERS, _DOUBLE, _BINARY = (1, 2), 3, (4, 5, 6), 7, 8
_LISTS, _MAP, _STRUCT = (9, 10), 11, 12
_ROW_GROUPS, _COLUMNS, _CHUNK_METADATA, _VALUES, _UNPACKED = 4, 1, 3, 5, 6


def claims(path: Path) -> tuple[int, int]:
    """
    Return how many bytes and values the file at *path* says that it unpacks to.

    Arrow's own view of a column ends the process on some damages; its reader does not.

    Raises:
        ValueError: it is not a whole Parquet file.

    Source:
        ``parquet.thrift`` of apache/parquet-format; Thrift's compact protocol.
    """
    with path.open("rb") as file:
        end = file.seek(0, 2)
        file.seek(max(0, end - 8))
        size, magic = struct.unpack("<I4s", file.read(8).rjust(8, b"\0"))
        if magic != _MAGIC or size > min(end - 8, _MAX_BYTES):
            raise ValueError("its end is missing")
        file.seek(end - 8 - size)
        told = _Compact(file.read(size)).struct(0)
    try:
        chunks = [
            chunk[_CHUNK_METADATA] for group in told[_ROW_GROUPS] for chunk in group[_COLUMNS]
        ]
        return sum(each[_UNPACKED] for each in chunks), sum(each[_VALUES] for each in chunks)
    except (LookupError, TypeError) as exc:
        raise ValueError(f"its footer has no field {exc}") from None


class _Compact:
    """A reader of Thrift's compact protocol: structs as dictionaries of their fields by number."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    def struct(self, depth: int) -> dict[int, Any]:
        if depth > _MAX_DEPTH:
            raise ValueError("its footer is nested too deeply")
        found: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else _signed(self._varint())
            kind = head & 15
            found[number] = kind == 1 if kind in _BOOLEANS else self._value(kind, depth)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        if kind in _INTEGERS:
            return _signed(self._varint())
        if kind in (*_BOOLEANS, _BYTE):
            return self._byte()
        if kind == _DOUBLE:
            return self._bytes(8)
        if kind == _BINARY:
            return self._bytes(self._varint())
        if kind == _STRUCT:
            return self.struct(depth + 1)
        if kind in _LISTS:
            head = self._byte()
            count = self._varint() if head >> 4 == 15 else head >> 4
            return [self._value(head & 15, depth + 1) for _ in range(self._held(count))]
        if kind == _MAP:
            count = self._varint()
            kinds = self._byte() if count else 0
            pairs = range(self._held(count))
            return [
                (self._value(kinds >> 4, depth + 1), self._value(kinds & 15, depth + 1))
                for _ in pairs
            ]
        raise ValueError(f"its footer has a field of kind {kind}")

    def _held(self, count: int) -> int:
        if count > len(self._content) - self._at:
            raise ValueError(f"its footer has not room for {count} elements")
        return count

    def _byte(self) -> int:
        return self._bytes(1)[0]

    def _bytes(self, count: int) -> bytes:
        self._at += self._held(count)
        return self._content[self._at - count : self._at]

    def _varint(self) -> int:
        found = shift = 0
        while shift < 70:
            byte = self._byte()
            found |= (byte & 127) << shift
            if byte < 128:
                return found
            shift += 7
        raise ValueError("its footer has a number that does not end")


def _signed(value: int) -> int:
    return (value >> 1) ^ -(value & 1)
