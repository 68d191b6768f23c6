"""Small ONNX models of our own, written when a test asks for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

_OPSET = [helper.make_opsetid("", 17)]


def _save(path: Path, nodes: list, inputs: list, outputs: list, initializers: list = ()) -> Path:
    graph = helper.make_graph(list(nodes), "g", inputs, outputs, list(initializers))
    model = helper.make_model(graph, opset_imports=_OPSET, ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def sums(path: Path) -> Path:
    """``x`` FP32 [-1, 2] to ``sum`` FP32 [-1]."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])
    y = helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["n"])
    axes = numpy_helper.from_array(np.array([1], np.int64), "axes")
    node = helper.make_node("ReduceSum", ["x", "axes"], ["sum"], keepdims=0)
    return _save(path, [node], [x], [y], [axes])


def words(path: Path) -> Path:
    """``word`` BYTES [-1] and ``id`` INT64 [-1] to ``word_out`` and ``id_out``, the same."""
    kinds = {"word": TensorProto.STRING, "id": TensorProto.INT64}
    inputs = [helper.make_tensor_value_info(n, kind, ["n"]) for n, kind in kinds.items()]
    outputs = [helper.make_tensor_value_info(f"{n}_out", k, ["n"]) for n, k in kinds.items()]
    nodes = [helper.make_node("Identity", [n], [f"{n}_out"]) for n in kinds]
    return _save(path, nodes, inputs, outputs)


def slow(path: Path) -> Path:
    """``steps`` INT64 [1] to ``done`` FP32 [1]: about a millisecond a step, and holds no lock."""
    size = 320
    steps = helper.make_tensor_value_info("steps", TensorProto.INT64, [1])
    done = helper.make_tensor_value_info("done", TensorProto.FLOAT, [1])
    eye = numpy_helper.from_array(np.eye(size, dtype=np.float32), "eye")
    yes = numpy_helper.from_array(np.array(True), "yes")
    zero = numpy_helper.from_array(np.array([0], np.int64), "zero")
    shape = numpy_helper.from_array(np.array([1], np.int64), "shape")
    body = helper.make_graph(
        [
            helper.make_node("MatMul", ["state", "eye"], ["next"]),
            helper.make_node("Identity", ["go"], ["go_out"]),
        ],
        "step",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("state", TensorProto.FLOAT, [size, size]),
        ],
        [
            helper.make_tensor_value_info("go_out", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [size, size]),
        ],
    )
    nodes = [
        helper.make_node("Squeeze", ["steps", "zero"], ["trips"]),
        helper.make_node("Loop", ["trips", "yes", "eye"], ["end"], body=body),
        helper.make_node("ReduceMean", ["end"], ["mean"], keepdims=0),
        helper.make_node("Reshape", ["mean", "shape"], ["done"]),
    ]
    return _save(path, nodes, [steps], [done], [eye, yes, zero, shape])
