"""PMML's built-in functions of numbers: each for columns and for one value.

Source: PMML 4.4.1, Built-in functions. Where it is silent on types, as JPMML-Evaluator has it:
two integers give an integer (1 / 3 is 0), one float makes a float, one double a double; roots,
logarithms and the like are doubles.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import NormalDist, median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.formats.pmml.frame import RowError
from martlet.formats.pmml.values import (
    DOUBLE,
    FLOAT,
    INTEGER,
    DataType,
    Kind,
    Value,
    round32,
)

Array = NDArray[Any]
Types = Sequence[DataType]


def widest(types: Types) -> DataType:
    """Return the number type that arithmetic on *types* has; text counts as double."""
    result = INTEGER
    for each in types:
        if each.kind in (Kind.DOUBLE, Kind.STRING):
            return DOUBLE
        if each.kind is Kind.FLOAT:
            result = FLOAT
    return result


def _integer(_: Types) -> DataType:
    return INTEGER


def _double(_: Types) -> DataType:
    return DOUBLE


@dataclass(frozen=True, slots=True)
class Numeric:
    """
    A function of numbers.

    Args:
        arity: How many arguments it takes.
        result: The type of its value, from the types of its arguments.
        vector: Of arrays; a NaN says that the row has no value.
        scalar: Of numbers; raises ValueError, ZeroDivisionError or OverflowError likewise.
        widen: Whether the arguments are held as the result's type first.
    """

    arity: int
    result: Callable[[Types], DataType]
    vector: Callable[..., Array]
    scalar: Callable[..., Value]
    widen: bool = False
    lenient: bool = False
    """Whether it is missing where an argument is; else such a row has no answer."""


def _divide(a: Array, b: Array) -> Array:
    if a.dtype.kind == "f":
        return a / b
    quotient = np.abs(a) // np.where(b == 0, 1, np.abs(b))
    signed = np.where((a < 0) != (b < 0), -quotient, quotient)
    # An integer has no infinity: as NaN, the row has no value.
    return np.where(b == 0, np.nan, signed) if (b == 0).any() else signed


def _divide_one(a: Value, b: Value) -> Value:
    if isinstance(a, float) or isinstance(b, float):
        if b == 0:
            if a == 0 or a != a:
                raise ValueError("0 / 0 is undefined")
            return math.copysign(math.inf, a) * math.copysign(1.0, b)
        return a / b
    quotient = abs(a) // abs(b)
    return -quotient if (a < 0) != (b < 0) else quotient


def _power(a: Array, b: Array) -> Array:
    found = np.power(a.astype(np.float64), b.astype(np.float64))
    if a.dtype.kind == "f" or b.dtype.kind == "f":
        return found
    beyond = (b < 0) | ~(np.abs(found) < 2.0**63)
    return np.where(beyond, np.nan, found) if beyond.any() else found.astype(np.int64)


def _power_one(a: Value, b: Value) -> Value:
    if isinstance(a, float) or isinstance(b, float):
        return power(float(a), float(b))
    if b < 0:
        raise ValueError(f"{a} to the power of {b} is not an integer")
    return a**b


def power(a: float, b: float) -> float:
    """
    Return *a* to the power of *b*, infinite where it overflows.

    Raises:
        ValueError: it is no real number.
    """
    if a == 0 and b < 0:
        return math.copysign(math.inf, a) if b % 2 == 1 else math.inf
    try:
        return math.pow(a, b)
    except OverflowError:
        return -math.inf if a < 0 and b % 2 == 1 else math.inf


def _ln_one(x: float) -> float:
    return math.log(x) if x else -math.inf


def _log10_one(x: float) -> float:
    return math.log10(x) if x else -math.inf


def _ln1p_one(x: float) -> float:
    return -math.inf if x == -1 else math.log1p(x)


def _exp_one(x: float) -> float:
    return math.exp(x) if x < 709.782712893384 else math.inf


def _sinh_one(x: float) -> float:
    return math.sinh(x) if abs(x) < 710 else math.copysign(math.inf, x)


def _cosh_one(x: float) -> float:
    return math.cosh(x) if abs(x) < 710 else math.inf


def _modulo_one(a: Value, b: Value) -> Value:
    return a % b


def _modulo(a: Array, b: Array) -> Array:
    if a.dtype.kind != "f" and (b == 0).any():
        return np.where(b == 0, np.nan, np.mod(a, np.where(b == 0, 1, b)))
    return np.mod(a, b)


def _whole(of: Callable[[Array], Array]) -> Callable[[Array], Array]:
    def vector(x: Array) -> Array:
        return x if x.dtype.kind in "ib" else of(x)

    return vector


def _each(of: Callable[..., float]) -> Callable[..., Array]:
    """Return *of* for arrays: for functions that numpy has not."""

    def one(*numbers: float) -> float:
        try:
            return of(*numbers)
        except (ValueError, ZeroDivisionError, OverflowError):
            return math.nan

    def vector(*arrays: Array) -> Array:
        shape = np.broadcast_shapes(*(a.shape for a in arrays))
        columns = [np.broadcast_to(a, shape).tolist() for a in arrays]
        return np.array([one(*row) for row in zip(*columns, strict=True)], dtype=np.float64)

    return vector


_STANDARD = NormalDist()


def _cdf(x: float, mean: float, deviation: float) -> float:
    if deviation <= 0:
        raise ValueError(f"a standard deviation of {deviation}")
    return 0.5 * math.erfc((mean - x) / (deviation * math.sqrt(2)))


def _pdf(x: float, mean: float, deviation: float) -> float:
    if deviation <= 0:
        raise ValueError(f"a standard deviation of {deviation}")
    z = (x - mean) / deviation
    return math.exp(-0.5 * z * z) / (deviation * math.sqrt(2 * math.pi))


def quantile(p: float) -> float:
    """Return the standard normal distribution's quantile at *p* (Wichura's AS 241)."""
    if p in (0.0, 1.0):
        return math.copysign(math.inf, p - 0.5)
    return _STANDARD.inv_cdf(p)


def _idf(p: float, mean: float, deviation: float) -> float:
    return mean + deviation * quantile(p)


def _real(vector: Callable[[Array], Array], scalar: Callable[[float], float]) -> Numeric:
    return Numeric(1, _double, vector, scalar, widen=True)


def _distribution(arity: int, of: Callable[..., float]) -> Numeric:
    return Numeric(arity, _double, _each(of), of, widen=True)


def _round(x: float) -> int:
    return math.floor(x + 0.5)


NUMERIC: dict[str, Numeric] = {
    "+": Numeric(2, widest, np.add, lambda a, b: a + b, widen=True, lenient=True),
    "-": Numeric(2, widest, np.subtract, lambda a, b: a - b, widen=True, lenient=True),
    "*": Numeric(2, widest, np.multiply, lambda a, b: a * b, widen=True, lenient=True),
    "/": Numeric(2, widest, _divide, _divide_one, widen=True, lenient=True),
    "pow": Numeric(2, widest, _power, _power_one, widen=True),
    "modulo": Numeric(2, widest, _modulo, _modulo_one, widen=True, lenient=True),
    "threshold": Numeric(
        2,
        lambda types: widest(types[:1]),
        lambda x, y: (x > y).astype(np.int64),
        lambda x, y: int(x > y),
    ),
    "abs": Numeric(1, widest, np.abs, abs, widen=True),
    "ceil": Numeric(1, _integer, _whole(np.ceil), math.ceil),
    "floor": Numeric(1, _integer, _whole(np.floor), math.floor),
    "round": Numeric(1, _integer, _whole(lambda x: np.floor(x + 0.5)), _round),
    "rint": Numeric(
        1, _double, np.rint, lambda x: float(round(x)) if math.isfinite(x) else x, widen=True
    ),
    "exp": _real(np.exp, _exp_one),
    "expm1": _real(np.expm1, lambda x: math.expm1(x) if x < 709.7 else math.inf),
    "ln": _real(np.log, _ln_one),
    "ln1p": _real(np.log1p, _ln1p_one),
    "log10": _real(np.log10, _log10_one),
    "sqrt": _real(np.sqrt, math.sqrt),
    "hypot": Numeric(2, _double, np.hypot, math.hypot, widen=True),
    "sin": _real(np.sin, math.sin),
    "asin": _real(np.arcsin, math.asin),
    "sinh": _real(np.sinh, _sinh_one),
    "cos": _real(np.cos, math.cos),
    "acos": _real(np.arccos, math.acos),
    "cosh": _real(np.cosh, _cosh_one),
    "tan": _real(np.tan, math.tan),
    "atan": _real(np.arctan, math.atan),
    "tanh": _real(np.tanh, math.tanh),
    "atan2": Numeric(2, _double, np.arctan2, math.atan2, widen=True),
    "erf": _distribution(1, math.erf),
    "normalCDF": _distribution(3, _cdf),
    "normalPDF": _distribution(3, _pdf),
    "normalIDF": _distribution(3, _idf),
    "stdNormalCDF": _distribution(1, lambda x: _cdf(x, 0.0, 1.0)),
    "stdNormalPDF": _distribution(1, lambda x: _pdf(x, 0.0, 1.0)),
    "stdNormalIDF": _distribution(1, quantile),
}


@dataclass(frozen=True, slots=True)
class Fold:
    """
    A function of any number of numbers that leaves out the missing ones.

    Args:
        result: The type of its value, from the types of its arguments.
        vector: Of an array [arguments, rows] with NaN where missing; every row has a number.
        scalar: Of the numbers there are, at least one.
        spoiled: Whether one number that is undefined (a NaN that is taken as it is) leaves the
            result undefined; else it is left out.
    """

    result: Callable[[Types], DataType]
    vector: Callable[[NDArray[np.float64]], NDArray[np.float64]]
    scalar: Callable[[list[Value]], Value]
    spoiled: bool = True


def _mean(values: list[Value]) -> float:
    return sum(values) / len(values)


FOLDS: dict[str, Fold] = {
    "sum": Fold(widest, lambda x: np.nansum(x, axis=0), sum),
    "product": Fold(widest, lambda x: np.nanprod(x, axis=0), math.prod),
    "min": Fold(widest, lambda x: np.nanmin(x, axis=0), min, spoiled=False),
    "max": Fold(widest, lambda x: np.nanmax(x, axis=0), max, spoiled=False),
    "avg": Fold(_double, lambda x: np.nanmean(x, axis=0), _mean),
    "median": Fold(_double, lambda x: np.nanmedian(x, axis=0), median),
}


def held(scalar: Callable[..., Value], kind: DataType) -> Callable[..., Value]:
    """Return *scalar* with its result held as *kind*, and what it cannot compute as a RowError."""

    def call(*values: Value) -> Value:
        try:
            found = scalar(*values)
            if kind is DOUBLE:
                found = float(found)
            elif kind is FLOAT:
                found = round32(found)
            else:
                found = int(found)
                if not -(2**63) <= found < 2**63:
                    raise OverflowError
        except (ValueError, ZeroDivisionError, OverflowError):
            raise RowError(f"is undefined for {', '.join(map(str, values))}") from None
        if found != found:
            raise RowError(f"is undefined for {', '.join(map(str, values))}")
        return found

    return call
