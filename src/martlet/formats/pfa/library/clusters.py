"""``model.cluster.*`` and ``model.neighbor.*``: what is near."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

from martlet.formats.pfa.failure import Failure
from martlet.formats.pfa.library import entry
from martlet.formats.pfa.library.arrays import hashable
from martlet.formats.pfa.library.core import Run, divide
from martlet.formats.pfa.library.metrics import simple_euclidean
from martlet.formats.pfa.values import Fields

Vector = Sequence[float]

# -- clusters: numbers 29000 -------------------------------------------------------------------

_METRIC = "fn(A, B -> double)"


def _squares(x: Vector, y: Vector) -> float:
    """Return the squared distance over the elements that both have."""
    return sum((a - b) ** 2 for a, b in zip(x, y, strict=False))


def _distance(datum: Any, clusters: Sequence[Any], metric: Run | None) -> list[float]:
    if metric is None:
        return [_squares(datum, each["center"]) for each in clusters]
    return [metric(datum, each["center"]) for each in clusters]


@entry(
    "model.cluster.closest",
    f"[double], [C{{center: [double]}}] -> C; A, [C{{center: B}}], {_METRIC} -> C",
)
def closest(datum: Any, clusters: Sequence[Any], metric: Run | None = None) -> Any:
    if not clusters:
        raise Failure(29000, "no clusters")
    distances = _distance(datum, clusters, metric)
    return clusters[distances.index(min(distances))]


@entry(
    "model.cluster.closestN",
    f"int, [double], [C{{center: [double]}}] -> [C]; int, A, [C{{center: B}}], {_METRIC} -> [C]",
)
def closest_n(n: int, datum: Any, clusters: Sequence[Any], metric: Run | None = None) -> list[Any]:
    if n < 0:
        raise Failure(29010, "n must be nonnegative")
    distances = _distance(datum, clusters, metric)
    return [clusters[i] for i in sorted(range(len(clusters)), key=distances.__getitem__)[:n]]


@entry("model.cluster.randomSeeds", "[[A]], int, fn(int, [A] -> C{center: [B]}) -> [C]")
def random_seeds(data: Sequence[Any], k: int, make: Run) -> list[Any]:
    if k <= 0:
        raise Failure(29020, "k must be greater than zero")
    unique = list({hashable(each): each for each in data}.values())
    if len(unique) < k:
        raise Failure(29021, "not enough unique points")
    if any(len(each) != len(unique[0]) for each in unique):
        raise Failure(29022, "dimensions of vectors do not match")
    return [make(i, each) for i, each in enumerate(random.sample(unique, k))]


@entry(
    "model.cluster.kmeansIteration",
    "[[A]], [C{center: [B]}], fn([A], [B] -> double), fn([[A]], C -> C) -> [C]",
)
def kmeans_iteration(
    data: Sequence[Any], clusters: Sequence[Any], metric: Run, update: Run
) -> list[Any]:
    if not data:
        raise Failure(29030, "no data")
    if not clusters:
        raise Failure(29031, "no clusters")
    members: list[list[Any]] = [[] for _ in clusters]
    for datum in data:
        distances = _distance(datum, clusters, metric)
        members[distances.index(min(distances))].append(datum)
    return [update(own, each) if own else each for own, each in zip(members, clusters, strict=True)]


@entry("model.cluster.updateMean", "[[double]], C{center: [double]}, double -> C")
def update_mean(data: Sequence[Vector], cluster: Any, weight: float) -> Fields:
    if not data:
        raise Failure(29040, "no data")
    size = len(cluster["center"])
    if any(len(each) != size for each in data):
        raise Failure(29041, "dimensions of vectors do not match")
    total = len(data) + weight
    centre = [
        divide(sum(each[i] for each in data) + weight * old, total)
        for i, old in enumerate(cluster["center"])
    ]
    return Fields(cluster.kind, {**cluster, "center": centre})


# -- neighbours: numbers 30000 -----------------------------------------------------------------


def _from(datum: Any, codebook: Sequence[Any], metric: Run | None, code: int) -> list[float]:
    if metric is not None:
        return [metric(datum, each) for each in codebook]
    if any(len(each) != len(datum) for each in codebook):
        raise Failure(code, "inconsistent dimensionality")
    return [simple_euclidean(datum, each) for each in codebook]


@entry(
    "model.neighbor.nearestK",
    f"int, [double], [[double]] -> [[double]]; int, A, [B], {_METRIC} -> [B]",
)
def nearest_k(k: int, datum: Any, codebook: Sequence[Any], metric: Run | None = None) -> list[Any]:
    if k < 0:
        raise Failure(30010, "k must be nonnegative")
    distances = _from(datum, codebook, metric, 30011)
    return [codebook[i] for i in sorted(range(len(codebook)), key=distances.__getitem__)[:k]]


@entry(
    "model.neighbor.ballR",
    f"double, [double], [[double]] -> [[double]]; double, A, [B], {_METRIC} -> [B]",
)
def ball_r(r: float, datum: Any, codebook: Sequence[Any], metric: Run | None = None) -> list[Any]:
    if metric is None:
        distances = [math.sqrt(_squares(datum, each)) for each in codebook]
    else:
        distances = [metric(datum, each) for each in codebook]
    return [each for each, away in zip(codebook, distances, strict=True) if away < r]


@entry(
    "model.neighbor.mean", "[[double]] -> [double]; [[double]], fn([double] -> double) -> [double]"
)
def neighbor_mean(points: Sequence[Vector], weight: Run | None = None) -> list[float]:
    if not points:
        raise Failure(30000, "not enough points")
    if any(len(each) != len(points[0]) for each in points):
        raise Failure(30001, "inconsistent dimensionality")
    weights = [1.0 if weight is None else weight(each) for each in points]
    total = sum(weights)
    return [
        divide(sum(w * each[i] for w, each in zip(weights, points, strict=True)), total)
        for i in range(len(points[0]))
    ]
