"""The cross part of a split graph, recognised as `formats.cross.Cross` where it is one.

The main graph is read as algebra over the two sides' tensors: sums of the user's and the item's,
products of one of each, a first activation on such a sum, and layers above it. Whatever is of one
side alone moves into that side's graph. What does not fit is left to onnxruntime, with the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import NodeProto, helper

from martlet.convert.graph import Graph, answer, attribute, session
from martlet.convert.sides import shapes_of
from martlet.convert.split import ItemPart, Split, UserPart
from martlet.errors import UnsupportedModel
from martlet.formats.cross import Activation, Cross, Dense
from martlet.tensors import Tensors

Floats = NDArray[Any]

SHARES = ("martlet/user_share", "martlet/item_share")
"""The one output of each side's graph: ``[hidden | dot | linear]`` (see `Cross`)."""

_ACTIVATIONS = {
    "Relu": Activation.RELU,
    "Sigmoid": Activation.SIGMOID,
    "Tanh": Activation.TANH,
    "LeakyRelu": Activation.LEAKY,
}
_SAME = ("Identity", "Dropout", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Cast")
_TOLERANCE = 1e-4
USER, ITEM = 0, 1


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


def crossing(found: Split, rows: Tensors) -> Crossing:
    """
    Return *found* with its main part as a `Cross`.

    Args:
        rows: At least four rows that the model answers; both forms are tried on them.

    Raises:
        UnsupportedModel: it is none; the text says what does not fit.
    """
    if found.user is None or found.item is None:
        raise UnsupportedModel("one side has no part of its own")
    if len(found.main.graph.output) != 1:
        raise UnsupportedModel("it has several outputs")
    try:
        made = _Reader(found, rows).read()
    except ValueError as exc:  # numpy's, of shapes that do not go together, and the part's own
        raise UnsupportedModel(str(exc)) from exc
    _check(found, made, rows)
    return made


@dataclass(frozen=True, slots=True)
class _Chain:
    """Layers over a sum of both sides; *scale* and *shift* follow the last one's activation."""

    hidden: _Form
    first: Activation
    slope: float
    layers: tuple[Dense, ...] = ()
    open: bool = False  # whether the last layer's activation is still to come
    scale: Any = 1.0
    shift: Any = 0.0


@dataclass(frozen=True, slots=True)
class _Form:
    """
    A tensor [rows, width] as ``sum of pairs + dots + chain + constant``.

    Args:
        pairs: Products, number by number, of a tensor of each side; None is 1.
        dots: Products of two vectors, where the width is 1.
    """

    width: int
    pairs: tuple[tuple[str | None, str | None], ...] = ()
    dots: tuple[tuple[str, str], ...] = ()
    chain: _Chain | None = None
    constant: Any = 0.0

    @property
    def is_constant(self) -> bool:
        return not (self.pairs or self.dots or self.chain)

    @property
    def is_sum(self) -> bool:
        """Whether it is a sum of tensors of one side each, and constants."""
        return not self.dots and self.chain is None and all(None in each for each in self.pairs)

    @property
    def is_chain(self) -> bool:
        return self.chain is not None and not (self.pairs or self.dots)


@dataclass(frozen=True, slots=True)
class _Joined:
    """Forms side by side; only a matrix can follow, which takes each by rows of its own."""

    forms: tuple[_Form, ...]


class _Side:
    """One side's graph, which grows as the main one is read."""

    def __init__(self, graph: Graph, widths: dict[str, int]) -> None:
        self.graph = graph
        self._widths = widths
        self._any = next(iter(graph.outputs))

    def add(self, operator: str, inputs: Sequence[str], width: int, **attributes: Any) -> str:
        name = self.graph.fresh(operator)
        self.graph.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        self._widths[name] = width
        return name

    def times(self, name: str, factor: Any) -> str:
        given = np.asarray(factor, np.float32).reshape(-1)
        if given.size == 1 and given[0] == 1.0:
            return name
        width = max(self._widths[name], given.size)
        return self.add("Mul", [name, self.graph.constant(given, "factor")], width)

    def filled(self, value: Any, width: int) -> str:
        """A row of the constant *value* for each row of the side."""
        shape = self.add("Shape", [self._any], 0)
        first = self.graph.constant(np.zeros(1, np.int64))
        rows = self.add("Gather", [shape, first], 0)
        wide = self.graph.constant(np.array([width], np.int64))
        to = self.add("Concat", [rows, wide], 0, axis=0)
        row = np.broadcast_to(np.asarray(value, np.float32).reshape(1, -1), (1, width))
        return self.add("Expand", [self.graph.constant(np.ascontiguousarray(row)), to], width)

    def total(self, names: Sequence[str], width: int) -> str:
        if not names:
            return self.filled(0.0, width)
        found = names[0]
        for each in names[1:]:
            found = self.add("Add", [found, each], width)
        if self._widths[found] != width:
            found = self.add("Add", [found, self.filled(0.0, width)], width)
        return found


class _Reader:
    def __init__(self, found: Split, rows: Tensors) -> None:
        assert found.user is not None and found.item is not None
        self._found = found
        self._main = Graph(found.main)
        few = _fed(found, rows)
        self._shapes = shapes_of(self._main, few)
        graphs = Graph(found.user.model), Graph(found.item.model)
        self._widths: list[dict[str, int]] = [{}, {}]
        self._forms: dict[str, _Form] = {}
        self._joined: dict[str, _Joined] = {}
        for side, graph in enumerate(graphs):
            for name in graph.outputs:
                rank, *_, width = few[name].ndim, *few[name].shape
                if rank > 2:
                    raise UnsupportedModel(f"{name!r} is of rank {rank}")
                if rank == 1:
                    continue  # a column without an axis: read only where it is given one
                self._widths[side][name] = width
                pair = (name, None) if side == USER else (None, name)
                self._forms[name] = _Form(width, (pair,))
        self._sides = [_Side(g, w) for g, w in zip(graphs, self._widths, strict=True)]
        self._columns = {
            name: side
            for side, graph in enumerate(graphs)
            for name in graph.outputs
            if len(few[name].shape) == 1
        }

    def read(self) -> Crossing:
        for node in self._main.nodes:
            if node.op_type == "Concat" and attribute(node, "axis", 0) in (1, -1):
                forms = tuple(map(self._form, node.input))
                self._joined[node.output[0]] = _Joined(forms)
            else:
                self._forms[node.output[0]] = self._node(node)
        (output,) = self._main.outputs
        return self._made(self._forms[output], output)

    # -- one operator --------------------------------------------------------------------------

    def _node(self, node: NodeProto) -> _Form:
        kind = node.op_type
        if kind in _SAME and self._same(node):
            return self._form(node.input[0])
        if kind == "Unsqueeze" and node.input[0] in self._columns:
            return self._column(node)
        if kind in ("MatMul", "Gemm") and node.input[0] in self._joined:
            return self._mixed(node, self._joined[node.input[0]])
        forms = [self._form(name) for name in node.input if name]
        match kind:
            case "Add" | "Sum":
                return _sum(forms)
            case "Sub":
                return _sum([forms[0], self._scaled(forms[1], -1.0)])
            case "Neg":
                return self._scaled(forms[0], -1.0)
            case "Mul":
                return self._product(*forms)
            case "Div" if forms[1].is_constant:
                return self._scaled(forms[0], 1.0 / np.asarray(forms[1].constant))
            case "Pow" if forms[1].is_constant and np.all(np.asarray(forms[1].constant) == 2):
                return self._product(forms[0], forms[0])
            case "ReduceSum" | "ReduceMean" if self._by_row(node):
                found = self._reduced(forms[0])
                return found if kind == "ReduceSum" else self._scaled(found, 1 / forms[0].width)
            case "MatMul" if node.input[1] in self._main.constants:
                return self._layer(forms[0], self._main.array(node.input[1]))
            case "Gemm" if node.input[1] in self._main.constants:
                return self._layer(forms[0], *self._gemm(node))
            case "BatchNormalization":
                return self._normalised(forms, attribute(node, "epsilon", 1e-5))
        if kind in _ACTIVATIONS:
            return self._activated(forms[0], _ACTIVATIONS[kind], attribute(node, "alpha", 0.01))
        raise UnsupportedModel(f"it has a {kind}")

    def _form(self, name: str) -> _Form:
        if name in self._forms:
            return self._forms[name]
        if name in self._main.constants:
            array = self._main.array(name)
            return _Form(array.shape[-1] if array.ndim else 1, constant=array)
        raise UnsupportedModel(f"it takes {name!r} as it comes")

    def _same(self, node: NodeProto) -> bool:
        """Whether the node gives what it takes, with the width at the end."""
        given, gives = self._shapes.get(node.input[0]), self._shapes.get(node.output[0])
        if node.input[0] not in self._forms or given is None or gives is None:
            return False
        if node.op_type == "Cast":
            return int(attribute(node, "to", 0)) == 1
        # The last step may take the axis away: who calls gets the shape of the signature.
        return given == gives or (node.output[0] in self._main.outputs and given == (*gives, 1))

    def _column(self, node: NodeProto) -> _Form:
        name = node.input[0]
        side = self._columns[name]
        axes = self._sides[side].graph.constant(np.array([1], np.int64))
        wide = self._sides[side].add("Unsqueeze", [name, axes], 1)
        if self._shapes.get(node.output[0]) != (-1, 1):
            raise UnsupportedModel(f"{name!r} is laid along another axis")
        return _Form(1, ((wide, None) if side == USER else (None, wide),))

    def _by_row(self, node: NodeProto) -> bool:
        if len(node.input) > 1 and node.input[1]:
            axes = self._main.array(node.input[1]).reshape(-1).tolist()
        else:
            axes = list(attribute(node, "axes", ()))
        kept = attribute(node, "keepdims", 1) or node.output[0] in self._main.outputs
        return axes in ([1], [-1]) and bool(kept)

    def _scaled(self, form: _Form, factor: Any) -> _Form:
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
        return _Form(
            width,
            tuple(self._times(each, factor) for each in form.pairs),
            tuple((self._sides[USER].times(u, factor), i) for u, i in form.dots),
            chain,
            np.asarray(form.constant) * factor,
        )

    def _times(
        self, pair: tuple[str | None, str | None], factor: Any
    ) -> tuple[str | None, str | None]:
        user, item = pair
        if user is not None:
            return self._sides[USER].times(user, factor), item
        assert item is not None
        return None, self._sides[ITEM].times(item, factor)

    def _product(self, a: _Form, b: _Form) -> _Form:
        if a.is_constant or b.is_constant:
            return self._scaled(b, a.constant) if a.is_constant else self._scaled(a, b.constant)
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
        return _Form(a.width, tuple(pairs), constant=constant)

    def _both(self, side: int, one: str | None, two: str | None, width: int) -> str | None:
        if one is None or two is None:
            return one or two
        return self._sides[side].add("Mul", [one, two], width)

    def _reduced(self, form: _Form) -> _Form:
        if form.chain or form.dots:
            raise UnsupportedModel("a layer's outputs are summed")
        pairs: list[tuple[str | None, str | None]] = []
        dots: list[tuple[str, str]] = []
        for user, item in form.pairs:
            if user is not None and item is not None:
                dots.append((user, item))
            elif user is not None:
                pairs.append((self._row_sum(USER, user), None))
            elif item is not None:
                pairs.append((None, self._row_sum(ITEM, item)))
        constant = np.broadcast_to(np.asarray(form.constant, float), (1, form.width)).sum()
        return _Form(1, tuple(pairs), tuple(dots), constant=constant)

    def _row_sum(self, side: int, name: str) -> str:
        one = self._sides[side]
        return one.add("ReduceSum", [name, one.graph.constant(np.array([1], np.int64))], 1)

    def _layer(self, form: _Form, weights: Floats, bias: Any = 0.0) -> _Form:
        if weights.ndim != 2 or form.width != weights.shape[0]:
            raise UnsupportedModel("a product is of other shapes than rows and a matrix")
        if form.is_chain:
            assert form.chain is not None
            if not form.chain.layers and not form.chain.hidden.is_sum:
                raise UnsupportedModel("what is activated is no sum of both sides")
            return _Form(weights.shape[1], chain=_above(form.chain, form.constant, weights, bias))
        if form.chain or form.dots:
            raise UnsupportedModel("a layer is added to other parts and followed by layers")
        out = weights.shape[1]
        pairs: list[tuple[str | None, str | None]] = []
        dots: list[tuple[str, str]] = []
        for user, item in form.pairs:
            if user is not None and item is not None:
                if out != 1:
                    raise UnsupportedModel("products of both sides are mixed by a matrix")
                dots.append((self._sides[USER].times(user, weights[:, 0]), item))
                continue
            side, name = (USER, user) if user is not None else (ITEM, item)
            assert name is not None
            one = self._sides[side]
            product = one.add("MatMul", [name, one.graph.constant(weights)], out)
            pairs.append((product, None) if side == USER else (None, product))
        row = np.broadcast_to(np.asarray(form.constant, float), (1, form.width))
        return _Form(out, tuple(pairs), tuple(dots), constant=row @ weights + bias)

    def _gemm(self, node: NodeProto) -> tuple[Floats, Any]:
        """Return the weights and the bias."""
        if attribute(node, "transA", 0):
            raise UnsupportedModel("a Gemm transposes its rows")
        weights = self._main.array(node.input[1])
        weights = weights.T if attribute(node, "transB", 0) else weights
        bias: Any = 0.0
        if len(node.input) > 2 and node.input[2]:
            added = self._form(node.input[2])
            if not added.is_constant:
                raise UnsupportedModel("a Gemm adds what is no constant")
            bias = np.asarray(added.constant) * attribute(node, "beta", 1.0)
        return weights * attribute(node, "alpha", 1.0), bias

    def _mixed(self, node: NodeProto, joined: _Joined) -> _Form:
        if node.input[1] not in self._main.constants:
            raise UnsupportedModel("a product is of other shapes than rows and a matrix")
        weights, bias = self._main.array(node.input[1]), np.zeros(1)
        if node.op_type == "Gemm":
            weights, bias = self._gemm(node)
        ends = np.cumsum([each.width for each in joined.forms])
        if weights.ndim != 2 or ends[-1] != len(weights):
            raise UnsupportedModel("a product is of other shapes than rows and a matrix")
        parts = np.split(weights, ends[:-1])
        forms = [self._layer(*each) for each in zip(joined.forms, parts, strict=True)]
        return _sum([*forms, _Form(weights.shape[1], constant=bias)])

    def _normalised(self, forms: list[_Form], epsilon: float) -> _Form:
        values = [np.asarray(each.constant, float) for each in forms[1:] if each.is_constant]
        if len(values) != 4:
            raise UnsupportedModel("it normalises by what is no constant")
        gain, shift, mean, variance = values
        gain = gain / np.sqrt(variance + epsilon)
        return _sum(
            [self._scaled(forms[0], gain), _Form(forms[0].width, constant=shift - mean * gain)]
        )

    def _activated(self, form: _Form, kind: Activation, slope: float) -> _Form:
        if form.chain is not None and form.chain.open and not (form.dots or form.pairs):
            return _Form(form.width, chain=_closed(form.chain, form.constant, kind, slope))
        # Over a sum of both sides it begins the layers; over anything else it must be the end.
        return _Form(form.width, chain=_Chain(form, kind, slope))

    # -- all together --------------------------------------------------------------------------

    def _made(self, form: _Form, output: str) -> Crossing:
        end, slope, rest = Activation.IDENTITY, 0.0, form
        if form.is_chain and form.chain is not None and not form.chain.layers:
            chain = form.chain
            if np.any(chain.shift) or np.any(np.asarray(chain.scale) != 1) or np.any(form.constant):
                raise UnsupportedModel("something follows the last activation")
            end, slope, rest = chain.first, chain.slope, chain.hidden
        inner = rest.chain
        if inner is not None and inner.layers:
            return self._deep(rest, inner, end, slope, output)
        if inner is not None:
            raise UnsupportedModel("an activation stands between sums")
        if rest.width != 1:
            raise UnsupportedModel(f"it gives {rest.width} numbers without a layer")
        shares, dot, linear = self._shares(None, rest)
        return self._crossing(shares, Cross(0, dot, linear, (), end, slope), output)

    def _deep(
        self, rest: _Form, chain: _Chain, end: Activation, slope: float, output: str
    ) -> Crossing:
        *below, last = chain.layers
        if not chain.open:
            if end is not Activation.IDENTITY or rest.pairs or rest.dots:
                raise UnsupportedModel("something follows the last activation")
            if np.any(np.asarray(chain.scale) != 1) or np.any(chain.shift) or np.any(rest.constant):
                raise UnsupportedModel("something follows the last activation")
        else:
            weights = last.weights * chain.scale
            bias = np.broadcast_to(last.bias * chain.scale + chain.shift, last.bias.shape)
            last = Dense(
                _f32(weights), _f32(bias + np.asarray(rest.constant).reshape(-1)), end, slope
            )
        if chain.hidden.width == 0 or ((rest.pairs or rest.dots) and rest.width != 1):
            raise UnsupportedModel("several outputs share what is added at the end")
        extra = replace(rest, chain=None, constant=0.0)
        shares, dot, linear = self._shares(chain.hidden, extra)
        layers = (*below, last)
        cross = Cross(chain.hidden.width, dot, linear, layers, chain.first, chain.slope)
        return self._crossing(shares, cross, output)

    def _shares(self, hidden: _Form | None, extra: _Form) -> tuple[list[str], int, bool]:
        """Return either side's row ``[hidden | dot | linear]``, the width of dot, and linear."""
        pairs = [(u, i) for u, i in extra.pairs if u is not None and i is not None]
        dots = [*extra.dots, *pairs]
        dot = sum(self._widths[USER][user] for user, _ in dots)
        if any(self._widths[USER][u] != self._widths[ITEM][i] for u, i in dots):
            raise UnsupportedModel("a product's two sides differ in width")
        alone = [each for each in extra.pairs if None in each]
        linear = bool(alone) or bool(np.any(extra.constant))
        shares = []
        for number, side in enumerate(self._sides):
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

    def _crossing(self, shares: list[str], cross: Cross, output: str) -> Crossing:
        found = self._found
        assert found.user is not None and found.item is not None
        models = []
        for side, share, name in zip(self._sides, shares, SHARES, strict=True):
            side.graph.nodes.append(helper.make_node("Identity", [share], [name]))
            models.append(side.graph.cut(side.graph.inputs, [name]))
        user = UserPart(models[USER], tuple(each.name for each in models[USER].graph.input))
        item = replace(
            found.item,
            model=models[ITEM],
            inputs=tuple(each.name for each in models[ITEM].graph.input),
            shapes=((cross.width,),),
        )
        return Crossing(user, item, cross, output)


def _sum(forms: Sequence[_Form]) -> _Form:
    width = max(each.width for each in forms)
    chains = [each.chain for each in forms if each.chain is not None]
    if len(chains) > 1:
        raise UnsupportedModel("two stacks of layers are added")
    if any(each.width != width and not each.is_constant for each in forms):
        raise UnsupportedModel("one column is added to several")
    return _Form(
        width,
        tuple(pair for each in forms for pair in each.pairs),
        tuple(dot for each in forms for dot in each.dots),
        chains[0] if chains else None,
        sum((np.asarray(each.constant, float) for each in forms), np.zeros(1)),
    )


def _above(chain: _Chain, constant: Any, weights: Floats, bias: Any) -> _Chain:
    """Return *chain* with one more layer; what was scaled and shifted below goes into it."""
    width = weights.shape[0]
    scale = np.broadcast_to(np.asarray(chain.scale, float), (1, width)).reshape(-1, 1)
    shift = np.broadcast_to(np.asarray(chain.shift) + np.asarray(constant), (1, width))
    bias = np.broadcast_to((shift @ weights + bias).reshape(-1), weights.shape[1:])
    weights = weights * scale
    if chain.open:  # two products in a row are one
        *below, last = chain.layers
        bias, weights = last.bias @ weights + bias, last.weights @ weights
        layers = (*below, Dense(_f32(weights), _f32(bias)))
    else:
        layers = (*chain.layers, Dense(_f32(weights), _f32(bias)))
    return _Chain(chain.hidden, chain.first, chain.slope, layers, open=True)


def _closed(chain: _Chain, constant: Any, kind: Activation, slope: float) -> _Chain:
    *below, last = chain.layers
    added = np.asarray(chain.shift) + np.asarray(constant)
    weights = last.weights * chain.scale
    bias = np.broadcast_to((last.bias * chain.scale + added).reshape(-1), last.bias.shape)
    layers = (*below, Dense(_f32(weights), _f32(bias), kind, slope))
    return _Chain(chain.hidden, chain.first, chain.slope, layers)


def _f32(values: Any) -> Floats:
    return np.ascontiguousarray(values, np.float32)


def _fed(found: Split, rows: Tensors) -> dict[str, Floats]:
    """Return *rows* with the answers of both sides' graphs for them."""
    feed = dict(rows)
    for part in (found.user, found.item):
        assert part is not None
        outputs = answer(session(part.model), rows)
        if outputs is None:
            raise UnsupportedModel("a side does not answer the probes")
        names = (each.name for each in part.model.graph.output)
        feed.update(zip(names, outputs, strict=True))
    return feed


def _check(found: Split, made: Crossing, rows: Tensors) -> None:
    wanted = answer(session(found.main), _fed(found, rows))
    shares = [answer(session(each.model), rows) for each in (made.user, made.item)]
    if wanted is None or None in shares:
        raise UnsupportedModel("the parts do not answer the probes")
    (users,), (items,) = (each or [] for each in shares)
    numbers = np.arange(len(items))
    if users.shape[1] != made.cross.width or items.shape[1] != made.cross.width:
        raise UnsupportedModel("the sides' shares are not what the layers take")
    scores = made.cross.score(users, items, numbers, numbers)
    if not np.allclose(
        scores.reshape(wanted[0].shape), wanted[0], _TOLERANCE, 1e-6, equal_nan=True
    ):
        raise UnsupportedModel("read as sums and layers it answers otherwise")
