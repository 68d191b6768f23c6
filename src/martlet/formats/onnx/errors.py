"""What onnxruntime's errors are in our tree, and where in a file they lie."""

from __future__ import annotations

import re
from pathlib import Path

from martlet.errors import InvalidInput, ServableFailed, UnsupportedModel
from martlet.formats.onnx.file import OnnxFile, is_ort

# my.ops:Frob(1); No Op registered for Frob
_OPERATOR = re.compile(r"(?:([\w.]+):)?\b(\w+)\(-?\d+\)|No Op registered for (\w+)")
_NO_MEMORY = ("bad_alloc", "bfcarena", "allocate")
# What onnxruntime says before it comes to the point: its code, the path again, a place in its C++.
_PREAMBLE = re.compile(
    r"\[ONNXRuntimeError\] : \d+ : \w+ : |Load model from .*? failed:|Fatal error: "
    r"|/onnxruntime_src/\S+:\d+ [^(]*\((?:[^()]|\([^()]*\))*\)(?: const)?(?: \[with [^\]]*\])? "
)


def refused(path: Path, exc: Exception) -> UnsupportedModel:
    """Return that the file at *path* does not load, for what *exc* says, and where it lies."""
    text = _point(exc)
    return UnsupportedModel(f"{path} is not an ONNX model that loads: {text}{_where(path, text)}")


def _point(exc: Exception) -> str:
    return _PREAMBLE.sub("", str(exc)).strip()


def _where(path: Path, text: str) -> str:
    """Return which node is meant where onnxruntime names its operator alone; "" where none is."""
    match = _OPERATOR.search(text)
    if match is None or is_ort(path):
        return ""
    domain, operator = match[1] or "", match[2] or match[3]
    for place, node in OnnxFile.read(path).every_node():
        if node.op_type == operator and node.domain in (domain, "ai.onnx"):
            return f" ({place}, {node.name!r})"
    return ""


def translated(exc: Exception) -> InvalidInput | ServableFailed:
    """Return what an error of onnxruntime, as it runs a model, is in our tree."""
    if isinstance(exc, InvalidInput):
        return exc
    text = str(exc)
    # The graph was checked when it was loaded: what an operator of it refuses is what came (an
    # index outside a table, a width that fits no weight), unless memory ran out.
    refused = "while running" in text and not any(each in text.lower() for each in _NO_MEMORY)
    if type(exc).__name__ == "InvalidArgument" or refused:
        return InvalidInput(f"the model refuses these values: {_point(exc)}")
    return ServableFailed(f"onnxruntime failed: {_point(exc)}")
