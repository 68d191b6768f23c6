"""XGBoost's trees as martlet's forest, whose compiled walk costs a fraction of a call."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.errors import UnsupportedModel
from martlet.formats.trees.forest import Forest, TreeSum
from martlet.formats.xgboost.file import XGBoostFile
from martlet.native import find

# The forest is proved by hundreds of rows of them all; a damaged file may claim millions.
_MOST_FEATURES = 1 << 16


def sums_of(file: XGBoostFile) -> Iterator[TreeSum]:
    """
    Yield what may add up the trees as XGBoost does, in float32; nothing where the forest cannot.

    That is for splits on categories, vectors in leaves, children that stand before their parents;
    and without the compiled walk. There are several, because the logarithm in a base score may
    differ between mathematical libraries by its last bit.
    """
    trees = file.forest.get("trees", ())
    if find("forest") is None or not len(trees) or file.features > _MOST_FEATURES:
        return
    odd = any(
        np.any(tree.get("split_type", 0))
        or "leaf_weights" in tree
        or len(tree["base_weights"]) != len(tree["parents"])
        for tree in trees
    )
    if odd:
        return
    left, right, feature, value, default = (
        _joined(trees, name)
        for name in (
            *("left_children", "right_children", "split_indices", "split_conditions"),
            "default_left",
        )
    )
    sizes = np.array([len(tree["parents"]) for tree in trees])
    first = np.repeat(np.cumsum(sizes) - sizes, sizes)
    inner = left != -1
    # By its place among all nodes, what a child is to the forest: a node, or a leaf below zero.
    code = np.where(inner, np.cumsum(inner) - 1, -np.cumsum(~inner) - 1)
    yes, no = (code[(side + first)[inner].astype(np.int64)] for side in (left, right))
    condition = value.astype(np.float32)
    try:
        forest = Forest(
            features=file.features,
            float32=True,
            roots=code[np.cumsum(sizes) - sizes].astype(np.int32),
            feature=feature[inner].astype(np.int32),
            # XGBoost goes left below a threshold, the forest up to one.
            threshold=np.nextafter(condition[inner], np.float32(-np.inf)).astype(np.float64),
            children=np.stack([yes, no, np.where(default[inner] != 0, yes, no)], 1).astype(
                np.int32
            ),
            set_of=np.full(int(inner.sum()), -1, np.int32),
            sets=np.zeros((0, 3), np.int64),
            words=np.zeros(0, np.uint64),
        )
    except UnsupportedModel:
        return
    base, added = file.base_margin, condition[~inner]
    of_tree = np.asarray(file.forest["tree_info"])
    output = np.repeat(of_tree, sizes)[~inner]
    for start in (base, np.nextafter(base, np.inf), np.nextafter(base, -np.inf)):
        start = start.astype(np.float32)
        # Of a tree with a weight XGBoost takes what it makes of the base score, which rounds it.
        own = start[output] if len(start) > 1 else start
        yield forest.sum(
            added if file.weights is None else (added + own) - own,
            target=of_tree,
            weights=file.weights,
            start=start,
            float32=True,
        )


def _joined(trees: Any, name: str) -> NDArray[np.float64]:
    return np.concatenate([np.asarray(tree[name], np.float64) for tree in trees])
