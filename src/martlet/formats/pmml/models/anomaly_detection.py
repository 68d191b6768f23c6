"""AnomalyDetectionModel: another model's answer as an anomaly score.

Source: PMML 4.4.1, AnomalyDetectionModel.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from martlet.formats.pmml.arrays import array_numbers
from martlet.formats.pmml.context import Context
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.frame import Frame, Record
from martlet.formats.pmml.prediction import Outcome, Prediction, Ranking, numbers
from martlet.formats.pmml.values import DOUBLE

_EULER = 0.5772156649015329
_ALGORITHMS = ("iforest", "ocsvm", "clusterMeanDist", "other")


@dataclass(frozen=True, slots=True)
class Anomaly:
    """
    The inner model's slot, and what its numbers become.

    Args:
        normalizer: The average path length of an isolation forest's trees.
        means: The mean distance to each cluster's centre of what belongs to it.
    """

    context: Context
    slot: int
    algorithm: str
    normalizer: float = 1.0
    means: tuple[float, ...] = ()

    def predict(self, frame: Frame) -> Prediction:
        inner: Prediction = frame[self.slot]
        if self.algorithm == "clusterMeanDist":
            assert inner.affinity is not None, "clusters have distances"
            # Of the cluster that a row is nearest to; a row without distances has no score.
            nearest = np.where(np.isnan(inner.affinity), np.inf, inner.affinity).argmin(axis=1)
            distance = inner.affinity[np.arange(len(nearest)), nearest]
            found = distance / np.array(self.means)[nearest]
        else:
            found = inner.value.cast(DOUBLE).floats()
            if self.algorithm == "iforest":
                found = np.exp2(-found / self.normalizer)
        return numbers(found, DOUBLE, inner.value.errors)

    @property
    def outcome(self) -> Callable[[Record], Outcome | Prediction]:
        """A closure that answers one record."""
        program = self.context.scope.world.program
        read, frame_of = program.reader(self.slot), program.reader(0)
        algorithm, normalizer, means = self.algorithm, self.normalizer, self.means

        def call(record: Record) -> Outcome | Prediction:
            inner = read(record)
            if not isinstance(inner, Outcome):
                return self.predict(frame_of(record))
            if algorithm == "clusterMeanDist":
                ranking: Ranking | None = (inner.features or {}).get("ranking")
                distance = None if ranking is None else ranking.at(1)
                if ranking is None or distance is None:
                    return Outcome(None)
                return Outcome(distance / means[ranking.places[0]])
            if inner.value is None:
                return Outcome(None)
            found = float(inner.value)
            return Outcome(2.0 ** (-found / normalizer) if algorithm == "iforest" else found)

        return call


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
    if algorithm == "clusterMeanDist":
        return Anomaly(context, context.nested(inner).slot, algorithm, means=_means(element, inner))
    normalizer = path_length(element.number("sampleDataSize")) if algorithm == "iforest" else 1.0
    return Anomaly(context, context.nested(inner).slot, algorithm, normalizer)


def _means(element: Element, inner: Element) -> tuple[float, ...]:
    """Return the mean distances of the clusters of *inner*, a ClusteringModel, in order."""
    array = element.need_child("MeanClusterDistances").need_child("Array")
    found = tuple(array_numbers(array))
    clusters = len(inner.all("Cluster"))
    if inner.tag != "ClusteringModel" or len(found) != clusters or min(found, default=0) <= 0:
        raise array.error(f"needs a mean distance above 0 for each of {clusters} clusters")
    return found
