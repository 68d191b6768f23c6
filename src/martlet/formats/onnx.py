"""ONNX, run by onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from martlet.errors import InvalidInput, ServableFailed, UnsupportedModel
from martlet.formats import Format, LoadOptions
from martlet.servable import DEFAULT_SIGNATURE
from martlet.tensors import DType, Signature, Spec, Tensor, Tensors

_DTYPES: dict[str, DType] = {
    "tensor(bool)": DType.BOOL,
    "tensor(int8)": DType.INT8,
    "tensor(int16)": DType.INT16,
    "tensor(int32)": DType.INT32,
    "tensor(int64)": DType.INT64,
    "tensor(uint8)": DType.UINT8,
    "tensor(uint16)": DType.UINT16,
    "tensor(uint32)": DType.UINT32,
    "tensor(uint64)": DType.UINT64,
    "tensor(float16)": DType.FLOAT16,
    "tensor(float)": DType.FLOAT32,
    "tensor(double)": DType.FLOAT64,
    "tensor(string)": DType.STRING,
}


class OnnxServable:
    """One onnxruntime session, one thread a call."""

    def __init__(self, path: Path, options: LoadOptions) -> None:
        import onnxruntime as ort

        settings = ort.SessionOptions()
        settings.intra_op_num_threads = options.threads
        settings.inter_op_num_threads = 1
        # A worker shares its core with the socket loop: a spinning pool would take it away.
        settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
        settings.log_severity_level = 4
        try:
            self._session = ort.InferenceSession(
                str(path), settings, providers=["CPUExecutionProvider"]
            )
        except Exception as exc:  # onnxruntime's errors share no base class
            raise UnsupportedModel(f"{path} is not an ONNX model that loads: {exc}") from exc
        signature = Signature.of(
            [_spec(path, node) for node in self._session.get_inputs()],
            [_spec(path, node) for node in self._session.get_outputs()],
        )
        self.signatures: Mapping[str, Signature] = {DEFAULT_SIGNATURE: signature}
        self._outputs = list(signature.outputs)
        self._strings = [n for n, s in signature.inputs.items() if s.dtype is DType.STRING]

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        """Run the graph. Shapes and dtypes as the file declares them."""
        feed: dict[str, Any] = dict(inputs)
        for name in self._strings:
            feed[name] = _text(name, inputs[name])
        try:
            found = self._session.run(self._outputs, feed)
        except Exception as exc:  # onnxruntime's errors share no base class
            raise _translated(exc) from exc
        return dict(zip(self._outputs, found, strict=True))

    def close(self) -> None:
        """Free the session and its weights."""
        del self._session


def _spec(path: Path, node: Any) -> Spec:
    if node.type not in _DTYPES:
        raise UnsupportedModel(f"{path}: {node.name!r} is a {node.type}, which is not supported")
    shape = tuple(size if isinstance(size, int) else -1 for size in node.shape)
    return Spec(node.name, _DTYPES[node.type], shape)


def _text(name: str, values: Tensor) -> Tensor:
    try:
        flat = [v.decode() if isinstance(v, bytes) else v for v in values.ravel().tolist()]
    except UnicodeDecodeError as exc:
        raise InvalidInput(f"input {name!r} holds bytes that are not UTF-8: {exc}") from None
    return np.array(flat, dtype=object).reshape(values.shape)


def _translated(exc: Exception) -> InvalidInput | ServableFailed:
    text = str(exc)
    # onnxruntime says INVALID_ARGUMENT for what the caller sent; an index outside a table
    # is found by the operator, and comes as a failure of the run.
    if type(exc).__name__ == "InvalidArgument" or "out of data bounds" in text:
        return InvalidInput(f"the model refuses these values: {text}")
    return ServableFailed(f"onnxruntime failed: {text}")


def _sniff(path: Path) -> bool:
    # A ModelProto begins with field 1, ir_version (a small varint), then field 2
    # (producer_name), 7 (graph) or 8 (opset_import). https://onnx.ai/onnx/repo-docs/IR.html
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(3)
    return (
        len(head) == 3
        and head[0] == 0x08
        and 1 <= head[1] <= 32
        and head[2] in b"\x12\x1a\x22\x2a\x32\x3a\x42"
    )


FORMAT = Format(
    name="onnx",
    suffixes=(".onnx",),
    sniff=_sniff,
    load=OnnxServable,
)
