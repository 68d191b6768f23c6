"""XGBoost's three encodings of a model (JSON, UBJSON, the binary before 3.1), read and checked."""

from __future__ import annotations

import itertools
import json
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from martlet.errors import UnsupportedModel, brief
from martlet.formats.xgboost import older, ubjson
from martlet.formats.xgboost.binary import ROOT, is_binary, learner_of

Model = Mapping[str, Any]
_MOST = 1 << 20  # features, which are as many inputs
_TYPES = {"int", "float", "i", "q", "c"}
_KEY = re.compile(rb'(?<!\\)"\s*:')
_DAMAGE = (KeyError, ValueError, TypeError, IndexError, AttributeError, OverflowError)


@dataclass(frozen=True, slots=True)
class XGBoostFile:
    """
    A model, as XGBoost's JSON has it, and the bytes that XGBoost is to load.

    XGBoost follows a child's index wherever it points, so a damaged file could make it read
    outside its arrays: `read` refuses what is not a tree.
    """

    content: bytes
    learner: Model
    categories: dict[int, list[Any]]
    """The values of each categorical feature, in order of code, where the file keeps them."""

    @classmethod
    def read(cls, path: Path) -> XGBoostFile:
        """
        Read the file at *path*.

        Raises:
            UnsupportedModel: it is damaged, or a dump that XGBoost cannot load.
        """
        content = path.read_bytes()
        if content.lstrip()[:1] == b"[" or is_text_dump(content):
            raise UnsupportedModel(
                f"{path} is what XGBoost's dump_model writes, which XGBoost cannot load: "
                "save the booster with save_model"
            )
        version: Sequence[int]
        try:
            if is_binary(content):
                learner, version = learner_of(content)
                told: Any = {"learner": learner, "version": [2, 1, 4]}
            else:
                packed = content[1:2] in b"LiU" and content[:1] == b"{"
                told = ubjson.loads(content) if packed else _json(content)
                learner = told["learner"]
                version = tuple(map(int, told.get("version", ())))
            mended = older.mend(learner, version)
            if is_binary(content):
                content = orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY)
            elif mended:
                content = orjson.dumps(told, default=lambda array: array.tolist())
            _check(learner)
            categories = _categories(learner, version)
        except (*_DAMAGE, struct.error, RecursionError) as exc:
            raise UnsupportedModel(f"{path} is not a whole XGBoost model: {brief(exc)}") from exc
        return cls(content, learner, categories)

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
        return older.margins(self.objective, _scores(self.learner["learner_model_param"]))


def _scores(told: Model) -> NDArray[np.float32]:
    return np.array(str(told["base_score"]).strip("[]").split(","), dtype=np.float32)


def _categories(learner: Model, version: Sequence[int]) -> dict[int, list[Any]]:
    model = _trees(learner) or {}
    coded: list[Mapping[str, Any]] = model.get("cats", {}).get("enc", [])
    features = int(learner["learner_model_param"]["num_feature"])
    if len(coded) not in (0, features):
        raise ValueError(f"it has the categories of {len(coded)} features of {features}")
    found = {i: _values(each, version) for i, each in enumerate(coded)}
    return {i: values for i, values in found.items() if values}


def _values(encoded: Mapping[str, Any], version: Sequence[int]) -> list[Any]:
    values = np.asarray(encoded["values"])
    if "offsets" not in encoded:
        return list(values.tolist())
    text = bytes(values.astype(np.uint8))
    # Until 3.4 the names from pandas were cut by their characters, as if these were bytes: beyond
    # ASCII other names come of that, and the last are lost.
    if not text.isascii() and tuple(version)[:2] < (3, 4):
        return []
    offsets = list(encoded["offsets"])
    return [text[a:b].decode() for a, b in itertools.pairwise(offsets)]


def is_text_dump(content: bytes) -> bool:
    """Return whether *content* begins as ``dump_model`` writes trees for people to read."""
    return content.startswith(b"booster[0]:\n0:")


def _json(content: bytes) -> Any:
    try:
        found = orjson.loads(content)
    except orjson.JSONDecodeError:
        found = json.loads(content)  # knows the NaN and Infinity that XGBoost writes
    if len(_KEY.findall(content)) > _keys(found):  # XGBoost takes the first of two, Python the last
        raise ValueError("a name stands twice in one object")
    return found


def _keys(value: Any) -> int:
    if isinstance(value, dict):
        return len(value) + sum(map(_keys, value.values()))
    nested = isinstance(value, list) and value and isinstance(value[0], (dict, list))
    return sum(map(_keys, value)) if nested else 0


def _trees(learner: Model) -> Model | None:
    booster = learner["gradient_booster"]
    booster = booster.get("gbtree", booster)
    return booster["model"] if "trees" in booster["model"] else None


