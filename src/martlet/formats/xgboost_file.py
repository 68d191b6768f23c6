"""XGBoost's three encodings of a model (JSON, UBJSON, the binary before 3.1), read and checked."""

from __future__ import annotations

import itertools
import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from martlet.errors import UnsupportedModel
from martlet.formats import ubjson

Model = Mapping[str, Any]
_ROOT = 2**31 - 1
_MAX_COUNT = 10_000_000
_EXPONENTIAL = ("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox")


@dataclass(frozen=True, slots=True)
class XGBoostFile:
    """
    A model, as XGBoost's JSON has it, and the bytes that XGBoost is to load.

    XGBoost follows a child's index wherever it points, so a damaged file could make it read
    outside its arrays: `read` refuses what is not a tree.
    """

    content: bytes
    learner: Model

    @classmethod
    def read(cls, path: Path) -> XGBoostFile:
        """
        Read the file at *path*.

        Raises:
            UnsupportedModel: it is damaged, or a dump that XGBoost cannot load.
        """
        content = path.read_bytes()
        if content.lstrip()[:1] == b"[":
            raise UnsupportedModel(
                f"{path} is XGBoost's dump_model JSON, which XGBoost cannot load: "
                "save the booster with save_model"
            )
        try:
            if is_binary(content):
                learner = _binary(content)
                content = orjson.dumps(
                    {"learner": learner, "version": [2, 1, 4]},
                    option=orjson.OPT_SERIALIZE_NUMPY,
                )
            elif content[1:2] in b"LiU" and content[:1] == b"{":
                learner = ubjson.loads(content)["learner"]
            else:
                learner = _json(content)["learner"]
            _check(learner)
        except (KeyError, ValueError, TypeError, IndexError, struct.error, RecursionError) as exc:
            raise UnsupportedModel(f"{path} is not a whole XGBoost model: {exc!r}") from exc
        return cls(content, learner)

    @property
    def features(self) -> int:
        """How many there are."""
        return int(self.learner["learner_model_param"]["num_feature"])

    @property
    def objective(self) -> str:
        """Its name."""
        return str(self.learner["objective"]["name"])

    @property
    def forest(self) -> Model:
        """The trees, their groups and rounds; empty for a linear booster."""
        return _trees(self.learner) or {}

    @property
    def trees(self) -> int:
        """How many there are: 0 for a linear booster."""
        return len(self.forest.get("trees", ()))

    @property
    def weights(self) -> NDArray[np.float32] | None:
        """What DART multiplies each tree by."""
        found = self.learner["gradient_booster"].get("weight_drop")
        return None if found is None else np.asarray(found, np.float32)

    @property
    def base_margin(self) -> NDArray[np.float32]:
        """What every sum starts from, one number or one for each output."""
        text = str(self.learner["learner_model_param"]["base_score"]).strip("[]")
        score = np.array(text.split(","), dtype=np.float32)
        if self.objective in ("binary:logistic", "reg:logistic"):
            score = -np.log(np.float32(1) / score - np.float32(1))
        elif self.objective in (*_EXPONENTIAL, "survival:aft"):
            score = np.log(score)
        return score

    @property
    def categories(self) -> dict[int, list[Any]]:
        """The values of each categorical feature, in order of code, where the file keeps them."""
        coded: list[Mapping[str, Any]] = self.forest.get("cats", {}).get("enc", [])
        found = {i: _values(each) for i, each in enumerate(coded)}
        return {i: values for i, values in found.items() if values}


def _values(encoded: Mapping[str, Any]) -> list[Any]:
    values = np.asarray(encoded["values"])
    if "offsets" not in encoded:
        return list(values.tolist())
    text = bytes(values.astype(np.uint8))
    offsets = list(encoded["offsets"])
    return [text[a:b].decode() for a, b in itertools.pairwise(offsets)]


def _json(content: bytes) -> Any:
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        return json.loads(content)  # knows the NaN and Infinity that XGBoost writes


def _trees(learner: Model) -> Model | None:
    booster = learner["gradient_booster"]
    booster = booster.get("gbtree", booster)
    return booster["model"] if "trees" in booster["model"] else None


def _check(learner: Model) -> None:
    told = learner["learner_model_param"]
    features, classes = int(told["num_feature"]), int(told["num_class"])
    targets = int(told.get("num_target", 1))
    for name, count in (("feature", features), ("class", classes), ("target", targets)):
        if not 0 <= count <= _MAX_COUNT:
            raise ValueError(f"num_{name} is {count}")
    model = _trees(learner)
    if model is None:
        return
    trees = model["trees"]
    if len(trees) != int(model["gbtree_model_param"]["num_trees"]):
        raise ValueError(f"it says {model['gbtree_model_param']['num_trees']} trees")
    groups = np.asarray(model["tree_info"], dtype=np.int64)
    outputs = max(classes, targets, 1)
    if len(groups) != len(trees) or np.any((groups < 0) | (groups >= outputs)):
        raise ValueError("tree_info does not fit the trees")
    rounds = np.asarray(model.get("iteration_indptr", [0, len(trees)]), dtype=np.int64)
    if rounds[0] != 0 or rounds[-1] != len(trees) or np.any(np.diff(rounds) < 0):
        raise ValueError("iteration_indptr does not fit the trees")
    for number, tree in enumerate(trees):
        try:
            _check_tree(tree, features)
        except (KeyError, ValueError, TypeError) as exc:
            raise ValueError(f"tree {number}: {exc}") from exc


