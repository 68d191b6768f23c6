"""The models that ``make bench-import`` brings online: made from a seed, or the published ones.

Each is a file that its own library wrote, with one request: one user, many candidates. Weights are
random where nothing is said, which costs a net as much as trained ones; the trees are trained.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

CANDIDATES, TABLE_ROWS, SMALL_ROWS, DENSE, CATEGORIES, HISTORY = 200, 100_000, 1_000, 8, 6, 50

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Model:
    """
    A file to bring online.

    Args:
        path: What its library wrote.
        request: One user's candidates, a row each.
        user_inputs: Which inputs belong to the user and the context.
        catalogue: Every item there is, a row each, of the other inputs; empty where the inputs
            of an item are not known beforehand.
    """

    name: str
    path: Path
    request: Arrays
    user_inputs: tuple[str, ...] = ()
    catalogue: Arrays | None = None


def every(folder: Path) -> Iterator[Model]:
    """Make each model that this machine has the library for, one after another."""
    for make in (wide_and_deep, deepfm, din, two_tower, trees):
        yield make(folder)
    yield from shared()


# -- made here -------------------------------------------------------------------------------------


def _catalogue(rng: np.random.Generator) -> dict[str, NDArray[Any]]:
    return {
        "item_id": np.arange(TABLE_ROWS)[:, None],
        "cat": rng.integers(0, SMALL_ROWS, (TABLE_ROWS, CATEGORIES)),
        "features": rng.standard_normal((TABLE_ROWS, DENSE)).astype(np.float32),
    }


def _keras(
    name: str, folder: Path, build: Callable[[Any], Any], user: Callable[[Any], Arrays]
) -> Model:
    import keras

    path = folder / name
    keras.utils.set_random_seed(7)
    if not path.exists():
        build(keras).export(path, verbose=False)
    rng = np.random.default_rng(7)
    catalogue, given = _catalogue(rng), user(rng)
    return Model(name, path, _one_user(catalogue, given, CANDIDATES), tuple(given), catalogue)


def _inputs(keras: Any, **more: Any) -> dict[str, Any]:
    return {
        "user_id": keras.Input((1,), dtype="int64", name="user_id"),
        **more,
        "item_id": keras.Input((1,), dtype="int64", name="item_id"),
        "cat": keras.Input((CATEGORIES,), dtype="int64", name="cat"),
        "features": keras.Input((DENSE,), dtype="float32", name="features"),
    }


def wide_and_deep(folder: Path) -> Model:
    """W1: embeddings of 32 and 16, an MLP of 128-64-1, a linear part."""

    def build(keras: Any) -> Any:
        layers, given = keras.layers, _inputs(keras)
        parts = [
            layers.Flatten()(layers.Embedding(TABLE_ROWS, 32)(given["user_id"])),
            layers.Flatten()(layers.Embedding(TABLE_ROWS, 32)(given["item_id"])),
        ]
        for k in range(CATEGORIES):
            parts.append(layers.Embedding(SMALL_ROWS, 16)(given["cat"][:, k]))
        deep = layers.Concatenate()([*parts, given["features"]])
        deep = layers.Dense(128, "relu")(deep)
        deep = layers.Dense(64, "relu")(deep)
        logit = layers.Add()(
            [layers.Dense(1)(deep), layers.Dense(1, use_bias=False)(given["features"])]
        )
        return keras.Model(given, {"score": layers.Activation("sigmoid")(logit)})

    return _keras(
        "wide_and_deep", folder, build, lambda rng: {"user_id": rng.integers(0, TABLE_ROWS, (1, 1))}
    )


def deepfm(folder: Path) -> Model:
    """DeepFM (Guo et al., 2017): first order, pairs of embeddings of 16, an MLP of 128-64-1."""

    def build(keras: Any) -> Any:
        layers, ops, given = keras.layers, keras.ops, _inputs(keras)
        fields = [(given["user_id"][:, 0], TABLE_ROWS), (given["item_id"][:, 0], TABLE_ROWS)]
        fields += [(given["cat"][:, k], SMALL_ROWS) for k in range(CATEGORIES)]
        first = layers.Add()([layers.Embedding(rows, 1)(ids) for ids, rows in fields])
        vectors = [layers.Embedding(rows, 16)(ids) for ids, rows in fields]
        stacked = ops.stack(vectors, axis=1)
        pairs = ops.square(ops.sum(stacked, axis=1)) - ops.sum(ops.square(stacked), axis=1)
        second = 0.5 * ops.sum(pairs, axis=1, keepdims=True)
        deep = layers.Concatenate()([*vectors, given["features"]])
        deep = layers.Dense(128, "relu")(deep)
        deep = layers.Dense(64, "relu")(deep)
        logit = layers.Add()([first, second, layers.Dense(1)(deep)])
        return keras.Model(given, {"score": layers.Activation("sigmoid")(logit)})

    return _keras(
        "deepfm", folder, build, lambda rng: {"user_id": rng.integers(0, TABLE_ROWS, (1, 1))}
    )


def din(folder: Path) -> Model:
    """DIN (Zhou et al., 2018): attention of the candidate over the last 50 items, 0 is padding."""

    def build(keras: Any) -> Any:
        layers, ops = keras.layers, keras.ops
        given = _inputs(keras, history=keras.Input((HISTORY,), dtype="int64", name="history"))
        table = layers.Embedding(TABLE_ROWS, 32)
        item = layers.Flatten()(table(given["item_id"]))
        past = table(given["history"])
        key = ops.repeat(ops.expand_dims(item, 1), HISTORY, axis=1)
        unit = layers.Concatenate()([past, key, past - key, past * key])
        weight = layers.Dense(1)(layers.Dense(36, "sigmoid")(unit))
        seen = ops.cast(ops.expand_dims(given["history"] > 0, -1), "float32")
        interest = ops.sum(past * weight * seen, axis=1)
        user = layers.Flatten()(layers.Embedding(TABLE_ROWS, 32)(given["user_id"]))
        deep = layers.Concatenate()([user, interest, item, given["features"]])
        deep = layers.Dense(128, "relu")(deep)
        deep = layers.Dense(64, "relu")(deep)
        unused = {name: value for name, value in given.items() if name != "cat"}
        return keras.Model(unused, {"score": layers.Dense(1, "sigmoid")(deep)})

    def user(rng: np.random.Generator) -> Arrays:
        history = rng.integers(1, TABLE_ROWS, (1, HISTORY))
        history[:, 40:] = 0
        return {"user_id": rng.integers(0, TABLE_ROWS, (1, 1)), "history": history}

    made = _keras("din", folder, build, user)
    without = {name: values for name, values in made.request.items() if name != "cat"}
    assert made.catalogue is not None
    catalogue = {name: values for name, values in made.catalogue.items() if name != "cat"}
    return Model(made.name, made.path, without, made.user_inputs, catalogue)


def two_tower(folder: Path) -> Model:
    """Two towers of 64-32 in PyTorch, their product, a sigmoid; kept as TorchScript."""
    import torch
    from torch import nn

    class Tower(nn.Module):
        def __init__(self, features: int) -> None:
            super().__init__()
            self.table = nn.Embedding(TABLE_ROWS, 32)
            self.layers = nn.Sequential(nn.Linear(32 + features, 64), nn.ReLU(), nn.Linear(64, 32))

        def forward(self, ids: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
            return self.layers(torch.cat([self.table(ids[:, 0]), features], 1))

    class Towers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.user, self.item = Tower(4), Tower(DENSE)

        def forward(
            self,
            user_id: torch.Tensor,
            context: torch.Tensor,
            item_id: torch.Tensor,
            features: torch.Tensor,
        ) -> torch.Tensor:
            product = (self.user(user_id, context) * self.item(item_id, features)).sum(
                1, keepdim=True
            )
            return torch.sigmoid(product)

    path = folder / "two_tower.pt"
    rng = np.random.default_rng(7)
    catalogue = _catalogue(rng)
    del catalogue["cat"]
    user = {
        "user_id": rng.integers(0, TABLE_ROWS, (1, 1)),
        "context": rng.standard_normal((1, 4)).astype(np.float32),
    }
    request = _one_user(catalogue, user, CANDIDATES)
    if not path.exists():
        torch.manual_seed(7)
        example = tuple(torch.from_numpy(np.ascontiguousarray(each)) for each in request.values())
        torch.jit.trace(Towers().eval(), example).save(str(path))
    return Model("two_tower", path, request, tuple(user), catalogue)


def trees(folder: Path) -> Model:
    """A thousand boosted trees of 31 leaves over 20 features, trained by LightGBM."""
    import lightgbm

    rng = np.random.default_rng(7)
    path = folder / "trees.txt"
    rows = rng.standard_normal((20_000, 20))
    if not path.exists():
        label = (rows[:, 0] * rows[:, 1] + rows[:, 2] + rng.standard_normal(len(rows)) > 0) * 1
        settings = {"objective": "binary", "num_leaves": 31, "verbose": -1, "num_threads": 1}
        lightgbm.train(settings, lightgbm.Dataset(rows, label), 1000).save_model(path)
    return Model("trees", path, {"X": rows[:CANDIDATES]})


# -- found in the shared data ----------------------------------------------------------------------


def shared() -> Iterator[Model]:
    """Give the published models, where the shared data is at hand (``MARTLET_SHARED``)."""
    root = Path(os.environ.get("MARTLET_SHARED", "../shared"))
    if not root.is_dir():
        print(f"No shared data at {root}: the published models are left out.")
        return
    sparrow = root / "sparrow"
    for version in sorted((sparrow / "modeldata" / "neuralcf").iterdir()):
        catalogue = {"movieId": np.arange(1001, dtype=np.int32)}
        request = _one_user(catalogue, {"userId": np.array([10351], np.int32)}, 800)
        yield Model(f"NeuralCF/{version.name}", version, request, ("userId",), catalogue)
    for version in sorted((sparrow / "modeldata" / "MLPRec").iterdir()):
        golden = sparrow / "golden" / f"mlprec_{version.name}.open.json"
        rows = json.loads(golden.read_text())["request"]["instances"]
        columns = {name: _column([row[name] for row in rows]) for name in rows[0]}
        user = {name: values[:1] for name, values in columns.items() if _of_user(name)}
        items = {name: values for name, values in columns.items() if name not in user}
        request = _one_user(items, user, 200)
        yield Model(f"MLPRec/{version.name}", version, request, tuple(user), items)
    for kind, name, user_input, item_input in (
        ("onnx", "neumf_ml1m", "user_input_0", "item_input_0"),
        ("keras", "neumf_ml1m_twin", "user", "item"),
        ("savedmodel", "neumf_ml1m_twin", "user", "item"),
        ("torchscript", "neumf_ml1m_twin", "user", "item"),
    ):
        folder = root / "models" / kind / name
        (path,) = [each for each in folder.iterdir() if each.suffix != ".json"]
        shape = json.loads((folder / "open.inputs.json").read_text())[user_input]["shape"]
        items = {item_input: np.arange(3706).reshape(-1, *shape[1:])}
        user = {user_input: np.full((1, *shape[1:]), 4271)}
        request = _one_user(items, user, 800)
        yield Model(f"NeuMF {kind}", path, request, (user_input,), items)
    # Its ids are floats, as whoever published it trained it.
    items = {"product_input": np.arange(54, dtype=np.float32)[:, None]}
    request = _one_user(items, {"user_input": np.full((1, 1), 92, np.float32)}, 200)
    path = root / "models/keras/ncf_amazon_keras3/model.keras"
    yield Model("NCF keras", path, request, ("user_input",), items)


def _one_user(catalogue: Arrays, user: Arrays, count: int) -> dict[str, NDArray[Any]]:
    chosen = np.random.default_rng(7).integers(0, len(next(iter(catalogue.values()))), count)
    once = {name: np.broadcast_to(row, (count, *row.shape[1:])) for name, row in user.items()}
    return {**once, **{name: values[chosen] for name, values in catalogue.items()}}


def _column(values: list[list[Any]]) -> NDArray[Any]:
    if isinstance(values[0][0], str):
        return np.array(values, object)
    return np.array(values, np.int32 if isinstance(values[0][0], int) else np.float32)


def _of_user(name: str) -> bool:
    return name.startswith("user") or name in ("timestamp", "rating")
