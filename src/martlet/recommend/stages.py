"""The steps between candidates and slate, on arrays: merge, filter, re-rank. Pure functions.

An item is its key: int64, or text in an object array. Arrays of one stage are aligned.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.recommend.declaration import Scalar

Keys = NDArray[Any]
Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]
Order = NDArray[np.intp]

OPERATORS: Mapping[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
    "!=": operator.ne,
}


@dataclass(frozen=True, slots=True)
class Pool:
    """
    Candidates so far, best first within a source.

    Args:
        items: Keys. Shape [n], no key twice.
        scores: What the source said of each. Shape [n].
        sources: Which source brought each: an index into the declaration's. Shape [n].
    """

    items: Keys
    scores: Floats
    sources: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.items)

    def take(self, which: Mask | Order) -> Pool:
        """Return those that *which* selects, in its order."""
        return Pool(self.items[which], self.scores[which], self.sources[which])


def merge(found: Sequence[tuple[Keys, Floats]]) -> Pool:
    """
    Return one pool of what the sources found; of an item that several found, the first counts.

    Sources keep their order, so candidates that no step ranks come out in the declared order.
    """
    filled = [(index, each) for index, each in enumerate(found) if len(each[0])]
    if not filled:
        return Pool(np.empty(0, np.int64), np.empty(0), np.empty(0, np.int64))
    items = np.concatenate([keys for _, (keys, _) in filled])
    scores = np.concatenate([values for _, (_, values) in filled])
    sources = np.repeat(
        np.array([index for index, _ in filled]), [len(keys) for _, (keys, _) in filled]
    )
    _, first = np.unique(items, return_index=True)
    first.sort()
    return Pool(items[first], scores[first], sources[first])


def add_up(items: Keys, scores: Floats, count: int) -> tuple[Keys, Floats]:
    """Return the *count* items with the highest sums of scores, best first; ties as they came."""
    keys, first, place = np.unique(items, return_index=True, return_inverse=True)
    sums = np.bincount(place, weights=scores, minlength=len(keys))
    best = np.lexsort((first, -sums))[:count]
    return keys[best], sums[best].astype(np.float64)


def satisfies(values: NDArray[Any], symbol: str, value: Scalar) -> Mask:
    """
    Return where ``values symbol value`` is true. Shape [n].

    Text that holds several values split at ``|`` equals a value when one of them does. A
    missing value (NaN, None, "") satisfies nothing but ``!=``.
    """
    if values.dtype == object:
        negated = symbol == "!="
        if symbol in ("==", "!="):
            same = [bool(v) and value in str(v).split("|") for v in values]
            return np.array([each != negated for each in same], dtype=bool)
        test = OPERATORS[symbol]
        return np.array([bool(v) and test(str(v), str(value)) for v in values], dtype=bool)
    return np.asarray(OPERATORS[symbol](values, value), dtype=bool)


def dedupe(order: Order, values: NDArray[Any]) -> Order:
    """Return *order* with the first of each value; a missing value is like no other."""
    seen: set[Any] = set()
    kept = []
    for place in order.tolist():
        value = values[place]
        if _missing(value) or value not in seen:
            kept.append(place)
            seen.add(value)
    return np.array(kept, dtype=np.intp)


def _missing(value: Any) -> bool:
    # A table has "" where a text is missing, NaN where a number is.
    return value is None or value == "" or bool(value != value)


def cap(order: Order, values: NDArray[Any], most: int, size: int) -> Order:
    """
    Return *order* with at most *most* of one value among its first *size*.

    Items that the cap holds back follow them, in order: a full slate matters more than the cap.
    """
    counts: dict[str, int] = {}
    kept: list[int] = []
    held = []
    for place in order.tolist():
        value = values[place]
        parts = [] if _missing(value) else str(value).split("|")
        if len(kept) >= size or any(counts.get(part, 0) >= most for part in parts):
            held.append(place)
            continue
        kept.append(place)
        for part in parts:
            counts[part] = counts.get(part, 0) + 1
    return np.array(kept + held, dtype=np.intp)


def diversify(
    order: Order, scores: Floats, vectors: NDArray[np.float32], weight: float, size: int
) -> Order:
    """
    Return *order* with its first *size* chosen by maximal marginal relevance.

    Each next item maximises ``(1 - weight) * score - weight * (greatest cosine to those
    chosen)``, with scores scaled to 0..1; no score (NaN) is the lowest there is.

    Args:
        scores: By place, shape [n]; higher is better.
        vectors: By place, shape [n, dim]; a row of zeros is like nothing.

    Source:
        Carbonell and Goldstein, "The Use of MMR", SIGIR 1998.
    """
    if len(order) == 0:
        return order
    relevance = _scaled(scores[order])
    lengths = np.linalg.norm(vectors[order], axis=1, keepdims=True)
    units = vectors[order] / np.where(lengths > 0, lengths, 1)
    nearest = np.zeros(len(order))
    free = np.ones(len(order), dtype=bool)
    chosen = []
    for _ in range(min(size, len(order))):
        gain = np.where(free, (1 - weight) * relevance - weight * nearest, -np.inf)
        best = int(gain.argmax())
        chosen.append(best)
        free[best] = False
        nearest = np.maximum(nearest, units @ units[best])
    ranked: Order = order[np.concatenate([np.array(chosen, dtype=np.intp), np.flatnonzero(free)])]
    return ranked


def _scaled(scores: Floats) -> Floats:
    """Return *scores* on a scale of 0 to 1: the infinities at its ends, NaN at 0."""
    finite = scores[np.isfinite(scores)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 0.0)
    if high > low:
        scaled = (np.clip(scores, low, high) - low) / (high - low)
    else:
        scaled = np.where(np.isposinf(scores), 1.0, np.where(np.isfinite(scores), 0.5, 0.0))
    found: Floats = np.nan_to_num(scaled, nan=0.0)
    return found
