"""Refusals that a conversion lost, given back: an id below zero that a gather would wrap."""

from __future__ import annotations

from collections.abc import Mapping, Set

import numpy as np
from onnx import TensorProto, helper

from martlet.convert.rewriting.graph import Array, Graph, answer, attribute, session
from martlet.convert.rewriting.treatment import Refuses

_BEYOND = 1 << 40
"""Beyond any table: onnxruntime's Gather refuses it."""


def guard(graph: Graph, base: Mapping[str, Array], refuses: Refuses, plain: Set[str]) -> int:
    """
    Let gathers from tables refuse ids below zero where the original does, and say how many do now.

    TensorFlow and PyTorch refuse such an id, ONNX takes it from the table's end. Lookups of one
    input keep their own treatment; these are of several inputs together, or behind arithmetic.

    Args:
        base: One row that is answered.
        refuses: Asks the original.
        plain: What lookups give: left alone.
    """
    loose = [
        node
        for node in graph.nodes
        if node.op_type == "Gather"
        and attribute(node, "axis", 0) == 0
        and not plain & set(node.output)
        and node.input[0] in graph.constants
        and node.input[1] not in graph.constants
        and len(graph.constants[node.input[0]].dims) == 2
        and graph.constants[node.input[0]].data_type == TensorProto.FLOAT
    ]
    if not loose:
        return 0
    lost = _lost(graph, base, refuses)
    sources = graph.sources()
    guarded = [each for each in loose if sources[each.input[1]].inputs & lost]
    zero, beyond = (graph.constant(np.array(each, np.int64), "number") for each in (0, _BEYOND))
    for node in guarded:
        whole, low, safe = (graph.fresh(each) for each in ("whole", "low", "safe"))
        before = [
            helper.make_node("Cast", [node.input[1]], [whole], to=TensorProto.INT64),
            helper.make_node("Less", [whole, zero], [low]),
            helper.make_node("Where", [low, beyond, whole], [safe]),
        ]
        gather = helper.make_node("Gather", [node.input[0], safe], list(node.output), axis=0)
        graph.replace(node.output[0], [*before, gather])
    return len(guarded)


def _lost(graph: Graph, base: Mapping[str, Array], refuses: Refuses) -> set[str]:
    """Return the inputs of which the original refuses -1, and the graph answers it."""
    opened = session(graph.model())
    found = set()
    for name, value in base.items():
        if name not in graph.inputs or value.dtype.kind not in "if":
            continue
        feed = {**base, name: np.full_like(value, -1)}
        own = {each: feed[each] for each in graph.inputs}
        if answer(opened, own) is not None and refuses(feed):
            found.add(name)
    return found
