"""ONNX, run by onnxruntime."""

from __future__ import annotations

from pathlib import Path

from martlet.formats import Format, LoadOptions
from martlet.formats.onnx.file import ORT_MAGIC
from martlet.servable import Servable


def _load(path: Path, options: LoadOptions) -> Servable:
    from martlet.formats.onnx.servable import OnnxServable

    return OnnxServable(path, options)


def _sniff(path: Path) -> bool:
    # A ModelProto begins with field 1, ir_version (a small varint), then one of those to 8: texts
    # and messages, and model_version, a number. https://onnx.ai/onnx/repo-docs/IR.html
    path = path / "model.onnx" if path.is_dir() else path
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(8)
    begins = head[:1] == b"\x08" and 1 <= head[1] <= 32 if len(head) == 8 else False
    return head[4:] == ORT_MAGIC or (begins and head[2] in b"\x12\x1a\x22\x28\x32\x3a\x42")


FORMAT = Format(name="onnx", suffixes=(".onnx", ".ort"), sniff=_sniff, load=_load)
