"""Dense layers in numpy: what the compiled parts of a split ranker have as their twin."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_LAYERS, MOST_WIDTH = 16, 65_536
"""Of one stack; as native/cross.c and native/attention.c have them."""

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


class Activation(IntEnum):
    """What follows a sum. The numbers are those of ``native/kernels.h``."""

    IDENTITY = 0
    RELU = 1
    SIGMOID = 2
    TANH = 3
    LEAKY = 4
    SILU = 5
    GELU = 6


@dataclass(frozen=True, slots=True)
class Dense:
    """One layer: ``activation(x @ weights + bias)``, float32."""

    weights: Floats
    """[inputs, outputs]."""
    bias: Floats
    """[outputs]."""
    activation: Activation = Activation.IDENTITY
    slope: float = 0.0
    """Of LEAKY below zero."""

    def __call__(self, values: Floats, added: Any = 0.0) -> Floats:
        """Return what it gives for *values* [..., inputs], with *added* to its sums."""
        found = values @ self.weights + self.bias + added
        return activated(found, self.activation, self.slope)


def stacked(layers: Sequence[Dense], inputs: int) -> tuple[Dense, ...]:
    """
    Return *layers* as the compiled parts read them, C-contiguous float32.

    Args:
        inputs: How many numbers the first takes.

    Raises:
        ValueError: one does not take what the one below gives, or they are too many or too wide.
    """
    widest = max([inputs, *(len(each.bias) for each in layers)])
    if len(layers) > MOST_LAYERS or widest > MOST_WIDTH:
        raise ValueError(
            f"a stack has {MOST_LAYERS} layers of {MOST_WIDTH} at most, not {len(layers)} of up to "
            f"{widest}"
        )
    for layer in layers:
        if layer.weights.shape != (inputs, len(layer.bias)):
            raise ValueError(
                f"a layer takes {inputs} and gives {len(layer.bias)} values; its weights are of "
                f"shape {list(layer.weights.shape)}"
            )
        inputs = len(layer.bias)
    return tuple(
        Dense(_contiguous(y.weights), _contiguous(y.bias), y.activation, y.slope) for y in layers
    )


def activated(values: Floats, activation: Activation, slope: float) -> Floats:
    """Return the *activation* of *values*; *slope* is that of LEAKY."""
    match activation:
        case Activation.RELU:
            return np.maximum(values, np.float32(0))
        case Activation.SIGMOID:
            return _sigmoid(values)
        case Activation.TANH:
            return np.asarray(np.tanh(values))
        case Activation.LEAKY:
            return np.where(values < 0, np.float32(slope) * values, values)
        case Activation.SILU:
            return values * _sigmoid(values)
        case Activation.GELU:
            return _gelu(values)
        case _:
            return values


def _sigmoid(values: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return np.float32(1) / (np.float32(1) + np.exp(-values))


def _gelu(values: Floats) -> Floats:
    """Return x times the share of a normal distribution below x (Abramowitz and Stegun, 7.1.26)."""
    size = np.abs(values)
    t = 1 / (1 + np.float32(0.3275911 * 0.70710678) * size)
    terms = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592, 0.0)
    with np.errstate(over="ignore", under="ignore"):
        beyond = np.polyval(np.array(terms, np.float32), t) * np.exp(-values * values / 2) / 2
    return np.asarray(np.maximum(values, 0) - np.minimum(size, 100) * beyond, values.dtype)


def to_arrays(layers: Sequence[Dense], prefix: str = "") -> dict[str, NDArray[Any]]:
    """Return *layers* as named arrays, to be kept in an ``.npz`` file."""
    arrays: dict[str, NDArray[Any]] = {}
    for at, layer in enumerate(layers):
        arrays[f"{prefix}weights{at}"], arrays[f"{prefix}bias{at}"] = layer.weights, layer.bias
        arrays[f"{prefix}activation{at}"] = np.array([layer.activation, layer.slope], np.float64)
    return arrays


def from_arrays(found: Mapping[str, NDArray[Any]], prefix: str = "") -> tuple[Dense, ...]:
    """Read what ``to_arrays`` wrote. Raises KeyError or ValueError where it is something else."""
    layers: list[Dense] = []
    while f"{prefix}weights{len(layers)}" in found:
        at = len(layers)
        activation, slope = map(float, found[f"{prefix}activation{at}"])
        weights, bias = found[f"{prefix}weights{at}"], found[f"{prefix}bias{at}"]
        layers.append(Dense(weights, bias, Activation(int(activation)), slope))
    return tuple(layers)


def inside(rows: Rows, count: int) -> Rows:
    """Return *rows*. Raises IndexError where one is not among *count*; -1 is the last."""
    wrong = (rows < -1) | (rows >= count)
    if wrong.any():
        raise IndexError(f"row {rows[wrong][0]} is asked for; there are {count} rows")
    return rows


def _contiguous(values: Floats) -> Floats:
    return np.ascontiguousarray(values, np.float32)
