"""Arithmetic, comparison and logic. Numbers 18000 to 18280."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

from martlet.formats.pfa.failure import Failure
from martlet.formats.pfa.library import entry
from martlet.formats.pfa.library.inline import Inline
from martlet.formats.pfa.ordering import key_of
from martlet.formats.pfa.types import INT, LONG, Type

Run = Callable[..., Any]
_LIMITS: dict[Type, int] = {INT: 1 << 31, LONG: 1 << 63}


def whole(run: Run, of: Type, code: int) -> Run:
    """Return *run* with its result kept within an int or a long."""
    limit = _LIMITS[of]
    number, text = (code, "int overflow") if of == INT else (code + 1, "long overflow")

    def checked(*given: int) -> int:
        found: int = run(*given)
        if -limit <= found < limit:
            return found
        raise Failure(number, text)

    return checked


def _arithmetic(name: str, run: Run, code: int, template: str) -> None:
    @entry(name, "A#, A -> A", typed=True)
    def make(params: Sequence[Type], result: Type) -> Run:
        if result in _LIMITS:
            return whole(run, result, code)
        return Inline(run, template)


_arithmetic("+", operator.add, 18000, "({0} + {1})")
_arithmetic("-", operator.sub, 18010, "({0} - {1})")
_arithmetic("*", operator.mul, 18020, "({0} * {1})")


@entry("/", "double, double -> double")
def divide(x: float, y: float) -> float:
    """By zero it is infinite, or not a number."""
    try:
        return x / y
    except ZeroDivisionError:
        if x == 0 or x != x:
            return math.nan
        return math.copysign(math.inf, x) * math.copysign(1.0, y)
    except OverflowError:
        return math.inf if (x > 0) == (y > 0) else -math.inf


@entry("//", "A#, A -> A", typed=True)
def floor_divide(params: Sequence[Type], result: Type) -> Run:
    """Towards zero."""

    def run(x: int, y: int) -> int:
        if y == 0:
            raise Failure(18040, "integer division by zero")
        return abs(x) // abs(y) * (1 if (x < 0) == (y < 0) else -1)

    return run


@entry("u-", "A# -> A", typed=True)
def negate(params: Sequence[Type], result: Type) -> Run:
    if result in _LIMITS:
        return whole(operator.neg, result, 18050)
    return Inline(operator.neg, "(-{0})")


@entry("%", "A#, A -> A", typed=True)
def modulo(params: Sequence[Type], result: Type) -> Run:
    """With the sign of the divisor."""

    def run(k: Any, n: Any) -> Any:
        if n == 0:
            if result in _LIMITS:
                raise Failure(18060, "integer division by zero")
            return math.nan
        return k % n

    return run


@entry("%%", "A#, A -> A", typed=True)
def remainder(params: Sequence[Type], result: Type) -> Run:
    """With the sign of the dividend."""

    def run(k: Any, n: Any) -> Any:
        if n == 0:
            if result in _LIMITS:
                raise Failure(18070, "integer division by zero")
            return math.nan
        if result in _LIMITS:
            return abs(k) % abs(n) * (1 if k >= 0 else -1)
        return math.nan if math.isinf(k) else math.fmod(k, n)

    return run


def power(x: float, y: float) -> float:
    """Return x to the y as C does: no exception, but infinity or not a number."""
    try:
        return math.pow(x, y)
    except OverflowError:
        return -math.inf if x < 0 and y % 2 == 1 else math.inf
    except (ValueError, ZeroDivisionError):
        return math.inf if x == 0 else math.nan


@entry("**", "A#, A -> A", typed=True)
def raised(params: Sequence[Type], result: Type) -> Run:
    if result not in _LIMITS:
        return power

    def run(x: int, y: int) -> int:
        if y < 0:
            return int(power(x, y)) if x else 0
        # No more than 64 doublings fit a long: do not compute what will be refused.
        if abs(x) > 1 and y > 64:
            raise Failure(18080 if result == INT else 18081, f"{result} overflow")
        return int(x**y)

    return whole(run, result, 18080)


def _comparison(name: str, symbol: str, run: Run) -> None:
    @entry(name, "A, A -> boolean", typed=True)
    def make(params: Sequence[Type], result: Type) -> Run:
        key = key_of(params[0])
        if key is None:
            return Inline(run, f"({{0}} {symbol} {{1}})")
        return lambda x, y: run(key(x), key(y))


for _name, _run in (
    ("==", operator.eq), ("!=", operator.ne), ("<", operator.lt), ("<=", operator.le),
    (">", operator.gt), (">=", operator.ge),
):  # fmt: skip
    _comparison(_name, _name, _run)


def compared(of: Type) -> Callable[[Any, Any], int]:
    """Return what gives -1, 0 or 1 for two values of a type."""
    key = key_of(of)

    def run(x: Any, y: Any) -> int:
        a, b = (x, y) if key is None else (key(x), key(y))
        return int((a > b) - (a < b))

    return run


@entry("cmp", "A, A -> int", typed=True)
def compare(params: Sequence[Type], result: Type) -> Run:
    return compared(params[0])


@entry("max", "A, A -> A", typed=True)
def greater(params: Sequence[Type], result: Type) -> Run:
    order = compared(params[0])
    return lambda x, y: x if order(x, y) >= 0 else y


@entry("min", "A, A -> A", typed=True)
def lesser(params: Sequence[Type], result: Type) -> Run:
    order = compared(params[0])
    return lambda x, y: x if order(x, y) <= 0 else y


entry("&&", "boolean, boolean -> boolean", template="({0} and {1})")(lambda x, y: x and y)
entry("||", "boolean, boolean -> boolean", template="({0} or {1})")(lambda x, y: x or y)
entry("^^", "boolean, boolean -> boolean", template="({0} != {1})")(operator.ne)
entry("!", "boolean -> boolean", template="(not {0})")(operator.not_)


@entry("&&&", "(boolean|null), (boolean|null) -> (boolean|null)")
def and_unknown(x: bool | None, y: bool | None) -> bool | None:
    """False if one is; else unknown if one is."""
    if x is False or y is False:
        return False
    return None if x is None or y is None else True


@entry("|||", "(boolean|null), (boolean|null) -> (boolean|null)")
def or_unknown(x: bool | None, y: bool | None) -> bool | None:
    """True if one is; else unknown if one is."""
    if x or y:
        return True
    return None if x is None or y is None else False


@entry("!!!", "(boolean|null) -> (boolean|null)")
def not_unknown(x: bool | None) -> bool | None:
    return None if x is None else not x


for _name, _run in (("&", operator.and_), ("|", operator.or_), ("^", operator.xor)):
    entry(_name, "int, int -> int; long, long -> long", template=f"({{0}} {_name} {{1}})")(_run)
entry("~", "int -> int; long -> long", template="(~{0})")(operator.invert)
