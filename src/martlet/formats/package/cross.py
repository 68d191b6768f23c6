"""The cross part of a split ranker: what is left to compute for each candidate of one user.

A first layer over ``[user; item]`` is a sum of two products, ``W [u; i] = Wu u + Wi i``, and a
factorisation machine's pairs between the two sides are one dot product. So the user's share is
computed once a request, each item's share is a row of a table made beforehand, and a candidate
costs an addition, a dot product and the layers above. One compiled pass does that over the mapped
table; its twin here says the same in numpy. Where a candidate is compared with the user's history,
it has a user's share of its own (see `Attention`).
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from martlet import native
from martlet.errors import UnsupportedModel
from martlet.formats.package.attention import Attention
from martlet.formats.package.dense import (
    MOST_WIDTH,
    Activation,
    Dense,
    Floats,
    Rows,
    activated,
    from_arrays,
    inside,
    stacked,
    to_arrays,
)


class Cross:
    """
    The cross part: ``layers(first(u_hidden + i_hidden)) + u_dot . i_dot + u_linear + i_linear``.

    A user's and an item's share are rows of one layout, ``[hidden | dot | mixed | linear]``. What
    the dot product and the linear shares give is added before the last layer's activation; where
    there are no layers, *first* follows it. Where layers take products of the two sides, such as
    ``[u, i, u * i]``, ``(u_mixed * i_mixed) @ mixing`` is added to the sums.

    Args:
        hidden: Width of the sums that the layers take; 0 where there are none.
        dot: Width of the vectors whose product is added.
        linear: Whether the last place of a row is added as it is.
        layers: Above the sums, in order; empty exactly where *hidden* is 0.
        first: What follows the sums.
        slope: Of *first*, where it is LEAKY.
        attention: What each candidate makes of the user's histories, which is added to the user's
            share. An item's row is then longer: its share, and what each unit takes of it.
        mixing: [mixed, hidden]; None for none.

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
        attention: Sequence[Attention] = (),
        mixing: Floats | None = None,
    ) -> None:
        mixing = np.zeros((0, hidden), np.float32) if mixing is None else mixing
        if bool(layers) != bool(hidden) or hidden + dot + linear == 0:
            raise ValueError("the sizes of a cross part do not fit together")
        if max(dot, len(mixing)) > MOST_WIDTH or mixing.shape[1:] != (hidden,):
            raise ValueError(
                f"products of a cross part have {MOST_WIDTH} terms at most, not {dot}, or "
                f"{list(mixing.shape)} for sums of {hidden}"
            )
        self.hidden, self.dot, self.linear = hidden, dot, linear
        self.mixing = np.ascontiguousarray(mixing, np.float32)
        self.first, self.slope, self.layers = first, slope, stacked(layers, hidden)
        self.outputs = len(layers[-1].bias) if layers else 1
        self.attention = tuple(attention)
        self._plan: Any = None
        compiled = native.find("cross")
        if compiled is not None:
            packed = tuple((y.weights, y.bias, int(y.activation), y.slope) for y in self.layers)
            about = hidden, dot, linear, int(first), slope
            self._plan = compiled.Plan(*about, packed, self.mixing)

    @property
    def width(self) -> int:
        """How long a row of either share is."""
        return self.hidden + self.dot + len(self.mixing) + self.linear

    @property
    def item_width(self) -> int:
        """How long an item's row is: its share, and what attention takes of it."""
        return self.width + sum(each.width for each in self.attention)

    @property
    def user_widths(self) -> tuple[int, ...]:
        """How long the user's rows are: the share, and the rows of each unit's history."""
        return self.width, *(each.history_width(self.width) for each in self.attention)

    def save(self, path: Path) -> None:
        """Write it as plain arrays (``.npz``) to *path*."""
        numbers = np.array([self.hidden, self.dot, self.linear, self.first], np.int64)
        arrays: dict[str, Any] = {"sizes": numbers, "slope": np.array(self.slope)}
        arrays |= to_arrays(self.layers)
        arrays |= {"mixing": self.mixing} if len(self.mixing) else {}
        for at, unit in enumerate(self.attention):
            arrays |= unit.to_arrays(f"attention{at}_")
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
                start = Activation(first), float(found["slope"])
                mixing = found.get("mixing")
                about = from_arrays(found), *start, tuple(_units(found)), mixing
                return cls(hidden, dot, bool(linear), *about)
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as exc:
            raise UnsupportedModel(f"{path} is not a cross part: {exc}") from exc

    def score(
        self,
        users: Floats,
        items: Floats,
        rows: Rows,
        of_user: Rows | None = None,
        histories: Sequence[Floats] = (),
    ) -> Floats:
        """
        Return the scores of the candidates, float32 [n, outputs].

        Args:
            users: Shares of the users, [users, width], C-contiguous.
            items: Rows of the items, [items, item_width], C-contiguous; a mapped table is not
                copied.
            rows: Each candidate's row in *items*, [n]; -1 is the last row.
            of_user: Each candidate's row in *users*, [n]; None where there is one user.
            histories: What each unit of attention takes of the users, C-contiguous (see
                `Attention.add`).

        Raises:
            IndexError: a row is not in its table.
            ValueError: an array has another dtype or shape.
        """
        if len(histories) != len(self.attention):
            raise ValueError(
                f"there are {len(self.attention)} units, and {len(histories)} histories"
            )
        if self.attention:
            own = np.zeros(len(rows), np.int64) if of_user is None else of_user
            shares, at = users[inside(own, len(users))], self.width
            for unit, history in zip(self.attention, histories, strict=True):
                unit.add(shares, history, items, at, rows, of_user)
                at += unit.width
            users, of_user = shares, np.arange(len(rows))
        if self._plan is None:
            return self._score(users, items, rows, of_user)
        out = np.empty((len(rows), self.outputs), np.float32)
        if users.size:
            self._plan.score(users, of_user, items, rows, out)
        return out

    def _score(self, users: Floats, items: Floats, rows: Rows, of_user: Rows | None) -> Floats:
        if of_user is None and len(users) != 1:
            raise ValueError("several users came, and of_user does not say whose row")
        item = items[inside(rows, len(items)), : self.width]
        user = users if of_user is None else users[inside(of_user, len(users))]
        hidden, dot = self.hidden, self.hidden + self.dot
        mixed = dot + len(self.mixing)
        pairs = user[:, hidden:mixed] * item[:, hidden:mixed]
        extra: Floats = pairs[:, : self.dot].sum(axis=1, dtype=np.float32, keepdims=True)
        if self.linear:
            extra = extra + user[:, -1:] + item[:, -1:]
        if not self.layers:
            return activated(extra, self.first, self.slope)
        sums = np.asarray(user[:, :hidden] + item[:, :hidden] + pairs[:, self.dot :] @ self.mixing)
        found = activated(sums.astype(np.float32), self.first, self.slope)
        for layer in self.layers[:-1]:
            found = layer(found)
        return self.layers[-1](found, extra)


def _units(found: Any) -> Iterator[Attention]:
    at = 0
    while (unit := Attention.from_arrays(found, f"attention{at}_")) is not None:
        yield unit
        at += 1
