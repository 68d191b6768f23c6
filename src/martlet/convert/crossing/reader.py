"""The main graph of a split, read node by node as forms."""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import NodeProto

from martlet.convert.crossing.algebra import Algebra
from martlet.convert.crossing.forms import USER, Floats, Form, Joined, total
from martlet.convert.crossing.shares import Crossing, crossing_of
from martlet.convert.crossing.side import SideGraph
from martlet.convert.graph import Graph, answer, attribute, session
from martlet.convert.sides import shapes_of
from martlet.convert.split import Split
from martlet.errors import UnsupportedModel
from martlet.formats.cross import Activation
from martlet.tensors import Tensors

_ACTIVATIONS = {
    "Relu": Activation.RELU,
    "Sigmoid": Activation.SIGMOID,
    "Tanh": Activation.TANH,
    "LeakyRelu": Activation.LEAKY,
}
_SAME = ("Identity", "Dropout", "Squeeze", "Unsqueeze", "Reshape", "Flatten", "Cast")


class Reader:
    """
    One reading of a split's main graph.

    Args:
        rows: At least four rows that the model answers.

    Raises:
        UnsupportedModel: a side gives what no row is made of.
    """

    def __init__(self, found: Split, rows: Tensors) -> None:
        assert found.user is not None and found.item is not None, "both sides have a part"
        self._found = found
        self._main = Graph(found.main)
        few = fed(found, rows)
        self._shapes = shapes_of(self._main, few)
        self._forms: dict[str, Form | Joined] = {}
        self._columns: dict[str, int] = {}  # without an axis: read only where they are given one
        self._sides: list[SideGraph] = []
        for side, model in enumerate((found.user.model, found.item.model)):
            graph = Graph(model)
            widths: dict[str, int] = {}
            for name in graph.outputs:
                if few[name].ndim > 2:
                    raise UnsupportedModel(f"{name!r} is of rank {few[name].ndim}")
                if few[name].ndim == 1:
                    self._columns[name] = side
                    continue
                widths[name] = few[name].shape[1]
                pair = (name, None) if side == USER else (None, name)
                self._forms[name] = Form(widths[name], (pair,))
            self._sides.append(SideGraph(graph, widths))
        self._algebra = Algebra(self._sides)

    def read(self) -> Crossing:
        """
        Return what the graph is.

        Raises:
            UnsupportedModel: it is none.
        """
        for node in self._main.nodes:
            if node.op_type == "Concat" and attribute(node, "axis", 0) in (1, -1):
                self._forms[node.output[0]] = Joined(tuple(map(self._form, node.input)))
            else:
                self._forms[node.output[0]] = self._node(node)
        (output,) = self._main.outputs
        return crossing_of(self._form(output), output, self._sides, self._found)

    def _node(self, node: NodeProto) -> Form:
        kind, algebra = node.op_type, self._algebra
        if kind in _SAME and self._same(node):
            return self._form(node.input[0])
        if kind == "Unsqueeze" and node.input[0] in self._columns:
            return self._column(node)
        if kind in ("MatMul", "Gemm") and node.input[1] in self._main.constants:
            return algebra.layer(self._given(node.input[0]), *self._weights(node))
        forms = [self._form(name) for name in node.input if name]
        match kind:
            case "Add" | "Sum":
                return total(forms)
            case "Sub":
                return total([forms[0], algebra.scaled(forms[1], -1.0)])
            case "Neg":
                return algebra.scaled(forms[0], -1.0)
            case "Mul":
                return algebra.product(*forms)
            case "Div" if forms[1].is_constant:
                return algebra.scaled(forms[0], 1.0 / np.asarray(forms[1].constant))
            case "Pow" if forms[1].is_constant and np.all(np.asarray(forms[1].constant) == 2):
                return algebra.product(forms[0], forms[0])
            case "ReduceSum" if self._by_row(node):
                return algebra.row_sum(forms[0])
            case "ReduceMean" if self._by_row(node):
                return algebra.scaled(algebra.row_sum(forms[0]), 1 / forms[0].width)
            case "BatchNormalization":
                return algebra.normalised(forms, attribute(node, "epsilon", 1e-5))
        if kind in _ACTIVATIONS:
            slope = attribute(node, "alpha", 0.01)
            return algebra.activated(forms[0], _ACTIVATIONS[kind], slope)
        raise UnsupportedModel(f"it has a {kind}")

    def _given(self, name: str) -> Form | Joined:
        found = self._forms.get(name)
        return found if isinstance(found, Joined) else self._form(name)

    def _form(self, name: str) -> Form:
        found = self._forms.get(name)
        if isinstance(found, Form):
            return found
        if name in self._main.constants:
            array = self._main.array(name)
            return Form(array.shape[-1] if array.ndim else 1, constant=array)
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

    def _column(self, node: NodeProto) -> Form:
        name = node.input[0]
        side = self._columns[name]
        wide = self._sides[side].column(name)
        if self._shapes.get(node.output[0]) != (-1, 1):
            raise UnsupportedModel(f"{name!r} is laid along another axis")
        return Form(1, ((wide, None) if side == USER else (None, wide),))

    def _by_row(self, node: NodeProto) -> bool:
        if len(node.input) > 1 and node.input[1]:
            axes = self._main.array(node.input[1]).reshape(-1).tolist()
        else:
            axes = list(attribute(node, "axes", ()))
        kept = attribute(node, "keepdims", 1) or node.output[0] in self._main.outputs
        return axes in ([1], [-1]) and bool(kept)

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
            added = self._form(node.input[2])
            if not added.is_constant:
                raise UnsupportedModel("a Gemm adds what is no constant")
            bias = np.asarray(added.constant) * attribute(node, "beta", 1.0)
        return weights * attribute(node, "alpha", 1.0), bias


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
