"""``s.*``, ``parse.*`` and ``re.*``: numbers 39000, 33000, 35000."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from martlet.formats.pfa.failure import Failure
from martlet.formats.pfa.library import entry
from martlet.formats.pfa.values import single


def bounds(size: int, start: int, end: int) -> tuple[int, int]:
    """Return a slice's ends as Python cuts them: negative ones count from the end."""
    first, last, _ = slice(start, end).indices(size)
    return first, max(first, last)


entry("s.len", "string -> int")(len)


@entry("s.substr", "string, int, int -> string")
def substr(s: str, start: int, end: int) -> str:
    return s[start:end]


@entry("s.substrto", "string, int, int, string -> string")
def substrto(s: str, start: int, end: int, replacement: str) -> str:
    first, last = bounds(len(s), start, end)
    return s[:first] + replacement + s[last:]


entry("s.contains", "string, string -> boolean")(lambda s, part: part in s)
entry("s.count", "string, string -> int")(lambda s, part: s.count(part) if part else 0)
entry("s.index", "string, string -> int")(lambda s, part: s.find(part))
entry("s.rindex", "string, string -> int")(lambda s, part: s.rfind(part))
entry("s.startswith", "string, string -> boolean")(lambda s, part: s.startswith(part))
entry("s.endswith", "string, string -> boolean")(lambda s, part: s.endswith(part))
entry("s.join", "[string], string -> string")(lambda parts, sep: sep.join(parts))
entry("s.concat", "string, string -> string", template="({0} + {1})")(lambda x, y: x + y)
entry("s.lower", "string -> string")(lambda s: s.lower())
entry("s.upper", "string -> string")(lambda s: s.upper())
entry("s.lstrip", "string, string -> string")(lambda s, chars: s.lstrip(chars))
entry("s.rstrip", "string, string -> string")(lambda s, chars: s.rstrip(chars))
entry("s.strip", "string, string -> string")(lambda s, chars: s.strip(chars))
entry("s.replaceall", "string, string, string -> string")(lambda s, a, b: s.replace(a, b))
entry("s.replacefirst", "string, string, string -> string")(lambda s, a, b: s.replace(a, b, 1))


@entry("s.split", "string, string -> [string]")
def split(s: str, sep: str) -> list[str]:
    return s.split(sep) if sep else list(s)


@entry("s.replacelast", "string, string, string -> string")
def replacelast(s: str, original: str, replacement: str) -> str:
    before, found, after = s.rpartition(original) if original else (s, "", "")
    return before + replacement + after if found else s


@entry("s.repeat", "string, int -> string")
def repeat(s: str, n: int) -> str:
    if len(s) * n > 1 << 26:
        raise Failure(39140, "the text would be too long")
    return s * n


@entry("s.translate", "string, string, string -> string")
def translate(s: str, old: str, new: str) -> str:
    table = {ord(each): (new[i] if i < len(new) else None) for i, each in enumerate(old)}
    return s.translate(table)


def _padded(text: str, negative: bool, width: int, zero: bool, code: int) -> str:
    if zero and width < 0:
        raise Failure(code, "negative width cannot be used with zero-padding")
    sign = "-" if negative else ""
    if zero:
        return sign + text.rjust(width - len(sign), "0")
    return (sign + text).rjust(width) if width >= 0 else (sign + text).ljust(-width)


@entry("s.hex", "long -> string; long, int, boolean -> string")
def hexadecimal(x: int, width: int = 0, zero: bool = False) -> str:
    if x < 0:
        raise Failure(39111, "negative number")
    return _padded(f"{x:x}", False, width, zero, 39110)


@entry("s.int", "long -> string; long, int, boolean -> string")
def integer(x: int, width: int = 0, zero: bool = False) -> str:
    return _padded(str(abs(x)), x < 0, width, zero, 39240)


@entry(
    "s.number",
    "long -> string; long, int, boolean -> string; double, (int|null), (int|null) -> string; "
    "double, (int|null), (int|null), double, double -> string",
)
def number(x: Any, width: Any = 0, third: Any = False, low: float = 1e-4, high: float = 1e5) -> str:
    """Whole numbers as ``s.int``; others with a precision, and an exponent when far from 1."""
    if third is True or third is False:
        return _padded(str(abs(x)), x < 0, width, third, 39120)
    if third is not None and third < 0:
        raise Failure(39121, "negative precision")
    # No sign on a zero.
    x = x + 0.0 if x == 0 else x
    letter = "f" if x == 0 or low <= abs(x) <= high else "e"
    text = f"{x:.{6 if third is None else third}{letter}}"
    if third is None:
        # Zeros at the end go, but for the first after the point.
        text = re.sub(r"(\.\d+?)0+(?=e|\Z)", r"\1", text)
    if width is None:
        return text
    return text.rjust(width) if width >= 0 else text.ljust(-width)


# -- parse -------------------------------------------------------------------------------------


def _parsed(name: str, bits: int, code: int, what: str) -> None:
    @entry(f"parse.{name}", f"string, int -> {name}")
    def parse(text: str, base: int) -> int:
        if not 2 <= base <= 36:
            raise Failure(code + 1, "base out of range")
        plain = text.strip()
        try:
            if "_" in plain or len(plain) > 80:
                raise ValueError
            value = int(plain, base)
        except ValueError:
            raise Failure(code, f"not {what}") from None
        if not -(1 << bits) <= value < 1 << bits:
            raise Failure(code, f"not {what}")
        return value


_parsed("int", 31, 33000, "an integer")
_parsed("long", 63, 33010, "a long integer")


