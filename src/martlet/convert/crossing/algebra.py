"""What operators do to forms; what is of one side alone is written into that side's graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from martlet.convert.crossing.forms import ITEM, USER, Chain, Floats, Form, Joined, Pair, total
from martlet.convert.crossing.side import SideGraph
from martlet.errors import UnsupportedModel
from martlet.formats.cross import Activation

_NO_MATRIX = "a product is of other shapes than rows and a matrix"


class Algebra:
    """
    The operators. Each raises UnsupportedModel where its result is no form.

    Args:
        sides: The user's graph and the items'.
    """

    def __init__(self, sides: Sequence[SideGraph]) -> None:
        self._sides = sides

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
        if form.dots and np.asarray(factor).size != 1:
            raise UnsupportedModel("a product of both sides is spread over several columns")
        return Form(
            width,
            tuple(self._times(each, factor) for each in form.pairs),
            tuple((self._sides[USER].times(u, factor), i) for u, i in form.dots),
            chain,
            np.asarray(form.constant) * factor,
        )

    def _times(self, pair: Pair, factor: Any) -> Pair:
        user, item = pair
        if user is not None:
            return self._sides[USER].times(user, factor), item
        assert item is not None, "a pair has one side at least"
        return None, self._sides[ITEM].times(item, factor)

    def product(self, a: Form, b: Form) -> Form:
        """Return *a* times *b*, number by number."""
        if a.is_constant or b.is_constant:
            return self.scaled(b, a.constant) if a.is_constant else self.scaled(a, b.constant)
        if a.chain or b.chain or a.dots or b.dots or a.width != b.width:
            raise UnsupportedModel("layers are multiplied")
        products = [
            (
                self._both(USER, one[USER], two[USER], a.width),
                self._both(ITEM, one[ITEM], two[ITEM], a.width),
            )
            for one in a.pairs
            for two in b.pairs
        ]
        # A square of a sum gives each product twice.
        pairs = [
            each if count == 1 else self._times(each, float(count))
            for each, count in Counter(products).items()
        ]
        pairs += [self._times(each, b.constant) for each in a.pairs if np.any(b.constant)]
        pairs += [self._times(each, a.constant) for each in b.pairs if np.any(a.constant)]
        constant = np.asarray(a.constant) * b.constant
        return Form(a.width, tuple(pairs), constant=constant)

    def _both(self, side: int, one: str | None, two: str | None, width: int) -> str | None:
        if one is None or two is None:
            return one or two
        return self._sides[side].add("Mul", [one, two], width)

    def row_sum(self, form: Form) -> Form:
        """Return the sum of each row, as one column."""
        if form.chain or form.dots:
            raise UnsupportedModel("a layer's outputs are summed")
        pairs: list[Pair] = []
        dots: list[tuple[str, str]] = []
        for user, item in form.pairs:
            if user is not None and item is not None:
                dots.append((user, item))
            elif user is not None:
                pairs.append((self._sides[USER].row_sum(user), None))
            elif item is not None:
                pairs.append((None, self._sides[ITEM].row_sum(item)))
        constant = np.broadcast_to(np.asarray(form.constant, float), (1, form.width)).sum()
        return Form(1, tuple(pairs), tuple(dots), constant=constant)

    def layer(self, given: Form | Joined, weights: Floats, bias: Any = 0.0) -> Form:
        """Return ``given @ weights + bias``."""
        if isinstance(given, Form):
            return self._layer(given, weights, bias)
        ends = np.cumsum([each.width for each in given.forms])
        if weights.ndim != 2 or ends[-1] != len(weights):
            raise UnsupportedModel(_NO_MATRIX)
        parts = np.split(weights, ends[:-1])
        forms = [self._layer(*each) for each in zip(given.forms, parts, strict=True)]
        return total([*forms, Form(weights.shape[1], constant=bias)])

    def _layer(self, form: Form, weights: Floats, bias: Any = 0.0) -> Form:
        if weights.ndim != 2 or form.width != weights.shape[0]:
            raise UnsupportedModel(_NO_MATRIX)
        if form.is_chain:
            assert form.chain is not None
            if not form.chain.layers and not form.chain.hidden.is_sum:
                raise UnsupportedModel("what is activated is no sum of both sides")
            return Form(weights.shape[1], chain=form.chain.above(form.constant, weights, bias))
        if form.chain or form.dots:
            raise UnsupportedModel("a layer is added to other parts and followed by layers")
        out = weights.shape[1]
        pairs: list[Pair] = []
        dots: list[tuple[str, str]] = []
        for user, item in form.pairs:
            if user is not None and item is not None:
                if out != 1:
                    raise UnsupportedModel("products of both sides are mixed by a matrix")
                dots.append((self._sides[USER].times(user, weights[:, 0]), item))
            elif user is not None:
                pairs.append((self._sides[USER].product(user, weights), None))
            elif item is not None:
                pairs.append((None, self._sides[ITEM].product(item, weights)))
        row = np.broadcast_to(np.asarray(form.constant, float), (1, form.width))
        return Form(out, tuple(pairs), tuple(dots), constant=row @ weights + bias)

    def normalised(self, forms: Sequence[Form], epsilon: float) -> Form:
        """Return what batch normalisation gives for a form and its four constants."""
        values = [np.asarray(each.constant, float) for each in forms[1:] if each.is_constant]
        if len(values) != 4:
            raise UnsupportedModel("it normalises by what is no constant")
        gain, shift, mean, variance = values
        gain = gain / np.sqrt(variance + epsilon)
        offset = Form(forms[0].width, constant=shift - mean * gain)
        return total([self.scaled(forms[0], gain), offset])

    def activated(self, form: Form, kind: Activation, slope: float) -> Form:
        """Return an activation of *form*."""
        if form.chain is not None and form.chain.open and not (form.dots or form.pairs):
            return Form(form.width, chain=form.chain.closed(form.constant, kind, slope))
        # Over a sum of both sides it begins the layers; over anything else it must be the end.
        return Form(form.width, chain=Chain(form, kind, slope))
