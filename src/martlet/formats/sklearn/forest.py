"""scikit-learn's trees as martlet's forest: a call of a forest of theirs costs milliseconds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.errors import UnsupportedModel
from martlet.formats.lightgbm.forest import hard_rows
from martlet.formats.trees.forest import Forest, TreeSum
from martlet.native import find
from martlet.tensors import Tensor

Answers = Callable[[Tensor], "dict[str, Tensor] | None"]
"""From rows to ``predict`` (and ``predict_proba``); None: the rows are scikit-learn's to judge."""

_MOST_NODES = 1 << 22
_ALONE = ("DecisionTree", "ExtraTree")
_AVERAGED = ("RandomForest", "ExtraTrees")
_BOOSTED = ("GradientBoosting",)


def answers_of(estimator: Any) -> Answers | None:
    """
    Return what answers ``predict`` and ``predict_proba`` as *estimator* does, to the last bit.

    None for estimators of other kinds, of several outputs, where the answers differ on rows
    chosen to tell walks apart, and without the compiled walk.
    """
    name = type(estimator).__name__
    kind = name.removesuffix("Classifier").removesuffix("Regressor")
    if find("forest") is None or kind not in (*_ALONE, *_AVERAGED, *_BOOSTED):
        return None
    try:
        if kind in _AVERAGED:
            estimator.n_jobs = 1  # a thread a worker; several would add in any order
        found = _boosted(estimator) if kind in _BOOSTED else _averaged(estimator, kind in _ALONE)
        return found if found is not None and _proved(estimator, found) else None
    except (AttributeError, TypeError, ValueError, IndexError, UnsupportedModel):
        return None  # of another version, or fitted in another way: scikit-learn answers


def _averaged(estimator: Any, alone: bool) -> Answers | None:
    trees = [estimator.tree_] if alone else [each.tree_ for each in estimator.estimators_]
    classes = getattr(estimator, "classes_", None)
    if estimator.n_outputs_ != 1 or (classes is not None and isinstance(classes, list)):
        return None
    add = _forest(trees).sum(np.concatenate([_leaf_values(tree) for tree in trees]))

    def answer(rows: Tensor) -> dict[str, Tensor] | None:
        found = _summed(add, rows)
        if found is None:
            return None
        if not alone:
            found /= len(trees)
        if classes is None:
            return {"predict": found[:, 0]}
        return {"predict": classes.take(found.argmax(axis=1)), "predict_proba": found}

    return answer


def _boosted(estimator: Any) -> Answers | None:
    stages = estimator.estimators_
    if type(estimator.init_).__name__ not in ("DummyClassifier", "DummyRegressor"):
        return None  # what the sum starts from is the same for all rows only there
    trees = [each.tree_ for each in stages.ravel()]
    outputs = stages.shape[1]
    start = estimator._raw_predict_init(np.zeros((1, estimator.n_features_in_), np.float32))[0]
    add = _forest(trees).sum(
        np.concatenate([_leaf_values(tree)[:, 0] for tree in trees]),
        target=np.arange(len(trees)) % outputs,
        weights=np.full(len(trees), estimator.learning_rate),
        start=start,
    )
    classes = getattr(estimator, "classes_", None)

    def answer(rows: Tensor) -> dict[str, Tensor] | None:
        raw = _summed(add, rows)
        if raw is None:
            return None
        if classes is None:
            return {"predict": raw[:, 0]}
        chosen = raw.argmax(axis=1) if outputs > 1 else (raw[:, 0] >= 0).astype(np.intp)
        chances = estimator._loss.predict_proba(raw if outputs > 1 else raw[:, 0])
        return {"predict": classes.take(chosen), "predict_proba": chances}

    return answer


def _summed(add: TreeSum, rows: Tensor) -> Tensor | None:
    with np.errstate(over="ignore"):
        narrow = np.ascontiguousarray(rows, np.float32)
    # Missing and infinite values are refused, or have rules of their own.
    return add(narrow) if np.isfinite(narrow).all() else None


def _forest(trees: Sequence[Any]) -> Forest:
    left, right, feature, threshold = (
        np.concatenate([getattr(tree, name) for tree in trees])
        for name in ("children_left", "children_right", "feature", "threshold")
    )
    if len(left) > _MOST_NODES:
        raise UnsupportedModel(f"{len(left)} nodes are scikit-learn's to walk")
    sizes = np.array([tree.node_count for tree in trees])
    first = np.repeat(np.cumsum(sizes) - sizes, sizes)
    inner = left != -1
    # By its place among all nodes, what a child is to the forest: a node, or a leaf below zero.
    code = np.where(inner, np.cumsum(inner) - 1, -np.cumsum(~inner) - 1)
    yes, no = (code[(side + first)[inner]] for side in (left, right))
    return Forest(
        features=int(trees[0].n_features),
        float32=True,
        roots=code[np.cumsum(sizes) - sizes].astype(np.int32),
        feature=feature[inner].astype(np.int32),
        threshold=_below(threshold[inner]),
        children=np.stack([yes, no, yes], 1).astype(np.int32),
        set_of=np.full(int(inner.sum()), -1, np.int32),
        sets=np.zeros((0, 3), np.int64),
        words=np.zeros(0, np.uint64),
    )


def _below(threshold: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the float32 that as many float32 values are up to: only values are rounded."""
    rounded = threshold.astype(np.float32)
    lower = np.nextafter(rounded, np.float32(-np.inf))
    return np.where(rounded > threshold, lower, rounded).astype(np.float64)


def _leaf_values(tree: Any) -> NDArray[np.float64]:
    return np.asarray(tree.value[tree.children_left == -1][:, 0, :], np.float64)


def _proved(estimator: Any, answer: Answers) -> bool:
    dice = np.random.default_rng(0)
    forest = _forest([estimator.tree_] if hasattr(estimator, "tree_") else _trees(estimator))
    rows = hard_rows(forest)
    rows = np.where(np.isfinite(rows), rows, dice.normal(size=rows.shape))
    found = answer(rows)
    return found is not None and all(
        np.array_equal(value, getattr(estimator, name)(rows)) for name, value in found.items()
    )


def _trees(estimator: Any) -> list[Any]:
    return [each.tree_ for each in np.ravel(np.asarray(estimator.estimators_, object))]
