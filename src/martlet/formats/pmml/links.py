"""Link functions: from a linear predictor to a mean or a probability, for columns and numbers.

Source: PMML 4.4.1, Regression ("normalizationMethod") and General Regression ("linkFunction").
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Link = tuple[Callable[[Array], Array], Callable[[float], float]]

_NORMAL = NormalDist()


def _erfc(x: float) -> float:
    return 0.5 * math.erfc(-x / math.sqrt(2))


_erfcs = np.frompyfunc(_erfc, 1, 1)


def _probit(x: Array) -> Array:
    return np.asarray(_erfcs(x), dtype=x.dtype)


def _exp(x: Array) -> Array:
    """Return e ** *x*; of float32, computed in float64 and rounded, as the reference does."""
    with np.errstate(over="ignore"):
        return np.exp(x.astype(np.float64, copy=False)).astype(x.dtype, copy=False)


def _logistic(x: Array) -> Array:
    return 1 / (1 + _exp(-x))


def _logistic_one(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x > -709 else 0.0


def _exp_one(x: float) -> float:
    return math.exp(x) if x < 709.78 else math.inf


INVERSE: dict[str, Link] = {
    "none": (lambda x: x, lambda x: x),
    "identity": (lambda x: x, lambda x: x),
    "logit": (_logistic, _logistic_one),
    "softmax": (_logistic, _logistic_one),
    "exp": (_exp, _exp_one),
    "log": (_exp, _exp_one),
    "probit": (_probit, _erfc),
    "cloglog": (lambda x: 1 - _exp(-_exp(x)), lambda x: 1 - _exp_one(-_exp_one(x))),
    "loglog": (lambda x: _exp(-_exp(-x)), lambda x: _exp_one(-_exp_one(-x))),
    "cauchit": (
        lambda x: 0.5 + np.arctan(x) / np.pi,
        lambda x: 0.5 + math.atan(x) / math.pi,
    ),
    "logc": (lambda x: 1 - _exp(x), lambda x: 1 - _exp_one(x)),
}
"""Inverse links that need no parameter."""


def single32(name: str) -> Callable[[float], float]:
    """Return the inverse link *name* of one number as float32 computes it."""
    if name not in ("logit", "softmax"):
        return INVERSE[name][1]

    def logistic(x: float) -> float:
        one = np.float32(1)
        return float(one / (one + np.float32(_exp_one(-x))))

    return logistic


def softmax(scores: Array) -> Array:
    """
    Return exp of each row's *scores*, as shares of their sum. Shape [rows, classes].

    A score that alone is +infinity has the whole, as in the limit; two of them leave it undefined.
    """
    top = scores.max(axis=1, keepdims=True)
    shifted = np.exp(scores - top)
    if np.isposinf(top).any():
        endless = np.isposinf(scores)
        shifted[endless & (endless.sum(axis=1, keepdims=True) == 1)] = 1.0
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True))


def softmax_one(scores: Sequence[float]) -> list[float]:
    """Return one row's :func:`softmax`."""
    top = max(scores)
    if top == math.inf and scores.count(top) == 1:
        return [1.0 if x == top else math.exp(x - top) for x in scores]
    found = [math.exp(x - top) for x in scores]
    total = sum(found)
    return [x / total for x in found]


NO_SHARES = "simplemax shares out a sum of 0"
"""Why a row has no answer whose scores add up to nothing."""


def simplemax(scores: Array) -> Array:
    """Return each row's *scores* as shares of their sum; NaN where that is 0."""
    total = scores.sum(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        return np.asarray(scores / np.where(total == 0, np.nan, total))


def _of_columns(link: Callable[[Array], Array]) -> Link:
    """Return *link* for columns and, with the same infinities where Python raises, for numbers."""

    def one(x: float) -> float:
        with np.errstate(all="ignore"):
            return float(link(np.array([x]))[0])

    return link, one


def power(exponent: float) -> Link:
    """Return the inverse of the link x ** *exponent* (log, where that is 0)."""
    if exponent == 0:
        return INVERSE["log"]
    return _of_columns(lambda x: np.power(x, 1.0 / exponent))


def oddspower(exponent: float) -> Link:
    """Return the inverse of ((p / (1 - p)) ** d - 1) / d; the logit, where d is 0."""
    if exponent == 0:
        return INVERSE["logit"]
    return _of_columns(lambda x: 1 / (1 + np.power(1 + exponent * x, -1 / exponent)))


def negative_binomial(parameter: float) -> Link:
    """Return the inverse of log(mean / (mean + 1 / *parameter*))."""
    return _of_columns(lambda x: 1 / (parameter * (np.exp(-x) - 1)))
