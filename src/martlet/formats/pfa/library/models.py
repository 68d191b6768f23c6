"""``model.*``: regression, bayes, networks, support vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from martlet.formats.pfa.failure import Failure
from martlet.formats.pfa.library import entry
from martlet.formats.pfa.library.core import Run
from martlet.formats.pfa.library.maths import ln
from martlet.formats.pfa.types import Type
from martlet.formats.pfa.values import Fields

Vector = Sequence[float]

# -- regression: numbers 31000 -----------------------------------------------------------------


def _product(datum: Any, coeff: Any, const: float) -> float:
    if type(datum) is dict:
        # A key that one side lacks counts as 0.
        return float(sum(x * coeff[k] for k, x in datum.items() if k in coeff) + const)
    if len(datum) != len(coeff):
        raise Failure(31000, "misaligned coeff")
    return float(sum(x * c for x, c in zip(datum, coeff, strict=True)) + const)


@entry(
    "model.reg.linear",
    "[double], M{coeff: [double], const: double} -> double; "
    "[double], M{coeff: [[double]], const: [double]} -> [double]; "
    "{double}, M{coeff: {double}, const: double} -> double; "
    "{double}, M{coeff: {{double}}, const: {double}} -> {double}",
)
def reg_linear(datum: Any, model: Any) -> Any:
    coeff, const = model["coeff"], model["const"]
    if type(const) is list:
        if len(coeff) != len(const):
            raise Failure(31001, "misaligned const")
        return [_product(datum, row, c) for row, c in zip(coeff, const, strict=True)]
    if type(const) is dict:
        keys = dict.fromkeys([*coeff, *const])
        return {k: _product(datum, coeff.get(k, {}), const.get(k, 0.0)) for k in keys}
    return _product(datum, coeff, const)


def _variance(datum: Any, covariance: Any) -> float:
    """Return x' C x with a last 1 in x, whose row is the constant's ("" in maps)."""
    if type(datum) is dict:
        x = {**datum, "": 1.0}
        products = (
            a * b * covariance.get(i, {}).get(j, 0.0) for i, a in x.items() for j, b in x.items()
        )
        return float(sum(products))
    values = [*datum, 1.0]
    if len(covariance) != len(values) or any(len(row) != len(values) for row in covariance):
        raise Failure(31010, "misaligned covariance")
    return float(
        sum(a * b * covariance[i][j] for i, a in enumerate(values) for j, b in enumerate(values))
    )


@entry(
    "model.reg.linearVariance",
    "[double], M{covar: [[double]]} -> double; [double], M{covar: [[[double]]]} -> [double]; "
    "{double}, M{covar: {{double}}} -> double; {double}, M{covar: {{{double}}}} -> {double}",
    typed=True,
)
def linear_variance(params: Sequence[Type], result: Type) -> Run:
    def run(datum: Any, model: Any) -> Any:
        covariance = model["covar"]
        if str(result) == "double":
            return _variance(datum, covariance)
        if type(covariance) is dict:
            return {k: _variance(datum, each) for k, each in covariance.items()}
        return [_variance(datum, each) for each in covariance]

    return run


@entry(
    "model.reg.gaussianProcess",
    "; ".join(
        f"{x}, [R{{x: {x}, to: {to}}}], (null|double), fn([double], [double] -> double) -> {to}"
        for x in ("double", "[double]")
        for to in ("double", "[double]")
    ),
)
def gaussian_process(x: Any, table: Sequence[Any], weight: float | None, kernel: Run) -> Any:
    """Universal Kriging: a linear trend by least squares, and the kernel's correction of it."""
    if not table:
        raise Failure(31080, "table must have at least 1 entry")
    single_x, single_to = type(x) is not list, type(table[0]["to"]) is not list
    points = [[each["x"]] if single_x else each["x"] for each in table]
    outputs = [[each["to"]] if single_to else each["to"] for each in table]
    at = [x] if single_x else x
    if not at:
        raise Failure(31081, "x must have at least 1 feature")
    if any(len(each) != len(at) for each in points):
        raise Failure(31082, "table must have the same number of features as x")
    if not outputs[0]:
        raise Failure(31083, "table outputs must have at least 1 dimension")
    if any(len(each) != len(outputs[0]) for each in outputs):
        raise Failure(31084, "table outputs must all have the same number of dimensions")
    if not all(map(math.isfinite, at)):
        raise Failure(31085, "x is not finite")
    if not all(math.isfinite(v) for row in (*points, *outputs) for v in row):
        raise Failure(31086, "table value is not finite")
    if weight is not None and not math.isfinite(weight):
        raise Failure(31087, "krigingWeight is not finite")
    a = np.array(points)
    y = np.array(outputs)
    gram = np.array([[kernel(p, q) for q in points] for p in points])
    if weight is not None:
        gram = gram + np.diag(np.full(len(points), weight))
    near = np.array([kernel(p, at) for p in points])
    trend = np.column_stack([np.ones(len(a)), a])
    inverse = np.linalg.pinv(gram)
    beta = np.linalg.pinv(trend.T @ inverse @ trend) @ trend.T @ inverse @ y
    found = np.array([1.0, *at]) @ beta + near @ inverse @ (y - trend @ beta)
    return float(found[0]) if single_to else found.tolist()


