"""martlet's forest as ONNX's trees: every threshold as wide as it was.

The field's converters for LightGBM and CatBoost write thresholds as float32, which puts rows beside
one into another leaf. ONNX has had trees over float64 since ``ai.onnx.ml`` 5. Its tests compare
numbers alone: what asks for a set of categories, or has a way of its own for a missing value,
becomes a test of a column of 0 and 1 that is added to the rows.

Source: https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsemble.html
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import numpy_helper

from martlet.convert.to_onnx.writer import ML, Graph, Value
from martlet.errors import UnsupportedModel
from martlet.formats.trees.forest import NO, YES, Forest, TreeSum
from martlet.tensors import DType

Floats = NDArray[np.float64]

_MOST_NODES = 4_000_000
_GROWTH, _FEW_NODES = 8, 100_000
"""How many times as many nodes branches that are shared may become, beyond a few."""
_MOST_COLUMNS = 4096
_SUM, _LEQ = 1, 0


def summed(graph: Graph, trees: TreeSum, rows: Value) -> Value:
    """
    Return what *trees* add up for *rows* [rows, features], float64. Shape [rows, outputs].

    Raises:
        UnsupportedModel: as ``ends``.
    """
    written = _Trees(trees.forest)
    values = np.asarray(trees.values, np.float64)
    for tree in range(trees.forest.trees):
        weighted = values * trees.weights[tree]
        if trees.target is not None:
            written.add(tree, int(trees.target[tree]), weighted)
            continue
        # A leaf of ONNX's adds to one output: a tree that adds to several is there for each.
        for output in range(trees.outputs):
            written.add(tree, output, weighted[:, output])
    total = written.call(graph, rows, trees.outputs) + np.asarray(trees.start, np.float64)
    return total.cast(DType.FLOAT32).float64() if trees.float32 else total


def ends(graph: Graph, forest: Forest, rows: Value) -> Value:
    """
    Return the answer that each row ends at in each tree, int64 [rows, trees].

    No answer is one more than the last.

    Raises:
        UnsupportedModel: the trees share so many branches, or ask for so many sets, that
            written apart they are too large.
    """
    written = _Trees(forest)
    numbers = np.arange(forest.answers + 1, dtype=np.float64)
    for tree in range(forest.trees):
        written.add(tree, tree, numbers)
    return written.call(graph, rows, forest.trees).cast(DType.INT64)


class _Trees:
    """The attributes of a TreeEnsemble, and the columns that its rows need beside their own."""

    def __init__(self, forest: Forest) -> None:
        self._forest = forest
        self._most = min(_MOST_NODES, max(_FEW_NODES, _GROWTH * len(forest.feature)))
        self._extra: dict[tuple[int, int], int] = {}
        """Columns of 0 and 1 by feature and set; set -1 asks whether the value is missing."""
        self._features: list[int] = []
        self._splits: list[float] = []
        self._tracks: list[int] = []
        self._children: tuple[list[int], list[int]] = ([], [])
        self._leaves: tuple[list[int], list[int]] = ([], [])
        self._roots: list[int] = []
        self._targets: list[int] = []
        self._weights: list[float] = []
        self._lists = [each.tolist() for each in (
            forest.feature, forest.threshold, forest.children, forest.set_of)]  # fmt: skip

    def add(self, tree: int, target: int, values: Floats) -> None:
        """Add a tree whose answers add *values* [answers + 1] to the output *target*."""
        features, thresholds, children, sets = self._lists
        self._roots.append(len(self._features))
        # (the forest's node or answer; which node's which side waits for it)
        waiting: list[tuple[int, int, int]] = []
        root = int(self._forest.roots[tree])
        if root < 0:
            # ONNX has no tree of a single leaf: a node both of whose sides are that leaf.
            at = self._node(0, 0.0, 1)
            waiting = [(root, at, YES), (root, at, NO)]
        else:
            waiting = [(root, -1, YES)]
        while waiting:
            node, parent, side = waiting.pop()
            if node < 0:
                self._set(parent, side, self._leaf(float(values[-node - 2]), target), True)
                continue
            yes, no, missing = children[node]
            feature, threshold = features[node], thresholds[node]
            if sets[node] >= 0:
                # The column is 1 where the value belongs: the test holds where it does not.
                feature, threshold = self._column(feature, sets[node]), 0.5
                yes, no = no, yes
            at = len(self._features)
            if missing not in (yes, no):
                asks = self._column(features[node], -1)
                self._node(asks, 0.5, 0)
                waiting.append((missing, at, NO))
                self._set(at, YES, at + 1, False)
            if parent >= 0:
                self._set(parent, side, at, False)
            at = self._node(feature, threshold, int(missing == yes))
            waiting += [(yes, at, YES), (no, at, NO)]

    def _node(self, feature: int, split: float, track: int) -> int:
        if len(self._features) >= self._most:
            raise UnsupportedModel(
                f"its trees share branches; each for itself, they pass {self._most:,} nodes"
            )
        self._features.append(feature)
        self._splits.append(split)
        self._tracks.append(track)
        for part in (*self._children, *self._leaves):
            part.append(0)
        return len(self._features) - 1

    def _set(self, node: int, side: int, child: int, leaf: bool) -> None:
        self._children[side][node] = child
        self._leaves[side][node] = int(leaf)

    def _leaf(self, weight: float, target: int) -> int:
        self._targets.append(target)
        self._weights.append(weight)
        return len(self._weights) - 1

    def _column(self, feature: int, number: int) -> int:
        key = (feature, number)
        if key not in self._extra:
            if len(self._extra) >= _MOST_COLUMNS:
                raise UnsupportedModel(f"its trees ask for more than {_MOST_COLUMNS} sets")
            self._extra[key] = self._forest.features + len(self._extra)
        return self._extra[key]

    def call(self, graph: Graph, rows: Value, outputs: int) -> Value:
        """Return the sums over *rows*. Shape [rows, outputs]."""
        if self._forest.float32:
            rows = rows.cast(DType.FLOAT32).float64()
        extra = [self._told(graph, rows.column(f), n).as_column() for f, n in self._extra]
        return graph.call(
            "TreeEnsemble",
            graph.side_by_side(rows, *extra),
            domain=ML,
            aggregate_function=_SUM,
            post_transform=0,
            n_targets=outputs,
            nodes_featureids=self._features,
            nodes_modes=_tensor(np.full(len(self._features), _LEQ, np.uint8)),
            nodes_splits=_tensor(np.array(self._splits, np.float64)),
            nodes_truenodeids=self._children[YES],
            nodes_trueleafs=self._leaves[YES],
            nodes_falsenodeids=self._children[NO],
            nodes_falseleafs=self._leaves[NO],
            nodes_missing_value_tracks_true=self._tracks,
            tree_roots=self._roots,
            leaf_targetids=self._targets,
            leaf_weights=_tensor(np.array(self._weights, np.float64)),
        )

    def _told(self, graph: Graph, column: Value, number: int) -> Value:
        """Return 1 where *column* is missing (set -1), or a code of the set; else 0."""
        missing = column.is_nan()
        if number < 0:
            return missing.float64()
        start, base, size = self._forest.sets[number].tolist()
        words = self._forest.words[start : start + size]
        bits = np.unpackbits(words.astype("<u8").view(np.uint8), bitorder="little")
        # One more, which is 0: for what is not a code of the set's range.
        table = np.append(bits.astype(np.float64), 0.0)
        code = column - float(base * 64)
        inside = (code >= 0.0) & (code < float(len(bits))) & code.equals(graph.call("Floor", code))
        place = graph.where(inside, code, float(len(bits))).cast(DType.INT64)
        found = graph.call("Gather", table, place, axis=0)
        return graph.where(missing, np.nan, found)


def _tensor(value: NDArray[Any]) -> Any:
    return numpy_helper.from_array(value)
