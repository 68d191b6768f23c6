"""``prob.dist.*``: densities, distributions and quantiles. Numbers 13000 to 13470."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from statistics import NormalDist
from typing import Any

from martlet.formats.pfa.failure import Failure
from martlet.formats.pfa.library import entry
from martlet.formats.pfa.library.core import divide

_NORMAL = NormalDist()
_STEPS = 500
_TINY = 1e-300


def gamma_p(a: float, x: float) -> float:
    """Return the lower incomplete gamma function over its whole: by series, or as a fraction."""
    if x <= 0:
        return 0.0
    if math.isinf(x):
        return 1.0
    front = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        term = total = 1.0 / a
        for n in range(1, 10_000):
            term *= x / (a + n)
            total += term
            if abs(term) < abs(total) * 1e-17:
                break
        return total * front
    b = x + 1 - a
    c, d = 1 / _TINY, 1 / b
    h = d
    for n in range(1, 10_000):
        an = -n * (n - a)
        b += 2
        d = an * d + b
        d = 1 / (d if abs(d) > _TINY else _TINY)
        c = b + an / c
        c = c if abs(c) > _TINY else _TINY
        h *= d * c
        if abs(d * c - 1) < 1e-16:
            break
    return 1.0 - front * h


def beta_p(a: float, b: float, x: float) -> float:
    """Return the incomplete beta function over its whole, as a continued fraction."""
    if x <= 0 or x >= 1:
        return 0.0 if x <= 0 else 1.0
    if x > (a + 1) / (a + b + 2):
        return 1.0 - beta_p(b, a, 1 - x)
    front = math.exp(
        math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    )
    c, d = 1.0, 1 - (a + b) * x / (a + 1)
    d = 1 / (d if abs(d) > _TINY else _TINY)
    h = d
    for m in range(1, 10_000):
        for step in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 + step * d
            d = 1 / (d if abs(d) > _TINY else _TINY)
            c = 1 + step / c
            c = c if abs(c) > _TINY else _TINY
            h *= d * c
        if abs(d * c - 1) < 1e-16:
            break
    return front * h / a


def _inverted(cdf: Callable[[float], float], p: float, low: float, high: float) -> float:
    """Return x with ``cdf(x) = p``, by halving an interval that is widened until it holds it."""
    while cdf(high) < p and high < 1e300:
        high *= 2.0
    while low < 0 and cdf(low) > p and low > -1e300:
        low *= 2.0
    for _ in range(_STEPS):
        middle = (low + high) / 2.0
        if middle in (low, high):
            break
        if cdf(middle) < p:
            low = middle
        else:
            high = middle
    return (low + high) / 2.0


def chi2_cdf(x: float, dof: int) -> float:
    """Return the chi-squared distribution."""
    return gamma_p(dof / 2.0, x / 2.0)


def _log_choose(n: float, k: float) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


# Of each law: what its parameters must be, its density, its distribution, where values begin.

Law = tuple[Callable[..., bool], Callable[..., float], Callable[..., float], float]


def _t_cdf(x: float, dof: int) -> float:
    tail = 0.5 * beta_p(dof / 2.0, 0.5, dof / (dof + x * x))
    return 1.0 - tail if x > 0 else tail


def _beta_pdf(x: float, a: float, b: float) -> float:
    if not 0 < x < 1:
        return 0.0
    whole = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    return math.exp((a - 1) * math.log(x) + (b - 1) * math.log1p(-x) - whole)


def _gamma_pdf(x: float, shape: float, scale: float) -> float:
    if x < 0:
        return 0.0
    if x == 0:
        return 1.0 / scale if shape == 1 else 0.0 if shape > 1 else math.inf
    return math.exp(
        (shape - 1) * math.log(x) - x / scale - math.lgamma(shape) - shape * math.log(scale)
    )


def _f_pdf(x: float, d1: int, d2: int) -> float:
    if x <= 0:
        return 0.0 if x < 0 or d1 > 2 else 1.0 if d1 == 2 else math.inf
    a, b = d1 / 2.0, d2 / 2.0
    whole = math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
    return math.exp(
        a * math.log(d1 / d2) + (a - 1) * math.log(x) - (a + b) * math.log1p(d1 * x / d2) - whole
    )


def _t_pdf(x: float, dof: int) -> float:
    return math.exp(
        math.lgamma((dof + 1) / 2) - math.lgamma(dof / 2) - 0.5 * math.log(dof * math.pi)
        - (dof + 1) / 2 * math.log1p(x * x / dof)
    )  # fmt: skip


def _weibull_pdf(x: float, shape: float, scale: float) -> float:
    if x < 0:
        return 0.0
    z = x / scale
    return (
        shape / scale * math.pow(z, shape - 1) * math.exp(-math.pow(z, shape))
        if z
        else (0.0 if shape > 1 else shape / scale if shape == 1 else math.inf)
    )


def _lognormal_pdf(x: float, mu: float, sigma: float) -> float:
    if x <= 0:
        return 0.0
    z = (math.log(x) - mu) / sigma
    return math.exp(-z * z / 2) / (x * sigma * math.sqrt(2 * math.pi))


_CONTINUOUS: Mapping[str, tuple[str, int, Law]] = {
    "exponential": ("double", 13030, (
        lambda rate: rate >= 0,
        lambda x, rate: rate * math.exp(-rate * x) if x >= 0 else 0.0,
        lambda x, rate: -math.expm1(-rate * x) if x > 0 else 0.0, 0.0)),
    "chi2": ("int", 13060, (
        lambda dof: dof > 0, lambda x, dof: _gamma_pdf(x, dof / 2.0, 2.0), chi2_cdf, 0.0)),
    "gamma": ("double, double", 13120, (
        lambda shape, scale: shape > 0 and scale > 0,
        _gamma_pdf, lambda x, shape, scale: gamma_p(shape, x / scale), 0.0)),
    "beta": ("double, double", 13150, (
        lambda a, b: a > 0 and b > 0, _beta_pdf, lambda x, a, b: beta_p(a, b, x), 0.0)),
    "cauchy": ("double, double", 13180, (
        lambda at, scale: scale > 0,
        lambda x, at, s: s / (math.pi * (s * s + (x - at) ** 2)),
        lambda x, at, s: 0.5 + math.atan2(x - at, s) / math.pi, -1.0)),
    "f": ("int, int", 13210, (
        lambda d1, d2: d1 > 0 and d2 > 0, _f_pdf,
        lambda x, a, b: beta_p(a / 2.0, b / 2.0, a * x / (a * x + b)) if x > 0 else 0.0, 0.0)),
    "lognormal": ("double, double", 13240, (
        lambda mu, sigma: sigma > 0, _lognormal_pdf,
        lambda x, mu, s: _NORMAL.cdf((math.log(x) - mu) / s) if x > 0 else 0.0, 0.0)),
    "t": ("int", 13270, (lambda dof: dof > 0, _t_pdf, _t_cdf, -1.0)),
    "uniform": ("double, double", 13330, (
        lambda low, high: low < high,
        lambda x, low, high: 1.0 / (high - low) if low <= x <= high else 0.0,
        lambda x, low, high: min(1.0, max(0.0, (x - low) / (high - low))), -1.0)),
    "weibull": ("double, double", 13420, (
        lambda shape, scale: shape > 0 and scale > 0, _weibull_pdf,
        lambda x, k, s: -math.expm1(-math.pow(x / s, k)) if x > 0 else 0.0, 0.0)),
}  # fmt: skip

_EXACT: Mapping[str, Callable[..., float]] = {
    "exponential": lambda p, rate: divide(-math.log1p(-p), rate) if p < 1 else math.inf,
    "cauchy": lambda p, at, s: at + s * math.tan(math.pi * (p - 0.5)),
    "uniform": lambda p, low, high: low + p * (high - low),
    "lognormal": lambda p, mu, s: math.exp(mu + s * _NORMAL.inv_cdf(p)),
    "weibull": lambda p, k, s: s * math.pow(-math.log1p(-p), 1.0 / k),
}
_ENDS: Mapping[str, tuple[float, float]] = {
    "beta": (0.0, 1.0), "t": (-math.inf, math.inf), "cauchy": (-math.inf, math.inf),
}  # fmt: skip


def _continuous(name: str, types: str, code: int, law: Law) -> None:
    valid, pdf, cdf, start = law

    def check(x: float, given: tuple[Any, ...], number: int) -> None:
        if not valid(*given):
            raise Failure(number, "invalid parameterization")
        if not math.isfinite(x):
            raise Failure(number + 1, "invalid input")

    @entry(f"prob.dist.{name}PDF", f"double, {types} -> double")
    def density(x: float, *given: Any) -> float:
        check(x, given, code)
        return float(pdf(x, *given))

    @entry(f"prob.dist.{name}CDF", f"double, {types} -> double")
    def distribution(x: float, *given: Any) -> float:
        check(x, given, code + 10)
        return float(cdf(x, *given))

    @entry(f"prob.dist.{name}QF", f"double, {types} -> double")
    def quantile(p: float, *given: Any) -> float:
        check(p, given, code + 20)
        if not 0 <= p <= 1:
            raise Failure(code + 21, "invalid input")
        low, high = _ENDS.get(name, (0.0, math.inf))
        if name == "uniform":
            low, high = given
        if p in (0.0, 1.0):
            return float(low if p == 0 else high)
        if name in _EXACT:
            return float(_EXACT[name](p, *given))
        return _inverted(lambda x: cdf(x, *given), p, start, 1.0)


for _name, (_types, _code, _law) in _CONTINUOUS.items():
    _continuous(_name, _types, _code, _law)


# -- gaussian: parameters apart, or in a record ------------------------------------------------

_GAUSS = "double, double, double -> double; double, A{mean: double, variance: double} -> double"


def _parameters(given: tuple[Any, ...], code: int) -> tuple[float, float]:
    if len(given) == 2:
        mu, sigma = given
    else:
        variance = given[0]["variance"]
        mu, sigma = given[0]["mean"], math.sqrt(variance) if variance >= 0 else -1.0
    if not (math.isfinite(mu) and math.isfinite(sigma)) or sigma < 0:
        raise Failure(code, "invalid parameterization")
    return mu, sigma


@entry("prob.dist.gaussianLL", _GAUSS)
def gaussian_ll(x: float, *given: Any) -> float:
    mu, sigma = _parameters(given, 13000)
    if not math.isfinite(x):
        raise Failure(13001, "invalid input")
    if sigma == 0:
        return math.inf if x == mu else -math.inf
    return -((x - mu) ** 2) / (2 * sigma**2) - math.log(sigma * math.sqrt(2 * math.pi))


@entry("prob.dist.gaussianCDF", _GAUSS)
def gaussian_cdf(x: float, *given: Any) -> float:
    mu, sigma = _parameters(given, 13010)
    if not math.isfinite(x):
        raise Failure(13011, "invalid input")
    if sigma == 0:
        return 0.0 if x < mu else 1.0
    return 0.5 * (1.0 + math.erf((x - mu) / (sigma * math.sqrt(2))))


def _normal_quantile(p: float) -> float:
    """
    Return the standard normal quantile within 4.5e-4, as the reference implementation does.

    Source: Abramowitz and Stegun, Handbook of Mathematical Functions, 26.2.23.
    """
    sign, tail = (1.0, 1.0 - p) if p > 0.5 else (-1.0, p)
    t = math.sqrt(-2.0 * math.log(tail))
    over = 2.515517 + t * (0.802853 + t * 0.010328)
    under = 1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308))
    return sign * (t - over / under)


@entry("prob.dist.gaussianQF", _GAUSS)
def gaussian_qf(p: float, *given: Any) -> float:
    mu, sigma = _parameters(given, 13020)
    if not 0 <= p <= 1:
        raise Failure(13021, "invalid input")
    if p in (0.0, 1.0):
        return -math.inf if p == 0 else math.inf
    return mu if sigma == 0 else mu + sigma * _normal_quantile(p)


# -- of whole numbers --------------------------------------------------------------------------


def _log(value: float) -> float:
    return math.log(value) if value > 0 else -math.inf


def _power_log(n: float, value: float) -> float:
    return 0.0 if n == 0 else n * _log(value)


def _share(p: float) -> bool:
    return 0 <= p <= 1


_WHOLE: Mapping[str, tuple[str, str, int, Any, Any, Any]] = {
    # name: types of the parameters, of x in the CDF, number, valid, pmf(k), greatest k
    "poisson": ("double", "int", 13090, lambda rate: rate >= 0,
                lambda k, rate: math.exp(_power_log(k, rate) - rate - math.lgamma(k + 1)),
                lambda rate: math.inf),
    "binomial": ("int, double", "double", 13300, lambda n, p: n > 0 and _share(p),
                 lambda k, n, p: 0.0 if k > n else math.exp(
                     _log_choose(n, k) + _power_log(k, p) + _power_log(n - k, 1 - p)),
                 lambda n, p: n),
    "geometric": ("double", "double", 13360, lambda p: 0 < p <= 1,
                  lambda k, p: math.exp(_log(p) + _power_log(k, 1 - p)), lambda p: math.inf),
    "hypergeometric": ("int, int, int", "int", 13390,
                       lambda m, n, k: m >= 0 and n >= 0 and 0 <= k <= m + n,
                       lambda x, m, n, k: 0.0 if x > m or k - x > n or x > k else math.exp(
                           _log_choose(m, x) + _log_choose(n, k - x) - _log_choose(m + n, k)),
                       lambda m, n, k: min(m, k)),
    "negativeBinomial": ("int, double", "double", 13450, lambda n, p: n >= 0 and 0 < p <= 1,
                         lambda k, n, p: float(k == 0) if n == 0 else math.exp(
                             _log_choose(k + n - 1, k) + n * _log(p) + _power_log(k, 1 - p)),
                         lambda n, p: math.inf),
}  # fmt: skip
_MOST = 10_000_000


def _whole(name: str, types: str, x_type: str, code: int, valid: Any, pmf: Any, most: Any) -> None:
    def check(x: float, given: tuple[Any, ...], number: int) -> None:
        if not valid(*given):
            raise Failure(number, "invalid parameterization")
        if x != x or math.isinf(x):
            raise Failure(number + 1, "invalid input")

    @entry(f"prob.dist.{name}PDF", f"int, {types} -> double")
    def density(x: int, *given: Any) -> float:
        check(x, given, code)
        return float(pmf(x, *given)) if 0 <= x <= most(*given) else 0.0

    @entry(f"prob.dist.{name}CDF", f"{x_type}, {types} -> double")
    def distribution(x: float, *given: Any) -> float:
        check(x, given, code + 10)
        last = min(math.floor(x), most(*given), _MOST)
        return min(1.0, math.fsum(pmf(k, *given) for k in range(int(last) + 1)))

    @entry(f"prob.dist.{name}QF", f"double, {types} -> double")
    def quantile(p: float, *given: Any) -> float:
        check(p, given, code + 20)
        if not 0 <= p <= 1:
            raise Failure(code + 21, "invalid input")
        top = most(*given)
        if p == 1:
            return float(top)
        total, k = 0.0, 0
        while k < min(top, _MOST):
            total += pmf(k, *given)
            if total >= p:
                break
            k += 1
        return float(k)


for _each, _row in _WHOLE.items():
    _whole(_each, *_row)
