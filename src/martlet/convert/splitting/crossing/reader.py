"""The main graph of a split, read node by node as forms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import NodeProto

from martlet.convert.rewriting.graph import Array, Graph, answer, attribute, session
from martlet.convert.splitting.crossing.algebra import Algebra
from martlet.convert.splitting.crossing.forms import USER, Floats, Form, Joined, Pair
from martlet.convert.splitting.crossing.layout import (
    COLUMNS,
    ONE,
    POSITIONS,
    Laid,
    aligned,
    leaf,
    turned,
)
from martlet.convert.splitting.crossing.shares import Crossing, crossing_of
from martlet.convert.splitting.crossing.side import SideGraph
from martlet.convert.splitting.sides import shapes_of
from martlet.convert.splitting.split import Split
from martlet.errors import UnsupportedModel
from martlet.formats.package.dense import Activation
from martlet.tensors import Tensors

_ACTIVATIONS = {
    "Relu": Activation.RELU,
    "Sigmoid": Activation.SIGMOID,
    "Tanh": Activation.TANH,
    "LeakyRelu": Activation.LEAKY,
    "QuickGelu": Activation.SILU,
    "Gelu": Activation.GELU,
}
_SAME = frozenset({"Identity", "Dropout", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Expand"})
_TOGETHER = frozenset({"Add", "Sum", "Sub", "Mul", "Div", "Where"})


class Reader:
    """
    One reading of a split's main graph.

    Args:
        rows: At least four rows that the model answers.
    """

    def __init__(self, found: Split, rows: Tensors) -> None:
        assert found.user is not None and found.item is not None, "both sides have a part"
        self._found = found
        self._main = Graph(found.main)
        few = fed(found, rows)
        self._shapes = shapes_of(self._main, few)
        self._laid: dict[str, Laid | UnsupportedModel] = {}
        self._leaves: dict[str, int] = {}
        self._masks = {name for name, values in few.items() if values.dtype == np.bool_}
        sides: list[SideGraph] = []
        for side, model in enumerate((found.user.model, found.item.model)):
            graph = Graph(model)
            self._leaves |= dict.fromkeys(graph.outputs, side)
            widths = {name: few[name].shape[-1] for name in graph.outputs if few[name].ndim}
            sides.append(SideGraph(graph, widths))
        self._user = sides[USER]
        self._algebra = Algebra(sides)

    def read(self) -> Crossing:
        """
        Return what the graph is.

        Raises:
            UnsupportedModel: it is none.
        """
        for node in self._main.nodes:
            try:
                self._laid[node.output[0]] = self._node(node)
            except UnsupportedModel as exc:  # it may be a shape, which nobody reads
                self._laid[node.output[0]] = exc
        (output,) = self._main.outputs
        return crossing_of(self._get(output).single, output, self._algebra, self._found)

    def _get(self, name: str) -> Laid:
        found = self._laid.get(name)
        if isinstance(found, UnsupportedModel):
            raise found
        if found is None:
            found = self._laid[name] = self._leaf(name)
        return found

    def _leaf(self, name: str) -> Laid:
        if name not in self._leaves:
            raise UnsupportedModel(f"it takes {name!r} as it comes")
        of_user = self._leaves[name] == USER
        side = self._algebra.sides[self._leaves[name]]
        shape = self._shapes[name]
        if name in self._masks:
            name = side.add("Cast", [name], side.width(name), to=1)
        return leaf(name, shape, side, of_user)

    # -- one operator --------------------------------------------------------------------------

    def _node(self, node: NodeProto) -> Laid:
        kind, algebra = node.op_type, self._algebra
        if kind in _TOGETHER:
            return self._together(node)
        if kind in ("MatMul", "Gemm"):
            return self._product(node)
        if kind == "Einsum":
            return self._einsum(node)
        if kind == "Concat":
            return self._joined(node)
        laid = self._get(node.input[0])
        if kind in _SAME or (kind == "Cast" and attribute(node, "to", 0) == 1):
            return laid.reshaped(self._shapes[node.output[0]])
        form, axes = laid.single, laid.axes
        if kind == "Transpose":
            return Laid(form, "".join(axes[at] for at in attribute(node, "perm")))
        if kind in ("ReduceSum", "ReduceMean"):
            return self._reduced(node, laid)
        if kind in _ACTIVATIONS and _is_known(node):
            slope = attribute(node, "alpha", 0.01)
            return Laid(algebra.activated(form, _ACTIVATIONS[kind], slope), axes)
        if kind == "Neg":
            return Laid(algebra.scaled(form, -1.0), axes)
        if kind == "Pow" and np.all(self._constant(node.input[1]) == 2):
            return Laid(algebra.product(form, form), axes)
        if kind == "Softmax" and axes[attribute(node, "axis", -1)] == POSITIONS:
            return Laid(algebra.softmax(form), axes)
        if kind == "BatchNormalization" and axes[1:2] == COLUMNS:
            values = [Form(1, constant=self._constant(name)) for name in node.input[1:]]
            epsilon = attribute(node, "epsilon", 1e-5)
            return Laid(algebra.normalised([form, *values], epsilon), axes)
        raise UnsupportedModel(f"it has a {kind}")

    def _together(self, node: NodeProto) -> Laid:
        """Read an operator that broadcasts."""
        names, algebra = list(node.input), self._algebra
        given = [self._get(name) for name in names if name not in self._main.constants]
        given, axes = aligned(given, self._user)
        left = iter(given)
        forms: list[Form] = []
        for name in names:
            if name in self._main.constants:
                form, axes = self._broadcast(self._main.array(name), axes, given)
            else:
                form = next(left).single
            forms.append(form)
        match node.op_type:
            case "Sub":
                found = algebra.total([forms[0], algebra.scaled(forms[1], -1.0)])
            case "Mul":
                found = algebra.product(*forms)
            case "Div" if forms[1].is_constant:
                found = algebra.scaled(forms[0], 1.0 / np.asarray(forms[1].constant))
            case "Div":
                found = algebra.product(forms[0], algebra.inverse(forms[1]))
            case "Where":
                found = algebra.chosen(*forms)
            case _:
                found = algebra.total(forms)
        return Laid(found, axes)

    def _constant(self, name: str) -> Array:
        if name not in self._main.constants:
            raise UnsupportedModel("it computes with what is not a constant")
        return self._main.array(name)

    def _broadcast(self, array: Array, axes: str, beside: Sequence[Laid]) -> tuple[Form, str]:
        """Return a constant as a form beside others, and their axes."""
        if array.ndim > len(axes):
            raise UnsupportedModel("a constant has more axes than what it meets")
        wide = array.reshape([1] * (len(axes) - array.ndim) + list(array.shape))
        if wide.size == 1:
            return Form(1, constant=wide.reshape(1)), axes
        at = [i for i, size in enumerate(wide.shape) if size != 1]
        letters = "".join(axes[i] for i in at)
        if letters == ONE and COLUMNS not in axes:
            axes, letters = axes[: at[0]] + COLUMNS + axes[at[0] + 1 :], COLUMNS
        flat = wide.reshape([wide.shape[i] for i in at])
        if letters == COLUMNS:
            return Form(flat.size, constant=flat), axes
        positions = max(each.positions for each in beside)
        if letters == POSITIONS:
            flat = flat[:, None]
        elif letters == COLUMNS + POSITIONS:
            flat = flat.T
        elif letters != POSITIONS + COLUMNS:
            raise UnsupportedModel("a constant differs from row to row")
        width = flat[0].size
        name = self._user.filled(flat, width, positions)
        return Form(width, (Pair(name),), positions=positions), axes

    def _joined(self, node: NodeProto) -> Laid:
        laids = [self._get(name) for name in node.input]
        kinds = {each.axes for each in laids}
        axes = kinds.pop() if len(kinds) == 1 else ""
        at = attribute(node, "axis", 0)
        if not axes or axes[at] != COLUMNS:
            raise UnsupportedModel("it has a Concat along another axis than the columns")
        return Laid(Joined(tuple(each.single for each in laids)), axes)

    def _reduced(self, node: NodeProto, laid: Laid) -> Laid:
        axes = attribute(node, "axes")
        if axes is None and len(node.input) > 1:
            axes = self._constant(node.input[1]).reshape(-1)
        if axes is None:
            raise UnsupportedModel("it sums all rows")
        kept, form = list(laid.axes), laid.single
        for at in axes:
            letter = laid.axes[at]
            form = self._sum(form, letter)
            if node.op_type == "ReduceMean":
                form = self._algebra.scaled(form, 1 / laid.size(letter))
            kept[at] = ONE
        gone = set() if attribute(node, "keepdims", 1) else {int(at) % len(kept) for at in axes}
        return Laid(form, "".join(y for at, y in enumerate(kept) if at not in gone))

    def _sum(self, form: Form, letter: str) -> Form:
        if letter == COLUMNS:
            return self._algebra.row_sum(form)
        if letter == POSITIONS:
            return self._algebra.pooled(form)
        if letter == ONE:
            return form
        raise UnsupportedModel("it sums over the rows")

    # -- products of matrices ------------------------------------------------------------------

    def _product(self, node: NodeProto) -> Laid:
        one, other = node.input[:2]
        if other not in self._main.constants:
            return self._contracted(self._get(one), self._get(other), ("nab", "nbc"), "nac")
        laid = self._get(one)
        if laid.axes[-1] != COLUMNS and not (laid.width == 1 and laid.axes[-1] == ONE):
            raise UnsupportedModel("a matrix takes no columns")
        found = self._algebra.layer(laid.form, *self._weights(node))
        return Laid(found, laid.axes[:-1] + COLUMNS)

    def _weights(self, node: NodeProto) -> tuple[Floats, Any]:
        """Return the weights and the bias of a product with a constant matrix."""
        weights: Floats = self._main.array(node.input[1])
        if node.op_type == "MatMul":
            return weights, np.zeros(1)
        if attribute(node, "transA", 0):
            raise UnsupportedModel("a Gemm transposes its rows")
        weights = weights.T if attribute(node, "transB", 0) else weights
        bias: Any = np.zeros(1)
        if len(node.input) > 2 and node.input[2]:
            bias = self._constant(node.input[2]) * attribute(node, "beta", 1.0)
        return weights * attribute(node, "alpha", 1.0), bias

    def _einsum(self, node: NodeProto) -> Laid:
        given, _, gives = attribute(node, "equation").decode().replace(" ", "").partition("->")
        terms = given.split(",")
        if len(terms) != 2 or len(gives) != len(self._shapes.get(node.output[0], ())):
            raise UnsupportedModel(f"it has an Einsum of {given!r}")
        one, other = (self._get(name) for name in node.input)
        return self._contracted(one, other, (terms[0], terms[1]), gives)

    def _contracted(self, one: Laid, other: Laid, terms: tuple[str, str], gives: str) -> Laid:
        """Read a product of two tensors, summed over the axes that *gives* does not name."""
        if (len(one.axes), len(other.axes)) != tuple(map(len, terms)):
            raise UnsupportedModel("a product is of two matrices of other ranks")
        if not _agree(one, other, terms):
            if other.form_is_of_user:
                other = turned(other, self._user)
            else:
                one = turned(one, self._user)
        if not _agree(one, other, terms):
            raise UnsupportedModel("a product is of matrices whose axes do not go together")
        letters = dict(zip(terms[0], map(one.letter, range(len(terms[0]))), strict=True))
        for label, letter in zip(terms[1], map(other.letter, range(len(terms[1]))), strict=True):
            letters[label] = letter if letters.get(label, ONE) == ONE else letters[label]
        if len({y for y in letters.values() if y != ONE}) < sum(y != ONE for y in letters.values()):
            raise UnsupportedModel("a product is of matrices whose axes do not go together")
        form = self._algebra.product(one.single, other.single)
        for label, letter in letters.items():
            if label not in gives:
                form = self._sum(form, letter)
        return Laid(form, "".join(letters[label] for label in gives))


def _is_known(node: NodeProto) -> bool:
    """Whether an activation is the form of it that is computed here."""
    if node.op_type == "QuickGelu":
        return bool(attribute(node, "alpha", 1.702) == 1.0)
    return node.op_type != "Gelu" or attribute(node, "approximate", b"none") == b"none"


def _agree(one: Laid, other: Laid, terms: tuple[str, str]) -> bool:
    """Whether the axes that two tensors share are of one kind."""
    shared = set(terms[0]) & set(terms[1])
    return all(
        one.letter(terms[0].index(each)) == other.letter(terms[1].index(each)) for each in shared
    )


def fed(found: Split, rows: Tensors) -> dict[str, Floats]:
    """Return *rows* with the answers of both sides' graphs for them."""
    feed = dict(rows)
    for part in (found.user, found.item):
        assert part is not None, "both sides have a part"
        outputs = answer(session(part.model), rows)
        if outputs is None:
            raise UnsupportedModel("a side does not answer the probes")
        names = (each.name for each in part.model.graph.output)
        feed.update(zip(names, outputs, strict=True))
    return feed
