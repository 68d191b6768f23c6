"""Figures of rankings: how alike two lists of scores order things, how well one orders labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def ranks(values: NDArray[np.floating]) -> Floats:
    """
    Return the rank of each value, from 1; equal values share the mean of theirs. Shape [n].

    >>> ranks(np.array([10.0, 30.0, 10.0, 20.0])).tolist()
    [1.5, 4.0, 1.5, 3.0]
    """
    _, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    found: Floats = (ends - (counts - 1) / 2)[codes]
    return found


def spearman(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    """
    Return Spearman's rank correlation; where a side is all ties, 1.0 if both are, else 0.0.

    Args:
        a, b: Finite scores of the same things. Shape [n].

    Source:
        Kendall, "Rank Correlation Methods", 1948, with mean ranks for ties.
    """
    x, y = ranks(a) - (len(a) + 1) / 2, ranks(b) - (len(b) + 1) / 2
    size = float(np.sqrt((x * x).sum() * (y * y).sum()))
    if size == 0:
        return 1.0 if not x.any() and not y.any() else 0.0
    return float((x * y).sum() / size)


def auc(scores: NDArray[np.floating], positive: NDArray[np.bool_]) -> float:
    """
    Return the area under the ROC curve: how often a positive scores above a negative, ties half.

    Args:
        scores: Finite. Shape [n].
        positive: Which are positive; some are, and some are not. Shape [n].

    Source:
        Hanley and McNeil, "The meaning and use of the area under a ROC curve", Radiology 1982:
        the Mann-Whitney statistic over the product of the counts.

    >>> auc(np.array([0.1, 0.4, 0.35, 0.8]), np.array([False, False, True, True]))
    0.75
    """
    count = int(positive.sum())
    total = ranks(scores)[positive].sum()
    return float((total - count * (count + 1) / 2) / (count * (len(positive) - count)))
