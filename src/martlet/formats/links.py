"""From a booster's raw scores to what its objective predicts, as its library does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from martlet.tensors import Tensor

Link = Callable[[Tensor], Tensor]

SIGNS = np.array([-1.0, 1.0])
"""Of a raw score, for the first and the second of two classes."""


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


def likeliest(raw: Tensor) -> Tensor:
    """Return the number of the class of the highest score, float32. From [rows, classes]."""
    found: Tensor = np.argmax(raw, axis=-1).astype(np.float32)
    return found


def two_classes(raw: Tensor) -> Tensor:
    """Return the probabilities of both classes. From shape [rows] to [rows, 2]."""
    return sigmoid(raw[:, np.newaxis], SIGNS)


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """
    The label of the class that is chosen.

    Args:
        labels: Of the classes. Shape [classes].
        threshold: The second of two classes is chosen past it, for each raw score by itself; None:
            the class of the highest score of a row.
    """

    labels: Tensor
    threshold: float | None = None

    def __call__(self, raw: Tensor) -> Tensor:
        """From shape [rows, ...] to the same, or from [rows, classes] to [rows]."""
        one = self.threshold is None
        found: Tensor = self.labels.take(np.argmax(raw, axis=1) if one else raw > self.threshold)
        return found
