"""Trees, forests and boosted trees of MLeap: from nodes to stages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from martlet.errors import UnsupportedModel
from martlet.formats.mleap import wire
from martlet.formats.mleap.bundle import Node
from martlet.formats.mleap.ports import Reader, chooser, features, names, prediction
from martlet.formats.stages import ensembles
from martlet.formats.stages.ensembles import Ensemble, Split
from martlet.formats.stages.ensembles import Node as TreeNode
from martlet.formats.stages.stage import Port, Stage

Known = Mapping[str, Port]


def _split_json(found: Mapping[str, Any]) -> Split:
    feature = int(found.get("featureIndex", found.get("feature_index", 0)))
    if found.get("type") == "continuous":
        return Split(feature, threshold=float(found["threshold"]))
    is_left = bool(found.get("isLeft", found.get("is_left", False)))
    size = int(found.get("numCategories", found.get("num_categories", 0)))
    return _categorical(feature, is_left, size, [float(v) for v in found.get("categories", ())])


def _categorical(feature: int, is_left: bool, size: int, values: list[float]) -> Split:
    """The file lists the smaller half, and says whether it is the left one."""
    chosen = {int(v) for v in values}
    if not is_left:
        chosen = set(range(size)) - chosen
    return Split(feature, left=tuple(sorted(chosen)), size=size)


def _entry_json(found: Mapping[str, Any]) -> Split | list[float]:
    if found.get("type") == "internal":
        return _split_json(found["split"])
    values = found.get("values")
    if values is None:
        # Early bundles: a prediction, and a classifier's impurities.
        values = found.get("impurities") or [found["prediction"]]
    return [float(v) for v in values]


def _entry_pb(data: bytes) -> Split | list[float]:
    for number, value in wire.fields(data):
        inner = dict(wire.fields(wire.message(value)))
        if number == 1:
            return _split_pb(wire.message(inner.get(1, b"")))
        if number == 2:
            return wire.doubles(inner.get(1, b""))
    raise UnsupportedModel("a node of a tree is neither inner nor a leaf")


def _split_pb(data: bytes) -> Split:
    for number, value in wire.fields(data):
        body = wire.message(value)
        parts = dict(wire.fields(body))
        feature = parts.get(1, 0)
        assert isinstance(feature, int)
        if number == 2:
            threshold = wire.doubles(parts[2])[0] if 2 in parts else 0.0
            return Split(feature, threshold=threshold)
        size = parts.get(3, 0)
        assert isinstance(size, int)
        values = [
            v for field, packed in wire.fields(body) if field == 4 for v in wire.doubles(packed)
        ]
        return _categorical(feature, bool(parts.get(2, 0)), size, values)
    raise UnsupportedModel("a split of a tree is empty")


def _tree(node: Node, folder: str, classify: bool) -> list[TreeNode]:
    """The nodes lie in the order of a walk, left before right: the places follow from that."""
    lines = node.files.lines(_tree_path(node, folder))
    entries = [_entry_pb(each) if isinstance(each, bytes) else _entry_json(each) for each in lines]
    children: list[list[int]] = [[] for _ in entries]
    open_nodes: list[int] = []
    for i, entry in enumerate(entries):
        if i and not open_nodes:
            raise UnsupportedModel(f"{node.label}: a tree in {folder} has nodes left over")
        if i:
            children[open_nodes[-1]].append(i)
            if len(children[open_nodes[-1]]) == 2:
                open_nodes.pop()
        if isinstance(entry, Split):
            open_nodes.append(i)
    if open_nodes or not entries:
        raise UnsupportedModel(f"{node.label}: a tree in {folder} is cut short")
    found: list[TreeNode] = []
    for entry, below in zip(entries, children, strict=True):
        if isinstance(entry, Split):
            found.append(TreeNode(0.0, split=entry, children=(below[0], below[1])))
        else:
            stats = tuple(entry) if classify else ()
            found.append(TreeNode(0.0 if classify else entry[0], stats))
    return found


def _tree_path(node: Node, folder: str) -> str:
    for name in ("tree", "nodes"):
        path = f"{folder}/{name}"
        if f"{path}.json" in node.files.archive or f"{path}.pb" in node.files.archive:
            return path
    raise UnsupportedModel(f"{node.label}: there is no tree in {folder}")


def _ensemble(node: Node, classify: bool, single: bool) -> Ensemble:
    folders = [node.folder] if single else [f"{node.folder}/{n}" for n in node.need("trees")]
    trees = [_tree(node, folder, classify) for folder in folders]
    return Ensemble(node.label, trees, int(node.need("num_features")))


def _weights(node: Node, trees: Ensemble) -> list[float]:
    weights = [float(v) for v in node.need("tree_weights")]
    if len(weights) != trees.forest.trees:
        raise UnsupportedModel(
            f"{node.label}: {len(weights)} weights for {trees.forest.trees} trees"
        )
    return weights


def _voting(node: Node, single: bool) -> list[Stage]:
    trees = _ensemble(node, True, single)
    count = int(node.need("num_classes"))
    return [ensembles.voting(node.label, trees, names(node), count, chooser(node), single=single)]


def tree_classifier(node: Node, known: Known) -> list[Stage]:
    return _voting(node, single=True)


def forest_classifier(node: Node, known: Known) -> list[Stage]:
    return _voting(node, single=False)


def boosted_classifier(node: Node, known: Known) -> list[Stage]:
    trees = _ensemble(node, False, False)
    weights = _weights(node, trees)
    return [ensembles.boosted_classifier(node.label, trees, names(node), weights, chooser(node))]


def _tree_regressor(node: Node, trees: Ensemble, weights: list[float]) -> list[Stage]:
    return [ensembles.tree_regressor(node.label, trees, features(node), prediction(node), weights)]


def tree_regressor(node: Node, known: Known) -> list[Stage]:
    return _tree_regressor(node, _ensemble(node, False, True), [1.0])


def forest_regressor(node: Node, known: Known) -> list[Stage]:
    trees = _ensemble(node, False, False)
    count = trees.forest.trees
    return _tree_regressor(node, trees, [1.0 / count] * count)


def boosted_regressor(node: Node, known: Known) -> list[Stage]:
    trees = _ensemble(node, False, False)
    return _tree_regressor(node, trees, _weights(node, trees))


CLASSIFIERS: Mapping[str, Reader] = {
    "decision_tree_classifier": tree_classifier,
    "random_forest_classifier": forest_classifier,
    "gbt_classifier": boosted_classifier,
}

REGRESSORS: Mapping[str, Reader] = {
    "decision_tree_regression": tree_regressor,
    "random_forest_regression": forest_regressor,
    "gbt_regression": boosted_regressor,
}
