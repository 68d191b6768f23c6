"""MLeap's models: from nodes to stages."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.errors import UnsupportedModel
from martlet.formats.mleap import wire
from martlet.formats.mleap.bundle import Node
from martlet.formats.mleap.ports import Reader, chooser, features, names, prediction
from martlet.formats.mleap.trees import CLASSIFIERS, REGRESSORS
from martlet.formats.stages import classes, clusters, glm, models
from martlet.formats.stages.stage import Kind, Port, Stage
from martlet.formats.stages.vectors import Dense, Floats, Vector

Known = Mapping[str, Port]


def _number(node: Node, name: str, default: float | None = None) -> float:
    found = node.need(name) if default is None else node.get(name)
    if found is None:
        assert default is not None
        return default
    values = np.asarray(found.values if hasattr(found, "values") else found, float).ravel()
    if len(values) != 1:
        raise UnsupportedModel(f"{node.label}: {name!r} is not one number")
    return float(values[0])


def logistic_regression(node: Node, known: Known) -> list[Stage]:
    if node.get("coefficient_matrix") is not None:
        coefficients, intercepts = (
            node.matrix("coefficient_matrix"),
            node.vector("intercept_vector"),
        )
        count, width = coefficients.shape
        return [
            classes.classifier(
                node.label, names(node), width, count, models.affine(coefficients, intercepts),
                classes.softmax, chooser(node),
            )
        ]  # fmt: skip
    coefficients = node.vector("coefficients")
    margin = models.linear(coefficients, _number(node, "intercept", 0.0))
    limit = classes.logit_limit(_number(node, "threshold", 0.5))
    return [_two_classes(node, len(coefficients), margin, classes.margin_choice(limit))]


def _two_classes(node: Node, width: int, margin: models.Score, choose: classes.Chooser) -> Stage:
    return classes.classifier(
        node.label,
        names(node),
        width,
        2,
        classes.Mirrored(margin),
        classes.Logistic(),
        choose,
    )


def support_vector_machine(node: Node, known: Known) -> list[Stage]:
    """Of two classes, as in MLeap."""
    if (count := int(_number(node, "num_classes", 2))) != 2:
        raise UnsupportedModel(f"{node.label}: support vectors of {count} classes")
    coefficients = node.vector("coefficients")
    margin = models.linear(coefficients, _number(node, "intercept", 0.0))
    choose = classes.margin_choice(_number(node, "threshold", 0.0))
    return [_two_classes(node, len(coefficients), margin, choose)]


def linear_regression(node: Node, known: Known) -> list[Stage]:
    coefficients = node.vector("coefficients")
    score = models.linear(coefficients, _number(node, "intercept", 0.0))
    return [
        classes.regressor(node.label, features(node), len(coefficients), prediction(node), score)
    ]


def generalized_linear_regression(node: Node, known: Known) -> list[Stage]:
    coefficients = node.vector("coefficients")
    inverse = glm.inverse_link(
        node.label, str(node.need("family")).lower(), str(node.need("link")).lower(), 0.0, None
    )
    return [
        glm.regressor(
            node.label,
            features(node),
            len(coefficients),
            prediction(node),
            node.port("link_prediction", output=True),
            "",
            models.linear(coefficients, _number(node, "intercept", 0.0)),
            inverse,
        )
    ]


def naive_bayes(node: Node, known: Known) -> list[Stage]:
    pi, theta = node.vector("pi"), node.matrix("theta")
    sigma = node.matrix("sigma") if node.get("sigma") is not None else None
    score = models.naive_bayes(node.label, str(node.need("model_type")).lower(), pi, theta, sigma)
    return [
        classes.classifier(
            node.label, names(node), theta.shape[1], len(theta), score, classes.softmax,
            chooser(node),
        )
    ]  # fmt: skip


def perceptron(node: Node, known: Known) -> list[Stage]:
    layers = [int(size) for size in node.need("layers")]
    if len(layers) < 2:
        raise UnsupportedModel(f"{node.label}: layers are {layers}")
    score = models.perceptron(node.label, layers, node.vector("weights"))
    return [
        classes.classifier(
            node.label, names(node), layers[0], layers[-1], score, classes.softmax, chooser(node)
        )
    ]


def one_vs_rest(node: Node, known: Known) -> list[Stage]:
    """Each class's model gives the probability of its class; the highest wins."""
    count = int(node.need("num_classes"))
    if not 0 < count <= 100_000:
        raise UnsupportedModel(f"{node.label}: num_classes is {count}")
    scorers = []
    for i in range(count):
        folder = f"{node.folder}/model{i}"
        op, attributes = node.files.model(folder)
        if op not in _BINARY:
            raise UnsupportedModel(f"{node.label}: one-vs-rest over {op!r} is not supported")
        columns = (("raw_prediction", "raw"), ("probability", "probability"))
        inner = replace(node, op=op, attributes=attributes, folder=folder, outputs=columns)
        scorers.append(_BINARY[op](inner, known)[0])

    def score(x: Vector) -> Floats:
        out = np.empty((x.rows, count))
        for i, scorer in enumerate(scorers):
            out[:, i] = scorer.run(x)[1].dense()[:, 1]
        return out

    outputs = names(node)
    width = scorers[0].inputs[0].width
    if not outputs.probability:
        return [
            classes.classifier(
                node.label, outputs, width, count, score, None, classes.argmax_choice
            )
        ]

    def run(x: Vector) -> tuple[Any, ...]:
        found = score(x)
        return found.max(axis=1), found.argmax(axis=1).astype(np.float64)

    # MLeap's probability is that of the class which won, one number a row.
    return [
        Stage(
            node.label,
            (Port(outputs.features, Kind.VECTOR, width),),
            (Port(outputs.probability, Kind.NUMBER), Port(outputs.prediction, Kind.NUMBER)),
            run,
            predicts=True,
        )
    ]


