"""Content-Encoding: gzip and deflate, undone under a cap and done on request."""

from __future__ import annotations

import gzip
import zlib

from martlet.errors import InvalidInput, Overloaded, Unimplemented

GZIP, DEFLATE, IDENTITY = b"gzip", b"deflate", b"identity"

_LEVEL = 1
"""Bodies of floats compress little, and the server's time is what is short."""


def inflate(body: bytes, encoding: bytes, limit: int) -> bytes:
    """
    Return *body* with *encoding*, the value of a Content-Encoding header, undone.

    Raises:
        Unimplemented: the encoding is none of gzip, deflate and identity.
        InvalidInput: the body is broken.
        Overloaded: more than *limit* bytes would come out; nothing beyond them was unpacked.
    """
    for each in reversed([part.strip().lower() for part in encoding.split(b",")]):
        if each in (b"", IDENTITY):
            continue
        if each in (GZIP, b"x-gzip"):
            body = _unpack(body, 16 + zlib.MAX_WBITS, limit)
        elif each == DEFLATE:
            # The standard's deflate is a zlib stream; some clients send it bare.
            zlib_header = (
                len(body) > 1 and body[0] & 0x0F == 8 and (body[0] << 8 | body[1]) % 31 == 0
            )
            body = _unpack(body, zlib.MAX_WBITS if zlib_header else -zlib.MAX_WBITS, limit)
        else:
            name = each.decode("latin-1")
            raise Unimplemented(
                f"the Content-Encoding {name!r} is not supported; use gzip, deflate or none"
            )
    return body


def _unpack(body: bytes, window: int, limit: int) -> bytes:
    parts: list[bytes] = []
    room = limit
    while True:
        unpacker = zlib.decompressobj(window)
        try:
            part = unpacker.decompress(body, room + 1)
        except zlib.error as exc:
            raise InvalidInput(f"the body is not what its Content-Encoding says: {exc}") from None
        room -= len(part)
        if room < 0:
            raise Overloaded(f"the body is more than {limit} bytes once it is unpacked")
        parts.append(part)
        if not unpacker.eof:
            raise InvalidInput("the compressed body ends too early")
        body = unpacker.unused_data
        # A gzip file may be several, one after the other (RFC 1952, 2.2).
        if not body or window != 16 + zlib.MAX_WBITS:
            return parts[0] if len(parts) == 1 else b"".join(parts)


def accepted(header: bytes) -> bytes | None:
    """
    Return the encoding that an Accept-Encoding header prefers of ours; None: send it plain.

    >>> accepted(b"gzip;q=0.5, deflate"), accepted(b"br"), accepted(b"gzip;q=0")
    (b'deflate', None, None)
    """
    best, best_weight = None, 0.0
    for part in header.lower().split(b","):
        name, _, weight_text = part.partition(b";")
        try:
            weight = float(weight_text.partition(b"=")[2] or 1)
        except ValueError:
            weight = 0.0
        if name.strip() in (GZIP, DEFLATE) and weight > best_weight:
            best, best_weight = name.strip(), weight
    return best


def deflate(body: bytes, encoding: bytes) -> bytes:
    """Return *body* in *encoding*, one that ``accepted`` gave."""
    if encoding == GZIP:
        return gzip.compress(body, _LEVEL, mtime=0)
    return zlib.compress(body, _LEVEL)
