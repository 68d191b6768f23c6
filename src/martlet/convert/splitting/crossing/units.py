"""Attention units, as they are found in a graph: what weighs each item of a history."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from martlet.convert.splitting.crossing.forms import Dot, Floats, Form, as_float32
from martlet.convert.splitting.crossing.side import SideGraph
from martlet.errors import UnsupportedModel
from martlet.formats.package.attention import Attention
from martlet.formats.package.dense import Activation, Dense


@dataclass(frozen=True, slots=True)
class Unit:
    """
    One attention unit: for a pair of a candidate and an item of the history, a number.

    Args:
        hidden: What the first activation is of; its positions are the items of the history.
        first: That activation; *slope* is its own.
        layers: Above it.
        softmax: Whether the weights are the softmax over the history.
        gate, bias: The user's tensors, of one column, that the number is multiplied by and that is
            added before the softmax; None is 1, and 0.
    """

    hidden: Form
    first: Activation = Activation.IDENTITY
    slope: float = 0.0
    layers: tuple[Dense, ...] = ()
    softmax: bool = False
    gate: str | None = None
    bias: str | None = None

    @property
    def is_gated(self) -> bool:
        """Whether the softmax has a mask."""
        return self.gate is not None or self.bias is not None


def weighed(form: Form) -> tuple[Unit, Form]:
    """
    Return the part of *form*, one number for each pair, that a unit computes; and the rest.

    Raises:
        UnsupportedModel: no unit computes it.
    """
    if form.width != 1:
        raise UnsupportedModel("a history is weighed by more numbers than one")
    if form.chain is not None:
        if form.dots or not all(each.is_of_user for each in form.pairs):
            raise UnsupportedModel("a history is weighed by layers and products together")
        unit = Unit(form.chain.hidden, form.chain.first, form.chain.slope, form.chain.finished())
        _demand(unit.hidden)
        return unit, replace(form, chain=None)
    unit = Unit(replace(form, pairs=tuple(y for y in form.pairs if not y.is_of_user)))
    _demand(unit.hidden)
    rest = tuple(each for each in form.pairs if each.is_of_user)
    return unit, Form(1, rest, positions=form.positions)


def _demand(hidden: Form) -> None:
    pairs = [*hidden.pairs, *(each.pair for each in hidden.dots)]
    if hidden.chain is not None or any(each.unit is not None for each in pairs):
        raise UnsupportedModel("what weighs a history is not a sum of products of both sides")


def masked(unit: Unit, form: Form, user: SideGraph) -> Unit:
    """
    Return *unit* with a softmax over *form*, in which its weights stand for what it computes.

    Raises:
        UnsupportedModel: the softmax is over something else.
    """
    own = [each for each in form.pairs if each.unit is not None]
    rest = [each for each in form.pairs if each.unit is None]
    if form.dots or form.chain or len(own) != 1 or own[0].item or any(y.item for y in rest):
        raise UnsupportedModel("the softmax over a history is of no unit's number and a mask")
    if unit.softmax:
        raise UnsupportedModel("a softmax is over a softmax")
    names = [each.user for each in rest if each.user is not None]
    bias = user.total(names, 1, form.positions) if names else None
    return replace(unit, softmax=True, gate=own[0].user, bias=bias)


def written(
    unit: Unit, values: str, out: Floats | None, sides: Sequence[SideGraph]
) -> tuple[Attention, str, Sequence[str]]:
    """
    Return *unit* as it is served, the history's rows for it, and what it takes of an item.

    Args:
        values: What each item of the history adds to the user's share, times *out*.
        sides: The user's graph and the items', which get what is of one side alone.
    """
    user, item = sides
    hidden, positions, width = unit.hidden, unit.hidden.positions, unit.hidden.width
    dots = [each for each in hidden.dots if np.any(each.weights)]
    dots += [Dot(y, np.eye(width)) for y in hidden.pairs if not y.is_one_sided]
    keys, queries, weights = [], [], [np.zeros((0, width))]
    for dot in dots:
        depth = len(dot.weights)
        assert dot.pair.user is not None and dot.pair.item is not None, "a dot has both sides"
        keys.append(user.widened(dot.pair.user, depth))
        queries.append(item.widened(dot.pair.item, depth))
        weights.append(dot.weights)
    alone = [each for each in hidden.pairs if each.is_one_sided]
    added = [each.user for each in alone if each.user is not None]
    own = [each.item for each in alone if each.item is not None]
    rows = [*keys, user.total(added, width, positions)]
    if unit.is_gated:
        rows.append(unit.gate or user.filled(1.0, 1, positions))
        rows.append(unit.bias or user.filled(0.0, 1, positions))
    first = Dense(
        as_float32(np.concatenate(weights)),
        as_float32(np.broadcast_to(np.asarray(hidden.constant, float).reshape(-1), (width,))),
        unit.first,
        unit.slope,
    )
    made = Attention((first, *unit.layers), softmax=unit.softmax, gated=unit.is_gated, out=out)
    return made, user.joined([*rows, values]), [*queries, item.total(own, width)]
