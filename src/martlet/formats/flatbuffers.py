"""A reader of flatbuffers' tables: enough to look a few fields up by their number."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

_U16, _I32, _U32 = struct.Struct("<H"), struct.Struct("<i"), struct.Struct("<I")


class Table:
    """
    One table of a flatbuffer. Fields are asked for by their number, in the schema's order.

    Whatever points outside of the buffer raises struct.error or ValueError.

    Source: https://flatbuffers.dev/internals/
    """

    def __init__(self, content: bytes | memoryview, at: int) -> None:
        self._content = content
        self._at = _inside(content, at)
        self._fields = _inside(content, at - _I32.unpack_from(content, at)[0])
        self._count = (_U16.unpack_from(content, self._fields)[0] - 4) // 2

    @classmethod
    def root(cls, content: bytes | memoryview) -> Table:
        """Return the table that the buffer begins with."""
        return cls(content, _U32.unpack_from(content, 0)[0])

    def number(self, field: int, kind: str, default: Any) -> Any:
        """Return a number of struct's *kind*; *default* where the file leaves it out."""
        at = self._place(field)
        return default if at is None else struct.unpack_from(f"<{kind}", self._content, at)[0]

    def table(self, field: int) -> Table | None:
        """Return a table within."""
        at = self._place(field)
        return None if at is None else Table(self._content, self._target(at))

    def tables(self, field: int) -> list[Table]:
        """Return a vector of tables."""
        at, count = self._vector(field, 4)
        return [Table(self._content, self._target(at + 4 * i)) for i in range(count)]

    def array(self, field: int, dtype: str) -> NDArray[Any]:
        """Return a vector of numbers; empty where the file leaves it out."""
        at, count = self._vector(field, np.dtype(dtype).itemsize)
        return np.frombuffer(self._content, dtype, count, at)

    def texts(self, field: int) -> list[bytes]:
        """Return a vector of texts."""
        at, count = self._vector(field, 4)
        places = [self._target(at + 4 * i) for i in range(count)]
        found = []
        for place in places:
            size = int(_U32.unpack_from(self._content, place)[0])
            if place + 4 + size > len(self._content):
                raise ValueError(f"a text of {size} bytes ends outside of the buffer")
            found.append(bytes(self._content[place + 4 : place + 4 + size]))
        return found

    def _place(self, field: int) -> int | None:
        if field >= self._count:
            return None
        offset = _U16.unpack_from(self._content, self._fields + 4 + 2 * field)[0]
        return self._at + offset if offset else None

    def _target(self, at: int) -> int:
        return at + int(_U32.unpack_from(self._content, at)[0])

    def _vector(self, field: int, size: int) -> tuple[int, int]:
        at = self._place(field)
        if at is None:
            return 0, 0
        start = _inside(self._content, self._target(at))
        count = int(_U32.unpack_from(self._content, start)[0])
        if start + 4 + count * size > len(self._content):
            raise ValueError(f"a vector of {count} items ends outside of the buffer")
        return start + 4, count


def _inside(content: bytes | memoryview, at: int) -> int:
    if not 0 <= at < len(content):
        raise ValueError(f"offset {at} lies outside of the buffer")
    return at
