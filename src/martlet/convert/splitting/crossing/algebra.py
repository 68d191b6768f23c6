"""What operators do to forms; what is of one side alone is written into that side's graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from martlet.convert.splitting.crossing import units
from martlet.convert.splitting.crossing.forms import Chain, Dot, Floats, Form, Joined, Pair
from martlet.convert.splitting.crossing.side import SideGraph
from martlet.convert.splitting.crossing.units import Unit
from martlet.errors import UnsupportedModel
from martlet.formats.package.dense import Activation

_NO_MATRIX = "a product is of other shapes than rows and a matrix"


class Algebra:
    """
    The operators. Each raises UnsupportedModel where its result is not a form.

    Args:
        sides: The user's graph and the items'.
    """

    def __init__(self, sides: Sequence[SideGraph]) -> None:
        self.sides = sides
        self._user, self._item = sides
        self.units: list[Unit] = []

    def total(self, forms: Sequence[Form]) -> Form:
        """Return the sum of *forms*."""
        width = max(each.width for each in forms)
        positions = max(each.positions for each in forms)
        forms = [self._spread(each, positions) for each in forms]
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
            positions,
        )

    def scaled(self, form: Form, factor: Any) -> Form:
        """Return *form* times a constant: one number, or one a column."""
        width = max(form.width, np.asarray(factor).size)
        chain = None
        if form.chain is not None:
            if width != form.width:
                raise UnsupportedModel("a layer is spread over several columns")
            chain = replace(
                form.chain, scale=form.chain.scale * factor, shift=form.chain.shift * factor
            )
        return replace(
            form,
            width=width,
            pairs=tuple(self._times(each, factor) for each in form.pairs),
            dots=tuple(replace(each, weights=each.weights * factor) for each in form.dots),
            chain=chain,
            constant=np.asarray(form.constant) * factor,
        )

    def _times(self, pair: Pair, factor: Any) -> Pair:
        if pair.user is not None:
            return replace(pair, user=self._user.times(pair.user, factor))
        if pair.item is not None:
            return replace(pair, item=self._item.times(pair.item, factor))
        return replace(pair, user=self._ones(pair, np.asarray(factor).size, factor))

    def _ones(self, pair: Pair, width: int, value: Any = 1.0) -> str:
        """Return a tensor for the user's of a pair that is an attention unit's weights alone."""
        assert pair.unit is not None, "a pair has one side at least, or a unit"
        return self._user.filled(value, width, self.units[pair.unit].hidden.positions)

    def inverse(self, form: Form) -> Form:
        """Return 1 over *form*, one tensor of the user's."""
        if not form.is_of_user or len(form.pairs) != 1 or np.any(form.constant):
            raise UnsupportedModel("it is divided by what is not a tensor of the user's")
        name = form.pairs[0].user
        assert name is not None, "a pair of the user's has a tensor"
        inverse = self._user.add("Reciprocal", [name], self._user.width(name))
        return replace(form, pairs=(Pair(inverse),))

    def settled(self, form: Form) -> Form:
        """Return *form* with the matrices that attended vectors meet in the history's rows."""
        own = [each for each in form.dots if each.pair.item is None]
        pairs = []
        for dot in own:
            assert dot.pair.user is not None, "an attended vector has values"
            wide = self._user.widened(dot.pair.user, len(dot.weights))
            pairs.append(replace(dot.pair, user=self._user.product(wide, dot.weights)))
        rest = tuple(each for each in form.dots if each.pair.item is not None)
        return replace(form, pairs=(*form.pairs, *pairs), dots=rest)

    # -- products ------------------------------------------------------------------------------

    def product(self, a: Form, b: Form) -> Form:
        """Return *a* times *b*, number by number."""
        if a.is_constant or b.is_constant:
            return self.scaled(b, a.constant) if a.is_constant else self.scaled(a, b.constant)
        width, positions = max(a.width, b.width), max(a.positions, b.positions)
        a, b = (self._spread(self.weights(self.settled(y)), positions) for y in (a, b))
        if a.chain or b.chain or a.dots or b.dots or {a.width, b.width} - {1, width}:
            raise UnsupportedModel("layers are multiplied")
        products = [self._paired(one, two, width, positions) for one in a.pairs for two in b.pairs]
        # A square of a sum gives each product twice.
        pairs = [
            each if count == 1 else self._times(each, float(count))
            for each, count in Counter(products).items()
        ]
        for form, other in ((a, b), (b, a)):
            if np.any(other.constant):
                factor = np.broadcast_to(np.asarray(other.constant).reshape(-1), (width,))
                pairs += [self._times(each, factor) for each in form.pairs]
        constant = np.asarray(a.constant) * b.constant
        return Form(width, tuple(pairs), constant=constant, positions=positions)

    def _paired(self, one: Pair, two: Pair, width: int, positions: int) -> Pair:
        unit = one.unit if one.unit is not None else two.unit
        if one.unit is not None and two.unit is not None:
            raise UnsupportedModel("what two attention units give is multiplied")
        if unit is not None and not positions:
            # What attention gives times a tensor of the user's is attention over more.
            one, two = (self._over(each, self.units[unit].hidden.positions) for each in (one, two))
        user = _both(self._user, one.user, two.user, width)
        item = _both(self._item, one.item, two.item, width)
        return Pair(user, item, unit)

    def _over(self, pair: Pair, positions: int) -> Pair:
        if pair.unit is not None or pair.user is None:
            return pair
        return replace(pair, user=self._user.spread(pair.user, positions))

    def _spread(self, form: Form, positions: int) -> Form:
        """Return *form* with a row for each of *positions* items of a history."""
        if form.positions == positions or form.is_constant:
            return form
        pairs = [*form.pairs, *(each.pair for each in form.dots)]
        if form.positions or form.chain or any(each.unit is not None for each in pairs):
            raise UnsupportedModel("what attention or layers give meets the history again")
        return replace(
            form,
            pairs=tuple(self._over(each, positions) for each in form.pairs),
            dots=tuple(replace(y, pair=self._over(y.pair, positions)) for y in form.dots),
            positions=positions,
        )

    # -- matrices ------------------------------------------------------------------------------

    def row_sum(self, form: Form) -> Form:
        """Return the sum of each row, as one column."""
        return form if form.width == 1 else self.layer(form, np.ones((form.width, 1), np.float32))

    def layer(self, given: Form | Joined, weights: Floats, bias: Any = 0.0) -> Form:
        """Return ``given @ weights + bias``."""
        if isinstance(given, Form):
            return self._layer(given, weights, bias)
        ends = np.cumsum([each.width for each in given.forms])
        if weights.ndim != 2 or ends[-1] != len(weights):
            raise UnsupportedModel(_NO_MATRIX)
        parts = np.split(weights, ends[:-1])
        forms = [self._layer(*each) for each in zip(given.forms, parts, strict=True)]
        return self.total([*forms, Form(weights.shape[1], constant=bias)])

    def _layer(self, form: Form, weights: Floats, bias: Any = 0.0) -> Form:
        if weights.ndim != 2 or form.width != weights.shape[0]:
            raise UnsupportedModel(_NO_MATRIX)
        out = weights.shape[1]
        if form.is_chain:
            assert form.chain is not None
            hidden = form.chain.hidden
            if not form.chain.layers and hidden.chain is not None:
                raise UnsupportedModel("an activation stands between sums")
            chain = form.chain.above(form.constant, weights, bias)
            return Form(out, chain=chain, positions=form.positions)
        if form.chain:
            raise UnsupportedModel("a layer is added to other parts and followed by layers")
        pairs: list[Pair] = []
        dots = [replace(each, weights=each.weights @ weights) for each in form.dots]
        for pair in form.pairs:
            if pair.unit is not None and pair.user is None:
                pair = replace(pair, user=self._ones(pair, form.width))
            if not pair.is_one_sided or pair.unit is not None:
                dots.append(Dot(pair, weights))
            elif pair.user is not None:
                wide = self._user.widened(pair.user, form.width)
                pairs.append(replace(pair, user=self._user.product(wide, weights)))
            elif pair.item is not None:
                wide = self._item.widened(pair.item, form.width)
                pairs.append(replace(pair, item=self._item.product(wide, weights)))
        row = np.broadcast_to(np.asarray(form.constant, float), (1, form.width))
        constant = row @ weights + bias
        return Form(out, tuple(pairs), tuple(dots), None, constant, form.positions)

    def normalised(self, forms: Sequence[Form], epsilon: float) -> Form:
        """Return what batch normalisation gives for a form and its four constants."""
        values = [np.asarray(each.constant, float) for each in forms[1:] if each.is_constant]
        if len(values) != 4:
            raise UnsupportedModel("it normalises by what is not a constant")
        gain, shift, mean, variance = values
        gain = gain / np.sqrt(variance + epsilon)
        offset = Form(forms[0].width, constant=shift - mean * gain)
        return self.total([self.scaled(forms[0], gain), offset])

    def activated(self, form: Form, kind: Activation, slope: float) -> Form:
        """Return an activation of *form*."""
        if form.chain is not None and form.chain.open and not (form.dots or form.pairs):
            chain = form.chain.closed(form.constant, kind, slope)
        else:
            # Over a sum of both sides it begins the layers; over anything else it must be the end.
            chain = Chain(form, kind, slope)
        return Form(form.width, chain=chain, positions=form.positions)

    # -- over a history ------------------------------------------------------------------------

    def weights(self, form: Form) -> Form:
        """Return *form* with its layers or products over a history as a unit's weights."""
        if not form.positions or (form.chain is None and not form.dots):
            return form
        unit, rest = units.weighed(form)
        self.units.append(unit)
        return replace(rest, pairs=(Pair(unit=len(self.units) - 1), *rest.pairs))

    def softmax(self, form: Form) -> Form:
        """Return the softmax of *form* over the history."""
        form = self.weights(form)
        number = next((each.unit for each in form.pairs if each.unit is not None), None)
        if number is None:
            raise UnsupportedModel("it has a softmax over what no candidate has a part in")
        self.units.append(units.masked(self.units[number], form, self._user))
        return Form(1, (Pair(unit=len(self.units) - 1),), positions=form.positions)

    def pooled(self, form: Form) -> Form:
        """Return the sum of *form* over the history."""
        if form.chain is not None:
            form = self.weights(form)
        pairs = tuple(self._pooled(each, form.positions) for each in form.pairs)
        dots = tuple(replace(y, pair=self._pooled(y.pair, form.positions)) for y in form.dots)
        constant = np.asarray(form.constant) * form.positions
        return Form(form.width, pairs, dots, constant=constant)

    def _pooled(self, pair: Pair, positions: int) -> Pair:
        if pair.unit is not None:
            return pair
        if pair.user is None:
            return self._times(pair, float(positions))
        return replace(pair, user=self._user.gathered(pair.user))

    def chosen(self, condition: Form, then: Form, other: Form) -> Form:
        """Return *then* where *condition*, of the user's, is 1, and *other* where it is 0."""
        if not condition.is_of_user or condition.width != 1 or len(condition.pairs) != 1:
            raise UnsupportedModel("it chooses by what is not a mask of the user's")
        name = condition.pairs[0].user
        assert name is not None, "a mask is a tensor of the user's"
        opposite = replace(condition, pairs=(Pair(self._user.opposite(name)),))
        return self.total([self._where(condition, then), self._where(opposite, other)])

    def _where(self, condition: Form, value: Form) -> Form:
        if not value.is_constant or np.all(np.isfinite(value.constant)):
            return self.product(condition, value)
        name = condition.pairs[0].user
        assert name is not None, "a mask is a tensor of the user's"
        chosen = self._user.chosen(name, float(np.asarray(value.constant).reshape(())))
        return replace(condition, pairs=(Pair(chosen),))


def _both(side: SideGraph, one: str | None, two: str | None, width: int) -> str | None:
    """Return the product of two tensors of a side, as wide as a form."""
    if one is None or two is None:
        name = one or two
        return name and side.widened(name, width)
    return side.widened(side.add("Mul", [one, two], max(side.width(one), side.width(two))), width)
