"""LightGBM's text model, read far enough to know its columns and that its trees are trees."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.errors import UnsupportedModel, brief
from martlet.formats.lightgbm.categories import category_columns

_MOST_CLASSES = 1 << 16
CATEGORICAL = 1  # the bit of a node's decision_type that says so


@dataclass(frozen=True, slots=True)
class Tree:
    """
    One tree: nodes [nodes], leaves [leaves]; a child below zero is leaf ``-child - 1``.

    Args:
        kinds: LightGBM's decision_type: bit 0 categorical, bit 1 a missing value goes left,
            bits 2 and 3 what is missing (0 nothing, 1 zero, 2 NaN).
        plain: Whether a leaf is its value: not so of linear trees.
        sets: The categories that go left, one set for each number that a categorical node has
            for a threshold: bit b of word w is category 32 w + b. None where they are no words.
    """

    feature: NDArray[np.int64]
    threshold: NDArray[np.float64]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    kinds: NDArray[np.int64]
    values: NDArray[np.float64]
    plain: bool
    sets: list[NDArray[np.uint32]] | None


@dataclass(frozen=True, slots=True)
class LightGBMText:
    """
    What a ``model.txt`` says beside its trees.

    LightGBM follows a child's index wherever it points, so a damaged file could make it read
    outside its arrays or walk in a circle: `read` refuses what is not a tree.

    Args:
        content: The file, as LightGBM is to read it.
        features: Names, in the order of the matrix.
        categories: Of features that were pandas categories, their values in order of code.
        objective: Its name, then its parameters (``binary``, ``sigmoid:1``); empty: none.
        trees: As they stand in the file, of whole iterations.
        trees_per_iteration: How many classes there are.
        averaged: Whether predictions are averaged over the trees (random forest).
        converted: Whether its leaves hold predictions, to be averaged as they are: so wrote
            LightGBM before 2.2.3, and later ones take them for raw scores.

    Source:
        LightGBM ``src/boosting/gbdt_model_text.cpp`` and ``src/io/tree.cpp``.
    """

    content: bytes
    features: list[str]
    categories: dict[str, list[Any]]
    objective: list[str]
    trees: list[Tree]
    trees_per_iteration: int
    averaged: bool
    converted: bool

    @classmethod
    def read(cls, path: Path) -> LightGBMText:
        """
        Read the file at *path*.

        Raises:
            UnsupportedModel: it is cut short, damaged, or a dump that LightGBM cannot load.
        """
        content = path.read_bytes()
        if content[:1] == b"{":
            raise UnsupportedModel(
                f"{path} is LightGBM's dump_model JSON, which LightGBM cannot load: "
                "save the booster with save_model"
            )
        try:
            return _read(path, content)
        except (KeyError, ValueError, IndexError, OverflowError) as exc:
            raise UnsupportedModel(f"{path} is not a whole LightGBM model: {brief(exc)}") from exc


def _read(path: Path, content: bytes) -> LightGBMText:
    text = content.decode()
    head, *blocks = text.replace("\r\n", "\n").split("\nTree=")
    fields = _fields(head)
    features = fields["feature_names"].split(" ")
    if len(features) != int(fields["max_feature_idx"]) + 1:
        raise ValueError(
            f"max_feature_idx is {fields['max_feature_idx']}, of {len(features)} names"
        )
    if "tree_sizes" in fields and len(fields["tree_sizes"].split()) != len(blocks):
        raise ValueError(f"it says {len(fields['tree_sizes'].split())} trees, has {len(blocks)}")
    tail = blocks[-1] if blocks else head
    if "\nend of trees" not in tail and "\nfeature importances:" not in tail:
        raise ValueError("its end is missing")
    trees = []
    for number, block in enumerate(blocks):
        try:
            tree = _tree(_fields(block.partition("\nend of trees")[0]), len(features))
            trees.append(tree)
        except (KeyError, ValueError, IndexError, OverflowError) as exc:
            raise UnsupportedModel(f"{path}: tree {number} is damaged: {brief(exc)}") from exc
    classes = int(fields.get("num_tree_per_iteration", fields["num_class"]))
    if not 1 <= classes <= _MOST_CLASSES:
        raise ValueError(f"it says {classes} trees an iteration")
    del trees[len(trees) // classes * classes :]  # an iteration that is not whole does not count
    objective = fields.get("objective", "").split()
    averaged = "\naverage_output\n" in head
    # Without the trees' sizes LightGBM reads them one after another, and an error in one is an
    # error; with them it reads them in threads, and an error there ends the process.
    lines = [line for line in head.split("\n") if not line.startswith("tree_sizes=")]
    return LightGBMText(
        content="\nTree=".join(["\n".join(lines), *blocks]).encode(),
        features=features,
        categories=_categories(text, features, fields.get("feature_infos", "").split(" ")),
        objective=objective,
        trees=trees,
        trees_per_iteration=classes,
        averaged=averaged,
        converted=averaged
        and fields.get("version") == "v2"
        and _holds_predictions(objective, trees, "\nparameters:" in tail),
    )


_OF_CHANCES = ("binary", "multiclass", "multiclassova", "cross_entropy", "xentropy")


def _holds_predictions(objective: Sequence[str], trees: Sequence[Tree], told: bool) -> bool:
    if not objective:
        return False
    low = min((float(tree.values.min()) for tree in trees), default=0.0)
    high = max((float(tree.values.max()) for tree in trees), default=0.0)
    # 2.2.3 wrote version 2 as well, with raw scores: log-odds, some of which are below 0 or above
    # 1 unless every leaf of every tree holds a chance of 0.5 to 0.73.
    if objective[0] in _OF_CHANCES:
        return low >= 0 and high <= 1
    # Logarithms and roots cannot be told so: but before 2.2 no file listed its parameters.
    return not told and (low >= 0 or "sqrt" in objective)


def _fields(block: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in block.split("\n") if "=" in line)


def _integers(text: str, count: int, name: str) -> NDArray[np.int64]:
    found = np.array(text.split(), dtype=np.int64)
    if len(found) != count:
        raise ValueError(f"{name} has {len(found)} values of {count}")
    return found


def _within(values: NDArray[np.int64], low: Any, high: Any, name: str) -> None:
    if not np.all((values >= low) & (values < high)):
        raise ValueError(f"{name} points outside the tree")


def _tree(fields: dict[str, str], features: int) -> Tree:
    leaves = int(fields["num_leaves"])
    values = np.array(fields["leaf_value"].split(), dtype=np.float64)
    if len(values) != leaves or leaves < 1:
        raise ValueError(f"it says {leaves} leaves")
    plain = int(fields.get("is_linear", "0")) == 0
    if not plain:
        _check_linear(fields, leaves, features)
    if leaves == 1:
        none = np.zeros(0, np.int64)
        return Tree(none, np.zeros(0), none, none, none, values, plain, [])
    nodes = leaves - 1
    feature = _integers(fields["split_feature"], nodes, "split_feature")
    _within(feature, 0, features, "a split")
    order = np.arange(nodes)
    left, right = (_integers(fields[side], nodes, side) for side in ("left_child", "right_child"))
    for child in (left, right):
        # A node is made after its parent, so an index that grows cannot close a circle.
        _within(child, np.where(child < 0, -leaves, order + 1), nodes, "a child")
    threshold = np.array(fields["threshold"].split(), dtype=np.float64)
    if len(threshold) != nodes:
        raise ValueError("thresholds are missing")
    kinds = _integers(fields["decision_type"], nodes, "decision_type")
    count = int(fields["num_cat"])
    _within(threshold[(kinds & CATEGORICAL) != 0].astype(np.int64), 0, count, "a category set")
    sets: list[NDArray[np.uint32]] | None = []
    if count:
        edges = _integers(fields["cat_boundaries"], count + 1, "cat_boundaries")
        words = fields["cat_threshold"].split()
        if edges[0] != 0 or edges[-1] != len(words) or np.any(np.diff(edges) < 0):
            raise ValueError("cat_boundaries do not fit cat_threshold")
        sets = _sets(words, edges)
    return Tree(feature, threshold, left, right, kinds, values, plain, sets)


def _sets(words: Sequence[str], edges: NDArray[np.int64]) -> list[NDArray[np.uint32]] | None:
    """Return the words of each set; None where they are no numbers of 32 bits."""
    try:
        found = np.array(words, dtype=np.int64)
    except (ValueError, OverflowError):
        return None  # LightGBM reads them, one way or another
    if np.any((found < 0) | (found >= 1 << 32)):
        return None
    return np.split(found.astype(np.uint32), edges[1:-1])


def _check_linear(fields: dict[str, str], leaves: int, features: int) -> None:
    """Check a tree's linear functions, a leaf each: LightGBM reads whatever feature they name."""
    sizes = _integers(fields["num_features"], leaves, "num_features")
    _within(sizes, 0, features + 1, "a linear function")
    total = int(sizes.sum())
    _within(
        _integers(fields["leaf_features"], total, "leaf_features"), 0, features, "a linear function"
    )
    for name, count in (("leaf_const", leaves), ("leaf_coeff", total)):
        if len(np.array(fields[name].split(), dtype=np.float64)) != count:
            raise ValueError(f"{name} has not {count} values")


def _categories(text: str, features: Sequence[str], infos: Sequence[str]) -> dict[str, list[Any]]:
    """Return the values of the pandas categories; of none where the file does not say whose."""
    _, found, line = text.rpartition("\npandas_categorical:")
    values = json.loads(line) if found else None
    if not values:
        return {}
    if not all(isinstance(each, list) and all(map(_is_scalar, each)) for each in values):
        raise ValueError("pandas_categorical is no list of the values of each category")
    _, _, parameters = text.rpartition("\nparameters:")
    columns = category_columns(values, infos, parameters)
    if columns is None:
        return {}
    return {features[at]: each for at, each in zip(columns, values, strict=True)}


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, (str, int, float))
