"""PMML's built-in functions of text and of moments.

Each is a function of plain values. A column computes it once for every distinct combination of
its arguments. Source: PMML 4.4.1, Built-in functions.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache

from martlet.formats.pmml.values import (
    DATETIME,
    INTEGER,
    STRING,
    DataType,
    Kind,
    Value,
    days_before,
)

# What Java's and XQuery's regular expressions have under \p{...}, as Python's re writes it.
_CLASSES = {
    "Lower": "a-z",
    "Upper": "A-Z",
    "Alpha": "a-zA-Z",
    "Digit": "0-9",
    "Alnum": "a-zA-Z0-9",
    "Punct": r"!-/:-@\[-`{-~",
    "Space": r"\s",
    "Blank": r" \t",
    "L": r"^\W\d_",
    "Lu": "A-ZÀ-ÖØ-Þ",
    "Ll": "a-zß-öø-ÿ",
    "N": r"\d",
    "Nd": r"\d",
    "P": r"!-#%-*,-/:;?@\[-\]_{}¡§«¶·»¿\u2010-\u2027",
    "IsPunctuation": r"!-#%-*,-/:;?@\[-\]_{}¡§«¶·»¿\u2010-\u2027",
    "IsAlphabetic": r"^\W\d_",
    "IsDigit": r"\d",
    "Z": r"\s",
}
_CLASS = re.compile(r"\\([pP])(?:\{(\w+)\}|(\w))")
_GROUP = re.compile(r"\\(.)|\$(\d+)|\$\{(\w+)\}|(\\)", re.DOTALL)


@cache
def pattern(regex: str, flags: int = 0) -> re.Pattern[str]:
    """
    Return *regex*, written for Java or XQuery, compiled.

    Raises:
        ValueError: it is none that Python's ``re`` can run.
    """
    depth = 0
    pieces: list[str] = []
    at = 0
    while at < len(regex):
        found = _CLASS.match(regex, at)
        if found is not None:
            pieces.append(_class(found, inside=depth > 0))
            at = found.end()
            continue
        character = regex[at]
        if character == "\\":
            pieces.append(regex[at : at + 2])
            at += 2
            continue
        depth += (character == "[") - (character == "]" and depth > 0)
        pieces.append(character)
        at += 1
    try:
        return re.compile("".join(pieces), flags)
    except re.error as exc:
        raise ValueError(f"{regex!r} is not a regular expression: {exc}") from None


def _class(found: re.Match[str], inside: bool) -> str:
    name = found[2] or found[3]
    members = _CLASSES.get(name)
    if members is None or (inside and (found[1] == "P" or members.startswith("^"))):
        raise ValueError(f"{found[0]!r} is not a supported character class")
    if inside:
        return members
    if found[1] == "P":
        return f"[{members[1:]}]" if members.startswith("^") else f"[^{members}]"
    return f"[{members}]"


def template(replacement: str) -> str:
    """Return a replacement written with Java's ``$1`` as Python's ``\\g<1>``."""

    def one(found: re.Match[str]) -> str:
        if found[1] is not None:
            return "\\\\" if found[1] == "\\" else found[1]
        if found[4] is not None:
            return "\\\\"
        return rf"\g<{found[2] or found[3]}>"

    return _GROUP.sub(one, replacement)


def substring(text: str, start: int, length: int) -> str:
    """Return *length* characters of *text* from the *start*-th (the first is 1)."""
    if start < 1 or length < 0:
        raise ValueError(f"substring starts at {start} with length {length}")
    return text[start - 1 : start - 1 + length]


def replace(text: str, regex: str, replacement: str) -> str:
    """Return *text* with every match of *regex* replaced."""
    return pattern(regex).sub(template(replacement), text)


def matches(text: str, regex: str) -> bool:
    """Return whether *regex* matches somewhere in *text*."""
    return pattern(regex).search(text) is not None


def format_number(number: Value, form: str) -> str:
    """Return *number* written as printf's *form* says."""
    if re.search(r"%[-+ 0#,]*\d*d", form):
        number = int(number)
    grouped = re.sub(r"%([-+ 0#]*),([-+ 0#]*\d*(?:\.\d+)?)([dfs])", r"%\1\2\3", form)
    try:
        return grouped % (number,)
    except (TypeError, ValueError) as exc:
        raise ValueError(f"{form!r} cannot format {number!r}: {exc}") from None


def format_datetime(seconds: int, form: str) -> str:
    """Return the moment *seconds* after 1970 as strftime's *form* says."""
    return (datetime(1970, 1, 1) + timedelta(seconds=seconds)).strftime(form)


def days_since(seconds: int, year: int) -> int:
    """Return the days from the first of January of *year* to the moment."""
    return seconds // 86400 - days_before(year)


def seconds_since(seconds: int, year: int) -> int:
    """Return the seconds from the first of January of *year* to the moment."""
    return seconds - 86400 * days_before(year)


def seconds_of_day(seconds: int) -> int:
    """Return the seconds from midnight to the moment."""
    return seconds % 86400


@dataclass(frozen=True, slots=True)
class Pointwise:
    """
    A function of plain values; a row that lacks an argument has no answer.

    Args:
        arguments: Their types; the last one repeats where *arity* allows more.
        result: The type of its value.
        scalar: Raises ValueError where it has none.
    """

    arguments: Sequence[DataType]
    result: DataType
    scalar: Callable[..., Value]


_BOOLEAN = DataType("boolean", Kind.BOOLEAN)

POINTWISE: dict[str, Pointwise] = {
    "uppercase": Pointwise((STRING,), STRING, str.upper),
    "lowercase": Pointwise((STRING,), STRING, str.lower),
    "stringLength": Pointwise((STRING,), INTEGER, len),
    "trimBlanks": Pointwise((STRING,), STRING, str.strip),
    "substring": Pointwise((STRING, INTEGER, INTEGER), STRING, substring),
    "replace": Pointwise((STRING, STRING, STRING), STRING, replace),
    "matches": Pointwise((STRING, STRING), _BOOLEAN, matches),
    "formatNumber": Pointwise((DataType("double", Kind.DOUBLE), STRING), STRING, format_number),
    "formatDatetime": Pointwise((DATETIME, STRING), STRING, format_datetime),
    "dateDaysSinceYear": Pointwise((DATETIME, INTEGER), INTEGER, days_since),
    "dateSecondsSinceYear": Pointwise((DATETIME, INTEGER), INTEGER, seconds_since),
    "dateSecondsSinceMidnight": Pointwise((DATETIME,), INTEGER, seconds_of_day),
}
