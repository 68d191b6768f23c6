"""The protobuf wire format, as far as MLeap's messages need it."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from martlet.errors import UnsupportedModel

Value = int | bytes
"""A varint; a fixed 64-bit or 32-bit field or a length-delimited one, as bytes."""


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at *at* and where it ends."""
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise UnsupportedModel("a protobuf message is cut short")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7


def fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """
    Yield each field's number and value, in the order of the message.

    Raises:
        UnsupportedModel: the message is broken.
    """
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = varint(data, at)
            yield key >> 3, value
            continue
        if kind == 2:
            size, at = varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise UnsupportedModel(f"a protobuf field of kind {kind} is not known")
        if at + size > len(data):
            raise UnsupportedModel("a protobuf message is cut short")
        yield key >> 3, data[at : at + size]
        at += size


def varints(value: Value) -> list[int]:
    """Return a repeated number, packed or one of them alone."""
    if isinstance(value, int):
        return [value]
    found: list[int] = []
    at = 0
    while at < len(value):
        number, at = varint(value, at)
        found.append(number)
    return found


def signed(value: int) -> int:
    """Return an int32 or int64 from its varint."""
    return value - (1 << 64) if value >> 63 else value


def doubles(value: Value) -> list[float]:
    """Return repeated doubles, packed or one alone."""
    return _floats(value, 8, "d")


def singles(value: Value) -> list[float]:
    """Return repeated floats, packed or one alone."""
    return _floats(value, 4, "f")


def _floats(value: Value, size: int, letter: str) -> list[float]:
    if isinstance(value, int) or len(value) % size:
        raise UnsupportedModel("a protobuf list of floats is cut short")
    return list(struct.unpack(f"<{len(value) // size}{letter}", value))


def text(value: Value) -> str:
    """Return a string."""
    try:
        return value.decode() if isinstance(value, bytes) else ""
    except UnicodeDecodeError as exc:
        raise UnsupportedModel(f"a protobuf string is not UTF-8: {exc}") from None


def message(value: Value) -> bytes:
    """Return a message's bytes."""
    if isinstance(value, int):
        raise UnsupportedModel("a protobuf number stands where a message is wanted")
    return value
