"""Figures of ranking: does one list of scores order things as another does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.rankings import spearman
from martlet.tensors import Tensor

Floats = NDArray[np.float64]

_NOISE = 1e-6
"""Scores nearer than this (absolute, and relative) count as the same score: a tie that rounding
broke is not a change of order."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Means over *groups* groups of two or more rows; 1.0 where there is none."""

    groups: int
    rank_correlation: float
    top_k_overlap: float


def scores(output: Tensor) -> Floats:
    """Return one score a row: of two columns the second, which is the positive class."""
    found: Floats = output.reshape(len(output), -1)[:, -1].astype(np.float64)
    return found


def figures(original: Floats, candidate: Floats, groups: Tensor | None, top_k: int) -> Figures:
    """
    Return how alike the two order the rows of each group.

    Args:
        original, candidate: A finite score a row.
        groups: Of each row; None: all rows are one group.
        top_k: How many of the best are compared.
    """
    near = np.abs(original - candidate) <= _NOISE + _NOISE * np.abs(original)
    candidate = np.where(near, original, candidate)
    correlations, overlaps = [], []
    for rows in _each(groups, len(original)):
        if len(rows) > 1:
            correlations.append(spearman(original[rows], candidate[rows]))
            overlaps.append(overlap(original[rows], candidate[rows], top_k))
    if not correlations:
        return Figures(0, 1.0, 1.0)
    return Figures(len(correlations), float(np.mean(correlations)), float(np.mean(overlaps)))


def _each(groups: Tensor | None, count: int) -> list[Any]:
    if groups is None:
        return [np.arange(count)]
    _, codes = np.unique(np.array([str(each) for each in groups.ravel()]), return_inverse=True)
    order = np.argsort(codes, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(codes[order])) + 1)


def overlap(original: Floats, candidate: Floats, top_k: int) -> float:
    """
    Return which share of the candidate's best *top_k* the original too scores among its best.

    An item as good as the original's last one counts: among equals either choice is right.
    """
    k = min(top_k, len(original))
    least = np.sort(original)[-k]
    chosen = original[np.argsort(-candidate, kind="stable")[:k]]
    return float((chosen >= least - _NOISE - _NOISE * abs(least)).mean())


def logloss(found: Floats, labels: Tensor) -> float | None:
    """Return the mean negative log likelihood; None where *found* are no probabilities."""
    if found.min() < 0 or found.max() > 1:
        return None
    chance = np.clip(found, 1e-15, 1 - 1e-15)
    return float(-np.where(labels.astype(bool), np.log(chance), np.log1p(-chance)).mean())
