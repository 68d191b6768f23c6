"""The whole score as a form becomes the two sides' shares and a `Cross`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from onnx import helper

from martlet.convert.crossing.forms import ITEM, USER, Chain, Form, as_float32
from martlet.convert.crossing.side import SideGraph
from martlet.convert.split import ItemPart, Split, UserPart
from martlet.errors import UnsupportedModel
from martlet.formats.cross import Activation, Cross, Dense

SHARES = ("martlet/user_share", "martlet/item_share")
"""The one output of each side's graph: ``[hidden | dot | linear]`` (see `Cross`)."""

_FOLLOWED = "something follows the last activation"


@dataclass(frozen=True, slots=True)
class Crossing:
    """
    A split graph whose main part is a `Cross`.

    Args:
        user, item: The sides, each with its one output of SHARES.
        cross: What is left for each candidate.
        output: The name of what it gives.
    """

    user: UserPart
    item: ItemPart
    cross: Cross
    output: str


def crossing_of(form: Form, output: str, sides: Sequence[SideGraph], found: Split) -> Crossing:
    """
    Return the score *form* as a `Crossing`.

    Args:
        output: Its name.
        sides: The user's graph and the items', which get their last nodes.
        found: What is crossed.

    Raises:
        UnsupportedModel: it is no cross part.
    """
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
        shares, dot, linear = _shares(None, rest, sides)
        cross = Cross(0, dot, linear, (), end, slope)
    else:
        layers = _layers(rest, inner, end, slope)
        extra = replace(rest, chain=None, constant=0.0)
        shares, dot, linear = _shares(inner.hidden, extra, sides)
        cross = Cross(inner.hidden.width, dot, linear, layers, inner.first, inner.slope)
    return _written(shares, cross, output, sides, found)


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


def _shares(
    hidden: Form | None, extra: Form, sides: Sequence[SideGraph]
) -> tuple[list[str], int, bool]:
    """Return either side's row ``[hidden | dot | linear]``, the width of dot, and linear."""
    pairs = [(u, i) for u, i in extra.pairs if u is not None and i is not None]
    dots = [*extra.dots, *pairs]
    dot = sum(sides[USER].width(user) for user, _ in dots)
    if any(sides[USER].width(u) != sides[ITEM].width(i) for u, i in dots):
        raise UnsupportedModel("a product's two sides differ in width")
    alone = [each for each in extra.pairs if None in each]
    linear = bool(alone) or bool(np.any(extra.constant))
    shares = []
    for number, side in enumerate(sides):
        parts = []
        if hidden is not None:
            mine = [each[number] for each in hidden.pairs if each[number] is not None]
            if number == USER and np.any(hidden.constant):
                mine.append(side.filled(hidden.constant, hidden.width))
            parts.append(side.total([each for each in mine if each], hidden.width))
        parts += [each[number] for each in dots]
        if linear:
            mine = [each[number] for each in alone if each[number] is not None]
            if number == USER and np.any(extra.constant):
                mine.append(side.filled(extra.constant, 1))
            parts.append(side.total([each for each in mine if each], 1))
        shares.append(side.add("Concat", parts, 0, axis=1))
    return shares, dot, linear


def _written(
    shares: Sequence[str], cross: Cross, output: str, sides: Sequence[SideGraph], found: Split
) -> Crossing:
    models = []
    for side, share, name in zip(sides, shares, SHARES, strict=True):
        side.graph.nodes.append(helper.make_node("Identity", [share], [name]))
        models.append(side.graph.cut(side.graph.inputs, [name]))
    assert found.item is not None, "a graph without an items' part is no crossing"
    user = UserPart(models[USER], tuple(each.name for each in models[USER].graph.input))
    item = replace(
        found.item,
        model=models[ITEM],
        inputs=tuple(each.name for each in models[ITEM].graph.input),
        shapes=((cross.width,),),
    )
    return Crossing(user, item, cross, output)
