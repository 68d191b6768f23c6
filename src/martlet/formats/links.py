"""From a booster's raw scores to what its objective predicts, as its library does it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from martlet.tensors import Tensor

Link = Callable[[Tensor], Tensor]


def identity(raw: Tensor) -> Tensor:
    """Return *raw* itself."""
    return raw


def sigmoid(raw: Tensor, slope: float | Tensor = 1.0) -> Tensor:
    """Return 1 / (1 + exp(-slope * raw)), of the dtype of *raw*; of many slopes, for each."""
    found = np.multiply(raw, -slope)
    with np.errstate(over="ignore"):
        np.exp(found, out=found)
    found += 1
    return np.reciprocal(found, out=found)


def softmax(raw: Tensor) -> Tensor:
    """Return the softmax over the last axis, of the dtype of *raw*."""
    found: Tensor = raw - raw.max(axis=-1, keepdims=True)
    np.exp(found, out=found)
    found /= found.sum(axis=-1, keepdims=True)
    return found
