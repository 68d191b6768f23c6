"""The whole score as a form becomes the two sides' shares and a `Cross`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from onnx import ModelProto, helper

from martlet.convert.splitting.crossing.algebra import Algebra
from martlet.convert.splitting.crossing.forms import (
    ITEM,
    USER,
    Chain,
    Dot,
    Floats,
    Form,
    Pair,
    as_float32,
)
from martlet.convert.splitting.crossing.side import SideGraph
from martlet.convert.splitting.crossing.units import written
from martlet.convert.splitting.split import ItemPart, Split, UserPart
from martlet.errors import UnsupportedModel
from martlet.formats.package.attention import Attention
from martlet.formats.package.cross import Cross
from martlet.formats.package.dense import Activation, Dense

SHARES = ("martlet/user_share", "martlet/item_share")
"""The first output of each side's graph: ``[hidden | dot | mixed | linear]`` (see `Cross`). An
item's row goes on with what attention takes of it; the user has an output more for each unit."""

HISTORY = "martlet/history_{}"

_FOLLOWED = "something follows the last activation"


@dataclass(frozen=True, slots=True)
class Crossing:
    """
    A split graph whose main part is a `Cross`.

    Args:
        user, item: The sides, with the outputs that a `Cross` takes.
        cross: What is left for each candidate.
        output: The name of what it gives.
    """

    user: UserPart
    item: ItemPart
    cross: Cross
    output: str


def crossing_of(form: Form, output: str, algebra: Algebra, found: Split) -> Crossing:
    """
    Return the score *form* as a `Crossing`.

    Args:
        output: Its name.
        algebra: Its sides get their last nodes.
        found: What is crossed.

    Raises:
        UnsupportedModel: it is not a cross part.
    """
    if form.positions:
        raise UnsupportedModel("it gives a number for each item of a history")
    end, slope, rest = Activation.IDENTITY, 0.0, form
    if form.is_chain and form.chain is not None and not form.chain.layers:
        chain = form.chain
        if not chain.is_plain or np.any(form.constant):
            raise UnsupportedModel(_FOLLOWED)
        end, slope, rest = chain.first, chain.slope, chain.hidden
    inner = rest.chain
    if inner is not None and not inner.layers:
        raise UnsupportedModel("an activation stands between sums")
    if inner is None:
        if rest.width != 1:
            raise UnsupportedModel(f"it gives {rest.width} numbers without a layer")
        layers: tuple[Dense, ...] = ()
        shares = _Shares(None, rest, algebra)
        first = end, slope
    else:
        layers = _layers(rest, inner, end, slope)
        shares = _Shares(inner.hidden, replace(rest, chain=None, constant=0.0), algebra)
        first = inner.first, inner.slope
    attention = shares.write()
    width = 0 if inner is None else inner.hidden.width
    cross = Cross(width, shares.dot, shares.linear, layers, *first, attention, shares.mixing(width))
    user, item = (side.graph for side in algebra.sides)
    assert found.item is not None, "a graph without an items' part is not a crossing"
    histories = [HISTORY.format(at) for at in range(len(attention))]
    users = user.cut(user.inputs, [SHARES[USER], *histories])
    items = item.cut(item.inputs, [SHARES[ITEM]])
    part = replace(found.item, model=items, inputs=_inputs(items), shapes=((cross.item_width,),))
    return Crossing(UserPart(users, _inputs(users)), part, cross, output)


def _inputs(model: ModelProto) -> tuple[str, ...]:
    return tuple(each.name for each in model.graph.input)


def _layers(rest: Form, chain: Chain, end: Activation, slope: float) -> tuple[Dense, ...]:
    """Return the layers of *chain*, the last with what follows it."""
    *below, last = chain.layers
    if not chain.open:
        if end is not Activation.IDENTITY or rest.pairs or rest.dots:
            raise UnsupportedModel(_FOLLOWED)
        if not chain.is_plain or np.any(rest.constant):
            raise UnsupportedModel(_FOLLOWED)
    else:
        weights = last.weights * chain.scale
        bias = np.broadcast_to(last.bias * chain.scale + chain.shift, last.bias.shape)
        bias = bias + np.asarray(rest.constant).reshape(-1)
        last = Dense(as_float32(weights), as_float32(bias), end, slope)
    if chain.hidden.width == 0 or ((rest.pairs or rest.dots) and rest.width != 1):
        raise UnsupportedModel("several outputs share what is added at the end")
    return (*below, last)


