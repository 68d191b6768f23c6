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
from martlet.formats.mleap.operations import Reader
from martlet.formats.stages import classes, ensembles, glm, models
from martlet.formats.stages.classes import Names
from martlet.formats.stages.ensembles import Ensemble, Split
from martlet.formats.stages.ensembles import Node as TreeNode
from martlet.formats.stages.plan import Kind, Port, Stage
from martlet.formats.stages.vectors import Dense, Floats, Vector

Known = Mapping[str, Port]


def _features(node: Node) -> str:
    found = node.port("features", "input")
    if not found:
        raise UnsupportedModel(f"{node.label} has no input 'features'")
    return found


def _prediction(node: Node) -> str:
    return node.port("prediction", "output", output=True)


def names(node: Node) -> Names:
    """Return the columns of a classifier; ports were named otherwise in early bundles."""
    return Names(
        _features(node),
        node.port("raw_prediction", "rawPrediction", output=True),
        node.port("probability", output=True),
        _prediction(node),
    )


def chooser(node: Node) -> classes.Chooser:
    thresholds = node.get("thresholds")
    if not thresholds:
        return classes.argmax_choice
    return classes.threshold_choice(node.label, [float(v) for v in thresholds])


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
    coefficients = node.vector("coefficients")
    margin = models.linear(coefficients, _number(node, "intercept", 0.0))
    choose = classes.margin_choice(_number(node, "threshold", 0.0))
    return [_two_classes(node, len(coefficients), margin, choose)]


def linear_regression(node: Node, known: Known) -> list[Stage]:
    coefficients = node.vector("coefficients")
    score = models.linear(coefficients, _number(node, "intercept", 0.0))
    return [
        classes.regressor(node.label, _features(node), len(coefficients), _prediction(node), score)
    ]


