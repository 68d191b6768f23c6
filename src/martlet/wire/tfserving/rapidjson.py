"""The JSON that TensorFlow Serving's parser accepts, which is more than JSON, read in linear time.

orjson reads ordinary bodies; what it refuses comes here. Beyond RFC 8259 this takes ``NaN``,
``Inf`` and ``Infinity`` (with a minus), a byte order mark, text after the document, nesting of
any depth and strings that are not UTF-8; of a key given twice, the first counts.

Source: RapidJSON 1.1.0 (reader.h, error/en.h) under the flags kParseNanAndInfFlag,
kParseIterativeFlag and kParseStopWhenDoneFlag, as tensorflow_serving/util/json_tensor.cc sets.
"""

from __future__ import annotations

import math
import re
from typing import Any, NoReturn

from martlet.errors import InvalidInput

MAX_DEPTH = 300
"""Nesting that is kept. Deeper values are checked and become one DEEPER: a tensor has at most 254
axes, and a list for each of a million brackets would take a hundred times the body's memory."""


class Deeper:
    """What is nested deeper than MAX_DEPTH."""


DEEPER = Deeper()

_SPACE = re.compile(rb"[ \t\n\r]*+")
_STRING = re.compile(rb'"([^"\\\x00-\x1f]*+(?:\\[^\x00-\x1f][^"\\\x00-\x1f]*+)*+)"')
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*+)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_WORD = re.compile(rb"(?:true|false|null|NaN|-NaN|-?Inf(?:inity)?)")
_ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})(?:\\u([0-9a-fA-F]{4}))?|(.))", re.DOTALL)
_OPENINGS = re.compile(rb"(?:\[[ \t\n\r]*+)++")
_CLOSINGS = re.compile(rb"(?:\][ \t\n\r]*+)++")

_OBJECT = -1

_WORDS: dict[bytes, Any] = {
    b"true": True,
    b"false": False,
    b"null": None,
    b"NaN": math.nan,
    b"-NaN": -math.nan,
    b"Inf": math.inf,
    b"Infinity": math.inf,
    b"-Inf": -math.inf,
    b"-Infinity": -math.inf,
}
_SIMPLE = {
    b'"': '"',
    b"\\": "\\",
    b"/": "/",
    b"b": "\b",
    b"f": "\f",
    b"n": "\n",
    b"r": "\r",
    b"t": "\t",
}


def parse(body: bytes) -> Any:
    """
    Return the value that *body* starts with.

    Bytes that are not UTF-8 come back as Python's surrogate escapes.

    Raises:
        InvalidInput: it is none; in RapidJSON's words, with the offset.
    """
    return _Reader(body).document()


