"""Trees, forests and boosted trees of Spark ML: from their folders to stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from martlet.errors import UnsupportedModel
from martlet.formats.spark.columns import Columns
from martlet.formats.spark.disk import Saved
from martlet.formats.spark.features import Reader
from martlet.formats.spark.models import chooser, names
from martlet.formats.stages import ensembles
from martlet.formats.stages.ensembles import Ensemble, Node, Split
from martlet.formats.stages.stage import Stage


def _node(row: Mapping[str, Any], place: Mapping[int, int]) -> Node:
    left, right = int(row["leftChild"]), int(row["rightChild"])
    if left < 0:
        stats = tuple(float(v) for v in row.get("impurityStats") or ())
        return Node(float(row["prediction"]), stats, _variance(stats))
    split = row["split"]
    values, size = split["leftCategoriesOrThreshold"], int(split["numCategories"])
    feature = int(split["featureIndex"])
    if size < 0:
        test = Split(feature, threshold=float(values[0]))
    else:
        test = Split(feature, left=tuple(int(v) for v in values), size=size)
    return Node(float(row["prediction"]), split=test, children=(place[left], place[right]))


def _variance(stats: Sequence[float]) -> float:
    """
    Return the variance in a regressor's leaf, of its count, its sum and its sum of squares.

    The row's own ``impurity`` is -1 in leaves that Spark did not try to split.
    """
    if len(stats) != 3 or stats[0] == 0:
        return 0.0
    count, total, squares = stats
    return (squares - total * total / count) / count


def _tree(rows: Sequence[Mapping[str, Any]]) -> list[Node]:
    """Spark numbers nodes in the order of a walk, root first, but files may be in any order."""
    ordered = sorted(rows, key=lambda row: int(row["id"]))
    place = {int(row["id"]): i for i, row in enumerate(ordered)}
    return [_node(row, place) for row in ordered]


def _trees(saved: Saved) -> list[list[Node]]:
    grouped: dict[int, list[Mapping[str, Any]]] = {}
    for row in saved.rows():
        # A tree of its own has no number; Spark 3 and later may keep nodes bare as well.
        grouped.setdefault(int(row.get("treeID", 0)), []).append(row.get("nodeData", row))
    return [_tree(grouped[number]) for number in sorted(grouped)]


def _weights(saved: Saved, count: int) -> list[float]:
    """Each row of ``treesMetadata`` is a tree's number, its metadata and its weight."""
    rows = saved.rows("treesMetadata")
    weights = {
        int(row["treeID" if "treeID" in row else "_1"]): float(
            row["weights" if "weights" in row else "_3"]
        )
        for row in rows
    }
    if sorted(weights) != list(range(count)):
        raise UnsupportedModel(f"{saved.name}: {len(weights)} weights for {count} trees")
    return [weights[i] for i in range(count)]


def _ensemble(saved: Saved) -> Ensemble:
    return Ensemble(saved.name, _trees(saved), int(saved.extra["numFeatures"]))


def _classes(saved: Saved, trees: Ensemble) -> int:
    found = saved.extra.get("numClasses")
    return int(found) if found is not None else max(len(node.stats) for node in trees.leaves)


def _voting(saved: Saved, single: bool) -> Stage:
    trees = _ensemble(saved)
    return ensembles.voting(
        saved.name,
        trees,
        names(saved),
        _classes(saved, trees),
        chooser(saved),
        single=single,
        leaf=saved.text("leafCol"),
    )


def tree_classifier(saved: Saved, columns: Columns) -> list[Stage]:
    return [_voting(saved, single=True)]


def forest_classifier(saved: Saved, columns: Columns) -> list[Stage]:
    """Every tree votes alike, whatever weight the file keeps: so does Spark."""
    return [_voting(saved, single=False)]


def boosted_classifier(saved: Saved, columns: Columns) -> list[Stage]:
    trees = _ensemble(saved)
    return [
        ensembles.boosted_classifier(
            saved.name,
            trees,
            names(saved),
            _weights(saved, trees.forest.trees),
            chooser(saved),
            leaf=saved.text("leafCol"),
        )
    ]


def _regressor(saved: Saved, trees: Ensemble, weights: list[float], single: bool) -> Stage:
    return ensembles.tree_regressor(
        saved.name,
        trees,
        saved.text("featuresCol"),
        saved.text("predictionCol"),
        weights,
        single=single,
        leaf=saved.text("leafCol"),
        variance=saved.text("varianceCol") if single else "",
    )


def tree_regressor(saved: Saved, columns: Columns) -> list[Stage]:
    return [_regressor(saved, _ensemble(saved), [1.0], single=True)]


def forest_regressor(saved: Saved, columns: Columns) -> list[Stage]:
    trees = _ensemble(saved)
    count = trees.forest.trees
    return [_regressor(saved, trees, [1.0 / count] * count, single=False)]


def boosted_regressor(saved: Saved, columns: Columns) -> list[Stage]:
    trees = _ensemble(saved)
    return [_regressor(saved, trees, _weights(saved, trees.forest.trees), single=False)]


READERS: Mapping[str, Reader] = {
    "DecisionTreeClassificationModel": tree_classifier,
    "DecisionTreeRegressionModel": tree_regressor,
    "RandomForestClassificationModel": forest_classifier,
    "RandomForestRegressionModel": forest_regressor,
    "GBTClassificationModel": boosted_classifier,
    "GBTRegressionModel": boosted_regressor,
}