def generalized_linear_regression(node: Node, known: Known) -> list[Stage]:
    coefficients = node.vector("coefficients")
    inverse = glm.inverse_link(
        node.label, str(node.need("family")).lower(), str(node.need("link")).lower(), 0.0, None
    )
    return [
        glm.regressor(
            node.label,
            _features(node),
            len(coefficients),
            _prediction(node),
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


# -- trees -------------------------------------------------------------------------------------


def _split_json(found: Mapping[str, Any]) -> Split:
    feature = int(found.get("featureIndex", found.get("feature_index", 0)))
    if found.get("type") == "continuous":
        return Split(feature, threshold=float(found["threshold"]))
    is_left = bool(found.get("isLeft", found.get("is_left", False)))
    size = int(found.get("numCategories", found.get("num_categories", 0)))
    return _categorical(feature, is_left, size, [float(v) for v in found.get("categories", ())])


def _categorical(feature: int, is_left: bool, size: int, values: list[float]) -> Split:
    """The file lists the smaller half, and says whether it is the left one."""
    chosen = {int(v) for v in values}
    if not is_left:
        chosen = set(range(size)) - chosen
    return Split(feature, left=tuple(sorted(chosen)), size=size)


def _entry_json(found: Mapping[str, Any]) -> Split | list[float]:
    if found.get("type") == "internal":
        return _split_json(found["split"])
    values = found.get("values")
    if values is None:
        # Early bundles: a prediction, and a classifier's impurities.
        values = found.get("impurities") or [found["prediction"]]
    return [float(v) for v in values]


def _entry_pb(data: bytes) -> Split | list[float]:
    for number, value in wire.fields(data):
        inner = dict(wire.fields(wire.message(value)))
        if number == 1:
            return _split_pb(wire.message(inner.get(1, b"")))
        if number == 2:
            return wire.doubles(inner.get(1, b""))
    raise UnsupportedModel("a node of a tree is neither inner nor a leaf")


def _split_pb(data: bytes) -> Split:
    for number, value in wire.fields(data):
        body = wire.message(value)
        parts = dict(wire.fields(body))
        feature = parts.get(1, 0)
        assert isinstance(feature, int)
        if number == 2:
            threshold = wire.doubles(parts[2])[0] if 2 in parts else 0.0
            return Split(feature, threshold=threshold)
        size = parts.get(3, 0)
        assert isinstance(size, int)
        values = [
            v for field, packed in wire.fields(body) if field == 4 for v in wire.doubles(packed)
        ]
        return _categorical(feature, bool(parts.get(2, 0)), size, values)
    raise UnsupportedModel("a split of a tree is empty")


def _tree(node: Node, folder: str, classify: bool) -> list[TreeNode]:
    """The nodes lie in the order of a walk, left before right: the places follow from that."""
    lines = node.files.lines(_tree_path(node, folder))
    entries = [_entry_pb(each) if isinstance(each, bytes) else _entry_json(each) for each in lines]
    children: list[list[int]] = [[] for _ in entries]
    open_nodes: list[int] = []
    for i, entry in enumerate(entries):
        if i and not open_nodes:
            raise UnsupportedModel(f"{node.label}: a tree in {folder} has nodes left over")
        if i:
            children[open_nodes[-1]].append(i)
            if len(children[open_nodes[-1]]) == 2:
                open_nodes.pop()
        if isinstance(entry, Split):
            open_nodes.append(i)
    if open_nodes or not entries:
        raise UnsupportedModel(f"{node.label}: a tree in {folder} is cut short")
    found: list[TreeNode] = []
    for entry, below in zip(entries, children, strict=True):
        if isinstance(entry, Split):
            found.append(TreeNode(0.0, split=entry, children=(below[0], below[1])))
        else:
            stats = tuple(entry) if classify else ()
            found.append(TreeNode(0.0 if classify else entry[0], stats))
    return found


def _tree_path(node: Node, folder: str) -> str:
    for name in ("tree", "nodes"):
        path = f"{folder}/{name}"
        if f"{path}.json" in node.files.archive or f"{path}.pb" in node.files.archive:
            return path
    raise UnsupportedModel(f"{node.label}: there is no tree in {folder}")


def _ensemble(node: Node, classify: bool, single: bool) -> Ensemble:
    folders = [node.folder] if single else [f"{node.folder}/{n}" for n in node.need("trees")]
    trees = [_tree(node, folder, classify) for folder in folders]
    return Ensemble(node.label, trees, int(node.need("num_features")))


def _weights(node: Node, trees: Ensemble) -> list[float]:
    weights = [float(v) for v in node.need("tree_weights")]
    if len(weights) != trees.forest.trees:
        raise UnsupportedModel(
            f"{node.label}: {len(weights)} weights for {trees.forest.trees} trees"
        )
    return weights


def _voting(node: Node, single: bool) -> list[Stage]:
    trees = _ensemble(node, True, single)
    count = int(node.need("num_classes"))
    return [ensembles.voting(node.label, trees, names(node), count, chooser(node), single=single)]


def tree_classifier(node: Node, known: Known) -> list[Stage]:
    return _voting(node, single=True)


def forest_classifier(node: Node, known: Known) -> list[Stage]:
    return _voting(node, single=False)


def boosted_classifier(node: Node, known: Known) -> list[Stage]:
    trees = _ensemble(node, False, False)
    weights = _weights(node, trees)
    return [ensembles.boosted_classifier(node.label, trees, names(node), weights, chooser(node))]


def _tree_regressor(node: Node, trees: Ensemble, weights: list[float]) -> list[Stage]:
    return [
        ensembles.tree_regressor(node.label, trees, _features(node), _prediction(node), weights)
    ]


def tree_regressor(node: Node, known: Known) -> list[Stage]:
    return _tree_regressor(node, _ensemble(node, False, True), [1.0])


def forest_regressor(node: Node, known: Known) -> list[Stage]:
    trees = _ensemble(node, False, False)
    count = trees.forest.trees
    return _tree_regressor(node, trees, [1.0 / count] * count)


def boosted_regressor(node: Node, known: Known) -> list[Stage]:
    trees = _ensemble(node, False, False)
    return _tree_regressor(node, trees, _weights(node, trees))


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


# -- clusters and others -----------------------------------------------------------------------


def k_means(node: Node, known: Known) -> list[Stage]:
    centres = np.stack(node.vectors("cluster_centers"))
    cosine = str(node.get("distance_measure") or "euclidean") == "cosine"
    return [
        models.clusterer(
            node.label, _features(node), centres.shape[1], _prediction(node),
            models.nearest(centres, cosine),
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
    find = models.bisecting(node.label, 0, centres, children, cosine=False)
    return [models.clusterer(node.label, _features(node), len(centres[0]), _prediction(node), find)]


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
    score = models.gaussian_mixture(weights, means, covariances)
    probability = node.port("probability", output=True)

    def run(x: Vector) -> Any:
        chances = score(x)
        chosen: NDArray[np.int32] = chances.argmax(axis=1).astype(np.int32)
        return (chosen, Dense(chances)) if probability else chosen

    outputs = [Port(_prediction(node), Kind.INTEGER)]
    if probability:
        outputs.append(Port(probability, Kind.VECTOR, len(weights)))
    return [
        Stage(
            node.label,
            (Port(_features(node), Kind.VECTOR, width),),
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
            _prediction(node),
            tables[0],
            tables[1],
        )
    ]


def isotonic_regression(node: Node, known: Known) -> list[Stage]:
    isotonic = models.Isotonic(node.vector("boundaries"), node.vector("predictions"))
    run = models.Curve(isotonic, int(node.get("feature_index") or 0))
    source = _features(node)
    port = known.get(source)
    if port is None:
        vector = node.get("feature_index") is not None
        port = Port(source, Kind.VECTOR if vector else Kind.NUMBER)
    return [Stage(node.label, (port,), (Port(_prediction(node), Kind.NUMBER),), run, predicts=True)]


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
            _features(node),
            len(coefficients),
            _prediction(node),
            lambda x: np.asarray(np.exp(eta(x))),
            (Port(column, Kind.VECTOR, len(times)),) if column else (),
            quantiles if column else None,
        )
    ]


_BINARY: Mapping[str, Reader] = {
    "logistic_regression": logistic_regression,
    "support_vector_machine": support_vector_machine,
    "linear_svc": support_vector_machine,
    "decision_tree_classifier": tree_classifier,
    "random_forest_classifier": forest_classifier,
    "gbt_classifier": boosted_classifier,
    "naive_bayes": naive_bayes,
    "multi_layer_perceptron_classifier": perceptron,
}

READERS: Mapping[str, Reader] = {
    **_BINARY,
    "linear_regression": linear_regression,
    "generalized_linear_regression": generalized_linear_regression,
    "decision_tree_regression": tree_regressor,
    "random_forest_regression": forest_regressor,
    "gbt_regression": boosted_regressor,
    "one_vs_rest": one_vs_rest,
    "k_means": k_means,
    "bisecting_k_means": bisecting_k_means,
    "gaussian_mixture": gaussian_mixture,
    "als": als,
    "isotonic_regression": isotonic_regression,
    "aft_survival_regression": survival_regression,
}
