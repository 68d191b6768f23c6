"""Giving a converted graph the names, dtypes and ranks of the original's signature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, ValueInfoProto, compose, helper, numpy_helper

from martlet.errors import UnsupportedModel
from martlet.tensors import DType, Signature, Spec

ELEMENTS: dict[DType, int] = {
    DType.BOOL: TensorProto.BOOL,
    DType.INT8: TensorProto.INT8,
    DType.INT16: TensorProto.INT16,
    DType.INT32: TensorProto.INT32,
    DType.INT64: TensorProto.INT64,
    DType.UINT8: TensorProto.UINT8,
    DType.UINT16: TensorProto.UINT16,
    DType.UINT32: TensorProto.UINT32,
    DType.UINT64: TensorProto.UINT64,
    DType.FLOAT16: TensorProto.FLOAT16,
    DType.FLOAT32: TensorProto.FLOAT,
    DType.FLOAT64: TensorProto.DOUBLE,
    DType.STRING: TensorProto.STRING,
}


def fitted(
    model: ModelProto,
    signature: Signature,
    inputs: Mapping[str, str],
    outputs: Mapping[str, str],
) -> ModelProto:
    """
    Return *model* with the inputs and outputs of *signature*.

    Args:
        inputs, outputs: The graph's own name by the signature's. Where one matrix of the graph
            takes what are columns in the signature, every column names that matrix, in order.

    Raises:
        UnsupportedModel: an output of the signature is not among *outputs*.
    """
    missing = [name for name in signature.outputs if name not in outputs]
    if missing:
        raise UnsupportedModel(f"the converter gives no {missing[0]!r}")
    # A graph may use a name of the signature for something within.
    prefix = "m_" if _clash(model, signature) else ""
    if prefix:
        model = compose.add_prefix(model, prefix)
    graph = model.graph
    given = {each.name: each for each in graph.input}
    wanted = {each.name: each for each in graph.output}
    taken: dict[str, list[str]] = {}
    for name, own in inputs.items():
        taken.setdefault(prefix + own, []).append(name)
    before: list[Any] = []
    for own, names in taken.items():
        if own in given:
            before += _into(given[own], [signature.inputs[name] for name in names])
    after: list[Any] = []
    for name, spec in signature.outputs.items():
        after += _out_of(wanted[prefix + outputs[name]], spec, name)
    nodes = [*before, *graph.node, *after]
    del graph.node[:], graph.input[:], graph.output[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.input.extend(_info(spec) for spec in signature.inputs.values())
    graph.output.extend(_info(spec) for spec in signature.outputs.values())
    return model


def _clash(model: ModelProto, signature: Signature) -> bool:
    graph = model.graph
    names = {name for node in graph.node for name in (*node.input, *node.output)}
    names |= {each.name for each in (*graph.input, *graph.output, *graph.initializer)}
    return bool(names & {*signature.inputs, *signature.outputs})


def _into(given: ValueInfoProto, specs: Sequence[Spec]) -> list[Any]:
    """Return nodes that make the graph's own input of the signature's."""
    element, rank = _type(given)
    nodes: list[Any] = []
    parts = []
    for spec in specs:
        name = spec.name
        if ELEMENTS[spec.dtype] != element:
            nodes.append(helper.make_node("Cast", [name], [f"{name}__cast"], to=element))
            name = f"{name}__cast"
        if rank is not None and spec.shape is not None and len(spec.shape) != rank:
            nodes += _reshaped(name, f"{spec.name}__shaped", [-1] + [1] * (rank - 1))
            name = f"{spec.name}__shaped"
        parts.append(name)
    if len(parts) == 1:
        return [*nodes, helper.make_node("Identity", parts, [given.name])]
    return [*nodes, helper.make_node("Concat", parts, [given.name], axis=1)]


def _out_of(wanted: ValueInfoProto, spec: Spec, name: str) -> list[Any]:
    """Return nodes that make the signature's output of the graph's own."""
    _, rank = _type(wanted)
    nodes: list[Any] = []
    found = wanted.name
    if spec.shape is not None and rank is not None and len(spec.shape) != rank:
        nodes += _reshaped(found, f"{name}__shaped", [-1, *(abs(d) for d in spec.shape[1:])])
        found = f"{name}__shaped"
    # Always: what a converter declares of its outputs is not always what they are.
    nodes.append(helper.make_node("Cast", [found], [name], to=ELEMENTS[spec.dtype]))
    return nodes


def _reshaped(name: str, made: str, shape: Sequence[int]) -> list[Any]:
    value = numpy_helper.from_array(np.array(shape, np.int64), f"{made}_shape")
    return [
        helper.make_node("Constant", [], [f"{made}_shape"], value=value),
        helper.make_node("Reshape", [name, f"{made}_shape"], [made]),
    ]


def _type(info: ValueInfoProto) -> tuple[int, int | None]:
    tensor = info.type.tensor_type
    rank = len(tensor.shape.dim) if tensor.HasField("shape") else None
    return tensor.elem_type, rank


def _info(spec: Spec) -> ValueInfoProto:
    shape = None
    if spec.shape is not None:
        shape = [
            size if size != -1 else "rows" if axis == 0 else f"{spec.name}_{axis}"
            for axis, size in enumerate(spec.shape)
        ]
    return helper.make_tensor_value_info(spec.name, ELEMENTS[spec.dtype], shape)
