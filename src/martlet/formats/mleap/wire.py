"""The protobuf wire format, as far as MLeap's messages need it."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from martlet.errors import UnsupportedModel
from martlet.formats import protobuf

Value = int | bytes
"""A varint; a fixed 64-bit or 32-bit field or a length-delimited one, as bytes."""


def fields(data: bytes) -> Iterator[tuple[int, Value]]:
    """
    Yield each field's number and value, in the order of the message.

    Raises:
        UnsupportedModel: the message is broken.
    """
    try:
        for number, _, value in protobuf.fields(memoryview(data)):
            yield number, value if isinstance(value, int) else bytes(value)
    except ValueError as exc:
        raise UnsupportedModel(f"a protobuf message is broken: {exc}") from None


def varints(value: Value) -> list[int]:
    """Return a repeated number, packed or one of them alone."""
    if isinstance(value, int):
        return [value]
    found: list[int] = []
    at, packed = 0, memoryview(value)
    try:
        while at < len(packed):
            number, at = protobuf.varint(packed, at)
            found.append(number)
    except ValueError as exc:
        raise UnsupportedModel(f"a protobuf list of numbers is broken: {exc}") from None
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
