"""Attention: what a candidate makes of its user's history, the costliest part of a split ranker.

An attention unit weighs each item of the history for a candidate, by layers over the two (Deep
Interest Network, Zhou et al. 2018) or by their dot product, and sums what the items say by these
weights. Its first layer over ``[q, k, q - k, q * k]`` is a sum of three: of the candidate's own, a
row of a table made beforehand; of the history's own, computed once a request; and ``(q * k) W``,
which alone is left for each pair. What the items say goes straight into the sums of the layers that
follow, so that attention adds to the user's share what each candidate makes of the history.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet import native
from martlet.formats.package.dense import (
    Dense,
    Floats,
    Rows,
    from_arrays,
    inside,
    stacked,
    to_arrays,
)


class Attention:
    """
    One attention unit.

    For a candidate's row ``[query | hidden]`` and each item of the history, a row
    ``[query | hidden | gate, bias | values]``: the first layer is
    ``activation((q * k) @ weights + bias + the history's hidden + the candidate's)``, the others
    follow, and the last gives one number, the weight. What is added to the user's share is the sum
    of the values by their weights, times *out*.

    Args:
        layers: The first takes as many numbers as a query has, which may be none.
        softmax: Whether the weights are the softmax of what the layers give over the history.
        gated: Whether what the layers give is multiplied by *gate* and added to *bias* before the
            softmax: so a mask is written.
        out: [values, width]; None where the values are as wide as the share.

    Raises:
        ValueError: the sizes do not fit together, or are more than MOST_LAYERS and MOST_WIDTH.
    """

    def __init__(
        self,
        layers: tuple[Dense, ...],
        *,
        softmax: bool = False,
        gated: bool = False,
        out: Floats | None = None,
    ) -> None:
        if not layers or len(layers[-1].bias) != 1 or (gated and not softmax):
            raise ValueError("an attention unit has layers that give one number")
        self.query, self.hidden = map(int, layers[0].weights.shape)
        self.layers = stacked(layers, self.query)
        self.softmax, self.gated = softmax, gated
        self.out = None if out is None else np.ascontiguousarray(out, np.float32)
        self._unit: Any = None
        compiled = native.find("attention")
        if compiled is not None:
            packed = tuple(
                (np.vstack([y.weights, y.bias]).T.copy(), int(y.activation), y.slope)
                for y in self.layers
            )
            self._unit = compiled.Unit(self.query, packed, softmax, gated, self.out)

    @property
    def width(self) -> int:
        """How long a candidate's row is."""
        return self.query + self.hidden

    @property
    def before_values(self) -> int:
        """Where the values begin in the row of an item of the history."""
        return self.width + (2 if self.gated else 0)

    def history_width(self, width: int) -> int:
        """Return how long the row of an item of the history is, for shares of *width*."""
        return self.before_values + (width if self.out is None else len(self.out))

    def to_arrays(self, prefix: str) -> dict[str, NDArray[Any]]:
        """Return it as named arrays, to be kept in an ``.npz`` file."""
        flags = np.array([self.softmax, self.gated], np.int64)
        out = {} if self.out is None else {f"{prefix}out": self.out}
        return {f"{prefix}flags": flags, **out, **to_arrays(self.layers, prefix)}

    @classmethod
    def from_arrays(cls, found: Mapping[str, NDArray[Any]], prefix: str) -> Attention | None:
        """Read what ``to_arrays`` wrote; None where it wrote nothing under *prefix*."""
        if f"{prefix}flags" not in found:
            return None
        softmax, gated = map(bool, found[f"{prefix}flags"])
        out = found.get(f"{prefix}out")
        return cls(from_arrays(found, prefix), softmax=softmax, gated=gated, out=out)

    def add(
        self,
        shares: Floats,
        history: Floats,
        items: Floats,
        at: int,
        rows: Rows,
        of_user: Rows | None = None,
    ) -> None:
        """
        Add what each candidate makes of the history to its row of *shares*.

        Args:
            shares: [n, width], C-contiguous.
            history: Of each user, [users, items of the history, history_width].
            items: Holds the candidates' rows from column *at* on, [items, at + width or more].
            rows: Each candidate's row in *items*, [n]; -1 is the last row.
            of_user: Each candidate's user in *history*, [n]; None where there is one.

        Raises:
            IndexError: a row is not in its table.
            ValueError: an array has another dtype or shape.
        """
        if self._unit is not None:
            self._unit.add(shares, history, items, at, rows, of_user)
            return
        if history.shape[2] != self.history_width(shares.shape[1]):
            raise ValueError("shares and history are not those of this unit")
        item = items[inside(rows, len(items)), at : at + self.width]
        whose = np.zeros(len(rows), np.int64) if of_user is None else of_user
        for user in np.unique(inside(whose, len(history))):
            own = np.flatnonzero(whose == user)
            shares[own] += self._made(history[user], item[own])

    def _made(self, history: Floats, item: Floats) -> Floats:
        """Return what is added to the shares of the candidates *item* of one user."""
        query, width = self.query, self.width
        pairs = item[:, None, :query] * history[None, :, :query]
        hidden = item[:, None, query:] + history[None, :, query:width]
        found = self.layers[0](pairs, hidden)
        for layer in self.layers[1:]:
            found = layer(found)
        weights = found[:, :, 0]
        if self.softmax:
            if self.gated:
                weights = weights * history[:, width] + history[:, width + 1]
            weights = np.exp(weights - weights.max(axis=1, keepdims=True))
            weights /= weights.sum(axis=1, keepdims=True)
        found = weights @ history[:, self.before_values :]
        return found if self.out is None else found @ self.out
