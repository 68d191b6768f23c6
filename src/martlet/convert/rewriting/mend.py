"""Faults of converters that are known, mended in the graph; the certificate says if rightly."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from martlet.convert.rewriting.graph import Graph, attribute

# Operators whose output has the type of their first input.
_KEEP_TYPE = frozenset(
    {"Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Transpose", "Expand", "Tile"}
    | {"Gather", "GatherND", "GatherElements", "Slice", "Split", "Concat", "Compress", "Where"}
)


def mend(model: ModelProto) -> ModelProto:
    """
    Return *model*, which tf2onnx made, with what it is known to write wrongly put right.

    Text that is compared: ``x != ""``, by which feature columns tell that a text is missing,
    comes as a number made of the text, compared with -1; no text but a number survives that. It
    becomes a look at whether the text is empty.

    One-hot vectors: a negative index is all off in TensorFlow, and counts from the end in ONNX.
    """
    graph = Graph(model)
    _mend_text(graph)
    _mend_one_hot(graph)
    return graph.model()


def _mend_text(graph: Graph) -> None:
    text = {
        name
        for name, info in graph.inputs.items()
        if info.type.tensor_type.elem_type == TensorProto.STRING
    }
    numbers: dict[str, str] = {}
    for node in graph.nodes:
        if node.op_type in _KEEP_TYPE and node.input[0] in text:
            text.update(node.output)
        elif (
            node.op_type == "Cast"
            and node.input[0] in text
            and attribute(node, "to") == TensorProto.INT32
        ):
            numbers[node.output[0]] = node.input[0]
    for node in list(graph.nodes):
        if node.op_type != "Equal" or node.input[0] not in numbers:
            continue
        if node.input[1] not in graph.constants or graph.array(node.input[1]).size != 1:
            continue
        graph.use("ai.onnx.ml", 2)
        empty = graph.fresh("empty")
        looks = helper.make_node(
            "LabelEncoder",
            [numbers[node.input[0]]],
            [empty],
            domain="ai.onnx.ml",
            keys_strings=[""],
            values_int64s=[1],
            default_int64=0,
        )
        truth = helper.make_node("Cast", [empty], [node.output[0]], to=TensorProto.BOOL)
        graph.replace(node.output[0], [looks, truth])


def _mend_one_hot(graph: Graph) -> None:
    for node in list(graph.nodes):
        depth = node.input[1] if node.op_type == "OneHot" else ""
        if depth not in graph.constants:
            continue
        whole, below, moved = (graph.fresh(name) for name in ("whole", "below", "moved"))
        zero = graph.constant(np.int64(0))
        beyond = graph.constant(np.int64(graph.array(depth).reshape(())))
        hot = NodeProto()
        hot.CopyFrom(node)
        hot.input[0] = moved
        graph.replace(
            node.output[0],
            [
                helper.make_node("Cast", [node.input[0]], [whole], to=TensorProto.INT64),
                helper.make_node("Less", [whole, zero], [below]),
                helper.make_node("Where", [below, beyond, whole], [moved]),
                hot,
            ],
        )
