"""TorchScript and torch.export to ONNX, by PyTorch's own exporters."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto

from martlet.convert.to_onnx.fit import fitted
from martlet.convert.to_onnx.task import Task
from martlet.errors import UnsupportedModel
from martlet.formats import LoadOptions
from martlet.formats.torch.script import TorchScriptServable

_OPSET = 17


def from_torchscript(task: Task) -> ModelProto:
    """
    Convert a scripted or traced module, by the exporter that reads TorchScript.

    The newer exporter follows Python code, of which such a file has none.
    """
    import torch

    TorchScriptServable(task.path, LoadOptions()).close()  # refuses what reaches outside
    with task.path.open("rb") as file:
        read: Any = torch.jit.load
        module = read(file, map_location="cpu").eval()
    names, outputs = list(task.signature.inputs), list(task.signature.outputs)
    given = tuple(torch.tensor(task.sample[name]) for name in names)
    # By number: the signature may use names that the graph has for something else.
    own = [f"in_{at}" for at in range(len(names))], [f"out_{at}" for at in range(len(outputs))]
    free = {
        name: {axis: f"{name}_{axis}" for axis in range(value.dim())}
        for name, value in zip(own[0], given, strict=True)
    }
    with tempfile.TemporaryDirectory(prefix="martlet-") as scratch:
        file_name = str(Path(scratch) / "model.onnx")
        torch.onnx.export(
            module,
            given,
            file_name,
            input_names=own[0],
            output_names=own[1],
            dynamic_axes={**_free_of(task, names, own[0], free)},
            opset_version=_OPSET,
            dynamo=False,
        )
        model = onnx.load(file_name)
    # What the module never uses is not an input of the graph.
    kept = {each.name for each in model.graph.input}
    inputs = {name: ours for name, ours in zip(names, own[0], strict=True) if ours in kept}
    return fitted(model, task.signature, inputs, dict(zip(outputs, own[1], strict=True)))


def _free_of(
    task: Task, names: list[str], own: list[str], free: dict[str, dict[int, str]]
) -> dict[str, dict[int, str]]:
    """Leave out the axes whose size the signature fixes."""
    found = {}
    for name, ours in zip(names, own, strict=True):
        shape = task.signature.inputs[name].shape
        fixed = [axis for axis, size in enumerate(shape or ()) if size != -1]
        found[ours] = {axis: label for axis, label in free[ours].items() if axis not in fixed}
    return found


def from_export(task: Task) -> ModelProto:
    """Convert an exported program, by the exporter that reads those."""
    import torch

    from martlet.formats.torch.export import check

    if not task.trusted:
        check(task.path)
    program = torch.onnx.export(torch.export.load(task.path), dynamo=True, verbose=False)
    if program is None:
        raise UnsupportedModel("PyTorch's exporter gave nothing")
    model, signature = program.model_proto, task.signature
    # By their order, which is the module's own.
    own = [each.name for each in model.graph.input]
    inputs = dict(zip(signature.inputs, own, strict=True))
    outputs = dict(zip(signature.outputs, [each.name for each in model.graph.output], strict=True))
    return fitted(model, signature, inputs, outputs)
