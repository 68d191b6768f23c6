"""Generalised linear regression: the inverse of a link, and the stage that applies it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from martlet.errors import UnsupportedModel
from martlet.formats.stages.classes import sigmoid
from martlet.formats.stages.stage import Kind, Port, Stage
from martlet.formats.stages.vectors import Floats


@dataclass(frozen=True, slots=True)
class Inverse:
    """
    From a linear predictor to the mean, which is held between *low* and *high*.

    Args:
        link: A link of generalised linear models, or ``power``.
        power: Of the link ``power``; 0 is the logarithm.
    """

    link: str
    low: float
    high: float
    power: float = 1.0

    def __call__(self, eta: Floats) -> Floats:
        function = _power(self.power) if self.link == "power" else _INVERSES[self.link]
        with np.errstate(divide="ignore", over="ignore"):
            return np.clip(function(eta), self.low, self.high)


def normal_cdf(x: Floats) -> Floats:
    """Return the standard normal distribution at *x*."""
    cdf = NormalDist().cdf
    return np.array([cdf(v) for v in x.tolist()], dtype=np.float64)


def _power(power: float) -> Callable[[Floats], Floats]:
    if power == 0:
        return lambda eta: np.asarray(np.exp(eta))
    if power == 1:
        return lambda eta: eta
    return lambda eta: np.asarray(np.power(eta, 1.0 / power))


_INVERSES: Mapping[str, Callable[[Floats], Floats]] = {
    "identity": lambda eta: eta,
    "log": lambda eta: np.asarray(np.exp(eta)),
    "inverse": lambda eta: np.asarray(1.0 / eta),
    "logit": sigmoid,
    "probit": normal_cdf,
    "cloglog": lambda eta: np.asarray(-np.expm1(-np.exp(eta))),
    "sqrt": np.square,
}
_CANONICAL = {"gaussian": "identity", "binomial": "logit", "poisson": "log", "gamma": "inverse"}
# What Spark clips a mean to, so that its deviance is finite.
_EPSILON = 1e-16
_MOST = float(np.finfo(np.float64).max)
_CLIPS: Mapping[str, tuple[float, float]] = {
    "gaussian": (-_MOST, _MOST),
    "binomial": (_EPSILON, 1.0 - _EPSILON),
    "poisson": (_EPSILON, _MOST),
    "gamma": (_EPSILON, _MOST),
}


def inverse_link(
    name: str, family: str, link: str | None, variance_power: float, link_power: float | None
) -> Inverse:
    """
    Return the function from a linear predictor to the mean.

    Args:
        link: None: the family's own.
        variance_power, link_power: Of the family ``tweedie``; no link power: 1 less variance's.

    Raises:
        UnsupportedModel: no such family or link.
    """
    if family == "tweedie":
        low = -_MOST if variance_power == 0 else _EPSILON
        power = 1.0 - variance_power if link_power is None else link_power
        return Inverse("power", low, _MOST, power)
    chosen = link or _CANONICAL.get(family, "")
    if family not in _CANONICAL or chosen not in _INVERSES:
        raise UnsupportedModel(f"{name}: family {family!r} with link {chosen!r} is not supported")
    return Inverse(chosen, *_CLIPS[family])


@dataclass(frozen=True, slots=True)
class Generalised:
    """The mean of a linear predictor, an offset added; then that itself, where it is *given*."""

    eta: Callable[[Any], Floats]
    inverse: Inverse
    given: bool

    def __call__(self, x: Any, *offsets: Floats) -> Any:
        found = self.eta(x) + offsets[0] if offsets else self.eta(x)
        mean = self.inverse(found)
        return (mean, found) if self.given else mean


def regressor(
    name: str,
    features: str,
    width: int,
    prediction: str,
    linear: str,
    offset: str,
    eta: Callable[[Any], Floats],
    inverse: Inverse,
) -> Stage:
    """Return the model stage; *linear* and *offset* are columns, "" for none."""
    inputs = [Port(features, Kind.VECTOR, width)]
    if offset:
        inputs.append(Port(offset, Kind.NUMBER))
    outputs = [Port(prediction, Kind.NUMBER)]
    if linear:
        outputs.append(Port(linear, Kind.NUMBER))
    return Stage(
        name, tuple(inputs), tuple(outputs), Generalised(eta, inverse, bool(linear)), predicts=True
    )
