"""Activations that exporters write as several operators, made one again: SiLU and GELU.

As one operator they stay whole in a split, which else scales a sum for one use of it and not for
the other; onnxruntime has both among its own operators.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from onnx import NodeProto, helper

from martlet.convert.rewriting.graph import Graph

_DOMAIN = "com.microsoft"
_ROOT = float(np.sqrt(0.5))


def fuse(graph: Graph) -> None:
    """Replace in place ``x * sigmoid(x)`` and ``x * (1 + erf(x / sqrt 2)) / 2``, in any order."""
    for gate in [node for node in graph.nodes if node.op_type in ("Sigmoid", "Erf")]:
        found = _silu(graph, gate) if gate.op_type == "Sigmoid" else _gelu(graph, gate)
        if found is not None:
            given, gives = found
            graph.use(_DOMAIN, 1)
            kind = "QuickGelu" if gate.op_type == "Sigmoid" else "Gelu"
            made = helper.make_node(kind, [given], [gives], domain=_DOMAIN)
            if kind == "QuickGelu":
                made.attribute.append(helper.make_attribute("alpha", 1.0))
            graph.replace(gives, [made])


def _silu(graph: Graph, gate: NodeProto) -> tuple[str, str] | None:
    given = gate.input[0]
    for node in _takers(graph, gate.output[0]):
        if node.op_type == "Mul" and sorted(node.input) == sorted([given, gate.output[0]]):
            return given, node.output[0]
    return None


def _gelu(graph: Graph, gate: NodeProto) -> tuple[str, str] | None:
    """Follow a chain of products and one sum until it is x times half of 1 + erf."""
    source = next((node for node in graph.nodes if gate.input[0] in node.output), None)
    if source is None or source.op_type not in ("Mul", "Div"):
        return None
    given, by = _factor(graph, source)
    if given is None or abs(by - _ROOT) > 1e-6:
        return None
    name, factor, added, times = gate.output[0], 1.0, False, False
    while not (added and times and abs(factor - 0.5) < 1e-6):
        takers = list(_takers(graph, name))
        if len(takers) != 1:
            return None
        (node,) = takers
        other = [each for each in node.input if each != name]
        if node.op_type == "Add" and not added and len(other) == 1 and _value(graph, other[0]) == 1:
            added = factor == 1.0 and not times
        elif node.op_type == "Mul" and added and other == [given] and not times:
            times = True
        elif node.op_type in ("Mul", "Div") and added:
            inner, by = _factor(graph, node)
            if inner != name:
                return None
            factor *= by
        else:
            return None
        if not added:
            return None
        name = node.output[0]
    return given, name


def _factor(graph: Graph, node: NodeProto) -> tuple[str | None, float]:
    """Return what a product with one number multiplies, and by what; None where it is another."""
    one, other = node.input
    value = _value(graph, other)
    if value is None and node.op_type == "Mul":
        one, other = other, one
        value = _value(graph, other)
    if not value:
        return None, 1.0
    return one, value if node.op_type == "Mul" else 1 / value


def _value(graph: Graph, name: str) -> float | None:
    if name not in graph.constants or graph.array(name).size != 1:
        return None
    return float(graph.array(name).reshape(()))


def _takers(graph: Graph, name: str) -> Iterator[NodeProto]:
    return (node for node in graph.nodes if name in node.input)
