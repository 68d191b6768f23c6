"""Universal Binary JSON, draft 12, read within bounds: what XGBoost writes as ``.ubj``."""

from __future__ import annotations

from typing import Any

import numpy as np

_NUMBERS: dict[bytes, np.dtype[Any]] = {
    b"i": np.dtype(">i1"),
    b"U": np.dtype(">u1"),
    b"I": np.dtype(">i2"),
    b"l": np.dtype(">i4"),
    b"L": np.dtype(">i8"),
    b"d": np.dtype(">f4"),
    b"D": np.dtype(">f8"),
}
_CONSTANTS = {b"Z": None, b"T": True, b"F": False}
_MAX_DEPTH = 64


def loads(data: bytes) -> Any:
    """
    Return the value in *data*: dicts, lists and scalars; an array of one number type is numpy's.

    Nothing is allocated for a length that *data* does not hold.

    Raises:
        ValueError: it is cut short, nested too deep, not UBJSON, or has a key twice.

    Source:
        https://ubjson.org, and XGBoost ``src/common/json.cc`` (UBJReader).
    """
    reader = _Reader(data)
    value = reader.value(reader.take(1), 0)
    if reader.at != len(data):
        raise ValueError(f"{len(data) - reader.at} bytes follow the end")
    return value


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        found = self.data[self.at : self.at + count]
        if count < 0 or len(found) != count:
            raise ValueError(f"it ends at byte {len(self.data)}, within a value")
        self.at += count
        return found

    def value(self, kind: bytes, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise ValueError(f"it is nested deeper than {_MAX_DEPTH}")
        if kind in _NUMBERS:
            dtype = _NUMBERS[kind]
            return np.frombuffer(self.take(dtype.itemsize), dtype)[0].item()
        if kind in _CONSTANTS:
            return _CONSTANTS[kind]
        if kind == b"C":
            return self.take(1).decode()
        if kind == b"S":
            return self.text()
        if kind == b"[":
            return self.array(depth + 1)
        if kind == b"{":
            return self.object(depth + 1)
        raise ValueError(f"byte {self.at - 1} is no UBJSON type: {kind!r}")

    def length(self) -> int:
        kind = self.take(1)
        if kind not in b"iUIlL":
            raise ValueError(f"byte {self.at - 1} is no length: {kind!r}")
        return int(self.value(kind, 0))

    def text(self) -> str:
        return self.take(self.length()).decode()

    def header(self) -> tuple[bytes, int]:
        """Return the element type and count that a container declares; b"" and -1: it does not."""
        kind, count = b"", -1
        if self.data[self.at : self.at + 1] == b"$":
            self.at += 1
            kind = self.take(1)
        if self.data[self.at : self.at + 1] == b"#":
            self.at += 1
            count = self.length()
            if not 0 <= count <= len(self.data) - self.at:
                raise ValueError(f"byte {self.at}: {count} elements cannot fit")
        elif kind:
            raise ValueError(f"byte {self.at}: a typed container without a count")
        return kind, count

    def array(self, depth: int) -> Any:
        kind, count = self.header()
        if kind in _NUMBERS:
            dtype = _NUMBERS[kind]
            return np.frombuffer(self.take(count * dtype.itemsize), dtype)
        if count >= 0:
            return [self.value(kind or self.take(1), depth) for _ in range(count)]
        found = []
        while (mark := self.take(1)) != b"]":
            found.append(self.value(mark, depth))
        return found

    def object(self, depth: int) -> dict[str, Any]:
        kind, count = self.header()
        found: dict[str, Any] = {}
        while count != 0:
            if count < 0 and self.data[self.at : self.at + 1] == b"}":
                self.at += 1
                break
            key = self.text()
            if key in found:
                raise ValueError(f"{key!r} stands twice in one object")
            found[key] = self.value(kind or self.take(1), depth)
            count -= 1
        return found
