"""TorchScript, run by PyTorch."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from martlet.errors import InvalidInput, ServableFailed, UnsupportedModel
from martlet.formats import Format, LoadOptions, archives
from martlet.servable import DEFAULT_SIGNATURE
from martlet.tensors import DType, Shape, Signature, Spec, Tensor, Tensors

_UNSAFE = ("aten::from_file", "aten::save", "prim::PythonOp")

_CONVOLUTIONS = ("aten::_convolution", "aten::conv2d", "aten::conv1d")

# What these give has the elements of their first input, in another shape or order.
_SAME_ELEMENTS = frozenset(
    f"aten::{name}"
    for name in (
        *("reshape", "view", "flatten", "squeeze", "unsqueeze", "contiguous", "permute"),
        *("transpose", "t", "select", "slice", "expand", "clone", "detach", "dropout"),
    )
)


_ELEMENTWISE = frozenset(
    f"aten::{name}"
    for name in (
        *("relu", "sigmoid", "tanh", "exp", "log1p", "mul", "add", "sub", "div", "clamp", "abs"),
        *("layer_norm", "batch_norm", "dropout", "gelu", "silu", "leaky_relu", "nan_to_num"),
    )
)


class TorchScriptServable:
    """
    One scripted or traced module, frozen.

    A TorchScript file has the inputs' names but neither dtypes nor shapes: they are read off
    the operators that take them (a table looked into makes int64 ids, a layer's weight gives
    dtype and width), and are float32 of any shape where no operator tells. Outputs: ``output``,
    ``output_0`` and so on of a tuple, or a dictionary's own keys.
    """

    def __init__(self, path: Path, options: LoadOptions) -> None:
        import torch

        self._torch = torch
        archives.check(path)
        if not _is_script(archives.members(path)):
            raise UnsupportedModel(
                f"{path} holds weights without a graph (a state_dict or a pickled module): save "
                "torch.jit.script(model), torch.export or ONNX instead"
            )
        try:
            # Not by path: torch would map the file, and a file that changes later would crash us.
            with path.open("rb") as file:
                read: Any = torch.jit.load
                module = read(file, map_location="cpu").eval()
            self._module = _frozen(torch, module)
            graph = self._module.inlined_graph
        except (RuntimeError, ValueError, TypeError, OSError, IndexError) as exc:
            raise UnsupportedModel(f"{path} is not a TorchScript model that loads: {exc}") from exc
        _refuse_unsafe(path, graph)
        inputs = _inputs(path, graph)
        self._names = [spec.name for spec in inputs]
        # A module that writes into its inputs must not write into the caller's.
        self._copies = any(node.kind().endswith("_") for node in _nodes(graph))
        torch.set_num_threads(options.threads)  # PyTorch has one number for the process
        outputs = self._probe(path, inputs, graph)
        self.signatures: Mapping[str, Signature] = {
            DEFAULT_SIGNATURE: Signature.of(inputs, outputs)
        }

    def _probe(self, path: Path, inputs: list[Spec], graph: Any) -> list[Spec]:
        """Say what the outputs are from a run on zeros; from the graph where no zeros fit."""
        for size, unknown in itertools.product((2, 8, 32), ((), (1,))):
            sample = {
                s.name: np.zeros(
                    [size if d == -1 else d for d in s.shape or (size, *unknown)], s.dtype.numpy
                )
                for s in inputs
            }
            try:
                found = self.predict(sample)
            except (InvalidInput, ServableFailed):
                continue
            return [_output(name, value, size) for name, value in found.items()]
        return [Spec(name, DType.FLOAT32, None) for name in _output_names(path, graph)]

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        """Run the module."""
        torch = self._torch
        try:
            with torch.inference_mode():
                given = [tensor(torch, inputs[name], self._copies) for name in self._names]
                found = self._module(*given)
                return named(found)
        except IndexError as exc:
            raise InvalidInput(f"the model refuses these values: {exc}") from exc
        except RuntimeError as exc:
            raise translated(exc) from exc

    def close(self) -> None:
        """Free the weights."""
        del self._module


def tensor(torch: Any, array: Tensor, copies: bool = False) -> Any:
    """Return *array* as a tensor: over the same memory where that may be, else a copy."""
    if copies or not array.flags.writeable:
        return torch.tensor(array)
    try:
        return torch.from_numpy(array)
    except ValueError:  # of strides that PyTorch has not
        return torch.tensor(array)


def named(found: Any) -> dict[str, Tensor]:
    """Return what a module gave as arrays by name."""
    if isinstance(found, dict):
        return {str(name): value.numpy() for name, value in found.items()}
    if isinstance(found, tuple | list):
        fields = getattr(found, "_fields", [f"output_{i}" for i in range(len(found))])
        return {name: value.numpy() for name, value in zip(fields, found, strict=True)}
    return {"output": found.numpy()}


def translated(exc: RuntimeError) -> InvalidInput | ServableFailed:
    text = str(exc)
    last = text.strip().splitlines()[-1] if text.strip() else "RuntimeError"
    marks = ("out of range", "out of bounds", "IndexError", "must match", "cannot be multiplied")
    if any(mark in text for mark in marks):
        return InvalidInput(f"the model refuses these values: {last}")
    return ServableFailed(f"PyTorch failed: {last}")


def _frozen(torch: Any, module: Any) -> Any:
    try:
        return torch.jit.freeze(module)
    except RuntimeError:  # a module with attributes that change cannot be frozen
        return module


def _refuse_unsafe(path: Path, graph: Any) -> None:
    for node in _nodes(graph):
        if node.kind() in _UNSAFE:
            raise UnsupportedModel(f"{path} uses {node.kind()}, which reaches outside the model")


def _nodes(block: Any) -> Iterator[Any]:
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


def _inputs(path: Path, graph: Any) -> list[Spec]:
    given = list(graph.inputs())[1:]
    found = []
    for value in given:
        if value.type().kind() != "TensorType":
            raise UnsupportedModel(f"{path}: input {value.debugName()!r} is a {value.type()}")
        # Saving adds a number to each name (user.1): what stands before it was the argument's.
        name = value.debugName().rpartition(".")[0] or value.debugName()
        dtype, shape = _told(value, 0)
        found.append(Spec(name, dtype, shape, enforced=False))
    return found


def _told(value: Any, depth: int) -> tuple[DType, Shape]:
    """Return the dtype and shape that the operators which take *value* ask of it."""
    for use in value.uses() if depth < 12 else ():
        node, at = use.user, use.offset
        kind, inputs = node.kind(), list(node.inputs())
        weight = _constant(inputs[1]) if len(inputs) > 1 else None
        if kind in ("aten::embedding", "aten::embedding_bag") and at == 1:
            return DType.INT64, None
        if kind == "aten::index_select" and at == 2:
            return DType.INT64, None
        if kind in ("aten::linear", "aten::matmul", "aten::mm") and at == 0 and weight is not None:
            width = weight.shape[-1 if kind == "aten::linear" else -2] if weight.dim() > 1 else -1
            return _dtype(weight), (-1, width) if weight.dim() == 2 else None
        if kind == "aten::addmm" and at == 1 and (other := _constant(inputs[2])) is not None:
            return _dtype(other), (-1, other.shape[0])
        if kind in _CONVOLUTIONS and at == 0 and weight is not None:
            return _dtype(weight), (-1, weight.shape[1], *[-1] * (weight.dim() - 2))
        output = next(node.outputs(), None)
        if output is None or kind == "aten::to":  # which takes any dtype
            continue
        if kind in _ELEMENTWISE:
            return _told(output, depth + 1)
        if kind == "prim::ListConstruct":
            return _told_of_part(value, inputs, output, depth)
        if at == 0 and kind in _SAME_ELEMENTS:
            dtype, _ = _told(output, depth + 1)
            if dtype is not DType.FLOAT32:
                return dtype, None
    return DType.FLOAT32, None


def _told_of_part(value: Any, parts: list[Any], whole: Any, depth: int) -> tuple[DType, Shape]:
    """Return what is asked of one part of a concatenation: the width that the others leave."""
    joined = [use.user for use in whole.uses() if use.user.kind() == "aten::cat"]
    if len(joined) != 1:
        return DType.FLOAT32, None
    dtype, shape = _told(next(joined[0].outputs()), depth + 1)
    others = [_width(part) for part in parts if part.debugName() != value.debugName()]
    if shape is None or len(shape) != 2 or -1 in (*others, shape[1]):
        return dtype, None
    return dtype, (-1, shape[1] - sum(others))


def _width(value: Any) -> int:
    """Return the size of the last axis of what an operator gives; -1: it is not told."""
    node = value.node()
    inputs = list(node.inputs())
    kind = node.kind()
    if kind == "aten::embedding" and (weight := _constant(inputs[0])) is not None:
        return int(weight.shape[-1])
    if kind == "aten::linear" and (weight := _constant(inputs[1])) is not None:
        return int(weight.shape[0])
    return _width(inputs[0]) if kind in _ELEMENTWISE else -1


def _output_names(path: Path, graph: Any) -> list[str]:
    (found,) = graph.outputs()
    node, kind = found.node(), found.type().kind()
    if kind == "TensorType":
        return ["output"]
    if kind == "TupleType" and node.kind() == "prim::TupleConstruct":
        return [f"output_{i}" for i, _ in enumerate(node.inputs())]
    if kind == "DictType" and node.kind() == "prim::DictConstruct":
        keys = [value.node() for value in list(node.inputs())[::2]]
        if all(key.kind() == "prim::Constant" and key.kindOf("value") == "s" for key in keys):
            return [key.s("value") for key in keys]
    raise UnsupportedModel(f"{path} gives a {found.type()} whose parts are not known: use ONNX")


def _constant(value: Any) -> Any:
    node = value.node()
    if node.kind() == "aten::t":
        inner = _constant(next(node.inputs()))
        return None if inner is None else inner.t()
    known = node.kind() == "prim::Constant" and node.hasAttribute("value")
    return node.t("value") if known and node.kindOf("value") == "t" else None


def _dtype(weight: Any) -> DType:
    name = str(weight.dtype).removeprefix("torch.")
    try:
        return DType(name)
    except ValueError:
        return DType.FLOAT32


def _output(name: str, value: Tensor, rows: int) -> Spec:
    shape: Shape = tuple(-1 if i == 0 and d == rows else d for i, d in enumerate(value.shape))
    return Spec(name, DType.of(value.dtype), shape, enforced=False)


def _is_script(names: list[str]) -> bool:
    inner = [name.partition("/")[2] for name in names]
    return any(name.startswith("code/") for name in inner) and "constants.pkl" in inner


def _sniff(path: Path) -> bool:
    names = archives.members(path)
    inner = {name.partition("/")[2] for name in names}
    return _is_script(names) or ("data.pkl" in inner and "archive_format" not in inner)


FORMAT = Format(
    name="torchscript",
    suffixes=(".pt", ".pth", ".ts"),
    sniff=_sniff,
    load=TorchScriptServable,
    extra="torch",
)
