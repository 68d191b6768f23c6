"""Small graphs with an embedding lookup written the many ways that exporters write one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import ModelProto, TensorProto, helper, numpy_helper

from martlet.tensors import Tensor

ROWS, DIM = 40, 4
TABLE = np.random.default_rng(7).standard_normal((ROWS, DIM)).astype(np.float32)

INT32, INT64, FLOAT, STRING = (
    TensorProto.INT32,
    TensorProto.INT64,
    TensorProto.FLOAT,
    TensorProto.STRING,
)


def write(path: Path, nodes: Sequence, inputs: Sequence, outputs: Sequence, tables: dict) -> Path:
    """Write the graph of *nodes* as a model file."""
    graph = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info(*each) for each in inputs],
        [helper.make_tensor_value_info(*each) for each in outputs],
        [numpy_helper.from_array(value, name) for name, value in tables.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save_model(model, path)
    return path


class Build:
    """A graph being written: constants by value, nodes by operator."""

    def __init__(self, **inputs: tuple[int, Sequence[int | str]]) -> None:
        self.inputs = [helper.make_tensor_value_info(n, *about) for n, about in inputs.items()]
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, value: Any, name: str = "") -> str:
        name = name or f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def __call__(self, op: str, *inputs: Any, gives: str = "", outputs: int = 1, **attributes: Any):
        names = [each if isinstance(each, str) else self.constant(each) for each in inputs]
        names_out = [gives or f"t{len(self.nodes)}_{i}" for i in range(outputs)]
        domain = "ai.onnx.ml" if op == "LabelEncoder" else ""
        self.nodes.append(helper.make_node(op, names, names_out, domain=domain, **attributes))
        return names_out[0] if outputs == 1 else names_out

    def model(self, **outputs: tuple[int, Sequence[int | str]]) -> ModelProto:
        gives = [helper.make_tensor_value_info(n, *about) for n, about in outputs.items()]
        graph = helper.make_graph(self.nodes, "g", self.inputs, gives, self.constants)
        imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 2)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=8)
        onnx.checker.check_model(model)
        return model


def tower(build: Build, *vectors: str) -> ModelProto:
    """A small net over *vectors*, so that no table is an output."""
    joined = build("Concat", *vectors, axis=1) if len(vectors) > 1 else vectors[0]
    width = DIM * len(vectors)
    weights = np.random.default_rng(1).standard_normal((width, 3)).astype(np.float32)
    hidden = build("Relu", build("MatMul", joined, weights))
    build("Identity", build("ReduceSum", hidden, np.array([1])), gives="score")
    return build.model(score=(FLOAT, ["n", 1]))


def net(*vectors: Tensor) -> Tensor:
    """What ``tower`` computes, in float64."""
    joined = np.concatenate(vectors, axis=1).astype(np.float64)
    weights = np.random.default_rng(1).standard_normal((joined.shape[1], 3)).astype(np.float32)
    return np.maximum(joined @ weights, 0).sum(axis=1, keepdims=True)
