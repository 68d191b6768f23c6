"""Models of Spark ML whose score is a formula: from their folders to stages."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.errors import UnsupportedModel
from martlet.formats.spark.columns import Columns
from martlet.formats.spark.disk import Saved, is_sparse, matrix, number, vector
from martlet.formats.spark.features import Reader
from martlet.formats.stages import classes, clusters, glm, models
from martlet.formats.stages.classes import Names
from martlet.formats.stages.stage import Kind, Port, Stage
from martlet.formats.stages.vectors import Dense, Vector


def names(saved: Saved) -> Names:
    """Return the columns of a classifier."""
    return Names(
        saved.text("featuresCol"),
        saved.text("rawPredictionCol"),
        saved.text("probabilityCol"),
        saved.text("predictionCol"),
    )


def chooser(saved: Saved) -> classes.Chooser:
    """Return the choice of the highest score, or by ``thresholds`` where they are set."""
    thresholds = saved.numbers("thresholds")
    if thresholds is None:
        return classes.argmax_choice
    return classes.threshold_choice(saved.name, thresholds)


def logistic_regression(saved: Saved, columns: Columns) -> list[Stage]:
    """Spark 2.0 and before kept one vector of coefficients, for two classes."""
    row = saved.row()
    sparse = is_sparse(row.get("coefficientMatrix", row.get("coefficients")))
    if "coefficientMatrix" in row:
        coefficients = matrix(row["coefficientMatrix"], saved.name)
        intercepts = vector(row["interceptVector"], saved.name)
        multinomial = bool(row["isMultinomial"])
        count = int(row["numClasses"])
    else:
        coefficients = vector(row["coefficients"], saved.name)[None, :]
        intercepts = np.array([row["intercept"]], dtype=np.float64)
        multinomial, count = False, int(row.get("numClasses", 2))
    width = coefficients.shape[1]
    if multinomial:
        if len(coefficients) != count or len(intercepts) != count:
            raise UnsupportedModel(f"{saved.name}: coefficients do not fit {count} classes")
        score = models.affine(coefficients, intercepts, sparse=sparse)
        return [
            classes.classifier(
                saved.name, names(saved), width, count, score, classes.softmax, chooser(saved)
            )
        ]
    margin = models.linear(coefficients[0], float(intercepts[0]), sparse=sparse)
    limit = classes.logit_limit(_threshold(saved))
    if not saved.text("rawPredictionCol"):
        # Spark then asks the probability, which is 0 below: not above a threshold of 0.
        limit = max(limit, _LEAST_MARGIN)
    return [
        classes.classifier(
            saved.name,
            names(saved),
            width,
            2,
            classes.Mirrored(margin),
            classes.Logistic(),
            classes.margin_choice(limit),
        )
    ]


_LEAST_MARGIN = -math.log(sys.float_info.max)
"""Below it ``1 / (1 + exp(-margin))`` is 0."""


def _threshold(saved: Saved) -> float:
    """``thresholds`` go before ``threshold``, which Spark before 2.4 wrote down set or not."""
    pair = saved.numbers("thresholds")
    if pair is None:
        return saved.number("threshold", 0.5)
    if len(pair) != 2 or pair[1] == 0:
        raise UnsupportedModel(f"{saved.name}: thresholds {pair} are not usable")
    return 1.0 / (1.0 + pair[0] / pair[1])


def linear_regression(saved: Saved, columns: Columns) -> list[Stage]:
    row = saved.row()
    coefficients = vector(row["coefficients"], saved.name)
    sparse = is_sparse(row["coefficients"])
    score = models.linear(coefficients, float(row["intercept"]), sparse=sparse)
    return [_regressor(saved, len(coefficients), score)]


def _regressor(saved: Saved, width: int, score: Any) -> Stage:
    return classes.regressor(
        saved.name, saved.text("featuresCol"), width, saved.text("predictionCol"), score
    )


def generalized_linear_regression(saved: Saved, columns: Columns) -> list[Stage]:
    row = saved.row()
    coefficients = vector(row["coefficients"], saved.name)
    eta = models.linear(coefficients, float(row["intercept"]))
    family = saved.text("family", "gaussian").lower()
    link = saved.params.get("link")
    power = saved.params.get("linkPower")
    inverse = glm.inverse_link(
        saved.name,
        family,
        None if link is None else str(link).lower(),
        saved.number("variancePower", 0.0),
        None if power is None else number(power, f"{saved.name}: linkPower"),
    )
    return [
        glm.regressor(
            saved.name,
            saved.text("featuresCol"),
            len(coefficients),
            saved.text("predictionCol"),
            saved.text("linkPredictionCol", ""),
            saved.text("offsetCol", ""),
            eta,
            inverse,
        )
    ]


def linear_svc(saved: Saved, columns: Columns) -> list[Stage]:
    row = saved.row()
    coefficients = vector(row["coefficients"], saved.name)
    sparse = is_sparse(row["coefficients"])
    margin = models.linear(coefficients, float(row["intercept"]), sparse=sparse)
    return [
        classes.classifier(
            saved.name,
            names(saved),
            len(coefficients),
            2,
            classes.Mirrored(margin),
            None,
            classes.margin_choice(saved.number("threshold", 0.0)),
        )
    ]


def naive_bayes(saved: Saved, columns: Columns) -> list[Stage]:
    row = saved.row()
    pi, theta = vector(row["pi"], saved.name), matrix(row["theta"], saved.name)
    sigma = matrix(row["sigma"], saved.name) if row.get("sigma") else None
    kind = saved.text("modelType", "multinomial")
    score = models.naive_bayes(saved.name, kind, pi, theta, sigma)
    return [
        classes.classifier(
            saved.name, names(saved), theta.shape[1], len(theta), score, classes.softmax,
            chooser(saved),
        )
    ]  # fmt: skip


def perceptron(saved: Saved, columns: Columns) -> list[Stage]:
    """Spark 2 kept the layers beside the weights; 3 and later keep them as a parameter."""
    row = saved.row()
    layers = [int(size) for size in row.get("layers") or saved.param("layers", [])]
    if len(layers) < 2:
        raise UnsupportedModel(f"{saved.name}: layers are {layers}")
    score = models.perceptron(saved.name, layers, vector(row["weights"], saved.name))
    return [
        classes.classifier(
            saved.name, names(saved), layers[0], layers[-1], score, classes.softmax, chooser(saved)
        )
    ]


def _machine(saved: Saved) -> tuple[int, models.Score]:
    row = saved.row()
    linear, factors = vector(row["linear"], saved.name), matrix(row["factors"], saved.name)
    if len(linear) != len(factors):
        raise UnsupportedModel(f"{saved.name}: {len(linear)} weights, {len(factors)} factors")
    return len(linear), models.factorisation_machine(float(row["intercept"]), linear, factors)


def factorisation_classifier(saved: Saved, columns: Columns) -> list[Stage]:
    width, margin = _machine(saved)
    return [
        classes.classifier(
            saved.name,
            names(saved),
            width,
            2,
            classes.Mirrored(margin),
            classes.Logistic(),
            chooser(saved),
        )
    ]


def factorisation_regressor(saved: Saved, columns: Columns) -> list[Stage]:
    width, score = _machine(saved)
    return [_regressor(saved, width, score)]


def _cosine(saved: Saved, measure: Any = None) -> bool:
    named = measure or saved.text("distanceMeasure", "euclidean")
    if named not in ("euclidean", "cosine"):
        raise UnsupportedModel(f"{saved.name}: the distance {named!r} is not supported")
    return bool(named == "cosine")


def kmeans(saved: Saved, columns: Columns) -> list[Stage]:
    """Spark 2 and later keep a centre a row; 1.6 kept them in one list."""
    rows = saved.rows()
    if "clusterCenters" in rows[0]:
        centres = [vector(each, saved.name) for each in rows[0]["clusterCenters"]]
    else:
        ordered = sorted(rows, key=lambda row: int(row["clusterIdx"]))
        centres = [vector(row["clusterCenter"], saved.name) for row in ordered]
    table = np.stack(centres)
    find = clusters.nearest(table, _cosine(saved))
    return [_clusterer(saved, table.shape[1], find)]


def _clusterer(saved: Saved, width: int, find: Any) -> Stage:
    return clusters.clusterer(
        saved.name, saved.text("featuresCol"), width, saved.text("predictionCol"), find
    )


def bisecting_kmeans(saved: Saved, columns: Columns) -> list[Stage]:
    rows = saved.rows("data/data")
    # The old library's model, with metadata of its own, inside the new one's folder.
    meta = saved.inner()
    centres = {int(row["index"]): vector(row["center"], saved.name) for row in rows}
    children = {int(row["index"]): [int(c) for c in row["children"] or []] for row in rows}
    cosine = _cosine(saved, meta.get("distanceMeasure"))
    find = clusters.bisecting(saved.name, int(meta["rootId"]), centres, children, cosine)
    width = len(next(iter(centres.values())))
    return [_clusterer(saved, width, find)]


def gaussian_mixture(saved: Saved, columns: Columns) -> list[Stage]:
    row = saved.row()
    means = np.stack([vector(each, saved.name) for each in row["mus"]])
    covariances = np.stack([matrix(each, saved.name) for each in row["sigmas"]])
    weights = np.array(row["weights"], dtype=np.float64)
    score = clusters.gaussian_mixture(weights, means, covariances)

    def run(x: Vector) -> tuple[Vector, NDArray[np.int32]]:
        chances = score(x)
        return Dense(chances), chances.argmax(axis=1).astype(np.int32)

    return [
        Stage(
            saved.name,
            (Port(saved.text("featuresCol"), Kind.VECTOR, means.shape[1]),),
            (
                Port(saved.text("probabilityCol"), Kind.VECTOR, len(weights)),
                Port(saved.text("predictionCol"), Kind.INTEGER),
            ),
            run,
            predicts=True,
        )
    ]


def als(saved: Saved, columns: Columns) -> list[Stage]:
    """A pair with an id that was not trained answers NaN, ``drop`` or not: no row is lost."""
    tables = []
    for folder in ("userFactors", "itemFactors"):
        table = saved.table(folder)
        ids = table.column("id").to_numpy().astype(np.int64)
        lists = table.column("features").combine_chunks()
        flat = np.asarray(lists.flatten().to_numpy(zero_copy_only=False), dtype=np.float32)
        rank = int(saved.extra.get("rank", len(flat) // max(1, len(ids))))
        if len(flat) != rank * len(ids):
            raise UnsupportedModel(f"{saved.name}: {folder} does not hold {rank} factors a row")
        tables.append((ids, flat.reshape(len(ids), rank)))
    return [
        models.factors(
            saved.name,
            saved.text("userCol"),
            saved.text("itemCol"),
            saved.text("predictionCol"),
            tables[0],
            tables[1],
        )
    ]


def isotonic_regression(saved: Saved, columns: Columns) -> list[Stage]:
    row = saved.row()
    isotonic = models.Isotonic(
        np.array(row["boundaries"], dtype=np.float64),
        np.array(row["predictions"], dtype=np.float64),
    )
    features, prediction = saved.text("featuresCol"), saved.text("predictionCol")
    curve = models.Curve(isotonic, int(saved.number("featureIndex", 0)))
    if columns.is_vector(features):
        return [classes.regressor(saved.name, features, columns.width(features), prediction, curve)]
    return [
        Stage(
            saved.name,
            (Port(features, Kind.ANY),),
            (Port(prediction, Kind.NUMBER),),
            curve,
            predicts=True,
        )
    ]


def survival_regression(saved: Saved, columns: Columns) -> list[Stage]:
    """Accelerated failure time with Weibull's law: quantiles beside the prediction."""
    row = saved.row()
    coefficients = vector(row["coefficients"], saved.name)
    eta = models.linear(coefficients, float(row["intercept"]))
    scale = float(row["scale"])
    chances = np.array(
        saved.numbers("quantileProbabilities")
        or [0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99]
    )
    spread = np.exp(np.log(-np.log1p(-chances)) * scale)
    column = saved.text("quantilesCol", "")
    extra = (Port(column, Kind.VECTOR, len(chances)),) if column else ()

    def quantiles(x: Vector) -> tuple[Vector]:
        return (Dense(np.exp(eta(x))[:, None] * spread),)

    return [
        classes.regressor(
            saved.name,
            saved.text("featuresCol"),
            len(coefficients),
            saved.text("predictionCol"),
            lambda x: np.asarray(np.exp(eta(x))),
            extra,
            quantiles if column else None,
        )
    ]


READERS: Mapping[str, Reader] = {
    "LogisticRegressionModel": logistic_regression,
    "LinearRegressionModel": linear_regression,
    "GeneralizedLinearRegressionModel": generalized_linear_regression,
    "LinearSVCModel": linear_svc,
    "NaiveBayesModel": naive_bayes,
    "MultilayerPerceptronClassificationModel": perceptron,
    "FMClassificationModel": factorisation_classifier,
    "FMRegressionModel": factorisation_regressor,
    "KMeansModel": kmeans,
    "BisectingKMeansModel": bisecting_kmeans,
    "GaussianMixtureModel": gaussian_mixture,
    "ALSModel": als,
    "IsotonicRegressionModel": isotonic_regression,
    "AFTSurvivalRegressionModel": survival_regression,
}
