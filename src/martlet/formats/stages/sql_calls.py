"""Casts, and the functions whose later arguments are literals: patterns of text and of times."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from martlet.formats.stages import sql_text, sql_time
from martlet.formats.stages.patterns import regex
from martlet.formats.stages.sql_expressions import Columns, Expression, called, refused
from martlet.formats.stages.sql_functions import (
    NUMBERS,
    WHOLE,
    Type,
    rows_of,
    to_decimal,
    to_number,
    to_single,
    to_whole,
    truth_of,
)
from martlet.formats.stages.stage import Kind

TYPES = frozenset((
    *WHOLE, "double", "float", "real", "boolean", "string", "date", "timestamp", "decimal",
))  # fmt: skip
"""The types whose names cast as functions too."""
_TEXTS, _DECIMALS = ("string", "varchar", "char"), ("decimal", "numeric", "dec")


def cast(
    where: str, columns: Columns, inner: Expression, kind: str, precision: Sequence[int]
) -> Expression:
    """
    Return *inner* as a value of the SQL type *kind*.

    Raises:
        UnsupportedModel: there is no such type here.
    """
    if precision and kind not in (*_TEXTS, *_DECIMALS):
        raise refused(where, f"a cast to {kind} of a precision")
    if kind in _TEXTS:
        columns.ask(inner, Kind.CATEGORY)
        return columns.brought(inner, Type.TEXT)
    if kind in ("date", "timestamp"):
        if inner.type in NUMBERS:
            raise refused(where, f"a cast of a number to {kind}")
        return columns.brought(inner, Type.DATE if kind == "date" else Type.TIME)
    given = [columns.brought(inner, Type.NUMBER)]
    if kind == "double":
        return called(to_number, given, Type.NUMBER)
    if kind in ("float", "real"):
        return called(to_single, given, Type.NUMBER)
    if kind in WHOLE:
        return called(lambda v: to_whole(v, WHOLE[kind]), given, Type.WHOLE)
    if kind == "boolean":
        return called(truth_of, given, Type.TRUTH)
    if kind in _DECIMALS:
        digits, scale = [*precision, *(10, 0)[len(precision) :]][:2]
        gives = Type.WHOLE if scale == 0 else Type.NUMBER
        return called(lambda v: to_decimal(v, digits, scale), given, gives)
    raise refused(where, f"a cast to {kind}")


# What takes a pattern that must be known when the model loads, and its arguments at least.
_BY_PATTERN = {
    "regexp": 2, "rlike": 2, "regexp_like": 2, "regexp_replace": 3, "regexp_extract": 2,
    "split": 2, "date_format": 2, "from_unixtime": 1, "to_date": 2, "to_timestamp": 2,
    "unix_timestamp": 2, "to_unix_timestamp": 2,
}  # fmt: skip


def by_pattern(
    where: str, columns: Columns, name: str, arguments: Sequence[Expression]
) -> Expression | None:
    """
    Return the call of a function whose later arguments are literals, None for others.

    Raises:
        UnsupportedModel: they are none, or not what the function takes.
    """
    if name not in _BY_PATTERN or len(arguments) < _BY_PATTERN[name]:
        return None
    first, *rest = arguments
    literals: list[Any] = [each.literal for each in rest]
    if any(each is None for each in literals):
        raise refused(where, f"{name} by anything but a literal")
    try:
        if name.startswith(("regexp", "rlike", "split")):
            return _searched(where, columns, name, first, literals)
        return _timed(where, columns, name, first, literals)
    except (ValueError, TypeError) as exc:
        raise refused(where, f"{name} as it stands ({exc})") from None


def _searched(
    where: str, columns: Columns, name: str, first: Expression, literals: Sequence[Any]
) -> Expression:
    pattern, *rest = literals
    if name == "regexp_replace":
        replace = sql_text.replaced(regex(where, pattern), rest[0])
        return columns.textual(replace, Type.TEXT, first)
    if name == "regexp_extract":
        take = sql_text.extracted(regex(where, pattern), int(rest[0]) if rest else 1)
        return columns.textual(take, Type.TEXT, first)
    if name == "split":
        split = sql_text.split(regex(where, pattern), int(rest[0]) if rest else -1)
        return columns.textual(split, Type.WORDS, first)
    return columns.matched(first, pattern)


def _timed(
    where: str, columns: Columns, name: str, first: Expression, literals: Sequence[Any]
) -> Expression:
    form = sql_time.pattern(literals[0] if literals else "yyyy-MM-dd HH:mm:ss", where)
    if name in ("date_format", "from_unixtime"):
        seconds = name == "from_unixtime"
        inner = columns.brought(first, Type.NUMBER if seconds else Type.TIME)
        write, unit = sql_time.written_by(form), 1e6 if seconds else 1.0
        return called(rows_of(lambda v: write(np.floor(v) * unit)), [inner], Type.TEXT)
    read = sql_time.read_by(form)
    if name == "to_date":
        return columns.textual(lambda s: np.floor(read(s) / sql_time.DAY), Type.DATE, first)
    if name == "to_timestamp":
        return columns.textual(read, Type.TIME, first)
    return columns.textual(lambda s: np.floor(read(s) / 1e6), Type.WHOLE, first)
