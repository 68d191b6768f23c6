"""The cross part of a split ranker: what is left to compute for each candidate of one user.

A first layer over ``[user; item]`` is a sum of two products, ``W [u; i] = Wu u + Wi i``, and a
factorisation machine's pairs between the two sides are one dot product. So the user's share is
computed once a request, each item's share is a row of a table made beforehand, and a candidate
costs an addition, a dot product and the layers above. One compiled pass does that over the mapped
table; its twin here says the same in numpy.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet import native
from martlet.errors import UnsupportedModel

MOST_LAYERS, MOST_WIDTH = 16, 65_536
"""Of one cross part; as native/cross.c has them."""

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]


class Activation(IntEnum):
    """What follows a sum. The numbers are those of ``native/cross.c``."""

    IDENTITY = 0
    RELU = 1
    SIGMOID = 2
    TANH = 3
    LEAKY = 4


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


class Cross:
    """
    The cross part: ``layers(first(u_hidden + i_hidden)) + u_dot . i_dot + u_linear + i_linear``.

    A user's and an item's share are rows of one layout, ``[hidden | dot | linear]``. What the dot
    product and the linear shares give is added before the last layer's activation; where there are
    no layers, *first* follows it.

    Args:
        hidden: Width of the sums that the layers take; 0 where there are none.
        dot: Width of the vectors whose product is added.
        linear: Whether the last place of a row is added as it is.
        layers: Above the sums, in order; empty exactly where *hidden* is 0.
        first: What follows the sums.
        slope: Of *first*, where it is LEAKY.

    Raises:
        ValueError: the sizes do not fit together, or are more than MOST_LAYERS and MOST_WIDTH.
    """

    def __init__(
        self,
        hidden: int,
        dot: int = 0,
        linear: bool = False,
        layers: tuple[Dense, ...] = (),
        first: Activation = Activation.IDENTITY,
        slope: float = 0.0,
    ) -> None:
        if bool(layers) != bool(hidden) or hidden + dot + linear == 0:
            raise ValueError("the sizes of a cross part do not fit together")
        widest = max(hidden, dot, *(len(each.bias) for each in layers))
        if len(layers) > MOST_LAYERS or widest > MOST_WIDTH:
            raise ValueError(
                f"a cross part has {MOST_LAYERS} layers of {MOST_WIDTH} at most, not {len(layers)} "
                f"of up to {widest}"
            )
        self.hidden, self.dot, self.linear = hidden, dot, linear
        self.first, self.slope, self.layers = first, slope, tuple(map(_contiguous, layers))
        inputs = hidden
        for layer in self.layers:
            if layer.weights.shape != (inputs, len(layer.bias)):
                raise ValueError(
                    f"a layer takes {inputs} and gives {len(layer.bias)} values; its weights are "
                    f"of shape {list(layer.weights.shape)}"
                )
            inputs = len(layer.bias)
        self.outputs = inputs if layers else 1
        self._plan: Any = None
        compiled = native.find("cross")
        if compiled is not None:
            packed = tuple((y.weights, y.bias, int(y.activation), y.slope) for y in self.layers)
            self._plan = compiled.Plan(hidden, dot, linear, int(first), slope, packed)

    @property
    def width(self) -> int:
        """How long a row of either share is."""
        return self.hidden + self.dot + self.linear

    def save(self, path: Path) -> None:
        """Write it as plain arrays (``.npz``) to *path*."""
        numbers = np.array([self.hidden, self.dot, self.linear, self.first], np.int64)
        arrays: dict[str, Any] = {"sizes": numbers, "slope": np.array(self.slope)}
        for at, layer in enumerate(self.layers):
            arrays[f"weights{at}"], arrays[f"bias{at}"] = layer.weights, layer.bias
            arrays[f"activation{at}"] = np.array([layer.activation, layer.slope], np.float64)
        np.savez(path, **arrays)

    @classmethod
    def load(cls, path: Path) -> Cross:
        """
        Read what ``save`` wrote.

        Raises:
            UnsupportedModel: it is damaged, or something else.
        """
        try:
            with np.load(path, allow_pickle=False) as found:
                hidden, dot, linear, first = map(int, found["sizes"])
                layers: list[Dense] = []
                while f"weights{len(layers)}" in found:
                    at = len(layers)
                    activation, slope = map(float, found[f"activation{at}"])
                    kind = Activation(int(activation))
                    layers.append(Dense(found[f"weights{at}"], found[f"bias{at}"], kind, slope))
                start = Activation(first), float(found["slope"])
                return cls(hidden, dot, bool(linear), tuple(layers), *start)
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as exc:
            raise UnsupportedModel(f"{path} is no cross part: {exc}") from exc

    def score(
        self, users: Floats, items: Floats, rows: Rows, of_user: Rows | None = None
    ) -> Floats:
        """
        Return the scores of the candidates, float32 [n, outputs].

        Args:
            users: Shares of the users, [users, width], C-contiguous.
            items: Shares of the items, [items, width], C-contiguous; a mapped table is not copied.
            rows: Each candidate's row in *items*, [n]; -1 is the last row.
            of_user: Each candidate's row in *users*, [n]; None where there is one user.

        Raises:
            IndexError: a row is not in its table.
            ValueError: an array has another dtype or shape.
        """
        if self._plan is None:
            return self._score(users, items, rows, of_user)
        out = np.empty((len(rows), self.outputs), np.float32)
        self._plan.score(users, of_user, items, rows, out)
        return out

    def _score(self, users: Floats, items: Floats, rows: Rows, of_user: Rows | None) -> Floats:
        if of_user is None and len(users) != 1:
            raise ValueError("several users came, and of_user does not say whose row")
        item = items[_inside(rows, len(items))]
        user = users if of_user is None else users[_inside(of_user, len(users))]
        hidden, dot = self.hidden, self.hidden + self.dot
        pairs = np.broadcast_to(user, item.shape)[:, hidden:dot] * item[:, hidden:dot]
        extra: Floats = pairs.sum(axis=1, dtype=np.float32, keepdims=True)
        if self.linear:
            extra = extra + user[:, -1:] + item[:, -1:]
        if not self.layers:
            return _activated(extra, self.first, self.slope)
        found = _activated(user[:, :hidden] + item[:, :hidden], self.first, self.slope)
        for layer in self.layers[:-1]:
            found = _activated(found @ layer.weights + layer.bias, layer.activation, layer.slope)
        last = self.layers[-1]
        return _activated(found @ last.weights + last.bias + extra, last.activation, last.slope)


def _contiguous(layer: Dense) -> Dense:
    return Dense(
        np.ascontiguousarray(layer.weights, np.float32),
        np.ascontiguousarray(layer.bias, np.float32),
        layer.activation,
        layer.slope,
    )


def _inside(rows: Rows, count: int) -> Rows:
    wrong = (rows < -1) | (rows >= count)
    if wrong.any():
        raise IndexError(f"row {rows[wrong][0]} is asked for; there are {count} rows")
    return rows


def _activated(values: Floats, activation: Activation, slope: float) -> Floats:
    match activation:
        case Activation.RELU:
            return np.maximum(values, np.float32(0))
        case Activation.SIGMOID:
            with np.errstate(over="ignore"):
                return np.float32(1) / (np.float32(1) + np.exp(-values))
        case Activation.TANH:
            return np.asarray(np.tanh(values))
        case Activation.LEAKY:
            return np.where(values < 0, np.float32(slope) * values, values)
        case _:
            return values
