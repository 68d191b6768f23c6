"""AnomalyDetectionModel: another model's answer as an anomaly score.

Source: PMML 4.4.1, AnomalyDetectionModel.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from martlet.formats.pmml.context import Context
from martlet.formats.pmml.frame import Frame
from martlet.formats.pmml.prediction import Prediction, numbers
from martlet.formats.pmml.values import DOUBLE

_EULER = 0.5772156649015329
_ALGORITHMS = ("iforest", "ocsvm", "clusterMeanDist", "other")


@dataclass(frozen=True, slots=True)
class Anomaly:
    """The inner model's slot, and what its numbers become."""

    slot: int
    algorithm: str
    normalizer: float

    def predict(self, frame: Frame) -> Prediction:
        inner: Prediction = frame[self.slot]
        if self.algorithm == "clusterMeanDist":
            assert inner.affinity is not None
            found = np.nanmin(inner.affinity, axis=1) / self.normalizer
        else:
            found = inner.value.cast(DOUBLE).floats()
            if self.algorithm == "iforest":
                found = np.exp2(-found / self.normalizer)
        return numbers(found, DOUBLE, inner.value.errors)


def path_length(samples: float) -> float:
    """Return the average path of an unsuccessful search in a binary tree of *samples*."""
    if samples <= 2:
        return 1.0
    return 2 * (math.log(samples - 1) + _EULER) - 2 * (samples - 1) / samples


def compile_model(context: Context) -> Anomaly:
    """Compile an AnomalyDetectionModel."""
    element = context.element
    algorithm = element.choice("algorithmType", _ALGORITHMS)
    inner = next((e for e in element.children if e.tag.endswith(("Model", "Network"))), None)
    if inner is None:
        raise element.error("holds no model")
    normalizer = 1.0
    if algorithm == "iforest":
        normalizer = path_length(element.number("sampleDataSize"))
    elif algorithm == "clusterMeanDist":
        means = element.child("MeanClusterDistances")
        if means is None:
            raise element.error("holds no MeanClusterDistances")
        raise means.error("is not supported: each cluster has a mean of its own")
    return Anomaly(context.nested(inner).slot, algorithm, normalizer)