def _real(text: str, code: int, what: str) -> float:
    plain = text.strip()
    try:
        if "_" in plain or plain.lower().lstrip("+-") == "infinity":
            raise ValueError
        return float(plain)
    except ValueError:
        raise Failure(code, f"not a {what} float") from None


entry("parse.float", "string -> float")(lambda s: single(_real(s, 33020, "single-precision")))
entry("parse.double", "string -> double")(lambda s: _real(s, 33030, "double-precision"))


# -- regular expressions -----------------------------------------------------------------------

_TEXT = "string, string -> {0}; bytes, bytes -> {1}"


@lru_cache(maxsize=512)
def _compiled(pattern: Any) -> re.Pattern[Any]:
    # PCRE spells some classes as POSIX does; Python has no names for them.
    classes = {
        "[:alpha:]": "a-zA-Z", "[:digit:]": "0-9", "[:alnum:]": "a-zA-Z0-9", "[:space:]": r"\s",
        "[:upper:]": "A-Z", "[:lower:]": "a-z", "[:punct:]": r"!-/:-@\[-`{-~",
        "[:xdigit:]": "0-9a-fA-F", "[:blank:]": r" \t", "[:cntrl:]": r"\x00-\x1f\x7f",
        "[:graph:]": "!-~", "[:print:]": " -~",
    }  # fmt: skip
    for name, chars in classes.items():
        if isinstance(pattern, bytes):
            pattern = pattern.replace(name.encode(), chars.encode())
        else:
            pattern = pattern.replace(name, chars)
    try:
        return re.compile(pattern)
    except (re.error, RecursionError):
        raise Failure(35000, "invalid regular expression") from None


def _regex(name: str, text: str, octets: str) -> Callable[[Callable[..., Any]], Any]:
    return entry(f"re.{name}", _TEXT.format(text, octets))


def _spans(match: re.Match[Any]) -> list[list[int]]:
    return [list(match.span(i)) for i in range((match.re.groups or 0) + 1)]


@_regex("index", "[int]", "[int]")
def re_index(text: Any, pattern: Any) -> list[int]:
    match = _compiled(pattern).search(text)
    return list(match.span()) if match else []


@_regex("contains", "boolean", "boolean")
def re_contains(text: Any, pattern: Any) -> bool:
    return _compiled(pattern).search(text) is not None


@_regex("count", "int", "int")
def re_count(text: Any, pattern: Any) -> int:
    return sum(1 for _ in _compiled(pattern).finditer(text))


@_regex("rindex", "[int]", "[int]")
def re_rindex(text: Any, pattern: Any) -> list[int]:
    found: list[int] = []
    for match in _compiled(pattern).finditer(text):
        found = list(match.span())
    return found


@_regex("groups", "[[int]]", "[[int]]")
def re_groups(text: Any, pattern: Any) -> list[list[int]]:
    match = _compiled(pattern).search(text)
    return _spans(match) if match else []


@_regex("indexall", "[[int]]", "[[int]]")
def re_indexall(text: Any, pattern: Any) -> list[list[int]]:
    return [list(match.span()) for match in _compiled(pattern).finditer(text)]


@_regex("findall", "[string]", "[bytes]")
def re_findall(text: Any, pattern: Any) -> list[Any]:
    return [match.group() for match in _compiled(pattern).finditer(text)]


@_regex("findfirst", "(string|null)", "(bytes|null)")
def re_findfirst(text: Any, pattern: Any) -> Any:
    match = _compiled(pattern).search(text)
    return match.group() if match else None


@_regex("findgroupsfirst", "[string]", "[bytes]")
def re_findgroupsfirst(text: Any, pattern: Any) -> list[Any]:
    match = _compiled(pattern).search(text)
    return [match.group(), *match.groups()] if match else []


@_regex("findgroupsall", "[[string]]", "[[bytes]]")
def re_findgroupsall(text: Any, pattern: Any) -> list[list[Any]]:
    return [[m.group(), *m.groups()] for m in _compiled(pattern).finditer(text)]


@_regex("groupsall", "[[[int]]]", "[[[int]]]")
def re_groupsall(text: Any, pattern: Any) -> list[list[list[int]]]:
    return [_spans(match) for match in _compiled(pattern).finditer(text)]


@entry("re.split", _TEXT.format("[string]", "[bytes]"))
def re_split(text: Any, pattern: Any) -> list[Any]:
    pieces: list[Any] = []
    at = 0
    for match in _compiled(pattern).finditer(text):
        pieces.append(text[at : match.start()])
        at = match.end()
    pieces.append(text[at:])
    # What a match leaves empty at either end is no piece.
    while pieces and not pieces[-1]:
        pieces.pop()
    return pieces[1:] if pieces and not pieces[0] else pieces


_REPLACE = "string, string, string -> string; bytes, bytes, bytes -> bytes"


@entry("re.replacefirst", _REPLACE)
def re_replacefirst(text: Any, pattern: Any, replacement: Any) -> Any:
    return _compiled(pattern).sub(lambda _: replacement, text, count=1)


@entry("re.replaceall", _REPLACE)
def re_replaceall(text: Any, pattern: Any, replacement: Any) -> Any:
    return _compiled(pattern).sub(lambda _: replacement, text)


@entry("re.replacelast", _REPLACE)
def re_replacelast(text: Any, pattern: Any, replacement: Any) -> Any:
    last = None
    for match in _compiled(pattern).finditer(text):
        last = match
    return text if last is None else text[: last.start()] + replacement + text[last.end() :]