class _Shares:
    """
    The rows ``[hidden | dot | mixed | linear]`` of both sides, and those of each history.

    Args:
        hidden: What the layers take; None where there are none.
        extra: What is added before the last activation, without the layers.
    """

    def __init__(self, hidden: Form | None, extra: Form, algebra: Algebra) -> None:
        extra = algebra.settled(extra)
        self._algebra = algebra
        self._user, self._item = algebra.sides
        if hidden is not None:
            hidden = self._narrowed(hidden)
        self._hidden = hidden
        valued = () if hidden is None else hidden.dots
        self._valued = [each for each in valued if each.pair.item is None]
        products = [Dot(each, np.ones((1, 1))) for each in extra.pairs if not each.is_one_sided]
        self._dots = [self._folded(each) for each in (*extra.dots, *products)]
        self._mixed = [] if hidden is None else self._mixed_of(hidden)
        self._alone = [each for each in extra.pairs if each.is_one_sided]
        self._constant = extra.constant
        self.linear = bool(self._alone) or bool(np.any(extra.constant))

    @property
    def dot(self) -> int:
        """How wide the product is."""
        return sum(self._width(each) for each in self._dots)

    def _narrowed(self, hidden: Form) -> Form:
        """Return the sums with attended vectors before a matrix where that is less to add up."""
        mine = [each for each in hidden.dots if each.pair.item is None]
        if sum(len(each.weights) for each in mine) < hidden.width:
            return hidden
        return self._algebra.settled(hidden)

    def mixing(self, hidden: int) -> Floats:
        """Return what mixes the products into the sums."""
        return np.concatenate([np.zeros((0, hidden)), *(each.weights for each in self._mixed)])

    def write(self) -> list[Attention]:
        """Let the sides' graphs give the shares, and return the units of attention."""
        found: list[Attention] = []
        item_parts = self._of_items()
        for unit in self._units():
            one = self._algebra.units[unit]
            values, out = self._of_history(unit, one.hidden.positions)
            made, rows, taken = written(one, values, out, self._algebra.sides)
            _give(self._user, rows, HISTORY.format(len(found)))
            item_parts += taken
            found.append(made)
        _give(self._user, self._user.joined(self._of_users()), SHARES[USER])
        _give(self._item, self._item.joined(item_parts), SHARES[ITEM])
        return found

    def _mixed_of(self, hidden: Form) -> list[Dot]:
        """Return the products of both sides in the sums that the layers take."""
        pairs = [each for each in hidden.pairs if not each.is_one_sided]
        dots = [each for each in hidden.dots if each.pair.item is not None]
        return [self._wide(y) for y in (*dots, *(Dot(y, np.eye(hidden.width)) for y in pairs))]

    def _wide(self, dot: Dot) -> Dot:
        """Return a product whose two sides are as wide as the matrix takes."""
        pair, width = dot.pair, len(dot.weights)
        assert pair.user is not None and pair.item is not None, "a dot has both sides"
        user = self._user.widened(pair.user, width)
        return replace(
            dot, pair=replace(pair, user=user, item=self._item.widened(pair.item, width))
        )

    def _folded(self, dot: Dot) -> Pair:
        """Return a product of two vectors with its weights in the user's."""
        if dot.weights.shape[1] != 1:
            raise UnsupportedModel("products of both sides are mixed by a matrix at the end")
        pair = self._wide(dot).pair
        assert pair.user is not None, "a dot has both sides"
        return replace(pair, user=self._user.times(pair.user, dot.weights[:, 0]))

    @property
    def _products(self) -> list[Pair]:
        return [*self._dots, *(each.pair for each in self._mixed)]

    @property
    def _sums(self) -> list[Pair]:
        """What the layers take of one side, or by attention of the user's."""
        return [] if self._hidden is None else [y for y in self._hidden.pairs if y.is_one_sided]

    def _width(self, pair: Pair) -> int:
        assert pair.item is not None, "a product has both sides"
        return self._item.width(pair.item)

    def _units(self) -> list[int]:
        valued = [each.pair for each in self._valued]
        numbers = [each.unit for each in (*valued, *self._sums, *self._products, *self._alone)]
        return list(dict.fromkeys(each for each in numbers if each is not None))

    def _of_users(self) -> list[str]:
        user = self._user

        def given(pairs: Sequence[Pair], constant: Any, width: int) -> str:
            mine = [each.user for each in pairs if each.user is not None and each.unit is None]
            if np.any(constant):
                mine.append(user.filled(constant, width))
            return user.total(mine, width)

        parts = []
        if self._hidden is not None:
            parts.append(given(self._sums, self._hidden.constant, self._hidden.width))
        for each in self._products:
            plain = each.unit is None and each.user
            parts.append(plain or user.filled(0.0, self._width(each)))
        if self.linear:
            parts.append(given(self._alone, self._constant, 1))
        return parts

    def _of_history(self, unit: int, positions: int) -> tuple[str, Floats | None]:
        """Return what an item of the history adds to the user's share, and by which matrix."""
        user = self._user

        def given(pairs: Sequence[Pair], width: int) -> str | None:
            mine = [each for each in pairs if each.unit == unit]
            names = [each.user or user.filled(1.0, width, positions) for each in mine]
            return user.total(names, width, positions) if names else None

        hidden = 0 if self._hidden is None else self._hidden.width
        parts = [(given(self._sums, hidden), hidden)] if hidden else []
        parts += [(given([each], self._width(each)), self._width(each)) for each in self._products]
        parts += [(given(self._alone, 1), 1)] if self.linear else []
        valued = [each for each in self._valued if each.pair.unit == unit]
        if not valued:
            names = [name or user.filled(0.0, width, positions) for name, width in parts]
            return user.joined(names), None
        total = sum(width for _, width in parts)
        names, rows, at = [], [], 0
        for dot in valued:
            assert dot.pair.user is not None, "an attended vector has values"
            names.append(user.widened(dot.pair.user, len(dot.weights)))
            rows.append(np.pad(dot.weights, ((0, 0), (0, total - hidden))))
        for name, width in parts:
            if name is not None:
                names.append(name)
                rows.append(np.eye(width, total, at))
            at += width
        return user.joined(names), np.concatenate(rows)

    def _of_items(self) -> list[str]:
        item = self._item

        def given(pairs: Sequence[Pair], width: int) -> str:
            return item.total([each.item for each in pairs if each.item is not None], width)

        parts = []
        if self._hidden is not None:
            parts.append(given(self._sums, self._hidden.width))
        parts += [each.item for each in self._products if each.item is not None]
        if self.linear:
            parts.append(given(self._alone, 1))
        return parts


def _give(side: SideGraph, name: str, output: str) -> None:
    side.graph.nodes.append(helper.make_node("Identity", [name], [output]))
