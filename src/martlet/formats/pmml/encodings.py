"""The bytes of an XML file as its parser can read them, whatever encoding they are in."""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator

_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    # Without a mark, the zeros of the first "<" tell.
    (b"<\x00", "utf-16-le"),
    (b"\x00<", "utf-16-be"),
)
_DECLARED = re.compile(rb"""\s*<\?xml[^>]{0,200}?encoding\s*=\s*["']([\w.:-]+)["']""")


def encoding_of(head: bytes) -> str:
    """
    Return the encoding of the file that starts with *head*: by its mark, then by what it declares.

    A declaration that can be read byte by byte and says UTF-16 is wrong, as .NET writes it: the
    file is UTF-8.

    Raises:
        LookupError: Python has no such encoding.
    """
    for mark, name in _BOMS:
        if head.startswith(mark):
            return name
    declared = _DECLARED.match(head)
    if declared is None:
        return "utf-8"
    name = codecs.lookup(declared[1].decode()).name
    return "utf-8" if name.startswith(("utf-16", "utf-32")) else name


def in_utf8(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """
    Yield *chunks* of an XML file in UTF-8, without what may not stand before the declaration.

    Raises:
        LookupError: the file is in an encoding that Python has not.
        UnicodeDecodeError: it is not in the encoding that it says.
    """
    decode: codecs.IncrementalDecoder | None = None
    is_first = True
    for chunk in chunks:
        if is_first:
            encoding = encoding_of(chunk)
            # Only what is not UTF-8 is decoded: the parser checks UTF-8 as it reads.
            if encoding != "utf-8":
                decode = codecs.getincrementaldecoder(encoding)()
            chunk = chunk.removeprefix(codecs.BOM_UTF8)
        if decode is not None:
            chunk = decode.decode(chunk).encode()
        if is_first:
            chunk = chunk.lstrip(b" \t\r\n")
            is_first = not chunk
        yield chunk
    if decode is not None:
        yield decode.decode(b"", True).encode()
