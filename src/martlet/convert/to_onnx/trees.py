"""Boosted trees to ONNX, from martlet's own forest: thresholds stay as wide as they were."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from onnx import ModelProto

from martlet import formats
from martlet.convert.to_onnx.forest import summed
from martlet.convert.to_onnx.task import Task
from martlet.convert.to_onnx.writer import Graph, Value
from martlet.errors import UnsupportedModel
from martlet.formats import links
from martlet.formats.tabular import MATRIX
from martlet.formats.trees.forest import Grown
from martlet.tensors import DType

_OPERATORS: dict[Callable[..., Any], str] = {
    links.identity: "Identity",
    links.sigmoid: "Sigmoid",
    links.softmax: "Softmax",
    np.exp: "Exp",
}


def from_trees(task: Task) -> ModelProto:
    """
    Convert a boosted model whose trees martlet's forest walks.

    Raises:
        UnsupportedModel: its trees are not the forest's (linear leaves), or its link is none that
            ONNX has an operator for.
    """
    servable = formats.load(task.path, formats.LoadOptions(trusted=task.trusted))
    grown: Grown | None = getattr(servable, "grown", None)
    if grown is None:
        raise UnsupportedModel("its trees have splits or leaves that ONNX's have not")
    inputs = task.signature.inputs
    if not all(spec.dtype.is_float for spec in inputs.values()):
        raise UnsupportedModel("it takes categories by their values, which ONNX's trees cannot")
    graph = Graph()
    if list(inputs) == [MATRIX]:
        rows = graph.input(MATRIX, DType.FLOAT64, grown.trees.forest.features)
    else:
        columns = [graph.input(name, DType.FLOAT64).as_column() for name in inputs]
        rows = graph.side_by_side(*columns)
    if grown.float32:
        rows = rows.cast(DType.FLOAT32).float64()
    bias = np.asarray(grown.bias, np.float64)
    raw = summed(graph, grown.trees, rows) * float(grown.scale) + bias
    outputs = {grown.raw: raw}
    for name, link in grown.links.items():
        if name in task.signature.outputs:
            outputs[name] = _linked(graph, raw, name, link)
    return graph.model(task.signature, outputs)


def _linked(graph: Graph, raw: Value, name: str, link: Callable[..., Any]) -> Value:
    """Return the output *name*, made of the raw scores."""
    if isinstance(link, partial) and link.func is links.sigmoid:
        raw, link = raw * float(link.keywords["slope"]), links.sigmoid
    if link is links.two_classes:
        raw, link = raw * links.SIGNS, links.sigmoid
    if isinstance(link, links.Chosen):
        best = link.threshold is None
        which = graph.call("ArgMax", raw, axis=1, keepdims=0) if best else raw > link.threshold
        return graph.call("Gather", link.labels, which.cast(DType.INT64))
    if link is links.likeliest:
        return graph.call("ArgMax", raw, axis=1, keepdims=0).cast(DType.FLOAT32)
    operator = _OPERATORS.get(link)
    if operator is None:
        raise UnsupportedModel(f"what makes {name!r} of the sums has no operator in ONNX")
    return graph.call(operator, raw)
