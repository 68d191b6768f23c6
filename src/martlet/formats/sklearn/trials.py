"""Do two ways to call a scikit-learn model answer the same, to the last bit? Rows to try it on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from martlet.tensors import Tensor

Way = Callable[[Any], Any]
"""From rows to what a model answers: an array, or several."""


def drawn(features: int) -> list[Tensor]:
    """Return matrices to try a model on: numbers of many sizes, counts, and missing ones."""
    dice = np.random.default_rng(0)
    sizes = dice.normal(size=(5, features)) * 10.0 ** dice.integers(-2, 2, size=(5, features))
    counts = dice.integers(0, 3, size=(5, features)).astype(float)
    missing = np.where(dice.random((1, features)) < 0.5, np.nan, 1.0)
    missing[:, 0] = np.nan
    return [sizes, counts, counts[:1], missing]


def outcomes(ways: Iterable[Way], tables: Iterable[Any]) -> list[Any]:
    """Return what each way answers of a copy of each table, or how it fails."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return [_outcome(way, table) for way in ways for table in tables]


def _outcome(way: Way, table: Any) -> Any:
    try:
        return way(table.copy())
    except Exception as exc:
        return f"{type(exc).__name__}: {exc}"


def equal(one: Any, other: Any) -> bool:
    """Return whether two outcomes are the same in every bit."""
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(equal, one, other))
    if isinstance(one, str) or isinstance(other, str):
        return type(one) is type(other) and bool(one == other)
    first, second = _dense(one), _dense(other)
    if first.dtype != second.dtype or first.shape != second.shape:
        return False
    return bool(np.array_equal(first, second, equal_nan=first.dtype.kind in "fc"))


def _dense(value: Any) -> Tensor:
    return np.asarray(value.toarray() if hasattr(value, "toarray") else value)