def _check(learner: Model) -> None:
    told = learner["learner_model_param"]
    features, classes = int(told["num_feature"]), int(told["num_class"])
    targets = int(told.get("num_target", 1))
    for name, count in (("feature", features), ("class", classes), ("target", targets)):
        if not 0 <= count <= _MOST:
            raise ValueError(f"num_{name} is {count}")
    names, types = learner.get("feature_names") or (), learner.get("feature_types") or ()
    if len(names) not in (0, features) or len(set(names)) != len(names):
        raise ValueError(f"it has the names of {len(set(names))} features of {features}")
    if len(types) not in (0, features) or not {*types} <= _TYPES:
        raise ValueError(f"it has other types of features than {', '.join(sorted(_TYPES))}")
    outputs = max(classes, targets, 1)
    booster = learner["gradient_booster"]
    if "model" not in booster.get("gbtree", booster):
        raise ValueError("it is a configuration without a model: save the booster by save_model")
    if len(_scores(told)) not in (1, outputs):
        raise ValueError(f"base_score has not one number, nor {outputs}")
    if booster["name"] == "gblinear":
        if len(booster["model"]["weights"]) != (features + 1) * outputs:
            raise ValueError(f"it has not the weights of {features} features")
        return
    model = booster.get("gbtree", booster)["model"]
    trees = model["trees"]
    if len(booster.get("weight_drop", trees)) != len(trees):
        raise ValueError("weight_drop does not fit the trees")
    if len(trees) != int(model["gbtree_model_param"]["num_trees"]):
        raise ValueError(f"it says {model['gbtree_model_param']['num_trees']} trees")
    groups = np.asarray(model["tree_info"], dtype=np.int64)
    if len(groups) != len(trees) or np.any((groups < 0) | (groups >= outputs)):
        raise ValueError("tree_info does not fit the trees")
    rounds = np.asarray(model.get("iteration_indptr", [0, len(trees)]), dtype=np.int64)
    if rounds[0] != 0 or rounds[-1] != len(trees) or np.any(np.diff(rounds) < 0):
        raise ValueError("iteration_indptr does not fit the trees")
    for number, tree in enumerate(trees):
        # XGBoost puts a tree where its id says; a place without one ends the process.
        if tree.get("id", number) != number:
            raise ValueError(f"tree {number} says that it is tree {tree['id']}")
        try:
            _check_tree(tree, features, outputs)
        except _DAMAGE as exc:
            raise ValueError(f"tree {number}: {brief(exc)}") from exc


def _check_tree(tree: Model, features: int, outputs: int) -> None:
    left, right, split, parents = (
        np.asarray(tree[name], dtype=np.int64)
        for name in ("left_children", "right_children", "split_indices", "parents")
    )
    nodes = len(left)
    declared = int(tree["tree_param"]["num_nodes"])
    names = ("split_conditions", "default_left", "base_weights", "sum_hessian", "loss_changes")
    vector = int(tree["tree_param"].get("size_leaf_vector", 0)) or 1
    if vector not in (1, outputs):
        raise ValueError(f"it has vectors of {vector} in its leaves, for {outputs} outputs")
    sizes = {len(right), len(split), len(parents), declared}
    sizes |= {len(tree[name]) for name in names if name != "base_weights"}
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
    roots = (parents == ROOT) | ((parents == -1) & (order == 0))
    if np.any(~roots & ((parents < 0) | (parents >= nodes))):
        raise ValueError("a parent is not there")
    if np.any((split[inner] < 0) | (split[inner] >= features)):
        raise ValueError("it splits on a feature that is not there")
    # Before 1.3 there was none, nor were there vectors.
    has_kinds = "leaf_weights" in tree or "split_type" in tree
    kinds = np.asarray(tree["split_type"] if has_kinds else np.zeros(nodes), dtype=np.int64)
    coded = np.flatnonzero(kinds != 0)
    if len(kinds) != nodes:
        raise ValueError("split_type has not a kind for each node")
    if list(coded) != list(tree.get("categories_nodes", ())):
        raise ValueError("its categorical splits are not those it lists")
    if len(coded):
        starts = np.asarray(tree["categories_segments"], dtype=np.int64)
        counts = np.asarray(tree["categories_sizes"], dtype=np.int64)
        where = np.asarray(tree["categories_nodes"], dtype=np.int64)
        categories = np.asarray(tree["categories"], dtype=np.int64)
        if len({len(starts), len(counts), len(where)}) > 1:
            raise ValueError("its categorical splits differ in number")
        ends = starts + counts
        if (
            np.any((starts < 0) | (ends < starts) | (ends > len(categories)))
            or np.any((where < 0) | (where >= nodes))
            or np.any((categories < 0) | (categories > 2**24))
        ):
            raise ValueError("its categories are out of range")
