"""What a tensor of the main graph is, as algebra over the two sides' tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.formats.package.dense import Activation, Dense

Floats = NDArray[Any]

USER, ITEM = 0, 1


@dataclass(frozen=True, slots=True)
class Pair:
    """
    A product, number by number, of a tensor of the user's and one of the item's; None is 1.

    Args:
        unit: Of attention: times its weights, and in a form without positions summed over the
            history. The user's tensor has a row for each item of the history then.
    """

    user: str | None = None
    item: str | None = None
    unit: int | None = None

    @property
    def is_one_sided(self) -> bool:
        """Whether it is of the user's side (with what attention adds to it), or the item's."""
        return self.item is None or (self.user is None and self.unit is None)

    @property
    def is_of_user(self) -> bool:
        """Whether it is one tensor of the user's."""
        return self.item is None and self.unit is None


@dataclass(frozen=True, slots=True)
class Dot:
    """A product of both sides, or an attended vector, times a matrix of the form's columns."""

    pair: Pair
    weights: Floats


@dataclass(frozen=True, slots=True)
class Chain:
    """
    Layers over a sum of both sides.

    Args:
        hidden: The sum.
        first: What follows it; *slope* is its own.
        open: Whether the last layer's activation is still to come.
        scale, shift: What follows the last activation.
    """

    hidden: Form
    first: Activation
    slope: float
    layers: tuple[Dense, ...] = ()
    open: bool = False
    scale: Any = 1.0
    shift: Any = 0.0

    @property
    def is_plain(self) -> bool:
        """Whether nothing follows the last activation."""
        return not np.any(self.shift) and not np.any(np.asarray(self.scale) != 1)

    def above(self, constant: Any, weights: Floats, bias: Any) -> Chain:
        """Return it with one more layer; what was scaled and shifted below goes into it."""
        width = weights.shape[0]
        scale = np.broadcast_to(np.asarray(self.scale, float), (1, width)).reshape(-1, 1)
        shift = np.broadcast_to(np.asarray(self.shift) + np.asarray(constant), (1, width))
        bias = np.broadcast_to((shift @ weights + bias).reshape(-1), weights.shape[1:])
        weights = weights * scale
        if self.open:  # two products in a row are one
            *below, last = self.layers
            bias, weights = last.bias @ weights + bias, last.weights @ weights
            layers = (*below, Dense(as_float32(weights), as_float32(bias)))
        else:
            layers = (*self.layers, Dense(as_float32(weights), as_float32(bias)))
        return Chain(self.hidden, self.first, self.slope, layers, open=True)

    def closed(self, constant: Any, kind: Activation, slope: float) -> Chain:
        """Return it with its last layer's activation; all that was added goes before it."""
        *below, last = self.layers
        added = np.asarray(self.shift) + np.asarray(constant)
        weights = last.weights * self.scale
        bias = np.broadcast_to((last.bias * self.scale + added).reshape(-1), last.bias.shape)
        layers = (*below, Dense(as_float32(weights), as_float32(bias), kind, slope))
        return Chain(self.hidden, self.first, self.slope, layers)

    def finished(self) -> tuple[Dense, ...]:
        """Return the layers with all that follows the last activation; none where there is none."""
        if self.open:
            *below, last = self.layers
            weights, bias = last.weights * self.scale, last.bias * self.scale + self.shift
            bias = np.broadcast_to(bias, last.bias.shape)
            return (*below, Dense(as_float32(weights), as_float32(bias), last.activation))
        if self.is_plain:
            return self.layers
        width = self.hidden.width if not self.layers else len(self.layers[-1].bias)
        weights = np.eye(width) * np.broadcast_to(np.asarray(self.scale, float), (1, width))
        bias = np.broadcast_to(np.asarray(self.shift, float).reshape(-1), (width,))
        return (*self.layers, Dense(as_float32(weights), as_float32(bias)))


@dataclass(frozen=True, slots=True)
class Form:
    """
    A tensor [rows, width] as ``sum of pairs + dots + chain + constant``.

    Args:
        positions: How many items a history has, where the tensor is of all of them: [rows,
            positions, width]. The user's tensors are then too; the item's never are.
    """

    width: int
    pairs: tuple[Pair, ...] = ()
    dots: tuple[Dot, ...] = ()
    chain: Chain | None = None
    constant: Any = 0.0
    positions: int = 0

    @property
    def is_constant(self) -> bool:
        """Whether it is the same for every row."""
        return not (self.pairs or self.dots or self.chain)

    @property
    def is_of_user(self) -> bool:
        """Whether it is a sum of tensors of the user's alone, and constants."""
        whole = not self.dots and self.chain is None
        return whole and all(each.is_of_user for each in self.pairs)

    @property
    def is_chain(self) -> bool:
        """Whether it is layers, and a constant."""
        return self.chain is not None and not (self.pairs or self.dots)


@dataclass(frozen=True, slots=True)
class Joined:
    """Forms side by side; only a matrix can follow, which takes each by rows of its own."""

    forms: tuple[Form, ...]


def as_float32(values: Any) -> Floats:
    """Return *values* as layers have them."""
    return np.ascontiguousarray(values, np.float32)
