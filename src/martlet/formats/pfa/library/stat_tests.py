"""``stat.test.*``, which an older specification calls ``model.reg.*``: numbers 38000, 31000."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from martlet.formats.pfa.failure import Failure
from martlet.formats.pfa.library import entry
from martlet.formats.pfa.library.core import divide
from martlet.formats.pfa.library.distributions import chi2_cdf
from martlet.formats.pfa.library.stats import changed
from martlet.formats.pfa.values import Fields

Vector = Sequence[float]

_PAIRS = "double, double -> double; [double], [double] -> [double]; {double}, {double} -> {double}"
_TRIPLES = (
    "double, double, double -> double; [double], [double], [double] -> [double]; "
    "{double}, {double}, {double} -> {double}"
)


def _elements(given: Sequence[Any], f: Any, code: int) -> Any:
    first = given[0]
    if type(first) is list:
        if any(len(each) != len(first) for each in given[1:]):
            raise Failure(code, "misaligned prediction")
        return [f(*each) for each in zip(*given, strict=True)]
    if type(first) is dict:
        if any(each.keys() != first.keys() for each in given[1:]):
            raise Failure(code, "misaligned prediction")
        return {k: f(*(each[k] for each in given)) for k in first}
    return f(*given)


def _mahalanobis(observation: Any, prediction: Any, covariance: Any, code: int) -> float:
    if type(observation) is dict:
        keys = sorted(observation)
        if sorted(prediction) != keys:
            raise Failure(code + 1, "misaligned prediction")
        if sorted(covariance) != keys or any(sorted(r) != keys for r in covariance.values()):
            raise Failure(code + 2, "misaligned covariance")
        observation = [observation[k] for k in keys]
        prediction = [prediction[k] for k in keys]
        covariance = [[covariance[k][j] for j in keys] for k in keys]
    if not observation:
        raise Failure(code, "too few rows/cols")
    if len(prediction) != len(observation):
        raise Failure(code + 1, "misaligned prediction")
    if len(covariance) != len(observation) or any(len(r) != len(observation) for r in covariance):
        raise Failure(code + 2, "misaligned covariance")
    away = np.array(observation) - np.array(prediction)
    try:
        return math.sqrt(float(away @ np.linalg.solve(np.array(covariance), away)))
    except (np.linalg.LinAlgError, ValueError):
        return math.nan


def _tests(prefix: str, dof: str, code: int) -> None:
    state = f"A{{chi2: double, {dof}: int}}"

    @entry(f"{prefix}.residual", _PAIRS)
    def residual(*given: Any) -> Any:
        return _elements(given, lambda o, p: o - p, code)

    @entry(f"{prefix}.pull", _TRIPLES)
    def pull(*given: Any) -> Any:
        return _elements(given, lambda o, p, u: divide(o - p, u), code + 10)

    @entry(
        f"{prefix}.mahalanobis",
        "[double], [double], [[double]] -> double; {double}, {double}, {{double}} -> double",
    )
    def mahalanobis(observation: Any, prediction: Any, covariance: Any) -> float:
        return _mahalanobis(observation, prediction, covariance, code + 20)

    @entry(
        f"{prefix}.updateChi2",
        f"double, {state} -> A; [double], {state} -> A; {{double}}, {state} -> A",
    )
    def update_chi2(pull: Any, state: Any) -> Fields:
        if isinstance(pull, dict):
            values = list(pull.values())
        else:
            values = pull if isinstance(pull, list) else [pull]
        return changed(
            state,
            **{
                "chi2": state["chi2"] + sum(v * v for v in values),
                dof: state[dof] + 1,
            },
        )

    entry(f"{prefix}.reducedChi2", f"{state} -> double")(
        lambda state: divide(state["chi2"], float(state[dof]))
    )

    @entry(f"{prefix}.chi2Prob", f"{state} -> double")
    def chi2_prob(state: Any) -> float:
        if state[dof] < 0:
            raise Failure(code + 50, "invalid parameterization")
        if state[dof] == 0:
            return 0.0 if state["chi2"] > 0 else 1.0
        return chi2_cdf(state["chi2"], state[dof])


_tests("stat.test", "dof", 38010)
_tests("model.reg", "DOF", 31020)


@entry("stat.test.kolmogorov", "[double], [double] -> double")
def kolmogorov(x: Vector, y: Vector) -> float:
    """The probability that both come from one distribution, of the two-sample test."""
    a = sorted(v for v in x if v == v)
    b = sorted(v for v in y if v == v)
    if not a or not b:
        return 1.0 if a == b else 0.0
    points = np.array(sorted({*a, *b}))
    one = np.searchsorted(a, points, side="right") / len(a)
    two = np.searchsorted(b, points, side="right") / len(b)
    distance = float(np.abs(one - two).max())
    root = math.sqrt(len(a) * len(b) / (len(a) + len(b)))
    z = distance * root
    if z == 0:
        return 1.0
    if z < 1.18:
        total = sum(math.exp(-((2 * k - 1) ** 2) * math.pi**2 / (8 * z * z)) for k in range(1, 20))
        return 1.0 - math.sqrt(2 * math.pi) / z * total
    return float(2.0 * sum((-1) ** (k - 1) * math.exp(-2 * k * k * z * z) for k in range(1, 20)))
