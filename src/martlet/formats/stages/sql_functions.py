"""What SQL's operators and functions do to values: numbers, truth and text, with NULL."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from martlet.formats.stages.categories import number_text

Value = Any
"""Numbers or truth (float64, NaN is NULL), or text (object, None is NULL); one row long or all."""


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
        return by_value(value, lambda v: float(v is None))
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


def _remainder(a: Value, b: Value) -> Value:
    return np.where(np.equal(b, 0), np.nan, np.fmod(a, np.where(np.equal(b, 0), 1.0, b)))


ARITHMETIC: Mapping[str, Callable[[Value, Value], Value]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": _divide,
    "%": _remainder,
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


def to_text(value: Value) -> Value:
    def spelled(each: Any) -> Any:
        if each is None or isinstance(each, str):
            return each
        return None if each != each else number_text(each)

    return by_value(value, spelled, object)


def concat(*values: Value) -> Value:
    texts = [to_text(each) for each in values]
    rows = max((len(t) for t in texts if isinstance(t, np.ndarray)), default=-1)
    if rows < 0:
        return None if any(t is None for t in texts) else "".join(texts)
    columns = [t.tolist() if isinstance(t, np.ndarray) else [t] * rows for t in texts]
    out = np.empty(rows, dtype=object)
    out[:] = [
        None if any(part is None for part in row) else "".join(row)
        for row in zip(*columns, strict=True)
    ]
    return out


def _coalesce(*values: Value) -> Value:
    found = values[-1]
    for each in reversed(values[:-1]):
        found = np.where(np.equal(is_null(each), 1.0), found, each)
    return found


def _nullif(a: Value, b: Value) -> Value:
    nothing = None if _is_text(a) else np.nan
    return np.where(np.equal(COMPARE["="](a, b), 1.0), nothing, a)


def _log(*values: Value) -> Value:
    base, x = (np.e, values[0]) if len(values) == 1 else (values[0], values[1])
    x = np.asarray(x, dtype=np.float64)
    positive = np.where(x > 0, x, 1.0)
    return np.where(x > 0, np.log(positive) / (1.0 if base is np.e else np.log(base)), np.nan)


def _round(x: Value, digits: Value = 0.0) -> Value:
    # Half away from zero, as Spark rounds.
    scale = np.power(10.0, digits)
    scaled = np.abs(x) * scale
    return np.copysign(np.floor(scaled + 0.5) / scale, x)


def _extreme(choose: Callable[[Any, Any], Any]) -> Callable[..., Value]:
    def find(*values: Value) -> Value:
        found = values[0]
        for each in values[1:]:
            found = choose(found, each)
        return found

    return find


def _text(function: Callable[[str], Any], dtype: Any = object) -> Callable[[Value], Value]:
    nothing = None if dtype is object else float("nan")
    return lambda value: by_value(value, lambda s: nothing if s is None else function(s), dtype)


def _substring(value: Value, start: Value, length: Value = np.inf) -> Value:
    # Positions count from 1; 0 reads as 1; negative ones count from the end.
    at, size = int(start), length

    def cut(text: str) -> str:
        begin = at - 1 if at > 0 else (0 if at == 0 else len(text) + at)
        end = len(text) if size == np.inf else begin + int(size)
        return text[max(0, begin) : max(0, end)]

    return _text(cut)(value)


def _quiet(function: Callable[..., Any]) -> Callable[..., Value]:
    def run(*values: Value) -> Value:
        with np.errstate(all="ignore"):
            return function(*(np.asarray(v, dtype=np.float64) for v in values))

    return run


# name: what computes it, least and most arguments, whether it takes text, whether it gives text
# (None: as its arguments are).
FUNCTIONS: Mapping[str, tuple[Callable[..., Value], int, int, bool, bool | None]] = {
    **{
        name: (_quiet(function), 1, 1, False, False)
        for name, function in {
            "abs": np.abs, "exp": np.exp, "expm1": np.expm1, "sqrt": np.sqrt, "cbrt": np.cbrt,
            "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos,
            "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh,
            "floor": np.floor, "ceil": np.ceil, "ceiling": np.ceil, "rint": np.rint,
            "sign": np.sign, "signum": np.sign, "degrees": np.degrees, "radians": np.radians,
            "negative": np.negative, "positive": np.positive,
        }.items()
    },
    "log": (_log, 1, 2, False, False),
    "ln": (_log, 1, 1, False, False),
    "log10": (lambda x: _log(10.0, x), 1, 1, False, False),
    "log2": (lambda x: _log(2.0, x), 1, 1, False, False),
    "log1p": (_quiet(lambda x: np.where(x > -1, np.log1p(np.maximum(x, -1)), np.nan)), 1, 1,
              False, False),
    "pow": (_quiet(np.power), 2, 2, False, False),
    "power": (_quiet(np.power), 2, 2, False, False),
    "atan2": (_quiet(np.arctan2), 2, 2, False, False),
    "hypot": (_quiet(np.hypot), 2, 2, False, False),
    "round": (_quiet(_round), 1, 2, False, False),
    "mod": (_remainder, 2, 2, False, False),
    "pmod": (_quiet(lambda a, b: np.mod(a, b)), 2, 2, False, False),
    "greatest": (_extreme(np.fmax), 2, 64, False, False),
    "least": (_extreme(np.fmin), 2, 64, False, False),
    "coalesce": (_coalesce, 1, 64, False, None),
    "ifnull": (_coalesce, 2, 2, False, None),
    "nvl": (_coalesce, 2, 2, False, None),
    "nullif": (_nullif, 2, 2, False, None),
    "isnull": (is_null, 1, 1, False, False),
    "isnotnull": (lambda v: 1.0 - is_null(v), 1, 1, False, False),
    "isnan": (is_null, 1, 1, False, False),
    "lower": (_text(str.lower), 1, 1, True, True),
    "lcase": (_text(str.lower), 1, 1, True, True),
    "upper": (_text(str.upper), 1, 1, True, True),
    "ucase": (_text(str.upper), 1, 1, True, True),
    "trim": (_text(lambda s: s.strip(" ")), 1, 1, True, True),
    "ltrim": (_text(lambda s: s.lstrip(" ")), 1, 1, True, True),
    "rtrim": (_text(lambda s: s.rstrip(" ")), 1, 1, True, True),
    "length": (_text(lambda s: float(len(s)), np.float64), 1, 1, True, False),
    "char_length": (_text(lambda s: float(len(s)), np.float64), 1, 1, True, False),
    "substring": (_substring, 2, 3, True, True),
    "substr": (_substring, 2, 3, True, True),
    "concat": (concat, 1, 64, False, True),
}  # fmt: skip
