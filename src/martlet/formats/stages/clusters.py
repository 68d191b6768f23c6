"""Which of several clusters a row belongs to: nearest centres, a tree of them, a mixture."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from martlet.errors import InvalidInput, UnsupportedModel
from martlet.formats.stages.models import Score
from martlet.formats.stages.stage import Kind, Port, Stage
from martlet.formats.stages.vectors import Dense, Floats, Vector


@dataclass(frozen=True, slots=True)
class Nearest:
    """The number of the nearest of *centres*, which are of length 1 where *cosine* is meant."""

    centres: Floats
    cosine: bool

    def __call__(self, x: Vector) -> NDArray[np.int32]:
        values = x.dense()
        if np.isnan(values).any():
            raise InvalidInput("a vector holds a missing value, which is near to nothing")
        if self.cosine:
            size = np.sqrt(np.square(values).sum(axis=1))
            if not size.all():
                raise InvalidInput("the cosine to a vector of zeros is not defined")
            found = np.asarray((values @ self.centres.T).argmax(axis=1), dtype=np.int32)
            found[np.isinf(size)] = 0  # no distance is a number: Spark keeps the first
            return found
        # The differences, not the expanded square: no digits lost far from the origin.
        away = values[:, None, :] - self.centres
        return np.asarray(np.square(away).sum(axis=2).argmin(axis=1), dtype=np.int32)


def nearest(centres: Floats, cosine: bool) -> Callable[[Vector], NDArray[np.int32]]:
    """
    Return the number of the nearest of *centres* [k, width], the first of equals. [rows].

    Raises InvalidInput where a row holds NaN, or is zero and its cosine asked for.
    """
    if cosine:
        lengths = np.sqrt(np.square(centres).sum(axis=1, keepdims=True))
        centres = np.divide(centres, lengths, out=np.zeros_like(centres), where=lengths != 0)
    return Nearest(centres, cosine)


def gaussian_mixture(weights: Floats, means: Floats, covariances: Floats) -> Score:
    """
    Return the probability of each component, [rows, k].

    Args:
        means: [k, width]. covariances: [k, width, width]; singular ones by pseudo-inverse.
    """
    roots: list[Floats] = []
    constants: list[float] = []
    for covariance in covariances:
        values, vectors = np.linalg.eigh(covariance)
        tolerance = np.finfo(np.float64).eps * max(float(values.max()), 0.0) * len(values)
        used = values > tolerance
        if not used.any():
            raise UnsupportedModel("a component's covariance matrix is zero")
        roots.append(vectors[:, used] / np.sqrt(values[used]))
        constants.append(
            -0.5 * (len(values) * np.log(2 * np.pi) + float(np.log(values[used]).sum()))
        )

    def score(x: Vector) -> Floats:
        values = x.dense()
        found = np.empty((len(values), len(weights)))
        for j, (root, constant) in enumerate(zip(roots, constants, strict=True)):
            away = (values - means[j]) @ root
            density = np.exp(constant - 0.5 * np.square(away).sum(axis=1))
            # Spark adds the smallest step of a double, so that no row sums to 0.
            found[:, j] = np.finfo(np.float64).eps + weights[j] * density
        return np.asarray(found / found.sum(axis=1, keepdims=True))

    return score


def bisecting(
    name: str,
    root: int,
    centres: dict[int, Floats],
    children: Mapping[int, Sequence[int]],
    cosine: bool,
) -> Callable[[Vector], NDArray[np.int32]]:
    """Return the leaf that a walk from *root* to the nearest child each time ends in."""
    leaf_number: dict[int, int] = {}

    # Spark numbers the leaves in the order in which a walk of the tree meets them.
    pending, seen = [root], 0
    while pending:
        node = pending.pop()
        seen += 1
        if seen > len(centres):
            raise UnsupportedModel(f"{name}: its tree of clusters has a loop")
        if children.get(node):
            pending.extend(reversed(list(children[node])))
        else:
            leaf_number[node] = len(leaf_number)
    steps = {
        node: (list(below), nearest(np.stack([centres[each] for each in below]), cosine))
        for node, below in children.items()
        if below
    }

    def find(x: Vector) -> NDArray[np.int32]:
        values = x.dense()
        out = np.empty(len(values), dtype=np.int32)
        waiting = [(root, np.arange(len(values)))]
        while waiting:
            node, rows = waiting.pop()
            if node not in steps:
                out[rows] = leaf_number[node]
                continue
            below, choose = steps[node]
            chosen = choose(Dense(values[rows]))
            for j, child in enumerate(below):
                here = rows[chosen == j]
                if here.size:
                    waiting.append((child, here))
        return out

    return find


def clusterer(
    name: str,
    features: str,
    width: int,
    prediction: str,
    find: Callable[[Vector], NDArray[np.int32]],
) -> Stage:
    """Return a model stage that gives the number of a cluster, int32."""
    return Stage(
        name,
        (Port(features, Kind.VECTOR, width),),
        (Port(prediction, Kind.INTEGER),),
        find,
        predicts=True,
    )
