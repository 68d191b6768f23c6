"""scikit-learn's naive Bayes by its own likelihoods, in blocks that stay in the cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from martlet.tensors import Tensor

_KINDS = frozenset({"ComplementNB", "GaussianNB", "MultinomialNB"})

_BLOCK = 1 << 15
"""Numbers of the rows whose likelihoods are computed at a time: 256 KiB."""


def answers_of(model: Any) -> Callable[[Tensor], dict[str, Tensor]] | None:
    """
    Return what makes ``predict`` and ``predict_proba`` of finite rows; None for other models.

    Raises:
        AttributeError: it is of another version, or not fitted.

    Source:
        scikit-learn, ``naive_bayes.py``.
    """
    kind = type(model)
    if not kind.__module__.startswith("sklearn.") or kind.__name__ not in _KINDS:
        return None
    classes, likelihoods = model.classes_, model._joint_log_likelihood
    # The others are one product, in which BLAS adds few rows in another order than many.
    block = max(1, _BLOCK // model.n_features_in_) if kind.__name__ == "GaussianNB" else None

    def answers(rows: Tensor) -> dict[str, Tensor]:
        if block is None or len(rows) <= block or not rows.flags.c_contiguous:
            found = likelihoods(rows)
        else:
            parts = (rows[at : at + block] for at in range(0, len(rows), block))
            found = np.concatenate([likelihoods(part) for part in parts])
        chances = np.exp(found - _log_of_sum(found))
        return {"predict": classes.take(found.argmax(axis=1)), "predict_proba": chances}

    return answers


def _log_of_sum(logs: Tensor) -> Tensor:
    """
    Return the logarithm of the sum of what *logs* [rows, n] are the logarithms of, [rows, 1].

    Source: SciPy 1.15 and later, ``special/_logsumexp.py``: the largest are kept out of the sum.
    """
    top = logs.max(axis=1, keepdims=True)
    is_top = logs == top
    count = is_top.sum(axis=1, keepdims=True, dtype=np.float64)
    rest = np.exp(np.where(is_top, -np.inf, logs) - top).sum(axis=1, keepdims=True)
    found: Tensor = np.log1p(np.where(rest == 0, rest, rest / count)) + np.log(count) + top
    return found
