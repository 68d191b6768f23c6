"""XGBoost's binary format before 3.1, read as the JSON that XGBoost 2.1.4 makes of it."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from martlet.formats.xgboost.older import EXPONENTIAL

ROOT = 2**31 - 1
"""What a root says of its parent."""


def is_binary(content: bytes) -> bool:
    """Return whether *content* begins as the binary format does: parameters, then two names."""
    content = content.removeprefix(b"binf")
    if len(content) < 176:
        return False
    (length,) = struct.unpack_from("<Q", content, 136)
    if not 3 < length < 64:
        return False
    (after,) = struct.unpack_from("<Q", content.ljust(300, b"\0"), 144 + length)
    name = content[152 + length : 152 + length + min(after, 8)]
    return name in (b"gbtree", b"gblinear", b"dart")


class _Binary:
    """The old format's cursor: little-endian structs, strings and vectors after their length."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.at = 0

    def read(self, form: str) -> tuple[Any, ...]:
        found = struct.unpack_from("<" + form, self.content, self.at)
        self.at += struct.calcsize("<" + form)
        return found

    def array(self, dtype: Any, count: int) -> Any:
        if count < 0 or count * np.dtype(dtype).itemsize > len(self.content) - self.at:
            raise ValueError(f"byte {self.at}: {count} elements cannot fit")
        found = np.frombuffer(self.content, dtype, count, self.at)
        self.at += found.nbytes
        return found

    def text(self) -> str:
        return bytes(self.array(np.uint8, self.read("Q")[0])).decode()


_NODE = np.dtype(
    [("parent", "<i4"), ("left", "<i4"), ("right", "<i4"), ("split", "<u4"), ("value", "<f4")]
)
_STATISTICS = np.dtype([("loss", "<f4"), ("hessian", "<f4"), ("weight", "<f4"), ("leaves", "<i4")])


def learner_of(content: bytes) -> tuple[dict[str, Any], tuple[int, int]]:
    """
    Return the ``learner`` that XGBoost 2.1.4 writes on loading the binary *content*, and of which
    version that was.

    Source:
        XGBoost 1.7 ``src/learner.cc`` (LearnerIO::Load), ``src/gbm/gbtree_model.cc``,
        ``src/tree/tree_model.cc`` and ``src/gbm/gblinear_model.h``.
    """
    file = _Binary(content.removeprefix(b"binf"))
    base_score, features, classes, told, _, major, minor, targets = file.read("fIiiiIII")
    targets = max(targets, 1)  # 0 before 1.6
    file.at = 136
    objective, booster = file.text(), file.text()
    if major < 1 and not objective.startswith("multi:"):
        base_score = _predicted(objective, base_score)
    if booster == "gblinear":
        file.at += 136
        weights = file.array("<f4", file.read("Q")[0])
        _finite(weights)
        fitted: dict[str, Any] = {"weights": weights.astype(np.float32), "boosted_rounds": 0}
        gradient_booster: dict[str, Any] = {"name": booster, "model": fitted}
    else:
        gradient_booster = {"name": "gbtree", "model": _forest(file, max(classes, targets))}
        if booster == "dart":
            dropped = file.array("<f4", file.read("Q")[0]).astype(np.float32)
            gradient_booster = {"name": booster, "gbtree": gradient_booster, "weight_drop": dropped}
    learner = {
        # The best iteration of a training that stopped early, among others.
        "attributes": {file.text(): file.text() for _ in range(*file.read("Q"))} if told else {},
        "feature_names": [],
        "feature_types": [],
        "gradient_booster": gradient_booster,
        "learner_model_param": {
            "base_score": repr(float(base_score)),
            "boost_from_average": "0",
            "num_class": str(classes),
            "num_feature": str(features),
            "num_target": str(targets),
        },
        "objective": _objective(objective, classes),
    }
    return learner, (major, minor)


def _predicted(objective: str, margin: float) -> float:
    if objective in ("binary:logistic", "reg:logistic"):
        return float(1 / (1 + np.exp(-np.float64(margin))))
    return float(np.exp(margin)) if objective in EXPONENTIAL else margin


def _objective(name: str, classes: int) -> dict[str, Any]:
    # XGBoost asks for the parameters of an objective even where they matter in training alone.
    found: dict[str, Any] = {"name": "reg:squarederror" if name == "reg:linear" else name}
    if name.startswith("multi:"):
        found["softmax_multiclass_param"] = {"num_class": str(classes)}
    elif name.startswith("rank:"):
        found["lambdarank_param"] = {"lambdarank_pair_method": "topk"}
    elif name == "survival:aft":
        found["aft_loss_param"] = {
            "aft_loss_distribution": "normal",
            "aft_loss_distribution_scale": "1",
        }
    elif name == "reg:quantileerror":
        found["quantile_loss_param"] = {"quantile_alpha": "0.5"}
    elif name == "reg:pseudohubererror":
        found["pseudo_huber_param"] = {"huber_slope": "1"}
    elif name == "count:poisson":
        found["poisson_regression_param"] = {"max_delta_step": "0.7"}
    elif name == "reg:tweedie":
        found["tweedie_regression_param"] = {"tweedie_variance_power": "1.5"}
    elif name.startswith(("reg:", "binary:log")):
        found["reg_loss_param"] = {"scale_pos_weight": "1"}
    return found


def _forest(file: _Binary, groups: int) -> dict[str, Any]:
    count, _, _, _, _, _, vector = file.read("iiiiqii")
    file.at += 128
    if vector > 1:
        raise ValueError(f"it has vectors of {vector} in its leaves")
    trees = [_tree(file, number) for number in range(count)]
    info = file.array("<i4", count)
    rounds = np.arange(0, count + 1, groups)
    return {
        "gbtree_model_param": {"num_parallel_tree": "1", "num_trees": str(count)},
        "iteration_indptr": rounds.astype(np.int32),
        "tree_info": info.astype(np.int32),
        "trees": trees,
    }


def _tree(file: _Binary, number: int) -> dict[str, Any]:
    _, count, deleted, _, features, vector = file.read("iiiiii")
    file.at += 124
    nodes = file.array(_NODE, count)
    statistics = file.array(_STATISTICS, count)
    if vector > 1:  # XGBoost 2 says 1 of a plain number
        file.array("<f4", file.read("Q")[0])
    _finite(nodes["value"])
    parents = nodes["parent"].astype(np.int64)
    return {
        "base_weights": _tame(statistics["weight"]),
        "categories": [],
        "categories_nodes": [],
        "categories_segments": [],
        "categories_sizes": [],
        "default_left": (nodes["split"] >> 31).astype(np.uint8),
        "id": number,
        "left_children": nodes["left"].astype(np.int32),
        "loss_changes": _tame(statistics["loss"]),
        "parents": np.where(parents == -1, ROOT, parents & ROOT).astype(np.int32),
        "right_children": nodes["right"].astype(np.int32),
        "split_conditions": nodes["value"].astype(np.float32),
        "split_indices": (nodes["split"] & ROOT).astype(np.int32),
        "split_type": np.zeros(count, np.uint8),
        "sum_hessian": _tame(statistics["hessian"]),
        "tree_param": {
            "num_deleted": str(deleted),
            "num_feature": str(features),
            "num_nodes": str(count),
            "size_leaf_vector": "0",
        },
    }


def _finite(values: Any) -> None:
    if not np.isfinite(values).all():
        raise ValueError("a threshold or weight is not a finite number")


def _tame(statistics: Any) -> Any:
    # Statistics of training: predictions do not read them, and JSON has no NaN.
    return np.nan_to_num(statistics.astype(np.float32))
