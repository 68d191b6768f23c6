"""``pack`` and ``unpack``: numbers, text and raw bytes to bytes, and back."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from typing import Any

from martlet.formats.pfa.failure import Failure
from martlet.formats.pfa.types import BOOLEAN, BYTES, DOUBLE, FLOAT, INT, LONG, NULL, Type

Refuse = Callable[[str], Exception]

_ORDERS = {"": ">", ">": ">", "<": "<", "!": ">", "big": ">", "little": "<", "network": ">"}
_KINDS: dict[str, tuple[str, Type]] = {
    "pad": ("x", NULL),
    "boolean": ("?", BOOLEAN),
    "byte": ("b", INT),
    "unsigned byte": ("B", INT),
    "short": ("h", INT),
    "unsigned short": ("H", INT),
    "int": ("i", INT),
    "unsigned int": ("I", LONG),
    "long": ("q", LONG),
    "unsigned long": ("Q", DOUBLE),
    "float": ("f", FLOAT),
    "double": ("d", DOUBLE),
}
_ALIASES = {
    "x": "pad", "?": "boolean", "b": "byte", "B": "unsigned byte", "h": "short",
    "H": "unsigned short", "i": "int", "l": "int", "I": "unsigned int", "L": "unsigned int",
    "q": "long", "Q": "unsigned long", "f": "float", "d": "double", "bool": "boolean",
    "int8": "byte", "uint8": "unsigned byte", "int16": "short", "uint16": "unsigned short",
    "int32": "int", "uint32": "unsigned int", "int64": "long", "uint64": "unsigned long",
    "float32": "float", "float64": "double", "integer": "int", "unsigned integer": "unsigned int",
    "long long": "long", "unsigned long long": "unsigned long",
}  # fmt: skip


def _kind(text: str, refuse: Refuse) -> tuple[str, Type]:
    """Return struct's letter (with its order), or ``raw``, ``raw4``, ``null`` or ``prefixed``."""
    plain = " ".join(text.split())
    raw = re.fullmatch(r"raw ?(\d+)|(\d+) ?s", plain)
    if raw:
        return f"raw{int(raw[1] or raw[2])}", BYTES
    if plain in ("raw", "s"):
        return "raw", BYTES
    if plain in ("nullterminated", "null terminated"):
        return "null", BYTES
    if plain in ("lengthprefixed", "length prefixed", "p", "prefixed"):
        return "prefixed", BYTES
    match = re.fullmatch(r"(<|>|!|little|big|network)? ?(.*)", plain)
    assert match is not None
    name = _ALIASES.get(match[2], match[2])
    if name not in _KINDS:
        raise refuse(f"{text!r} is no format to pack")
    letter, of = _KINDS[name]
    return _ORDERS[match[1] or ""] + letter, of


def packer(formats: Sequence[str], refuse: Refuse) -> tuple[Callable[..., bytes], list[Type]]:
    """Return what packs values of these *formats*, and the types that it takes."""
    kinds = [_kind(each, refuse) for each in formats]

    def pack(*values: Any) -> bytes:
        out = bytearray()
        for (kind, of), value in zip(kinds, values, strict=True):
            if of == BYTES:
                out += _packed(kind, value)
            elif of == NULL:
                out += b"\0"
            else:
                try:
                    given = int(value) if kind.endswith("Q") else value
                    out += struct.pack(kind, given)
                except (struct.error, OverflowError):
                    raise Failure(3000, "value out of range in pack") from None
        return bytes(out)

    return pack, [of for _, of in kinds]


def _packed(kind: str, value: bytes) -> bytes:
    if kind == "null":
        return value + b"\0"
    if kind == "prefixed":
        if len(value) > 255:
            raise Failure(3000, "length prefixed bytes are longer than 255")
        return bytes([len(value)]) + value
    if kind != "raw" and len(value) != int(kind[3:]):
        raise Failure(3001, "raw bytes does not have specified size")
    return value


def unpacker(
    formats: Sequence[str], refuse: Refuse
) -> tuple[Callable[[bytes], list[Any] | None], list[Type]]:
    """Return what unpacks bytes (None: they do not fit), and the types that it gives."""
    kinds = [_kind(each, refuse) for each in formats]

    def unpack(data: bytes) -> list[Any] | None:
        found: list[Any] = []
        at = 0
        for i, (kind, of) in enumerate(kinds):
            if of != BYTES:
                size = struct.calcsize(kind)
                if at + size > len(data):
                    return None
                # A pad byte unpacks to nothing: its value is null.
                value = (*struct.unpack_from(kind, data, at), None)[0]
                found.append(float(value) if value is not None and of == DOUBLE else value)
                at += size
                continue
            if kind == "null":
                end = data.find(b"\0", at)
                if end < 0:
                    return None
                found.append(data[at:end])
                at = end + 1
                continue
            if kind == "prefixed":
                if at >= len(data):
                    return None
                size, at = data[at], at + 1
            elif kind == "raw":
                if i < len(kinds) - 1:
                    raise Failure(3001, "raw bytes of no size can only be the last")
                size = len(data) - at
            else:
                size = int(kind[3:])
            if at + size > len(data):
                return None
            found.append(data[at : at + size])
            at += size
        return found if at == len(data) else None

    return unpack, [of for _, of in kinds]
