"""``m.*``, ``m.link.*``, ``m.kernel.*``, ``m.special.*``: numbers 23000, 25000, 27000, 36000."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

from martlet.formats.pfa.failure import Failure
from martlet.formats.pfa.library import entry
from martlet.formats.pfa.library.core import Run, divide, power, whole
from martlet.formats.pfa.types import INT, LONG, Type

Floats = Sequence[float]


def _quiet(run: Callable[..., float], overflow: float = math.inf) -> Callable[..., float]:
    """Return *run* as C computes it: not a number where it is undefined, infinite past doubles."""

    def quiet(*given: float) -> float:
        try:
            return run(*given)
        except ValueError:
            return math.nan
        except OverflowError:
            return overflow

    return quiet


def ln(x: float) -> float:
    """Return the natural logarithm: of 0 it is -inf, below 0 not a number."""
    if x > 0:
        return math.log(x)
    return -math.inf if x == 0 else math.nan


def exp(x: float) -> float:
    """Return e to the x: past doubles it is infinite."""
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def sigmoid(x: float) -> float:
    """Return ``1 / (1 + exp(-x))``."""
    return 1.0 / (1.0 + exp(-x))


_ONE: dict[str, Callable[..., float]] = {
    "acos": _quiet(math.acos), "asin": _quiet(math.asin), "atan": math.atan,
    "cos": _quiet(math.cos), "cosh": _quiet(math.cosh), "exp": exp, "expm1": _quiet(math.expm1),
    "ln": ln, "sin": _quiet(math.sin), "sqrt": _quiet(math.sqrt), "tan": _quiet(math.tan),
    "tanh": math.tanh,
    "sinh": lambda x: _quiet(math.sinh, math.copysign(math.inf, x))(x),
    "log10": lambda x: math.log10(x) if x > 0 else ln(x),
    "ln1p": lambda x: math.log1p(x) if x > -1 else (-math.inf if x == -1 else math.nan),
    "ceil": lambda x: float(math.ceil(x)) if math.isfinite(x) else x,
    "floor": lambda x: float(math.floor(x)) if math.isfinite(x) else x,
    "rint": lambda x: float(round(x)) if math.isfinite(x) else x,
}  # fmt: skip
for _name, _run in _ONE.items():
    entry(f"m.{_name}", "double -> double")(_run)

entry("m.pi", "-> double")(lambda: math.pi)
entry("m.e", "-> double")(lambda: math.e)
entry("m.atan2", "double, double -> double")(math.atan2)
entry("m.hypot", "double, double -> double")(math.hypot)


@entry("m.abs", "A# -> A", typed=True)
def absolute(params: Sequence[Type], result: Type) -> Run:
    return whole(abs, result, 27020) if result in (INT, LONG) else abs


@entry("m.copysign", "A#, A -> A", typed=True)
def copysign(params: Sequence[Type], result: Type) -> Run:
    if result in (INT, LONG):
        return lambda mag, sign: abs(mag) if sign >= 0 else -abs(mag)
    return math.copysign


@entry("m.log", "double, int -> double")
def log(x: float, base: int) -> float:
    if base <= 0:
        raise Failure(27170, "base must be positive")
    return divide(ln(x), ln(base))


@entry("m.round", "float -> int; double -> long", typed=True)
def rounded(params: Sequence[Type], result: Type) -> Run:
    limit = 1 << (31 if result == INT else 63)
    code = 27190 if result == INT else 27191

    def run(x: float) -> int:
        if not -limit <= x < limit:
            raise Failure(code, f"{result} overflow")
        return math.floor(x + 0.5)

    return run


@entry("m.signum", "double -> int")
def signum(x: float) -> int:
    return (x > 0) - (x < 0)


# -- link functions: of one number, or of each in an array or a map ----------------------------

_LINKS: dict[str, tuple[int, Callable[[float], float]]] = {
    "logit": (25010, sigmoid),
    "probit": (25020, lambda x: (math.erf(x / math.sqrt(2.0)) + 1.0) / 2.0),
    "cloglog": (25030, lambda x: 1.0 - exp(-exp(x))),
    "loglog": (25040, lambda x: exp(-exp(x))),
    "cauchit": (25050, lambda x: 0.5 + math.atan(x) / math.pi),
    "softplus": (25060, lambda x: ln(1.0 + exp(x))),
    "relu": (25070, lambda x: max(0.0, x)),
    "tanh": (25080, math.tanh),
}


def _link(name: str, run: Callable[[float], float]) -> None:
    @entry(f"m.link.{name}", "double -> double; [double] -> [double]; {double} -> {double}")
    def call(x: Any) -> Any:
        if type(x) is list:
            return [run(v) for v in x]
        if type(x) is dict:
            return {k: run(v) for k, v in x.items()}
        return run(x)


for _name, (_code, _step) in _LINKS.items():
    _link(_name, _step)


@entry("m.link.softmax", "[double] -> [double]; {double} -> {double}")
def softmax(x: Any) -> Any:
    """Scaled by the largest first, so that no exponential overflows."""
    if not x:
        raise Failure(25000, "empty input")
    values = list(x.values()) if type(x) is dict else x
    high, low = max(values), min(values)
    top = high if abs(high) >= abs(low) else low
    powers = [exp(v - top) for v in values]
    total = math.fsum(powers) if all(map(math.isfinite, powers)) else sum(powers)
    shares = [divide(each, total) for each in powers]
    return dict(zip(x, shares, strict=True)) if type(x) is dict else shares


# -- kernels -----------------------------------------------------------------------------------


def _dot(x: Floats, y: Floats, code: int) -> float:
    if len(x) != len(y):
        raise Failure(code, "arrays must have same length")
    return float(sum(map(operator.mul, x, y)))


@entry("m.kernel.linear", "[double], [double] -> double")
def kernel_linear(x: Floats, y: Floats) -> float:
    return float(_dot(x, y, 23000))


@entry("m.kernel.rbf", "[double], [double], double -> double")
def kernel_rbf(x: Floats, y: Floats, gamma: float) -> float:
    if len(x) != len(y):
        raise Failure(23010, "arrays must have same length")
    return exp(-gamma * sum(abs(a - b) ** 2 for a, b in zip(x, y, strict=True)))


@entry("m.kernel.poly", "[double], [double], double, double, double -> double")
def kernel_poly(x: Floats, y: Floats, gamma: float, intercept: float, degree: float) -> float:
    return power(gamma * _dot(x, y, 23020) + intercept, degree)


@entry("m.kernel.sigmoid", "[double], [double], double, double -> double")
def kernel_sigmoid(x: Floats, y: Floats, gamma: float, intercept: float) -> float:
    return math.tanh(gamma * _dot(x, y, 23030) + intercept)


# -- special functions -------------------------------------------------------------------------


@entry("m.special.nChooseK", "int, int -> int")
def choose(n: int, k: int) -> int:
    if k <= 0 or n <= k:
        raise Failure(36000, "domain error")
    return math.comb(n, k)


@entry("m.special.lnBeta", "double, double -> double")
def ln_beta(a: float, b: float) -> float:
    if a <= 0 or b <= 0:
        raise Failure(36010, "domain error")
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


entry("m.special.erf", "double -> double")(math.erf)
entry("m.special.erfc", "double -> double")(math.erfc)


@entry("m.special.lnGamma", "double -> double")
def ln_gamma(x: float) -> float:
    if x <= 0:
        raise Failure(36050, "domain error")
    return math.lgamma(x)
