"""XGBoost's and LightGBM's models within a bundle: from nodes to stages."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from martlet.errors import UnsupportedModel
from martlet.formats.mleap.bundle import Node
from martlet.formats.mleap.ports import Reader, features, names, prediction
from martlet.formats.stages import boosters
from martlet.formats.stages.boosters import Boosted, Missing
from martlet.formats.stages.classes import (
    Chooser,
    argmax_choice,
    likeliest_choice,
    threshold_choice,
)
from martlet.formats.stages.stage import Port, Stage
from martlet.formats.stages.vectors import Floats

Known = Mapping[str, Port]


def rounded_choice(raw: Floats, probability: Floats | None) -> Floats:
    """Return the class with the highest probability, of two equal ones the second."""
    assert probability is not None
    if probability.shape[1] != 2:
        return likeliest_choice(raw, probability)
    return np.floor(probability[:, 1] + 0.5)


def _xgboost(node: Node, known: Known) -> tuple[Boosted, Missing]:
    """
    The booster lies in a file of its own. What a vector that a node made leaves out is missing.

    Source: MLeap's ``XgbConverters``: a sparse vector becomes a sparse row of XGBoost's.
    """
    limit = node.get("tree_limit")
    if limit:
        raise UnsupportedModel(f"{node.label}: tree_limit {limit} is not supported")
    booster = boosters.xgboost(node.label, node.files.archive.read(f"{node.folder}/xgboost.model"))
    number = node.get("missing")
    if node.get("treats_zero_as_missing"):
        number = 0.0
    return booster, Missing(
        float("nan") if number is None else float(number), absent=features(node) in known
    )


def xgboost_classifier(node: Node, known: Known) -> list[Stage]:
    booster, missing = _xgboost(node, known)
    leaf = node.port("leaf_prediction", output=True)
    return [
        boosters.boosted_classifier(node.label, booster, names(node), missing, rounded_choice, leaf)
    ]


def xgboost_regression(node: Node, known: Known) -> list[Stage]:
    booster, missing = _xgboost(node, known)
    leaf = node.port("leaf_prediction", output=True)
    return [
        boosters.boosted_regressor(
            node.label, booster, features(node), prediction(node), missing, leaf
        )
    ]


def _lightgbm(node: Node) -> Boosted:
    return boosters.lightgbm(node.label, str(node.need("booster")).encode())


def lightgbm_classifier(node: Node, known: Known) -> list[Stage]:
    thresholds = node.get("thresholdValues")
    choose: Chooser = argmax_choice
    if thresholds:
        choose = threshold_choice(node.label, [float(v) for v in thresholds])
    return [
        boosters.boosted_classifier(node.label, _lightgbm(node), names(node), Missing(), choose)
    ]


def lightgbm_regression(node: Node, known: Known) -> list[Stage]:
    return [
        boosters.boosted_regressor(
            node.label, _lightgbm(node), features(node), prediction(node), Missing()
        )
    ]


READERS: Mapping[str, Reader] = {
    "xgboost.classifier": xgboost_classifier,
    "xgboost.regression": xgboost_regression,
    "lightgbm_classifier": lightgbm_classifier,
    "lightgbm_regression": lightgbm_regression,
}
