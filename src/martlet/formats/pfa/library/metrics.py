"""``metric.*``: number 28000."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from martlet.formats.pfa.failure import Failure
from martlet.formats.pfa.library import entry
from martlet.formats.pfa.library.core import Run, divide, power
from martlet.formats.pfa.library.maths import exp

Vector = Sequence[float]


@entry("metric.simpleEuclidean", "[double], [double] -> double")
def simple_euclidean(x: Vector, y: Vector) -> float:
    if len(x) != len(y):
        raise Failure(28000, "dimensions of vectors do not match")
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(x, y, strict=True)))


entry("metric.absDiff", "double, double -> double")(lambda x, y: abs(x - y))


@entry("metric.gaussianSimilarity", "double, double, double -> double")
def gaussian_similarity(x: float, y: float, sigma: float) -> float:
    return exp(-math.log(2) * divide((x - y) ** 2, sigma**2))


_METRIC = (
    "fn(A, B -> double), [(null|A)], [(null|B)]{0} -> double; "
    "fn(A, B -> double), [(null|A)], [(null|B)]{0}, [double] -> double"
)


def _differences(
    similarity: Run, x: Sequence[Any], y: Sequence[Any], weights: Vector | None, code: int
) -> tuple[list[float], float]:
    """Return the differences that neither side misses, and what weighs up those that do."""
    if len(x) != len(y) or (weights is not None and len(weights) != len(x)):
        raise Failure(code, "dimensions of vectors do not match")
    found: list[float] = []
    share = total = 0.0
    for i, (a, b) in enumerate(zip(x, y, strict=True)):
        weight = 1.0 if weights is None else weights[i]
        total += weight
        if a is not None and b is not None:
            found.append(similarity(a, b))
            share += weight
    return found, divide(share, total)


def _metric(
    name: str, code: int, run: Callable[[list[float]], float], after: Callable[[float], float]
) -> None:
    @entry(f"metric.{name}", _METRIC.format(""))
    def call(similarity: Run, x: Any, y: Any, weights: Vector | None = None) -> float:
        found, share = _differences(similarity, x, y, weights, code)
        return after(divide(run(found), share)) if found else math.nan


_metric("euclidean", 28030, lambda d: sum(v * v for v in d), math.sqrt)
_metric("squaredEuclidean", 28040, lambda d: sum(v * v for v in d), float)
_metric("chebyshev", 28050, lambda d: max(0.0, *d), float)
_metric("taxicab", 28060, sum, float)


@entry("metric.minkowski", _METRIC.format(", double"))
def minkowski(similarity: Run, x: Any, y: Any, p: float, weights: Vector | None = None) -> float:
    if p <= 0:
        raise Failure(28071, "Minkowski parameter p must be positive")
    found, share = _differences(similarity, x, y, weights, 28070)
    if math.isinf(p):
        return max(0.0, *found) if found else 0.0
    return power(divide(sum(power(v, p) for v in found), share), 1.0 / p) if found else math.nan


def _counts(x: Sequence[bool], y: Sequence[bool], code: int) -> tuple[int, int, int, int]:
    if len(x) != len(y):
        raise Failure(code, "dimensions of vectors do not match")
    pairs = list(zip(x, y, strict=True))
    return (
        pairs.count((False, False)),
        pairs.count((False, True)),
        pairs.count((True, False)),
        pairs.count((True, True)),
    )


_BITS = "[boolean], [boolean]{0} -> double"


@entry("metric.simpleMatching", _BITS.format(""))
def simple_matching(x: Any, y: Any) -> float:
    a00, a01, a10, a11 = _counts(x, y, 28080)
    return divide(a11 + a00, a11 + a10 + a01 + a00)


@entry("metric.jaccard", _BITS.format(""))
def jaccard(x: Any, y: Any) -> float:
    _, a01, a10, a11 = _counts(x, y, 28090)
    return divide(a11, a11 + a10 + a01)


@entry("metric.tanimoto", _BITS.format(""))
def tanimoto(x: Any, y: Any) -> float:
    a00, a01, a10, a11 = _counts(x, y, 28100)
    return divide(a11 + a00, a11 + 2 * (a10 + a01) + a00)


@entry("metric.binarySimilarity", _BITS.format(", double" * 8))
def binary_similarity(x: Any, y: Any, *weights: float) -> float:
    counts = _counts(x, y, 28110)
    over = sum(w * n for w, n in zip(weights[:4], counts, strict=True))
    under = sum(w * n for w, n in zip(weights[4:], counts, strict=True))
    return divide(over, under)
