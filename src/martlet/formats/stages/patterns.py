"""Java's regular expressions as Python's: what both write alike, and what is written otherwise."""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable, Mapping
from functools import cache

from martlet.errors import UnsupportedModel

_POSIX: Mapping[str, str] = {
    "Lower": "a-z", "Upper": "A-Z", "ASCII": r"\x00-\x7f", "Alpha": "a-zA-Z", "Digit": "0-9",
    "Alnum": "a-zA-Z0-9", "Punct": r"!-/:-@\[-`{-~", "Graph": "!-~", "Print": " -~",
    "Blank": r" \t", "Cntrl": r"\x00-\x1f\x7f", "XDigit": "0-9a-fA-F",
    "Space": r" \t\n\x0b\f\r",
}  # fmt: skip
_TESTS: Mapping[str, Callable[[str], bool]] = {
    "IsAlphabetic": str.isalpha, "IsDigit": lambda c: unicodedata.category(c) == "Nd",
    "IsLetter": lambda c: unicodedata.category(c)[0] == "L",
    "IsPunctuation": lambda c: unicodedata.category(c)[0] == "P",
    "IsWhite_Space": str.isspace, "IsUppercase": str.isupper, "IsLowercase": str.islower,
    "javaLowerCase": str.islower, "javaUpperCase": str.isupper, "javaWhitespace": str.isspace,
}  # fmt: skip
_CATEGORY = re.compile("[LMNPSZC]|L[ultmo]|M[nce]|N[dlo]|P[cdseifo]|S[mcko]|Z[slp]|C[cfosn]")
_HORIZONTAL = r" \t\xa0\u1680\u180e\u2000-\u200a\u202f\u205f\u3000"
_PIECE = re.compile(
    r"\\Q(?P<quoted>.*?)(?:\\E|\Z)"
    r"|\\(?P<sign>[pP])(?:\{(?P<named>\^?\w+)\}|(?P<one>\w))"
    r"|\\(?P<escaped>.)|(?P<open>\[\^?)|(?P<close>\])|(?P<both>&&)|(?P<other>.)",
    re.DOTALL,
)


def regex(name: str, pattern: str) -> re.Pattern[str]:
    """
    Return a pattern of Java's, whose \\w, \\d and \\s are ASCII unless told otherwise.

    Raises:
        UnsupportedModel: it is none, or uses what Python cannot say (a class within a class).
    """
    try:
        return re.compile(_translated(pattern), re.ASCII)
    except (ValueError, re.error, RecursionError, OverflowError) as exc:
        raise UnsupportedModel(f"{name}: the pattern {pattern!r} is not one: {exc}") from None


def _translated(pattern: str) -> str:
    out: list[str] = []
    opened = -1  # where in out the class began that we are in
    for piece in _PIECE.finditer(pattern):
        inside = opened >= 0
        if piece["quoted"] is not None:
            out.append(re.escape(piece["quoted"]))
        elif piece["sign"]:
            named = piece["named"] or piece["one"]
            negated = (piece["sign"] == "P") != named.startswith("^")
            members = _members(named.lstrip("^"), negated)
            out.append(members if inside else f"[{members}]")
        elif piece["escaped"]:
            out.append(_escape(piece["escaped"], inside))
        elif piece["open"] and inside:
            raise ValueError("a class within a class is not supported")
        elif piece["open"]:
            opened = len(out)
            out.append(piece["open"])
        elif piece["close"] and inside and len(out) > opened + 1:
            opened = -1
            out.append("]")
        elif piece["both"] and inside:
            raise ValueError("a class of what two classes share is not supported")
        else:
            out.append(piece[0])
    return "".join(out)


def _escape(letter: str, inside: bool) -> str:
    if letter in "hH":
        if inside and letter == "H":
            raise ValueError("\\H in a class is not supported")
        return _HORIZONTAL if inside else f"[{'^' * (letter == 'H')}{_HORIZONTAL}]"
    if letter == "z":
        return "\\Z"
    if letter == "Z":
        return "(?=\\n?\\Z)"
    if letter == "R":
        return r"(?:\r\n|[\n\x0b\f\r\x85\u2028\u2029])"
    if letter == "e":
        return "\\x1b"
    return f"\\{letter}"


@cache
def _members(named: str, negated: bool) -> str:
    """Return the characters of ``\\p{named}`` as they stand within a class."""
    if named in _POSIX and not negated:
        return _POSIX[named]
    if named in _POSIX:
        found = re.compile(f"[{_POSIX[named]}]")
        return _ranges(lambda c: not found.match(c))
    short = named.removeprefix("Is")
    test = _TESTS.get(named)
    if test is None and _CATEGORY.fullmatch(short):
        size = len(short)
        test = lambda c: unicodedata.category(c)[:size] == short  # noqa: E731
    if test is None:
        raise ValueError(f"\\p{{{named}}} is not supported")
    wanted = test
    return _ranges(lambda c: wanted(c) != negated)


def _ranges(test: Callable[[str], bool]) -> str:
    found: list[str] = []
    start = -1
    for code in range(sys.maxunicode + 2):
        if code <= sys.maxunicode and test(chr(code)):
            start = code if start < 0 else start
        elif start >= 0:
            found.append(f"\\U{start:08x}-\\U{code - 1:08x}")
            start = -1
    return "".join(found)