def k_means(node: Node, known: Known) -> list[Stage]:
    centres = np.stack(node.vectors("cluster_centers"))
    cosine = str(node.get("distance_measure") or "euclidean") == "cosine"
    return [
        clusters.clusterer(
            node.label, features(node), centres.shape[1], prediction(node),
            clusters.nearest(centres, cosine),
        )
    ]  # fmt: skip


def bisecting_k_means(node: Node, known: Known) -> list[Stage]:
    centres: dict[int, Floats] = {}
    children: dict[int, list[int]] = {}
    open_nodes: list[tuple[int, int]] = []
    for i, line in enumerate(node.files.lines(f"{node.folder}/tree")):
        values, count = _cluster_entry(line)
        centres[i] = np.array(values, dtype=np.float64)
        children[i] = []
        if open_nodes:
            parent, left = open_nodes.pop()
            children[parent].append(i)
            if left > 1:
                open_nodes.append((parent, left - 1))
        elif i:
            raise UnsupportedModel(f"{node.label}: its tree has nodes left over")
        if count:
            open_nodes.append((i, count))
    if open_nodes or not centres:
        raise UnsupportedModel(f"{node.label}: its tree is cut short")
    find = clusters.bisecting(node.label, 0, centres, children, cosine=False)
    return [clusters.clusterer(node.label, features(node), len(centres[0]), prediction(node), find)]


def _cluster_entry(line: Any) -> tuple[list[float], int]:
    if isinstance(line, bytes):
        parts = dict(wire.fields(line))
        count = parts.get(4, 0)
        assert isinstance(count, int)
        return wire.doubles(parts.get(3, b"")), count
    return line["values"], int(line.get("numChildren", line.get("num_children", 0)))


def gaussian_mixture(node: Node, known: Known) -> list[Stage]:
    means = np.stack(node.vectors("means"))
    width = means.shape[1]
    covariances = np.stack([each.reshape(width, width) for each in node.vectors("covs")])
    weights = node.vector("weights")
    score = clusters.gaussian_mixture(weights, means, covariances)
    probability = node.port("probability", output=True)

    def run(x: Vector) -> Any:
        chances = score(x)
        chosen: NDArray[np.int32] = chances.argmax(axis=1).astype(np.int32)
        return (chosen, Dense(chances)) if probability else chosen

    outputs = [Port(prediction(node), Kind.INTEGER)]
    if probability:
        outputs.append(Port(probability, Kind.VECTOR, len(weights)))
    return [
        Stage(
            node.label,
            (Port(features(node), Kind.VECTOR, width),),
            tuple(outputs),
            run,
            predicts=True,
        )
    ]


def als(node: Node, known: Known) -> list[Stage]:
    tables = []
    for ids, factors in (("users", "user_factors"), ("items", "item_factors")):
        table = np.stack(node.vectors(factors)).astype(np.float32)
        tables.append((np.array(node.need(ids), dtype=np.int64), table))
    return [
        models.factors(
            node.label,
            node.port("user"),
            node.port("item"),
            prediction(node),
            tables[0],
            tables[1],
        )
    ]


def isotonic_regression(node: Node, known: Known) -> list[Stage]:
    isotonic = models.Isotonic(node.vector("boundaries"), node.vector("predictions"))
    run = models.Curve(isotonic, int(node.get("feature_index") or 0))
    source = features(node)
    port = known.get(source)
    if port is None:
        vector = node.get("feature_index") is not None
        port = Port(source, Kind.VECTOR if vector else Kind.NUMBER)
    return [Stage(node.label, (port,), (Port(prediction(node), Kind.NUMBER),), run, predicts=True)]


def survival_regression(node: Node, known: Known) -> list[Stage]:
    coefficients = node.vector("coefficients")
    eta = models.linear(coefficients, _number(node, "intercept", 0.0))
    scale = _number(node, "scale", 1.0)
    spread = [
        math.exp(math.log(-math.log1p(-p)) * scale) for p in node.need("quantile_probabilities")
    ]
    column = node.port("quantiles", output=True)
    times = np.array(spread)

    def quantiles(x: Vector) -> tuple[Vector]:
        return (Dense(np.exp(eta(x))[:, None] * times),)

    return [
        classes.regressor(
            node.label,
            features(node),
            len(coefficients),
            prediction(node),
            lambda x: np.asarray(np.exp(eta(x))),
            (Port(column, Kind.VECTOR, len(times)),) if column else (),
            quantiles if column else None,
        )
    ]


_BINARY: Mapping[str, Reader] = {
    **CLASSIFIERS,
    "logistic_regression": logistic_regression,
    "support_vector_machine": support_vector_machine,
    "svm": support_vector_machine,  # as MLeap's Python package calls it
    "linear_svc": support_vector_machine,
    "naive_bayes": naive_bayes,
    "multi_layer_perceptron_classifier": perceptron,
}

READERS: Mapping[str, Reader] = {
    **_BINARY,
    **REGRESSORS,
    "linear_regression": linear_regression,
    "generalized_linear_regression": generalized_linear_regression,
    "one_vs_rest": one_vs_rest,
    "k_means": k_means,
    "bisecting_k_means": bisecting_k_means,
    "gaussian_mixture": gaussian_mixture,
    "als": als,
    "isotonic_regression": isotonic_regression,
    "aft_survival_regression": survival_regression,
}
