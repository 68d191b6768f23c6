"""What SQL's operators and functions do to values: numbers, truth and text, with NULL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import numpy as np

from martlet.formats.stages import sql_time
from martlet.formats.stages.categories import number_text

Value = Any
"""Numbers, truth, dates and times (float64, NaN is NULL), or text and words (object, None is
NULL); of one row or of all."""


class Type(Enum):
    """
    What an expression gives.

    A raw column is ``OPEN``: the caller's rows say. A number made of one is ``EITHER``, a double
    or whole, which only Spark's schema knows: it cannot be written as text.
    """

    NUMBER = "double"
    WHOLE = "whole number"
    EITHER = "double or whole number"
    TRUTH = "truth"
    DATE = "date"
    TIME = "time"
    TEXT = "text"
    WORDS = "words"
    OPEN = "number or text"


NUMBERS = frozenset((Type.NUMBER, Type.WHOLE, Type.EITHER, Type.TRUTH))


def _is_text(value: Value) -> bool:
    return isinstance(value, str) or (isinstance(value, np.ndarray) and value.dtype == object)


def by_value(value: Value, function: Callable[[Any], Any], dtype: Any = np.float64) -> Value:
    if isinstance(value, np.ndarray):
        out = np.empty(len(value), dtype=dtype)
        out[:] = [function(each) for each in value.tolist()]
        return out
    return function(value)


def is_null(value: Value) -> Value:
    if _is_text(value):
        return by_value(value, lambda v: float(v is None or v != v))
    return np.asarray(np.isnan(value), dtype=np.float64)


def _null(*values: Value) -> Value:
    """Return whether one of the numbers is NULL, row by row."""
    out: Any = False
    for each in values:
        out = out | (np.equal(is_null(each), 1.0))
    return out


def _compared(function: Callable[[Any, Any], Any]) -> Callable[[Value, Value], Value]:
    def compare(a: Value, b: Value) -> Value:
        if _is_text(a) != _is_text(b):
            a, b = to_number(a), to_number(b)
        if _is_text(a):
            null = _null(a, b)
            a = np.where(_null(a), "", a) if isinstance(a, np.ndarray) else a
            b = np.where(_null(b), "", b) if isinstance(b, np.ndarray) else b
            return np.where(null, np.nan, np.asarray(function(a, b), dtype=np.float64))
        return np.where(_null(a, b), np.nan, np.asarray(function(a, b), dtype=np.float64))

    return compare


def _same(a: Value, b: Value) -> Value:
    equal = COMPARE["="](a, b)
    return np.where(np.isnan(equal), is_null(a) * is_null(b), equal)


def both_true(a: Value, b: Value) -> Value:
    # False wins over NULL.
    return np.where((a == 0) | (b == 0), 0.0, np.where(_null(a, b), np.nan, 1.0))


def one_true(a: Value, b: Value) -> Value:
    return np.where(_truthy(a) | _truthy(b), 1.0, np.where(_null(a, b), np.nan, 0.0))


def _truthy(a: Value) -> Value:
    return np.asarray((a != 0) & ~np.isnan(a))


def not_true(a: Value) -> Value:
    return np.where(np.isnan(a), np.nan, np.asarray(a == 0, dtype=np.float64))


def truth_of(a: Value) -> Value:
    return np.where(np.isnan(a), np.nan, np.asarray(a != 0, dtype=np.float64))


COMPARE: dict[str, Callable[[Value, Value], Value]] = {
    "=": _compared(np.equal),
    "==": _compared(np.equal),
    "!=": _compared(np.not_equal),
    "<>": _compared(np.not_equal),
    "<": _compared(np.less),
    "<=": _compared(np.less_equal),
    ">": _compared(np.greater),
    ">=": _compared(np.greater_equal),
}
COMPARE["<=>"] = _same


def _divide(a: Value, b: Value) -> Value:
    # Spark gives NULL for a division by zero.
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return np.where(b == 0, np.nan, a / np.where(b == 0, 1.0, b))


def remainder(a: Value, b: Value) -> Value:
    return np.where(np.equal(b, 0), np.nan, np.fmod(a, np.where(np.equal(b, 0), 1.0, b)))


ARITHMETIC: Mapping[str, Callable[[Value, Value], Value]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": _divide,
    "%": remainder,
    "div": lambda a, b: np.trunc(_divide(a, b)),
}


def to_number(value: Value) -> Value:
    def parsed(text: Any) -> float:
        try:
            return float(text)
        except (TypeError, ValueError):
            return float("nan")

    return by_value(value, parsed) if _is_text(value) else value


def to_single(value: Value) -> Value:
    """Return numbers rounded to float32."""
    with np.errstate(over="ignore"):
        return np.asarray(np.asarray(to_number(value), np.float32), np.float64)


WHOLE: Mapping[str, int] = {
    "tinyint": 8, "byte": 8, "smallint": 16, "short": 16, "int": 32, "integer": 32,
    "bigint": 64, "long": 64,
}  # fmt: skip
"""The types of whole numbers, and their bits."""


def to_whole(value: Value, bits: int) -> Value:
    """Return numbers without fractions, as Java casts them: to the nearest int or long."""
    wide = 64 if bits == 64 else 32
    most = 2.0 ** (wide - 1)
    held = np.clip(np.trunc(np.asarray(to_number(value))), -most, most - (wide == 32))
    if bits == wide:
        return np.asarray(held)
    # A short or a byte keeps the last bits of the int.
    half = 2.0 ** (bits - 1)
    return np.asarray((held + half) % (2 * half) - half)


_WRITERS: Mapping[Type, Callable[[float], str]] = {
    Type.WHOLE: lambda v: str(int(v)) if abs(v) < np.inf else number_text(v),
    Type.TRUTH: lambda v: "true" if v else "false",
    Type.DATE: sql_time.date_text,
    Type.TIME: sql_time.time_text,
}


def to_text(value: Value, kind: Type = Type.NUMBER) -> Value:
    """Return *value*, which is of *kind*, as Spark writes it."""
    write = _WRITERS.get(kind, number_text)

    def spelled(each: Any) -> Any:
        if each is None or isinstance(each, str):
            return each
        return None if each != each else write(each)

    return by_value(value, spelled, object)


def to_date(value: Value, kind: Type) -> Value:
    """Return *value*, which is of *kind*, as days."""
    if kind is Type.TIME:
        return np.floor(value / sql_time.DAY)
    return value if kind is Type.DATE else by_value(value, sql_time.to_date)


def to_time(value: Value, kind: Type) -> Value:
    """Return *value*, which is of *kind*, as microseconds."""
    if kind is Type.DATE:
        return value * sql_time.DAY
    return value if kind is Type.TIME else by_value(value, sql_time.to_time)


def to_decimal(value: Value, precision: int, scale: int) -> Value:
    """Return numbers rounded half away from zero to *scale* digits; NULL past *precision*."""
    found = quiet(rounded)(to_number(value), float(scale))
    return np.where(np.abs(found) < 10.0 ** (precision - scale), found, np.nan)


def rows_of(
    function: Callable[..., Any], dtype: Any = object, *, nulls: bool = False
) -> Callable[..., Value]:
    """
    Return what calls *function* row by row.

    Args:
        nulls: It takes NULL too; otherwise one makes the answer NULL.
    """
    nothing = None if dtype is object else np.nan

    def one(*row: Any) -> Any:
        if not nulls and any(part is None or part != part for part in row):
            return nothing
        return function(*row)

    def run(*values: Value) -> Value:
        sizes = [len(v) for v in values if isinstance(v, np.ndarray) and v.ndim]
        if not sizes:
            return one(*(v.item() if isinstance(v, np.ndarray) else v for v in values))
        columns = [
            v.tolist() if isinstance(v, np.ndarray) and v.ndim else [v] * sizes[0] for v in values
        ]
        out = np.empty(sizes[0], dtype=dtype)
        for i, row in enumerate(zip(*columns, strict=True)):
            out[i] = one(*row)
        return out

    return run


def joined(sign: Any, *parts: Any) -> Any:
    """Return text and words joined by *sign*, without those that are NULL."""
    if sign is None:
        return None
    flat: list[str] = []
    for part in parts:
        flat.extend(part if isinstance(part, list) else [] if part is None else [part])
    return sign.join(word for word in flat if word is not None)


concat = rows_of(lambda *parts: "".join(parts))


def coalesce(*values: Value) -> Value:
    found = values[-1]
    for each in reversed(values[:-1]):
        found = np.where(np.equal(is_null(each), 1.0), found, each)
    return found


def nullif(a: Value, b: Value) -> Value:
    nothing = None if _is_text(a) else np.nan
    return np.where(np.equal(COMPARE["="](a, b), 1.0), nothing, a)


def logarithm(*values: Value) -> Value:
    base, x = (np.e, values[0]) if len(values) == 1 else (values[0], values[1])
    x = np.asarray(x, dtype=np.float64)
    positive = np.where(x > 0, x, 1.0)
    return np.where(x > 0, np.log(positive) / (1.0 if base is np.e else np.log(base)), np.nan)


def rounded(x: Value, digits: Value = 0.0) -> Value:
    # Half away from zero, as Spark rounds.
    scale = np.power(10.0, digits)
    scaled = np.abs(x) * scale
    return np.copysign(np.floor(scaled + 0.5) / scale, x)


def extreme(choose: Callable[[Any, Any], Any]) -> Callable[..., Value]:
    def find(*values: Value) -> Value:
        found = values[0]
        for each in values[1:]:
            found = choose(found, each)
        return found

    return find


def quiet(function: Callable[..., Any]) -> Callable[..., Value]:
    def run(*values: Value) -> Value:
        with np.errstate(all="ignore"):
            return function(*(np.asarray(v, dtype=np.float64) for v in values))

    return run
