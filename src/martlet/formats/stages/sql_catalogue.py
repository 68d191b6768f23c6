"""SQL's functions by name: what they take, what they give, and what computes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from martlet.formats.stages import sql_text, sql_time
from martlet.formats.stages.sql_functions import (
    Type,
    Value,
    coalesce,
    concat,
    extreme,
    is_null,
    joined,
    logarithm,
    nullif,
    quiet,
    remainder,
    rounded,
    rows_of,
)


@dataclass(frozen=True, slots=True)
class Function:
    """
    A function of SQL.

    Args:
        run: Computes it, of values of the types that it *takes*.
        takes: The type of each argument, the last of them of all that follow; None: as they are,
            brought to one type.
        least, most: How many arguments it takes.
        gives: The type of what it gives; None: as its arguments are.
    """

    run: Callable[..., Value]
    takes: tuple[Type | None, ...]
    least: int
    most: int
    gives: Type | None


_N, _W, _B, _T, _L = Type.NUMBER, Type.WHOLE, Type.TRUTH, Type.TEXT, Type.WORDS
_DATE, _TIME = Type.DATE, Type.TIME


def _numeric(
    run: Callable[..., Any], least: int = 1, most: int = 1, gives: Type | None = _N
) -> Function:
    return Function(quiet(run), (_N,), least, most, gives)


def _textual(
    run: Callable[..., Any], *takes: Type, least: int = 0, gives: Type = _T, many: int = 0
) -> Function:
    dtype = object if gives in (_T, _L) else np.float64
    takes = takes or (_T,)
    return Function(rows_of(run, dtype), takes, least or len(takes), many or len(takes), gives)


def _truth(test: Callable[..., bool]) -> Callable[..., float]:
    return lambda *values: float(test(*values))


_OF_ONE: Mapping[str, Callable[..., Any]] = {
    "exp": np.exp, "expm1": np.expm1, "sqrt": np.sqrt, "cbrt": np.cbrt,
    "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos,
    "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh,
    "rint": np.rint, "sign": np.sign, "signum": np.sign,
    "degrees": np.degrees, "radians": np.radians,
    "ln": logarithm, "log10": lambda x: logarithm(10.0, x),
    "log2": lambda x: logarithm(2.0, x),
    "log1p": lambda x: np.where(x > -1, np.log1p(np.maximum(x, -1)), np.nan),
}  # fmt: skip
FUNCTIONS: Mapping[str, Function] = {
    **{name: _numeric(function) for name, function in _OF_ONE.items()},
    **{
        name: _numeric(function, gives=_W)
        for name, function in {"floor": np.floor, "ceil": np.ceil, "ceiling": np.ceil}.items()
    },
    **{
        name: _numeric(function, gives=None)
        for name, function in {
            "abs": np.abs, "negative": np.negative, "positive": np.positive,
        }.items()
    },
    "log": _numeric(logarithm, 1, 2),
    "pow": _numeric(np.power, 2, 2),
    "power": _numeric(np.power, 2, 2),
    "atan2": _numeric(np.arctan2, 2, 2),
    "hypot": _numeric(np.hypot, 2, 2),
    "pi": Function(lambda: np.pi, (), 0, 0, _N),
    "e": Function(lambda: np.e, (), 0, 0, _N),
    "round": _numeric(rounded, 1, 2, None),
    "mod": _numeric(remainder, 2, 2, None),
    "pmod": _numeric(lambda a, b: np.where(b == 0, np.nan, np.mod(a, b)), 2, 2, None),
    "greatest": _numeric(extreme(np.fmax), 2, 64, None),
    "least": _numeric(extreme(np.fmin), 2, 64, None),
    "coalesce": Function(coalesce, (None,), 1, 64, None),
    "ifnull": Function(coalesce, (None,), 2, 2, None),
    "nvl": Function(coalesce, (None,), 2, 2, None),
    "nullif": Function(nullif, (None,), 2, 2, None),
    "isnull": Function(is_null, (None,), 1, 1, _B),
    "isnotnull": Function(lambda v: 1.0 - is_null(v), (None,), 1, 1, _B),
    "isnan": Function(is_null, (_N,), 1, 1, _B),
    "nanvl": _numeric(coalesce, 2, 2),
    "lower": _textual(str.lower),
    "lcase": _textual(str.lower),
    "upper": _textual(str.upper),
    "ucase": _textual(str.upper),
    "trim": _textual(lambda s: s.strip(" ")),
    "btrim": _textual(lambda s: s.strip(" ")),
    "ltrim": _textual(lambda s: s.lstrip(" ")),
    "rtrim": _textual(lambda s: s.rstrip(" ")),
    "initcap": _textual(sql_text.initcap),
    "reverse": _textual(lambda s: s[::-1]),
    "repeat": _textual(lambda s, n: s * min(int(n), 1 << 16), _T, _N),
    "left": _textual(sql_text.left, _T, _N),
    "right": _textual(sql_text.right, _T, _N),
    "substring": _textual(sql_text.substring, _T, _N, _N, least=2),
    "substr": _textual(sql_text.substring, _T, _N, _N, least=2),
    "substring_index": _textual(sql_text.substring_index, _T, _T, _N),
    "lpad": _textual(lambda s, n, f=" ": sql_text.padded(s, min(n, 1 << 16), f, True),
                     _T, _N, _T, least=2),
    "rpad": _textual(lambda s, n, f=" ": sql_text.padded(s, min(n, 1 << 16), f, False),
                     _T, _N, _T, least=2),
    "replace": _textual(lambda s, a, b="": s.replace(a, b) if a else s, _T, _T, _T, least=2),
    "translate": _textual(sql_text.translate, _T, _T, _T),
    "length": _textual(lambda s: float(len(s)), gives=_W),
    "len": _textual(lambda s: float(len(s)), gives=_W),
    "char_length": _textual(lambda s: float(len(s)), gives=_W),
    "character_length": _textual(lambda s: float(len(s)), gives=_W),
    "ascii": _textual(lambda s: float(ord(s[0])) if s else 0.0, gives=_W),
    "instr": _textual(lambda s, part: sql_text.locate(part, s), _T, _T, gives=_W),
    "locate": _textual(sql_text.locate, _T, _T, _N, least=2, gives=_W),
    "startswith": _textual(_truth(str.startswith), _T, _T, gives=_B),
    "endswith": _textual(_truth(str.endswith), _T, _T, gives=_B),
    "contains": _textual(_truth(lambda s, part: part in s), _T, _T, gives=_B),
    "concat": Function(concat, (_T,), 1, 64, _T),
    "concat_ws": Function(rows_of(joined, nulls=True), (_T, None), 1, 64, _T),
    "array_join": Function(rows_of(lambda words, sign: joined(sign, words)), (_L, _T), 2, 2, _T),
    "size": Function(rows_of(lambda w: float(len(w)), np.float64), (_L,), 1, 1, _W),
    "cardinality": Function(rows_of(lambda w: float(len(w)), np.float64), (_L,), 1, 1, _W),
    "array_contains": Function(
        rows_of(_truth(lambda words, word: word in words), np.float64), (_L, _T), 2, 2, _B
    ),
    "array_distinct": Function(rows_of(lambda words: list(dict.fromkeys(words))), (_L,), 1, 1, _L),
    "element_at": Function(rows_of(sql_text.element_from_one), (_L, _N), 2, 2, _T),
    **{name: Function(part, (_TIME,), 1, 1, _W) for name, part in sql_time.PARTS.items()},
    "to_date": Function(lambda v: v, (_DATE,), 1, 1, _DATE),
    "date": Function(lambda v: v, (_DATE,), 1, 1, _DATE),
    "to_timestamp": Function(lambda v: v, (_TIME,), 1, 1, _TIME),
    "timestamp": Function(lambda v: v, (_TIME,), 1, 1, _TIME),
    "unix_timestamp": Function(lambda v: np.floor(v / 1e6), (_TIME,), 1, 1, _W),
    "to_unix_timestamp": Function(lambda v: np.floor(v / 1e6), (_TIME,), 1, 1, _W),
    "datediff": Function(lambda a, b: a - b, (_DATE,), 2, 2, _W),
    "date_add": Function(lambda a, n: a + n, (_DATE, _N), 2, 2, _DATE),
    "date_sub": Function(lambda a, n: a - n, (_DATE, _N), 2, 2, _DATE),
}  # fmt: skip
