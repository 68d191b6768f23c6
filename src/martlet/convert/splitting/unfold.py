"""Two habits of exporters undone, so that the algebra of a split sees through them.

A layer over the items of a history is written with their axis folded into the rows and unfolded
after it, and a candidate is copied once for each of them. Neither changes a number.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from onnx import NodeProto, helper

from martlet.convert.rewriting.graph import Graph, answer, session
from martlet.convert.splitting.sides import Shape, Side, sides_of
from martlet.errors import UnsupportedModel
from martlet.tensors import Tensors

# What goes number by number, or column by column, whatever the axes before are.
_ELEMENTWISE = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu"})
_UNARY = frozenset(
    {"Relu", "Sigmoid", "Tanh", "LeakyRelu", "Elu", "Selu", "Softplus", "Identity", "Neg", "Exp"}
)


def unfold(graph: Graph, shapes: dict[str, Shape]) -> None:
    """
    Let layers over folded axes go over the axes as they are, in place.

    Args:
        shapes: Of the graph's tensors; those of new ones are added.
    """
    whole: dict[str, str] = {}  # folded into two axes -> the tensor with its own axes
    nodes: list[NodeProto] = []
    for node in graph.nodes:
        nodes.append(node)
        name, given = node.output[0], node.input[0] if node.input else ""
        shape = shapes.get(name, ())
        if node.op_type == "Reshape" and given in whole:
            back = whole[given]
            if shapes[back] == shape:
                nodes[-1] = helper.make_node("Identity", [back], [name])
            continue
        if node.op_type == "Reshape" and _folds(shapes.get(given, ()), shape):
            whole[name] = given
            continue
        used = [each for each in node.input if each in whole]
        if len(used) != 1 or not _by_column(node, graph, used[0]):
            continue
        made = graph.fresh(node.op_type)
        copy = _copied(node, used[0], whole[used[0]])
        copy.output[0] = made
        nodes.append(copy)
        shapes[made] = (*shapes[whole[used[0]]][:-1], shape[-1])
        whole[name] = made
    graph.nodes = nodes


def _folds(before: Shape, after: Shape) -> bool:
    return len(before) > 2 and len(after) == 2 and after[0] == -1 and before[-1] == after[-1] > 0


def _by_column(node: NodeProto, graph: Graph, name: str) -> bool:
    others = [each for each in node.input if each != name]
    if any(each not in graph.constants for each in others) or len(node.output) != 1:
        return False
    if node.op_type == "MatMul":
        return node.input[0] == name and len(graph.constants[others[0]].dims) == 2
    if node.op_type in _ELEMENTWISE:
        return all(len(graph.constants[each].dims) <= 1 for each in others)
    return node.op_type in _UNARY


def narrow(
    graph: Graph, shapes: dict[str, Shape], user_inputs: Sequence[str], rows: Tensors
) -> None:
    """
    Write what is copied along an axis as the expansion of one copy, in place.

    Found by running the graph: a tensor of the item alone, [rows, n, ...], whose n parts are the
    same for every row, bit for bit. (The user's might be so by chance: a mask, where no row has
    padding.)

    Raises:
        UnsupportedModel: the graph does not answer *rows*.
    """
    sides = sides_of(graph, user_inputs)
    names = [
        name
        for node in graph.nodes
        for name in node.output
        if sides.get(name) is Side.ITEM and len(shapes.get(name, ())) > 2 and shapes[name][1] > 1
    ]
    live = graph.live()
    names = [each for each in names if each in live and shapes[each][:1] == (-1,)]
    if not names:
        return
    found = answer(session(graph.cut(graph.inputs, names)), rows)
    if found is None:
        raise UnsupportedModel("the graph does not answer the rows that it is split by")
    for name, values in zip(names, found, strict=True):
        if values.dtype != np.float32 or not _varies(values) or (values != values[:, :1]).any():
            continue
        _expand(graph, name, shapes)


def _varies(values: np.ndarray) -> bool:
    return len(values) > 1 and bool((values != values[:1]).any())


def _expand(graph: Graph, name: str, shapes: dict[str, Shape]) -> None:
    """Let whoever takes *name* take an expansion of its first part."""
    at = next(i for i, node in enumerate(graph.nodes) if name in node.output)
    one = graph.fresh("one")
    numbers = [graph.constant(np.array([each], np.int64)) for each in (0, 1, 1)]
    cut = helper.make_node("Slice", [name, *numbers], [one])
    graph.nodes.insert(at + 1, cut)
    shapes[one] = (-1, 1, *shapes[name][2:])
    wide = graph.fresh("copies")
    shape = [1, shapes[name][1], *[1] * (len(shapes[name]) - 2)]
    sizes = graph.constant(np.array(shape, np.int64))
    graph.nodes.insert(at + 2, helper.make_node("Expand", [one, sizes], [wide]))
    shapes[wide] = shapes[name]
    graph.nodes = [
        _copied(node, name, wide) if name in node.input and node is not cut else node
        for node in graph.nodes
    ]


def _copied(node: NodeProto, old: str, new: str) -> NodeProto:
    """Return a node without a name that takes *new* where *node* takes *old*."""
    copy = NodeProto()
    copy.CopyFrom(node)
    copy.name = ""
    copy.input[:] = [new if each == old else each for each in node.input]
    return copy
