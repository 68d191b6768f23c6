"""Boosted trees to ONNX, from martlet's own forest: thresholds stay as wide as they were.

The field's converters for LightGBM and CatBoost write thresholds as float32, which puts rows beside
one into another leaf. ONNX has had trees over float64 since ``ai.onnx.ml`` 5.

Source: https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsemble.html
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

from martlet import formats
from martlet.convert.to_onnx.fit import fitted
from martlet.convert.to_onnx.task import Task
from martlet.errors import UnsupportedModel
from martlet.formats import links
from martlet.formats.forest import MISSING, NO, YES, Forest, Grown, TreeSum
from martlet.formats.tabular import MATRIX

_OPSETS = [helper.make_opsetid("", 20), helper.make_opsetid("ai.onnx.ml", 5)]
_SUM, _LEQ = 1, 0
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
        UnsupportedModel: its trees are not the forest's (splits on categories, linear leaves), or
            its link is none that ONNX has an operator for.
    """
    servable = formats.load(task.path, formats.LoadOptions(trusted=task.trusted))
    grown: Grown | None = getattr(servable, "grown", None)
    if grown is None:
        raise UnsupportedModel("its trees have splits or leaves that ONNX's have not")
    nodes = _trees(grown)
    outputs = {grown.raw: "raw"}
    for name, link in grown.links.items():
        if name in task.signature.outputs:
            nodes += _linked(name, link)
            outputs[name] = f"linked_{name}"
    width = grown.trees.outputs
    graph = helper.make_graph(
        nodes,
        "trees",
        [helper.make_tensor_value_info("rows_in", TensorProto.DOUBLE, ["rows", None])],
        [
            helper.make_tensor_value_info(own, TensorProto.DOUBLE, ["rows", width])
            for own in outputs.values()
        ],
        _constants(grown),
    )
    model = helper.make_model(graph, opset_imports=_OPSETS, ir_version=10)
    columns = dict.fromkeys(task.signature.inputs, "rows_in")
    if list(task.signature.inputs) == [MATRIX]:
        columns = {MATRIX: "rows_in"}
    return fitted(model, task.signature, columns, outputs)


def _linked(name: str, link: Callable[..., Any]) -> list[Any]:
    """Return nodes that make the output *name* of the raw scores."""
    nodes = []
    raw = "raw"
    if isinstance(link, partial) and link.func is links.sigmoid:
        slope = numpy_helper.from_array(np.array([link.keywords["slope"]], np.float64))
        nodes.append(helper.make_node("Constant", [], [f"slope_{name}"], value=slope))
        nodes.append(helper.make_node("Mul", ["raw", f"slope_{name}"], [f"sloped_{name}"]))
        link, raw = links.sigmoid, f"sloped_{name}"
    operator = _OPERATORS.get(link)
    if operator is None:
        raise UnsupportedModel(f"what makes {name!r} of the sums has no operator in ONNX")
    return [*nodes, helper.make_node(operator, [raw], [f"linked_{name}"])]


def _trees(grown: Grown) -> list[Any]:
    nodes: list[Any] = []
    given = "rows_in"
    if grown.trees.forest.float32 or grown.float32:
        nodes.append(helper.make_node("Cast", [given], ["narrow"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("Cast", ["narrow"], ["narrowed"], to=TensorProto.DOUBLE))
        given = "narrowed"
    nodes.append(
        helper.make_node(
            "TreeEnsemble",
            [given],
            ["sums"],
            domain="ai.onnx.ml",
            aggregate_function=_SUM,
            post_transform=0,
            n_targets=grown.trees.outputs,
            **_ensemble(grown.trees),
        )
    )
    nodes.append(helper.make_node("Mul", ["sums", "scale"], ["scaled"]))
    nodes.append(helper.make_node("Add", ["scaled", "start"], ["raw"]))
    return nodes


def _constants(grown: Grown) -> list[Any]:
    start = np.asarray(grown.trees.start, np.float64) * grown.scale + np.asarray(grown.bias)
    return [
        numpy_helper.from_array(np.array([grown.scale], np.float64), "scale"),
        numpy_helper.from_array(np.atleast_1d(start).astype(np.float64), "start"),
    ]


def _ensemble(trees: TreeSum) -> dict[str, Any]:
    """Return the attributes of ONNX's TreeEnsemble."""
    forest = trees.forest
    if np.any(forest.set_of >= 0) or (trees.target is None and trees.outputs > 1):
        raise UnsupportedModel("its trees have splits or leaves that ONNX's have not")
    owner = _owner(forest)
    leaves = _Leaves(trees)
    yes, no = forest.children[:, YES], forest.children[:, NO]
    true_id, true_leaf = leaves.of(yes, owner)
    false_id, false_leaf = leaves.of(no, owner)
    features, splits = forest.feature.tolist(), forest.threshold.tolist()
    tracks = (forest.children[:, MISSING] == yes).astype(int).tolist()
    roots = forest.roots.tolist()
    for tree in np.flatnonzero(forest.roots < 0).tolist():
        # ONNX has no tree of a single leaf: a node both of whose sides are that leaf.
        ids, kinds = leaves.of(forest.roots[[tree]], np.array([tree]))
        roots[tree] = len(features)
        features.append(0)
        splits.append(0.0)
        tracks.append(1)
        true_id, true_leaf = true_id + ids, true_leaf + kinds
        false_id, false_leaf = false_id + ids, false_leaf + kinds
    return {
        "nodes_featureids": features,
        "nodes_modes": _tensor(np.full(len(features), _LEQ, np.uint8), "modes"),
        "nodes_splits": _tensor(np.array(splits, np.float64), "splits"),
        "nodes_truenodeids": true_id,
        "nodes_trueleafs": true_leaf,
        "nodes_falsenodeids": false_id,
        "nodes_falseleafs": false_leaf,
        "nodes_missing_value_tracks_true": tracks,
        "tree_roots": roots,
        "leaf_targetids": leaves.targets,
        "leaf_weights": _tensor(np.array(leaves.weights, np.float64), "weights"),
    }


def _owner(forest: Forest) -> Any:
    """Return the tree of each node."""
    owner = np.full(len(forest.feature), -1)
    owner[forest.roots[forest.roots >= 0]] = np.flatnonzero(forest.roots >= 0)
    for node in range(len(owner)):  # children come after their parents
        for child in forest.children[node, :2]:
            if child >= 0:
                owner[child] = owner[node]
    return owner


class _Leaves:
    """The leaves of all trees, each for itself: its output and what it adds."""

    def __init__(self, trees: TreeSum) -> None:
        self._trees = trees
        self.targets: list[int] = []
        self.weights: list[float] = []

    def of(self, children: Any, owner: Any) -> tuple[list[int], list[int]]:
        """Return the number of each child among the nodes or leaves, and whether it is a leaf."""
        numbers, kinds = [], []
        for child, tree in zip(children.tolist(), owner.tolist(), strict=True):
            kinds.append(int(child < 0))
            numbers.append(child if child >= 0 else self._add(-child - 2, tree))
        return numbers, kinds

    def _add(self, answer: int, tree: int) -> int:
        trees = self._trees
        value = trees.values[answer] * trees.weights[tree]
        self.targets.append(0 if trees.target is None else int(trees.target[tree]))
        self.weights.append(float(np.asarray(value).reshape(-1)[0]))
        return len(self.weights) - 1


def _tensor(value: Any, name: str) -> Any:
    return numpy_helper.from_array(value, name)