# -- bayes: numbers 10000 ----------------------------------------------------------------------


@entry(
    "model.naive.gaussian",
    "[double], [C{mean: double, variance: double}] -> double; "
    "{double}, {C{mean: double, variance: double}} -> double",
)
def naive_gaussian(datum: Any, model: Any) -> float:
    pairs = _paired(datum, model, 10000)
    total = 0.0
    for x, each in pairs:
        variance = each["variance"]
        if variance <= 0:
            raise Failure(10001, "variance less than or equal to zero")
        total += -0.5 * ln(2 * math.pi * variance) - (x - each["mean"]) ** 2 / (2 * variance)
    return total


def _paired(datum: Any, model: Any, code: int) -> list[tuple[Any, Any]]:
    if len(datum) != len(model) or (type(datum) is dict and datum.keys() != model.keys()):
        raise Failure(code, "datum and classModel misaligned")
    if type(datum) is dict:
        return [(x, model[k]) for k, x in datum.items()]
    return list(zip(datum, model, strict=True))


@entry(
    "model.naive.multinomial",
    "[double], C{values: [double]} -> double; {double}, C{values: {double}} -> double; "
    "[double], [double] -> double; {double}, {double} -> double",
)
def naive_multinomial(datum: Any, model: Any) -> float:
    table = model["values"] if type(model) is Fields else model
    by_name = type(table) is dict
    values = list(table.values()) if by_name else table
    # The reference implementation takes a map's values for probabilities as they are.
    total = 1.0 if by_name else sum(values)
    if not values or min(values) <= 0:
        raise Failure(10011, "classModel must be non-empty and strictly positive")
    return float(sum(x * ln(p / total) for x, p in _paired(datum, table, 10010)))


@entry(
    "model.naive.bernoulli",
    "[string], C{values: {double}} -> double; [string], {double} -> double",
)
def naive_bernoulli(datum: Sequence[str], model: Any) -> float:
    table = model["values"] if type(model) is Fields else model
    if not all(0 < p < 1 for p in table.values()):
        raise Failure(10020, "probability in classModel cannot be less than 0 or greater than 1")
    found = sum(ln(1.0 - p) for p in table.values())
    return found + sum(ln(table[w]) - ln(1.0 - table[w]) for w in datum if w in table)


# -- networks and support vectors: numbers 11000 and 12000 ---------------------------------------


@entry(
    "model.neural.simpleLayers",
    "[double], [M{weights: [[double]], bias: [double]}], fn(double -> double) -> [double]",
)
def simple_layers(datum: Vector, model: Sequence[Any], activation: Run) -> list[float]:
    """The activation follows every layer but the last."""
    if not model:
        raise Failure(11000, "no layers")
    x: Sequence[float] = datum
    for i, layer in enumerate(model):
        weights, bias = layer["weights"], layer["bias"]
        if len(weights) != len(bias) or any(len(row) != len(x) for row in weights):
            raise Failure(11001, "weights, bias, or datum misaligned")
        sums = [
            sum(a * w for a, w in zip(x, row, strict=True)) + b
            for row, b in zip(weights, bias, strict=True)
        ]
        x = sums if i == len(model) - 1 else [activation(v) for v in sums]
    return list(x)


@entry(
    "model.svm.score",
    "[double], L{const: double, posClass: [M{supVec: [double], coeff: double}], "
    "negClass: [N{supVec: [double], coeff: double}]}, fn([double], [double] -> double) -> double",
)
def svm_score(datum: Vector, model: Any, kernel: Run) -> float:
    positive, negative = model["posClass"], model["negClass"]
    if not positive and not negative:
        raise Failure(12000, "no support vectors")
    total = model["const"]
    for each in (*negative, *positive):
        if len(each["supVec"]) != len(datum):
            raise Failure(12001, "support vectors must have same length as datum")
        total += kernel(each["supVec"], datum) * each["coeff"]
    return float(total)
