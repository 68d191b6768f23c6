"""The ways to make a net smaller, each from an ONNX model to an ONNX model."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto

from martlet.convert.shrinking import pruning
from martlet.errors import InvalidInput, MartletError, UnsupportedModel
from martlet.tensors import Tensors

KINDS = {
    "int8": "weights in 8 bits, activations scaled anew in each call",
    "int8-static": "weights and activations in 8 bits, by scales measured beforehand",
    "fp16": "weights and arithmetic in 16 bits",
    "prune-weights": "the smallest weights set to zero",
    "prune-units": "the units that pass on least left out",
}
_SHARED = ("prune-weights", "prune-units")


@dataclass(frozen=True, slots=True)
class Method:
    """
    One way: a kind of KINDS, and for pruning the share that goes.

    Written ``int8``, ``prune-units:0.25``.
    """

    kind: str
    share: float = 0.0

    @classmethod
    def parse(cls, text: str) -> Method:
        """
        Return the method that *text* names.

        Raises:
            InvalidInput: there is none such; the text lists those there are.
        """
        kind, colon, share = text.partition(":")
        if kind not in KINDS or bool(colon) != (kind in _SHARED):
            known = ", ".join(f"{k}:SHARE" if k in _SHARED else k for k in KINDS)
            raise InvalidInput(f"{text!r} is no way to shrink a model; there are: {known}")
        try:
            found = cls(kind, float(share or 0))
        except ValueError:
            raise InvalidInput(f"{text!r}: {share!r} is not a share between 0 and 1") from None
        if colon and not 0 < found.share < 1:
            raise InvalidInput(f"{text!r}: a share is between 0 and 1")
        return found

    def __str__(self) -> str:
        return f"{self.kind}:{self.share:g}" if self.kind in _SHARED else self.kind


USUAL = tuple(
    map(
        Method.parse,
        ("int8", "int8-static", "fp16", "prune-weights:0.8", "prune-units:0.25", "prune-units:0.5"),
    )
)


def shrunk(model: ModelProto, method: Method, calibration: Sequence[Tensors]) -> ModelProto:
    """
    Return *model*, smaller; names, dtypes and shapes of inputs and outputs stay.

    Args:
        calibration: Inputs as they come in practice, some hundred rows.

    Raises:
        UnsupportedModel: this model cannot be shrunk so.
    """
    try:
        match method.kind:
            case "int8":
                return _int8(model)
            case "int8-static":
                return _int8_static(model, calibration)
            case "fp16":
                return _fp16(model)
            case "prune-weights":
                return pruning.without_weights(model, method.share)
            case _:
                return pruning.without_units(model, method.share, calibration)
    except MartletError:
        raise
    except Exception as exc:  # the libraries' own errors share no base class
        raise UnsupportedModel(f"{method} does not work on this model: {exc}") from exc


def _int8(model: ModelProto) -> ModelProto:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    return _through_files(
        model,
        lambda source, target: quantize_dynamic(
            source, target, weight_type=QuantType.QInt8, per_channel=True, op_types_to_quantize=_OPS
        ),
    )


# Tables stay as they are here: their rows are quantised where they live (stores/embeddings.py).
_OPS = ["MatMul", "Gemm", "Attention", "LSTM"]


def _int8_static(model: ModelProto, calibration: Sequence[Tensors]) -> ModelProto:
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._left = iter(calibration)

        def get_next(self) -> Any:
            return next(map(dict, self._left), None)

    if not calibration:
        raise UnsupportedModel("int8-static needs rows to measure the activations on")
    return _through_files(
        model,
        lambda source, target: quantize_static(
            source,
            target,
            Reader(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=["MatMul", "Gemm"],
        ),
    )


def _fp16(model: ModelProto) -> ModelProto:
    from onnxruntime.transformers import float16

    copy = ModelProto()
    copy.CopyFrom(model)
    found = float16.convert_float_to_float16(copy, keep_io_types=True)
    assert isinstance(found, ModelProto)
    return found


def _through_files(model: ModelProto, make: Any) -> ModelProto:
    with tempfile.TemporaryDirectory(prefix="martlet-") as folder:
        source, target = Path(folder) / "model.onnx", Path(folder) / "shrunk.onnx"
        onnx.save(model, source)
        root = logging.getLogger()
        level, root.level = root.level, logging.ERROR  # it logs advice there at every call
        try:
            make(source, target)
        finally:
            root.setLevel(level)
        return onnx.load(target)