class _Reader:
    """One pass over a body: where it is, and how deep."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.at = 3 if body.startswith(b"\xef\xbb\xbf") else 0

    def document(self) -> Any:
        self._space()
        if self.at == len(self.body):
            self._refuse("The document is empty.")
        value = self._leaf()
        return self._nested(value) if value is _OPEN else value

    def _space(self) -> None:
        found = _SPACE.match(self.body, self.at)
        assert found is not None
        self.at = found.end()

    def _peek(self) -> bytes:
        return self.body[self.at : self.at + 1]

    def _refuse(self, text: str) -> NoReturn:
        raise InvalidInput(f"JSON Parse error: {text} at offset: {self.at}")

    def _nested(self, _: object) -> Any:
        """Read the array or object that starts here; a stack of our own, so no depth fails."""
        root: Any = [] if self._peek() == b"[" else {}
        stack: list[Any] = [root]
        self.at += 1
        first = True
        while stack:
            top = stack[-1]
            self._space()
            char = self._peek()
            if isinstance(top, list):
                if char == b"]":
                    self.at += 1
                    stack.pop()
                    first = False
                    continue
                if not first:
                    self._comma(char, b",", "Missing a comma or ] after an array element.")
                value = self._leaf()
                if value is _OPEN:
                    value = self._open(stack)
                top.append(value)
            else:
                if char == b"}":
                    self.at += 1
                    stack.pop()
                    first = False
                    continue
                if not first:
                    self._comma(char, b",", "Missing a comma or } after an object member.")
                key = self._key()
                value = self._leaf()
                if value is _OPEN:
                    value = self._open(stack)
                top.setdefault(key, value)
            first = stack[-1] is not top
        return root

    def _comma(self, char: bytes, wanted: bytes, otherwise: str) -> None:
        if char != wanted:
            self._refuse(otherwise)
        self.at += 1
        self._space()

    def _key(self) -> str:
        if self._peek() != b'"':
            self._refuse("Missing a name for object member.")
        key = self._string()
        self._space()
        if self._peek() != b":":
            self._refuse("Missing a colon after a name of object member.")
        self.at += 1
        self._space()
        return key

    def _open(self, stack: list[Any]) -> Any:
        """Push the container that starts here, or skip it when it is too deep to keep."""
        if len(stack) >= MAX_DEPTH:
            self._skip()
            return DEEPER
        value: Any = [] if self._peek() == b"[" else {}
        self.at += 1
        stack.append(value)
        return value

    def _leaf(self) -> Any:
        """Return the scalar that starts here, or _OPEN where a container does."""
        char = self._peek()
        if char in (b"[", b"{") and char:
            return _OPEN
        if char == b'"':
            return self._string()
        number = _NUMBER.match(self.body, self.at)
        if number is not None and number.end() > self.at:
            return self._number(number)
        word = _WORD.match(self.body, self.at)
        if word is None:
            self._refuse("Invalid value.")
        self.at = word.end()
        return _WORDS[word.group()]

    def _number(self, found: re.Match[bytes]) -> int | float:
        text = found.group()
        after = self.body[found.end() : found.end() + 1]
        if after == b"." and found.group(1) is None:
            self._refuse("Miss fraction part in number.")
        if after in (b"e", b"E") and b"e" not in text.lower():
            self._refuse("Miss exponent in number.")
        whole = found.group(1) is None and found.group(2) is None
        if whole and len(text) < 20:
            value: int | float = int(text)
        else:
            value = float(text)
            if math.isinf(value):
                self._refuse("Number too big to be stored in double.")
            if whole and len(text) == 20 and -(2**63) <= int(text) < 2**64:
                value = int(text)
        self.at = found.end()
        return value

    def _string(self) -> str:
        found = _STRING.match(self.body, self.at)
        if found is None:
            self._refuse(self._why_no_string())
        raw = found.group(1)
        text = _unescaped(raw) if b"\\" in raw else raw.decode("utf-8", "surrogateescape")
        if text is None:
            self._refuse("Invalid escape character in string.")
        self.at = found.end()
        return text

    def _why_no_string(self) -> str:
        # A raw control character where the string could not go on, or no end at all.
        part = re.compile(rb'[^"\x00-\x1f]*+').match(self.body, self.at + 1)
        ended = part is None or part.end() == len(self.body)
        return (
            "Missing a closing quotation mark in string."
            if ended
            else "Invalid escape character in string."
        )

    def _skip(self) -> None:
        """Check and pass the container that starts here, building nothing."""
        body = self.body
        # Each entry is a run of nested arrays, by its length, or OBJECT.
        levels: list[int] = []
        while True:
            # A value is expected here.
            run = _OPENINGS.match(body, self.at)
            if run is not None:
                self.at = run.end()
                levels.append(body.count(b"[", run.start(), run.end()))
                if self._peek() != b"]":
                    continue
            elif self._peek() == b"{":
                levels.append(_OBJECT)
                self.at += 1
                self._space()
                if self._peek() != b"}":
                    self._key()
                    continue
            else:
                self._leaf()
            if self._close(levels):
                return

    def _close(self, levels: list[int]) -> bool:
        """After a value: pass what closes, then the comma; True when all is closed."""
        while levels:
            self._space()
            char = self._peek()
            inside = levels[-1]
            if char == b"]" and inside > 0:
                self._close_arrays(levels)
            elif char == b"}" and inside == _OBJECT:
                self.at += 1
                levels.pop()
            elif char == b",":
                self.at += 1
                self._space()
                if inside == _OBJECT:
                    self._key()
                return False
            elif inside == _OBJECT:
                self._refuse("Missing a comma or } after an object member.")
            else:
                self._refuse("Missing a comma or ] after an array element.")
        return True

    def _close_arrays(self, levels: list[int]) -> None:
        run = _CLOSINGS.match(self.body, self.at)
        assert run is not None
        count = self.body.count(b"]", run.start(), run.end())
        if count < levels[-1]:
            levels[-1] -= count
            self.at = run.end()
            return
        for _ in range(levels.pop()):
            self.at = self.body.index(b"]", self.at) + 1


class _Open:
    """A container starts here."""


_OPEN: Any = _Open()


def _unescaped(raw: bytes) -> str | None:
    """Return *raw* with its escapes undone; None where one is wrong."""
    parts: list[str] = []
    at = 0
    while True:
        start = raw.find(b"\\", at)
        if start < 0:
            parts.append(raw[at:].decode("utf-8", "surrogateescape"))
            return "".join(parts)
        parts.append(raw[at:start].decode("utf-8", "surrogateescape"))
        found = _ESCAPE.match(raw, start)
        if found is None:
            return None
        high, low, simple = found.groups()
        if simple is not None:
            if simple not in _SIMPLE:
                return None
            parts.append(_SIMPLE[simple])
            at = found.end()
            continue
        code = int(high, 16)
        at = start + 6
        if 0xD800 <= code < 0xDC00:
            second = int(low, 16) if low is not None else 0
            if not 0xDC00 <= second < 0xE000:
                return None
            code = 0x10000 + ((code - 0xD800) << 10) + (second - 0xDC00)
            at = found.end()
        elif 0xDC00 <= code < 0xE000:
            return None
        parts.append(chr(code))
