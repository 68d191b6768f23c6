"""What XGBoost 1 and 2 wrote of a model otherwise than XGBoost 3.2 reads it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

EXPONENTIAL = ("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox")
"""Objectives whose margin is a logarithm."""


def margins(objective: str, score: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return what sums start from for a base score, which is a prediction."""
    if objective in ("binary:logistic", "reg:logistic"):
        score = -np.log(np.float32(1) / score - np.float32(1))
    elif objective in (*EXPONENTIAL, "survival:aft"):
        score = np.log(score)
    return score


def mend(learner: dict[str, Any], version: Sequence[int]) -> bool:
    """
    Write *learner* as XGBoost 3.2 would; return whether anything was to be changed.

    A linear booster without a number of rounds (before 1.5) is taken for one that was never
    trained, and so its base score, a probability, for a margin; so is that of a model without
    trees (before 3.1). ``binary:logitraw`` had a probability for its base score before 1.3.
    Vectors in leaves stood among the weights of all nodes (before 3.1), which ends the process
    that reads them.

    Raises:
        KeyError, TypeError, ValueError: it is no learner.
    """
    booster = learner["gradient_booster"]
    model = booster.get("gbtree", booster).get("model", {})
    objective = learner["objective"]["name"]
    written = tuple(version)[:2]
    if objective == "binary:logitraw" and (1, 0) <= written < (1, 3):
        told = learner["learner_model_param"]
        start = margins("binary:logistic", np.array([told["base_score"]], np.float32))
        told["base_score"] = repr(float(start[0]))
        return True
    if booster["name"] == "gblinear" and "weights" in model and "boosted_rounds" not in model:
        model["boosted_rounds"] = 1
        return True
    if model.get("trees") == [] and written < (3, 1):
        model["iteration_indptr"] = [0]
        learner["learner_model_param"]["boost_from_average"] = "0"
        return True
    of_vectors = [tree for tree in model.get("trees", ()) if _keeps_vectors_apart(tree)]
    for tree in of_vectors:
        _move_vectors(tree)
    return bool(of_vectors)


def _keeps_vectors_apart(tree: dict[str, Any]) -> bool:
    return int(tree["tree_param"].get("size_leaf_vector", 0)) > 1 and "leaf_weights" not in tree


def _move_vectors(tree: dict[str, Any]) -> None:
    left = np.asarray(tree["left_children"], np.int64)
    weights = np.asarray(tree["base_weights"], np.float32)
    width = int(tree["tree_param"]["size_leaf_vector"])
    leaves = left == -1
    # A leaf's right child is the place of its vector.
    right = np.where(leaves, np.cumsum(leaves) - 1, np.asarray(tree["right_children"], np.int64))
    # A condition of a leaf is none: NaN, which JSON has not.
    condition = np.where(leaves, 0, np.asarray(tree["split_conditions"], np.float32))
    tree["leaf_weights"] = weights.reshape(len(left), width)[leaves].ravel().tolist()
    tree["right_children"] = right.tolist()
    tree["split_conditions"] = condition.tolist()
    for name in ("loss_changes", "sum_hessian"):
        tree.setdefault(name, [0.0] * len(left))
