"""Protobuf's own encoding, of which ONNX files and MLeap's messages are made."""

from __future__ import annotations

from collections.abc import Iterator

Field = tuple[int, int, "int | memoryview"]


def fields(data: memoryview) -> Iterator[Field]:
    """
    Yield the number, wire type and value of each field of a protobuf message.

    Raises:
        ValueError: *data* is no message.

    Source:
        https://protobuf.dev/programming-guides/encoding/
    """
    at, end = 0, len(data)
    while at < end:
        tag, at = varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = varint(data, at)
            yield number, kind, value
            continue
        if kind == 2:
            size, at = varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"wire type {kind} at byte {at}")
        if number == 0 or size > end - at:
            raise ValueError(f"field {number} at byte {at} is cut short")
        yield number, kind, data[at : at + size]
        at += size


def varint(data: memoryview, at: int) -> tuple[int, int]:
    """
    Return the number that begins at byte *at*, and where it ends.

    Raises:
        ValueError: none does.
    """
    found = shift = 0
    while shift < 70:
        if at >= len(data):
            raise ValueError(f"it ends within a number at byte {at}")
        byte = data[at]
        at += 1
        found |= (byte & 0x7F) << shift
        if byte < 0x80:
            return found, at
        shift += 7
    raise ValueError(f"a number at byte {at} is too long")


def encoded(number: int, kind: int, value: int | bytes | memoryview) -> bytes:
    """Return one field of a message."""
    tag = _varint_bytes(number << 3 | kind)
    if isinstance(value, int):
        return tag + _varint_bytes(value)
    return tag + (_varint_bytes(len(value)) if kind == 2 else b"") + bytes(value)


def _varint_bytes(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