def _check_tree(tree: Model, features: int) -> None:
    left, right, split, parents = (
        np.asarray(tree[name], dtype=np.int64)
        for name in ("left_children", "right_children", "split_indices", "parents")
    )
    nodes = len(left)
    declared = int(tree["tree_param"]["num_nodes"])
    names = ("split_conditions", "default_left", "base_weights", "sum_hessian", "loss_changes")
    vector = max(int(tree["tree_param"].get("size_leaf_vector", 0)), 1)
    sizes = {len(right), len(split), len(parents), declared}
    sizes |= {len(tree[n]) for n in names if n != "base_weights" and n in tree}
    if sizes != {nodes} or nodes < 1 or len(tree["base_weights"]) not in (nodes, nodes * vector):
        raise ValueError("its arrays differ in length")
    inner = left != -1
    if "leaf_weights" in tree:  # vectors: a leaf's right child is the place of its own
        places = right[~inner]
        if np.any((places < 0) | ((places + 1) * vector > len(tree["leaf_weights"]))):
            raise ValueError("a leaf's vector is not there")
    elif np.any(inner != (right != -1)):
        raise ValueError("a node has one child")
    children = np.concatenate([left[inner], right[inner]])
    # Each node but the root is the child of at most one: from the root, no path can close.
    if np.any((children < 1) | (children >= nodes)) or len(np.unique(children)) != len(children):
        raise ValueError("its children are not those of a tree")
    order = np.arange(nodes)
    if np.any(parents[left[inner]] != order[inner]) or np.any(
        parents[right[inner]] != order[inner]
    ):
        raise ValueError("its parents are not those of its children")
    roots = (parents == _ROOT) | ((parents == -1) & (order == 0))
    if np.any(~roots & ((parents < 0) | (parents >= nodes))):
        raise ValueError("a parent is not there")
    if np.any((split[inner] < 0) | (split[inner] >= features)):
        raise ValueError("it splits on a feature that is not there")
    coded = np.flatnonzero(np.asarray(tree.get("split_type", []), dtype=np.int64) != 0)
    if list(coded) != list(tree.get("categories_nodes", ())):
        raise ValueError("its categorical splits are not those it lists")
    if len(coded):
        starts = np.asarray(tree["categories_segments"], dtype=np.int64)
        ends = starts + np.asarray(tree["categories_sizes"], dtype=np.int64)
        where = np.asarray(tree["categories_nodes"], dtype=np.int64)
        categories = np.asarray(tree["categories"], dtype=np.int64)
        if (
            np.any((starts < 0) | (ends < starts) | (ends > len(categories)))
            or np.any((where < 0) | (where >= nodes))
            or np.any((categories < 0) | (categories > 2**24))
        ):
            raise ValueError("its categories are out of range")


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


def _binary(content: bytes) -> dict[str, Any]:
    """
    Return the ``learner`` that XGBoost 2.1.4 writes on loading the binary *content*.

    Source:
        XGBoost 1.7 ``src/learner.cc`` (LearnerIO::Load), ``src/gbm/gbtree_model.cc``,
        ``src/tree/tree_model.cc`` and ``src/gbm/gblinear_model.h``.
    """
    file = _Binary(content.removeprefix(b"binf"))
    base_score, features, classes, _, _, major = file.read("fIiiiI")
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
        gradient_booster = {"name": "gbtree", "model": _forest(file, max(classes, 1))}
        if booster == "dart":
            dropped = file.array("<f4", file.read("Q")[0]).astype(np.float32)
            gradient_booster = {"name": booster, "gbtree": gradient_booster, "weight_drop": dropped}
    return {
        "attributes": {},
        "feature_names": [],
        "feature_types": [],
        "gradient_booster": gradient_booster,
        "learner_model_param": {
            "base_score": repr(float(base_score)),
            "boost_from_average": "0",
            "num_class": str(classes),
            "num_feature": str(features),
            "num_target": "1",
        },
        "objective": _objective(objective, classes),
    }


def _predicted(objective: str, margin: float) -> float:
    if objective in ("binary:logistic", "reg:logistic"):
        return float(1 / (1 + np.exp(-np.float64(margin))))
    return float(np.exp(margin)) if objective in _EXPONENTIAL else margin


def _objective(name: str, classes: int) -> dict[str, Any]:
    # XGBoost asks for the parameters of an objective even where they matter in training alone.
    found: dict[str, Any] = {"name": "reg:squarederror" if name == "reg:linear" else name}
    if name.startswith("multi:"):
        found["softmax_multiclass_param"] = {"num_class": str(classes)}
    elif name.startswith("rank:"):
        found["lambdarank_param"] = {"lambdarank_pair_method": "topk"}
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
    if vector:
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
        "parents": np.where(parents == -1, _ROOT, parents & _ROOT).astype(np.int32),
        "right_children": nodes["right"].astype(np.int32),
        "split_conditions": nodes["value"].astype(np.float32),
        "split_indices": (nodes["split"] & _ROOT).astype(np.int32),
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
