"""The two workloads: their models, made here from a seed, and the bodies of each form.

W1 ranks 200 candidates of one user with a Wide & Deep net: user and item embeddings of 32 (100,000
rows each), six categorical ones of 16 (1,000 rows each), eight dense values, an MLP of 128-64-1 and
a linear part. W2 is ``0.5 x + 2`` on three values: the cost of everything but the model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

ROWS, USER = 200, 4242
TABLE_ROWS, SMALL_ROWS = 100_000, 1_000

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Workload:
    """A model file, its inputs for one request, and the same request in each form."""

    name: str
    model: Path
    inputs: Arrays
    bodies: Mapping[str, bytes]


def make(folder: Path, seed: int = 0) -> tuple[Workload, Workload]:
    """Write both models and W1's tables into *folder*; return W1 and W2."""
    rng = np.random.default_rng(seed)
    w1, w2 = folder / "m1.onnx", folder / "half.onnx"
    onnx.save(_wide_and_deep(rng), w1)
    onnx.save(_half_plus_two(), w2)
    catalogue = {
        "cat": rng.integers(0, SMALL_ROWS, (TABLE_ROWS, 6)),
        "dense": rng.standard_normal((TABLE_ROWS, 8)).astype(np.float32).round(6),
    }
    _write_tables(folder, catalogue)
    items = rng.choice(TABLE_ROWS, ROWS, replace=False)
    inputs = {
        "user_id": np.full((ROWS, 1), USER),
        "item_id": items[:, None],
        "cat": catalogue["cat"][items],
        "dense": catalogue["dense"][items],
    }
    half = {"x": np.array([[1.0], [2.0], [5.0]], np.float32)}
    return (
        Workload("W1", w1, inputs, {**_forms(inputs), **_rank_forms(inputs)}),
        Workload("W2", w2, half, _forms(half)),
    )


def plain(array: NDArray[Any]) -> Any:
    """Return nested lists; a float32 as the shortest text that reads back as the same."""
    if array.dtype == np.float32:
        return json.loads(json.dumps([[float(str(v)) for v in row] for row in array]))
    return array.tolist()


def _forms(inputs: Arrays) -> dict[str, bytes]:
    columns = {name: plain(array) for name, array in inputs.items()}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return {
        "rows": _dump({"instances": rows}),
        "columns": _dump({"inputs": columns}),
        "plain": _dump(columns),
    }


def _rank_forms(inputs: Arrays) -> dict[str, bytes]:
    items = {name: plain(array) for name, array in inputs.items() if name != "user_id"}
    keys = inputs["item_id"][:, 0].tolist()
    return {
        "rank": _dump({"context": {"user_id": USER}, "items": items}),
        "compact": _dump({"recommender": "w1", "user": USER, "items": keys}),
    }


def _dump(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


DECLARATION = """
[recommender]
items = "items"
[tables]
items = "items.table"
popular = "popular.table"
[[candidates]]
from = "popular"
lists = "popular"
[[ranking]]
model = "m1"
items = "items"
[ranking.features]
user_id = "unit"
item_id = "item"
"""


def _write_tables(folder: Path, catalogue: Arrays) -> None:
    from martlet.stores import write_features, write_lists

    write_features(folder / "items.table", np.arange(TABLE_ROWS), catalogue)
    write_lists(folder / "popular.table", {"all": list(range(100))})
    (folder / "w1.toml").write_text(DECLARATION)


def _wide_and_deep(rng: np.random.Generator) -> onnx.ModelProto:
    def weights(name: str, *shape: int) -> onnx.TensorProto:
        scale = np.float32(0.2 if len(shape) == 2 and shape[0] < 1000 else 0.05)
        return numpy_helper.from_array(rng.standard_normal(shape, dtype=np.float32) * scale, name)

    parts = ["user", "item", *(f"c{k}" for k in range(6)), "dense"]
    nodes = [
        helper.make_node("Gather", ["user_table", "user_column"], ["user"]),
        helper.make_node("Gather", ["item_table", "item_column"], ["item"]),
        helper.make_node("Squeeze", ["user_id", "one"], ["user_column"]),
        helper.make_node("Squeeze", ["item_id", "one"], ["item_column"]),
        helper.make_node("Split", ["cat"], [f"k{k}" for k in range(6)], axis=1, num_outputs=6),
    ]
    for k in range(6):
        nodes.append(helper.make_node("Squeeze", [f"k{k}", "one"], [f"column{k}"]))
        nodes.append(helper.make_node("Gather", [f"table{k}", f"column{k}"], [f"c{k}"]))
    nodes += [
        helper.make_node("Concat", parts, ["deep0"], axis=1),
        helper.make_node("Gemm", ["deep0", "w0", "b0"], ["deep1"]),
        helper.make_node("Relu", ["deep1"], ["deep2"]),
        helper.make_node("Gemm", ["deep2", "w1", "b1"], ["deep3"]),
        helper.make_node("Relu", ["deep3"], ["deep4"]),
        helper.make_node("Gemm", ["deep4", "w2", "b2"], ["deep5"]),
        helper.make_node("MatMul", ["dense", "wide"], ["wide_part"]),
        helper.make_node("Add", ["deep5", "wide_part"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["score"]),
    ]
    nodes = [*nodes[2:4], *nodes[:2], *nodes[4:]]
    graph = helper.make_graph(
        nodes,
        "wide_and_deep",
        [
            helper.make_tensor_value_info("user_id", TensorProto.INT64, ["batch", 1]),
            helper.make_tensor_value_info("item_id", TensorProto.INT64, ["batch", 1]),
            helper.make_tensor_value_info("cat", TensorProto.INT64, ["batch", 6]),
            helper.make_tensor_value_info("dense", TensorProto.FLOAT, ["batch", 8]),
        ],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch", 1])],
        [
            weights("user_table", TABLE_ROWS, 32),
            weights("item_table", TABLE_ROWS, 32),
            *(weights(f"table{k}", SMALL_ROWS, 16) for k in range(6)),
            weights("w0", 168, 128),
            weights("b0", 128),
            weights("w1", 128, 64),
            weights("b1", 64),
            weights("w2", 64, 1),
            weights("b2", 1),
            weights("wide", 8, 1),
            numpy_helper.from_array(np.array([1]), "one"),
        ],
    )
    return _model(graph)


def _half_plus_two() -> onnx.ModelProto:
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["x", "half"], ["product"]),
            helper.make_node("Add", ["product", "two"], ["y"]),
        ],
        "half_plus_two",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 1])],
        [
            numpy_helper.from_array(np.float32(0.5), "half"),
            numpy_helper.from_array(np.float32(2.0), "two"),
        ],
    )
    return _model(graph)


def _model(graph: onnx.GraphProto) -> onnx.ModelProto:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return model
