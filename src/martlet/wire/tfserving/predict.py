"""``PredictRequest`` to named tensors, and named tensors to ``PredictResponse``.

Source: tensorflow_serving/servables/tensorflow/predict_util.cc (PreProcessPrediction,
PostProcessPredictionResult) and tensorflow/cc/saved_model/util.cc (GetInputValues).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from martlet.errors import InvalidInput
from martlet.tensors import DType, Signature, Tensor
from martlet.wire.tfserving import messages, tensorproto
from martlet.wire.tfserving.dtypes import NAMES


def inputs(request: Any, signature: Signature) -> dict[str, Tensor]:
    """
    Return the tensors of *request*, which are those of *signature*.

    Raises:
        InvalidInput: in upstream's words: one is missing, unknown, broken or of another dtype.
    """
    given = request.inputs
    if len(given) != len(signature.inputs) or not all(map(given.__contains__, signature.inputs)):
        _check_names(set(given), signature)
    found: dict[str, Tensor] = {}
    for index, (name, spec) in enumerate(signature.inputs.items()):
        if name not in given:
            continue
        tensor = tensorproto.decode(given[name], name)
        dtype = DType.of(tensor.dtype)
        if dtype is not spec.dtype:
            raise InvalidInput(
                f"Expects arg[{index}] to be {NAMES[spec.dtype]} but {NAMES[dtype]} is provided"
            )
        found[name] = tensor
    return found


def _check_names(names: set[str], signature: Signature) -> None:
    required = {name for name, spec in signature.inputs.items() if spec.required}
    extra, missing = names - signature.inputs.keys(), required - names
    if len(names) > len(signature.inputs) or len(names) < len(required):
        raise InvalidInput(
            f"input size does not match signature: {len(names)}!={len(signature.inputs)} "
            f"len({_braces(names)}) != len({_braces(signature.inputs)}). "
            f"Sent extra: {_braces(extra)}. Missing but required: {_braces(missing)}."
        )
    for name in signature.inputs:
        if name in missing or (extra and name not in names):
            raise InvalidInput(
                f"Signature input alias: {name}(feed name: {name}:0) not found in request and no "
                f"default value provided. Inputs expected to be in the set {_braces(names)}."
            )


def wanted(request: Any, signature: Signature) -> list[str]:
    """
    Return the outputs that *request* asks for: those of its filter, or all.

    Raises:
        InvalidInput: the filter names one twice, or one that there is not.
    """
    chosen: list[str] = []
    for name in request.output_filter:
        if name not in signature.outputs:
            raise InvalidInput(
                f"output tensor alias not found in signature: {name} Outputs expected to be in "
                f"the set {_braces(signature.outputs)}."
            )
        if name in chosen:
            raise InvalidInput(f"duplicate output tensor alias: {name}")
        chosen.append(name)
    return chosen or list(signature.outputs)


def response(outputs: Mapping[str, Tensor], chosen: Iterable[str], as_content: bool) -> Any:
    """Return a ``PredictResponse`` with the *chosen* of *outputs*."""
    made = messages.PredictResponse()
    for name in chosen:
        tensorproto.encode(outputs[name], made.outputs[name], as_content)
    return made


def _braces(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
