"""The scores of models as ONNX: linear ones, trees, perceptrons; and what is made of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.convert.to_onnx.forest import summed
from martlet.convert.to_onnx.writer import Graph, Value
from martlet.errors import UnsupportedModel
from martlet.formats.spark.pipeline import OneVsRest, highest
from martlet.formats.stages import classes, models
from martlet.formats.stages.ensembles import Added, shares
from martlet.formats.stages.glm import Inverse
from martlet.tensors import DType


def scored(graph: Graph, score: Any, x: Value) -> Value:
    """
    Return what *score* makes of the vectors *x*: [rows], or [rows, classes].

    Raises:
        UnsupportedModel: it is not a formula that ONNX can write.
    """
    match score:
        case models.Linear(weights, intercept, sparse):
            return _product(graph, x, weights, sparse).column(0) + intercept
        case models.Affine(weights, intercepts, sparse):
            return _product(graph, x, weights, sparse) + np.asarray(intercepts)[None]
        case classes.Mirrored(margin):
            one = scored(graph, margin, x).as_column()
            return graph.side_by_side(-one, one)
        case models.Perceptron(layers):
            matrix, bias = layers[0]
            found = x @ matrix + np.asarray(bias)[None]
            for matrix, bias in layers[1:]:
                found = sigmoid(graph, found) @ matrix + np.asarray(bias)[None]
            return found
        case models.FactorisationMachine(intercept, weights, squares):
            sums = x @ weights
            factors = graph.call("Gather", sums, np.arange(1, weights.shape[1]), axis=1)
            pairs = (factors * factors).reduce("ReduceSum") - ((x * x) @ squares).column(0)
            return sums.column(0) + intercept + pairs * 0.5
        case OneVsRest(scorers):
            runs: list[Any] = [each.run for each in scorers]
            columns = [scored(graph, run.score, x).column(1).as_column() for run in runs]
            return graph.side_by_side(*columns)
        case models.NotNegative(inner):
            wrong = (~(x >= 0.0)).float64().reduce("ReduceMax") > 0.5
            return graph.refused(scored(graph, inner, x), wrong, "a number is below 0", rank=2)
        case models.ZeroOrOne(inner):
            wrong = (~(x.equals(0.0) | x.equals(1.0))).float64().reduce("ReduceMax") > 0.5
            return graph.refused(scored(graph, inner, x), wrong, "a number is not 0 or 1", rank=2)
        case models.LogShares(inner):
            return graph.call("LogSoftmax", scored(graph, inner, x), axis=1)
        case models.Gaussian(constant, means, variances):
            away = graph.call("Unsqueeze", x, np.array([1])) - means[None]
            far = graph.call("ReduceSum", away * away / variances[None], np.array([2]), keepdims=0)
            return constant[None] - far * 0.5
        case models.Curve(curve, element):
            return interpolated(graph, curve.boundaries, curve.predictions, x.column(element))
        case Added(trees, total, flat):
            rows = x if trees.columns is None else graph.call("Gather", x, trees.columns, axis=1)
            found = summed(graph, total, rows)
            return found.column(0) if flat else found
    raise UnsupportedModel("the model's formula has no exact counterpart in ONNX")


def _product(graph: Graph, x: Value, weights: NDArray[np.float64], sparse: bool) -> Value:
    """Columns that have no weight in any class make nothing of NaN where weights are sparse."""
    kept = np.flatnonzero(weights.any(axis=1))
    if sparse and 0 < len(kept) < len(weights):
        return graph.call("Gather", x, kept, axis=1) @ weights[kept]
    return x @ weights


def interpolated(graph: Graph, xs: Any, ys: Any, x: Value) -> Value:
    """Return what *ys* at the rising *xs* are at *x*: linear between, flat outside."""
    if len(xs) == 1:
        return graph.where(x.is_nan(), np.nan, float(ys[0]))
    slopes = np.diff(ys) / np.diff(xs)
    passed = (x.as_column() >= np.asarray(xs[1:-1])[None]).float64().reduce("ReduceSum")
    part = passed.cast(DType.INT64)
    start, base, slope = (
        graph.call("Gather", np.asarray(each, np.float64), part, axis=0)
        for each in (xs[:-1], ys[:-1], slopes)
    )
    found = (x - start) * slope + base
    found = graph.where(x >= float(xs[-1]), float(ys[-1]), found)
    return graph.where(x < float(xs[0]), float(ys[0]), found)


def probabilities(graph: Graph, probability: Any, raw: Value) -> Value:
    """Return the classes' probabilities of their scores. Shape [rows, classes]."""
    match probability:
        case classes.Logistic(slope):
            second = sigmoid(graph, raw.column(1) * float(slope)).as_column()
            return graph.side_by_side(1.0 - second, second)
        case classes.softmax:
            return graph.call("Softmax", raw, axis=1)
        case _ if probability is shares:
            total = raw.reduce("ReduceSum", True)
            return graph.where(total.equals(0.0), 0.0, raw / total)
    raise UnsupportedModel("the model's probabilities have no exact counterpart in ONNX")


def winner(graph: Graph, choose: Any, raw: Value, chances: Value | None) -> Value:
    """Return the class that *choose* chooses, float64 [rows]."""
    match choose:
        case classes.MarginChoice(limit):
            return (raw.column(1) > float(limit)).float64()
        case classes.ThresholdChoice(limits) if chances is not None:
            never = graph.constant((limits == 0)[None])
            alone = graph.where(chances.equals(0.0), 0.0, np.inf)
            scaled = graph.where(never, alone, chances / np.where(limits == 0, 1.0, limits)[None])
            scaled = graph.where(scaled.is_nan(), -np.inf, scaled)
            return graph.call("ArgMax", scaled, axis=1, keepdims=0).float64()
        case _ if choose is highest:
            known = graph.where(raw.is_nan(), -np.inf, raw)
            best = graph.call("ArgMax", known, axis=1, keepdims=0).float64()
            return graph.where(known.reduce("ReduceMax") > -np.inf, best, -1.0)
        case _ if choose is classes.argmax_choice:
            return graph.call("ArgMax", raw, axis=1, keepdims=0).float64()
    raise UnsupportedModel("the way a class is chosen has no exact counterpart in ONNX")


def linked(graph: Graph, inverse: Inverse, eta: Value) -> Value:
    """Return the mean of a linear predictor."""
    match inverse.link:
        case "identity":
            found = eta
        case "log":
            found = graph.call("Exp", eta)
        case "inverse":
            found = 1.0 / eta
        case "logit":
            found = sigmoid(graph, eta)
        case "cloglog":
            found = 1.0 - graph.call("Exp", -graph.call("Exp", eta))
        case "sqrt":
            found = eta * eta
        case "power" if inverse.power == 0:
            found = graph.call("Exp", eta)
        case "power":
            found = eta if inverse.power == 1 else graph.call("Pow", eta, 1.0 / inverse.power)
        case _:
            raise UnsupportedModel(f"the link {inverse.link!r} has no operator in ONNX")
    found = graph.where(found < inverse.low, inverse.low, found)
    return graph.where(found > inverse.high, inverse.high, found)


def sigmoid(graph: Graph, x: Value) -> Value:
    """Return ``1 / (1 + exp(-x))``, float64; below -709, where exp overflows, as at -709."""
    return 1.0 / (graph.call("Exp", -graph.where(x < -709.0, -709.0, x)) + 1.0)
