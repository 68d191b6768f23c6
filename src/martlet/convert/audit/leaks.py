"""Inputs that give the label away: seen in logged rows, never judged by a name."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from martlet.convert.asking.rows import Logged
from martlet.rankings import auc
from martlet.tensors import Signature, Tensor

SURE = 0.99
"""An area under the curve that no honest single feature reaches."""


@dataclass(frozen=True, slots=True)
class Leak:
    """
    Why an input looks like the label's own source.

    Args:
        auc: Of the label, ordered by this input alone (whichever way is better).
        decides: Whether each of its values always comes with the same label.
        why: The same in words.
    """

    auc: float
    decides: bool
    why: str


def leaks_in(logged: Logged, signature: Signature) -> dict[str, Leak]:
    """
    Return the inputs of *signature* that alone nearly decide the label of the logged rows.

    A number orders the rows; a word stands for the mean label of the other half of the rows that
    have it, so that a word met once tells nothing.
    """
    labels = logged.labels
    if labels is None or not 0 < int(labels.sum()) < len(labels):
        return {}
    found: dict[str, Leak] = {}
    for name in signature.inputs:
        if name not in logged.columns:
            continue
        leak = _leak(logged.columns[name], labels)
        if leak is not None:
            found[name] = leak
    return found


def _leak(values: list[object], labels: Tensor) -> Leak | None:
    numbers = _numbers(values)
    codes = np.unique(np.array([str(v) for v in values]), return_inverse=True)[1]
    halves = _by_value(codes, labels)
    positive = labels.astype(bool)
    areas = [max(a, 1 - a) for a in (auc(halves, positive),)]
    if numbers is not None:
        area = auc(numbers, positive)
        areas.append(max(area, 1 - area))
    best = max(areas)
    if best < SURE:
        return None
    decides = _decides(codes, labels)
    why = f"alone it orders the labels with AUC {best:.4f}"
    if decides:
        why += f", and each of its {codes.max() + 1} values always comes with the same label"
    return Leak(best, decides, why)


def _numbers(values: list[object]) -> NDArray[np.float64] | None:
    try:
        found = np.array([0.0 if v in (None, "") else float(str(v)) for v in values])
    except ValueError:
        return None
    return found if np.isfinite(found).all() else None


def _by_value(codes: NDArray[np.intp], labels: Tensor) -> NDArray[np.float64]:
    """Return for each row the mean label of its value among the rows of the other half."""
    half = np.arange(len(codes)) % 2
    mean = float(labels.mean())
    found = np.full(len(codes), mean)
    for side in (0, 1):
        other = half != side
        sums = np.bincount(codes[other], labels[other], codes.max() + 1)
        counts = np.bincount(codes[other], minlength=codes.max() + 1)
        # One row's worth of the overall mean: what was never met says nothing.
        means = (sums + mean) / (counts + 1)
        found[half == side] = means[codes[half == side]]
    return found


def _decides(codes: NDArray[np.intp], labels: Tensor) -> bool:
    sums, counts = np.bincount(codes, labels), np.bincount(codes)
    pure = (sums == 0) | (sums == counts)
    return bool(pure.all()) and len(counts) * 2 <= len(codes)
