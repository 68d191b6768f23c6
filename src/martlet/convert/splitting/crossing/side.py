"""One side's graph, which grows as what is left of the main one is read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import helper

from martlet.convert.rewriting.graph import Graph


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

    def laid(self, name: str, operator: str, axes: Sequence[int], width: int) -> str:
        """Return *name* with *axes* more (Unsqueeze) or less (Squeeze)."""
        return self.add(operator, [name, self.graph.constant(np.array(axes, np.int64))], width)

    def transposed(self, name: str, width: int) -> str:
        """Return *name* [rows, a, b] as [rows, b, a]."""
        return self.add("Transpose", [name], width, perm=[0, 2, 1])

    def spread(self, name: str, positions: int) -> str:
        """Return the rows *name* once for each item of a history: [rows, positions, width]."""
        width = self._widths[name]
        one = self.laid(name, "Unsqueeze", [1], width)
        zeros = self.graph.constant(np.zeros((1, positions, 1), np.float32))
        return self.add("Add", [one, zeros], width)

    def gathered(self, name: str) -> str:
        """Return the sum of *name* over a history."""
        return self.add(
            "ReduceSum",
            [name, self.graph.constant(np.array([1], np.int64))],
            self._widths[name],
            keepdims=0,
        )

    def opposite(self, name: str) -> str:
        """Return 0 where *name* is 1, and 1 where it is 0."""
        one = self.graph.constant(np.float32(1))
        return self.add("Sub", [one, name], self._widths[name])

    def chosen(self, name: str, value: float) -> str:
        """Return *value* where *name* is 1, and 0 where it is 0, whatever *value* is."""
        condition = self.add("Cast", [name], self._widths[name], to=9)
        choice = [self.graph.constant(np.float32(each)) for each in (value, 0)]
        return self.add("Where", [condition, *choice], self._widths[name])

    def joined(self, names: Sequence[str]) -> str:
        """Return *names* side by side."""
        return self.add("Concat", names, sum(map(self.width, names)), axis=-1)

    def filled(self, value: Any, width: int, positions: int = 0) -> str:
        """Return the constant *value* for each row of the side, and each item of a history."""
        shape = self.add("Shape", [self._any], 0)
        first = self.graph.constant(np.zeros(1, np.int64))
        rows = self.add("Gather", [shape, first], 0)
        sizes = [positions, width] if positions else [width]
        to = self.add("Concat", [rows, self.graph.constant(np.array(sizes, np.int64))], 0, axis=0)
        row = np.asarray(value, np.float32)
        row = row if positions and row.ndim == 2 else row.reshape(-1)
        one = np.ascontiguousarray(np.broadcast_to(row, sizes)[None])
        return self.add("Expand", [self.graph.constant(one), to], width)

    def total(self, names: Sequence[str], width: int, positions: int = 0) -> str:
        """Return the sum of *names*, each of *width* or one column; zeros where there are none."""
        if not names:
            return self.filled(0.0, width, positions)
        found = names[0]
        for each in names[1:]:
            found = self.add("Add", [found, each], max(self._widths[found], self._widths[each]))
        return self.widened(found, width)

    def widened(self, name: str, width: int) -> str:
        """Return *name*, of *width* or one column, as *width* columns."""
        return self.times(name, np.ones(width)) if self._widths[name] != width else name
