"""What a tensor of the main graph is, as algebra over the two sides' tensors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.errors import UnsupportedModel
from martlet.formats.cross import Activation, Dense

Floats = NDArray[Any]

USER, ITEM = 0, 1

Pair = tuple[str | None, str | None]
"""A product, number by number, of a tensor of the user's and one of the item's; None is 1."""


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


@dataclass(frozen=True, slots=True)
class Form:
    """
    A tensor [rows, width] as ``sum of pairs + dots + chain + constant``.

    Args:
        dots: Products of two vectors, where the width is 1.
    """

    width: int
    pairs: tuple[Pair, ...] = ()
    dots: tuple[tuple[str, str], ...] = ()
    chain: Chain | None = None
    constant: Any = 0.0

    @property
    def is_constant(self) -> bool:
        """Whether it is the same for every row."""
        return not (self.pairs or self.dots or self.chain)

    @property
    def is_sum(self) -> bool:
        """Whether it is a sum of tensors of one side each, and constants."""
        return not self.dots and self.chain is None and all(None in each for each in self.pairs)

    @property
    def is_chain(self) -> bool:
        """Whether it is layers, and a constant."""
        return self.chain is not None and not (self.pairs or self.dots)


@dataclass(frozen=True, slots=True)
class Joined:
    """Forms side by side; only a matrix can follow, which takes each by rows of its own."""

    forms: tuple[Form, ...]


def total(forms: Sequence[Form]) -> Form:
    """
    Return the sum of *forms*.

    Raises:
        UnsupportedModel: it is no form.
    """
    width = max(each.width for each in forms)
    chains = [each.chain for each in forms if each.chain is not None]
    if len(chains) > 1:
        raise UnsupportedModel("two stacks of layers are added")
    if any(each.width != width and not each.is_constant for each in forms):
        raise UnsupportedModel("one column is added to several")
    return Form(
        width,
        tuple(pair for each in forms for pair in each.pairs),
        tuple(dot for each in forms for dot in each.dots),
        chains[0] if chains else None,
        sum((np.asarray(each.constant, float) for each in forms), np.zeros(1)),
    )


def as_float32(values: Any) -> Floats:
    """Return *values* as layers have them."""
    return np.ascontiguousarray(values, np.float32)
