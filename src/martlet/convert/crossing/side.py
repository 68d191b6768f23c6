"""One side's graph, which grows as what is left of the main one is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import helper

from martlet.convert.graph import Graph


class SideGraph:
    """
    The graph of the user's part, or of the items'.

    Args:
        graph: Added to.
        widths: Of those of its outputs that are rows: the size of their last axis.
    """

    def __init__(self, graph: Graph, widths: dict[str, int]) -> None:
        self.graph = graph
        self._widths = widths
        self._any = next(iter(graph.outputs))

    def width(self, name: str) -> int:
        """Return how many numbers a row of *name* has."""
        return self._widths[name]

    def add(self, operator: str, inputs: Sequence[str], width: int, **attributes: Any) -> str:
        """Write a node and return its output."""
        name = self.graph.fresh(operator)
        self.graph.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        self._widths[name] = width
        return name

    def product(self, name: str, weights: Any) -> str:
        """Return ``name @ weights``."""
        return self.add("MatMul", [name, self.graph.constant(weights)], weights.shape[1])

    def times(self, name: str, factor: Any) -> str:
        """Return *name* times a constant: one number, or one a column."""
        given = np.asarray(factor, np.float32).reshape(-1)
        if given.size == 1 and given[0] == 1.0:
            return name
        width = max(self._widths[name], given.size)
        return self.add("Mul", [name, self.graph.constant(given, "factor")], width)

    def row_sum(self, name: str) -> str:
        """Return the sum of each row, as one column."""
        return self.add("ReduceSum", [name, self.graph.constant(np.array([1], np.int64))], 1)

    def column(self, name: str) -> str:
        """Return *name*, which has no axis but rows, as one column."""
        return self.add("Unsqueeze", [name, self.graph.constant(np.array([1], np.int64))], 1)

    def filled(self, value: Any, width: int) -> str:
        """Return a row of the constant *value* for each row of the side."""
        shape = self.add("Shape", [self._any], 0)
        first = self.graph.constant(np.zeros(1, np.int64))
        rows = self.add("Gather", [shape, first], 0)
        wide = self.graph.constant(np.array([width], np.int64))
        to = self.add("Concat", [rows, wide], 0, axis=0)
        row = np.broadcast_to(np.asarray(value, np.float32).reshape(1, -1), (1, width))
        return self.add("Expand", [self.graph.constant(np.ascontiguousarray(row)), to], width)

    def total(self, names: Sequence[str], width: int) -> str:
        """Return the sum of *names*, each of *width* or one column; zeros where there are none."""
        if not names:
            return self.filled(0.0, width)
        found = names[0]
        for each in names[1:]:
            found = self.add("Add", [found, each], width)
        if self._widths[found] != width:
            found = self.add("Add", [found, self.filled(0.0, width)], width)
        return found
