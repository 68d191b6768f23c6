"""``bytes.*``, ``fixed.*`` and ``enum.*``: numbers 16000, 20000, 19000."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

from martlet.formats.pfa.failure import Failure
from martlet.formats.pfa.library import entry
from martlet.formats.pfa.library.core import Run
from martlet.formats.pfa.library.strings import bounds
from martlet.formats.pfa.types import Enum, Fixed, Type
from martlet.formats.pfa.values import Octets

entry("bytes.len", "bytes -> int")(len)
entry("bytes.subseq", "bytes, int, int -> bytes")(lambda x, start, end: bytes(x[start:end]))


@entry("bytes.subseqto", "bytes, int, int, bytes -> bytes")
def subseqto(x: bytes, start: int, end: int, replacement: bytes) -> bytes:
    first, last = bounds(len(x), start, end)
    return x[:first] + replacement + x[last:]


_CODECS = (
    ("Ascii", "ascii", 16030), ("Latin1", "latin-1", 16040), ("Utf8", "utf-8", 16050),
    ("Utf16", "utf-16", 16060), ("Utf16be", "utf-16-be", 16070), ("Utf16le", "utf-16-le", 16080),
)  # fmt: skip


def _codec(name: str, codec: str, code: int) -> None:
    @entry(f"bytes.is{name}", "bytes -> boolean; string -> boolean")
    def check(x: Any) -> bool:
        try:
            if isinstance(x, bytes):
                x.decode(codec)
            else:
                x.encode(codec)
        except UnicodeError:
            return False
        return True

    @entry(f"bytes.decode{name}", "bytes -> string")
    def decode(x: bytes) -> str:
        try:
            return x.decode(codec)
        except UnicodeError:
            raise Failure(code + 60, "invalid bytes") from None

    @entry(f"bytes.encode{name}", "string -> bytes")
    def encode(x: str) -> bytes:
        try:
            return x.encode(codec)
        except UnicodeError:
            raise Failure(code + 120, "invalid string") from None


for _each in _CODECS:
    _codec(*_each)

entry("bytes.toBase64", "bytes -> string")(lambda x: base64.b64encode(x).decode())


@entry("bytes.fromBase64", "string -> bytes")
def from_base64(s: str) -> bytes:
    try:
        return base64.b64decode(s, validate=True)
    except (binascii.Error, ValueError):
        raise Failure(16220, "invalid base64") from None


entry("fixed.toBytes", "A% -> bytes")(bytes)


@entry("fixed.fromBytes", "A%, bytes -> A", typed=True)
def from_bytes(params: Sequence[Type], result: Type) -> Run:
    assert isinstance(result, Fixed)
    of = result

    def run(original: bytes, replacement: bytes) -> Octets:
        taken = replacement[: of.size]
        return Octets.of(of, taken + original[len(taken) :])

    return run


entry("enum.toString", "A@ -> string")(str)
entry("enum.toInt", "A@ -> int")(lambda x: x.place)


@entry("enum.numSymbols", "A@ -> int", typed=True)
def num_symbols(params: Sequence[Type], result: Type) -> Run:
    assert isinstance(params[0], Enum)
    count = len(params[0].symbols)
    return lambda x: count
