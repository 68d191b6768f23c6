"""Operators that onnxruntime runs slowly, written as others that give the same numbers."""

from __future__ import annotations

import numpy as np
from onnx import helper

from martlet.convert.rewriting.graph import Graph


def simplify(graph: Graph) -> None:
    """
    Replace what is slow for no reason, in place.

    ``PRelu``, the activation of attention units, goes element by element and takes ten times as
    long as ``LeakyRelu``, which is the same where there is one slope. Where there are several,
    all above 0 and none above 1, it is ``max(x, slope * x)``.
    """
    for node in list(graph.nodes):
        if node.op_type != "PRelu" or node.input[1] not in graph.constants:
            continue
        slopes = graph.array(node.input[1])
        given, gives = node.input[0], node.output[0]
        if slopes.dtype != np.float32:
            continue
        if slopes.size == 1:
            alpha = float(slopes.reshape(()))
            graph.replace(gives, [helper.make_node("LeakyRelu", [given], [gives], alpha=alpha)])
        elif (slopes > 0).all() and (slopes <= 1).all():
            scaled = graph.fresh("scaled")
            product = helper.make_node("Mul", [given, node.input[1]], [scaled])
            graph.replace(gives, [product, helper.make_node("Max", [given, scaled], [gives])])
