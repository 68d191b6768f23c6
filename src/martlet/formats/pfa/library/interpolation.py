"""``interp.*``: number 22000."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from martlet.formats.pfa.failure import Failure
from martlet.formats.pfa.library import entry
from martlet.formats.pfa.library.core import Run, divide

Vector = Sequence[float]


@entry("interp.bin", "double, int, double, double -> int; double, double, double -> int")
def bin_of(x: float, *given: float) -> int:
    if len(given) == 3:
        count, low, high = given
        if low >= high or not (math.isfinite(low) and math.isfinite(high)):
            raise Failure(22000, "bad histogram range")
        if count < 1:
            raise Failure(22001, "bad histogram scale")
        if not low <= x < high:
            raise Failure(22002, "x out of range")
        return math.floor(count * (x - low) / (high - low))
    origin, width = given
    if not math.isfinite(origin):
        raise Failure(22000, "bad histogram range")
    if width <= 0 or not math.isfinite(width):
        raise Failure(22001, "bad histogram scale")
    if not math.isfinite(x):
        raise Failure(22002, "x out of range")
    return math.floor((x - origin) / width)


@entry(
    "interp.nearest",
    "double, [R{x: double, to: T}] -> T; [double], [R{x: [double], to: T}] -> T; "
    "X, [R{x: Y, to: T}], fn(X, Y -> double) -> T",
)
def nearest(x: Any, table: Sequence[Any], metric: Run | None = None) -> Any:
    if not table:
        raise Failure(22010, "table must have at least one entry")

    def away(entry: Any) -> float:
        there = entry["x"]
        if metric is not None:
            return float(metric(x, there))
        if type(x) is list:
            if len(x) != len(there):
                raise Failure(22011, "inconsistent dimensionality")
            return float(sum((a - b) ** 2 for a, b in zip(x, there, strict=True)))
        return float(abs(x - there))

    return min(table, key=away)["to"]


_TABLE = (
    "double, [R{{x: double, to: double}}] -> {0}; double, [R{{x: double, to: [double]}}] -> {1}"
)


def _around(x: float, table: Sequence[Any], code: int) -> tuple[Any, Any, bool]:
    """Return the points on both sides of *x* and True, or the two nearest ones and False."""
    below = [each for each in table if each["x"] <= x]
    above = [each for each in table if each["x"] > x]
    if below and above:
        one = max(below, key=lambda each: each["x"])
        return one, min(above, key=lambda each: each["x"]), True
    one = two = None
    for each in table:
        away = abs(x - each["x"])
        if one is None or away < abs(x - one["x"]):
            one, two = each, one
        elif away != abs(x - one["x"]) and (two is None or away < abs(x - two["x"])):
            two = each
    if one is None or two is None:
        raise Failure(code, "table must have at least two distinct x values")
    return one, two, False


def _between(x: float, one: Any, two: Any, code: int) -> Any:
    share = divide(x - one["x"], two["x"] - one["x"])
    a, b = one["to"], two["to"]
    if type(a) is not list:
        return (1.0 - share) * a + share * b
    if len(a) != len(b):
        raise Failure(code + 1, "inconsistent dimensionality")
    return [(1.0 - share) * p + share * q for p, q in zip(a, b, strict=True)]


@entry("interp.linear", _TABLE.format("double", "[double]"))
def linear(x: float, table: Sequence[Any]) -> Any:
    """Beyond the table the line through the two nearest points goes on."""
    one, two, _ = _around(x, table, 22020)
    return _between(x, one, two, 22020)


@entry("interp.linearFlat", _TABLE.format("double", "[double]"))
def linear_flat(x: float, table: Sequence[Any]) -> Any:
    """Beyond the table the outermost value stays."""
    one, two, inside = _around(x, table, 22030)
    return _between(x, one, two, 22030) if inside else one["to"]


@entry("interp.linearMissing", _TABLE.format("(null|double)", "(null|[double])"))
def linear_missing(x: float, table: Sequence[Any]) -> Any:
    """Beyond the table there is nothing."""
    one, two, inside = _around(x, table, 22040)
    return _between(x, one, two, 22040) if inside or one["x"] == x else None
