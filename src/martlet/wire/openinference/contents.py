"""gRPC's ``ModelInferRequest`` and ``ModelInferResponse``: raw bytes, or typed contents.

Source: kserve/open-inference-protocol, open_inference_grpc.proto.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from martlet.errors import InvalidInput
from martlet.tensors import DType, Tensor
from martlet.wire.elements import as_bytes, strings
from martlet.wire.openinference.datatypes import (
    NAMES,
    dtype_of,
    elements,
    from_raw,
    name_of,
    to_raw,
)
from martlet.wire.openinference.request import (
    SIGNATURE_NAME,
    InferRequest,
    Wanted,
    named_signature,
    refuse_unsupported,
)
from martlet.wire.openinference.response import chosen
from martlet.wire.protos import message

ModelInferRequest = message("inference.ModelInferRequest")
ModelInferResponse = message("inference.ModelInferResponse")

_FIELDS: dict[DType, str] = {
    DType.BOOL: "bool_contents",
    DType.INT8: "int_contents",
    DType.INT16: "int_contents",
    DType.INT32: "int_contents",
    DType.INT64: "int64_contents",
    DType.UINT8: "uint_contents",
    DType.UINT16: "uint_contents",
    DType.UINT32: "uint_contents",
    DType.UINT64: "uint64_contents",
    DType.FLOAT32: "fp32_contents",
    DType.FLOAT64: "fp64_contents",
    DType.STRING: "bytes_contents",
}
_WIDE = {"int_contents": np.int32, "uint_contents": np.uint32}


def read(request: Any) -> InferRequest:
    """
    Return what a ``ModelInferRequest`` asks.

    Raises:
        InvalidInput: it is malformed, or contradicts itself.
        Unimplemented: it asks for an extension or a type that we do not have.
    """
    _check_parameters(request.parameters, "the request")
    signature_name = None
    if SIGNATURE_NAME in request.parameters:
        signature_name = named_signature(request.parameters[SIGNATURE_NAME].string_param)
    if not request.inputs:
        raise InvalidInput("'inputs' must hold at least one tensor")
    raws = list(request.raw_input_contents)
    typed = any(each.HasField("contents") for each in request.inputs)
    if raws and typed:
        raise InvalidInput(
            "the request has raw_input_contents and typed contents; send one of them"
        )
    if raws and len(raws) != len(request.inputs):
        raise InvalidInput(
            f"the request has {len(raws)} raw_input_contents for {len(request.inputs)} inputs"
        )
    inputs: dict[str, Tensor] = {}
    for index, each in enumerate(request.inputs):
        if each.name in inputs:
            raise InvalidInput(f"input {each.name!r} is given twice")
        _check_parameters(each.parameters, f"input {each.name!r}")
        dtype, shape = dtype_of(each.name, each.datatype), list(each.shape)
        inputs[each.name] = (
            from_raw(each.name, raws[index], dtype, shape)
            if raws
            else _from_typed(each.name, each.contents, dtype, shape)
        )
    outputs: dict[str, Wanted] = {}
    for each in request.outputs:
        if each.name in outputs:
            raise InvalidInput(f"output {each.name!r} is asked for twice")
        _check_parameters(each.parameters, f"output {each.name!r}")
        outputs[each.name] = Wanted(each.name)
    return InferRequest(
        inputs,
        tuple(outputs.values()),
        request.id or None,
        raw=bool(raws) or not typed,
        signature_name=signature_name,
    )


def _check_parameters(parameters: Any, whose: str) -> None:
    for name in parameters:
        refuse_unsupported(name, whose)


def _from_typed(name: str, contents: Any, dtype: DType, shape: list[int]) -> Tensor:
    count = elements(name, shape)
    field = _FIELDS.get(dtype)
    if field is None:
        raise InvalidInput(f"input {name!r}: {NAMES[dtype]} travels in raw_input_contents alone")
    for given, _ in contents.ListFields():
        if given.name != field:
            raise InvalidInput(f"input {name!r} of {NAMES[dtype]} has {given.name}, not {field}")
    values = getattr(contents, field)
    if len(values) != count:
        raise InvalidInput(
            f"input {name!r} has {len(values)} elements; its shape {shape} needs {count}"
        )
    if dtype is DType.STRING:
        return strings(list(values)).reshape(shape)
    wide = np.array(values, _WIDE.get(field, dtype.numpy))
    found = wide.astype(dtype.numpy, copy=False)
    if field in _WIDE and not np.array_equal(found, wide):
        raise InvalidInput(f"input {name!r} has a number that {NAMES[dtype]} cannot hold")
    return found.reshape(shape)


def write(request: InferRequest, model: str, version: str, outputs: Mapping[str, Tensor]) -> Any:
    """
    Return a ``ModelInferResponse``: raw where the request was, else typed.

    Raises:
        InvalidInput: it wants an output that is not there, or that this protocol cannot carry.
    """
    found = ModelInferResponse(model_name=model, model_version=version, id=request.id or "")
    wanted = [each.name for each in chosen(request, list(outputs))]
    # FP16 has no typed form, and the two forms do not mix in one response.
    raw = request.raw or any(DType.of(outputs[n].dtype) not in _FIELDS for n in wanted)
    for name in wanted:
        array = outputs[name]
        tensor = found.outputs.add(name=name, datatype=name_of(name, array), shape=array.shape)
        if raw:
            found.raw_output_contents.append(to_raw(array))
        else:
            values = array.ravel().tolist()
            if DType.of(array.dtype) is DType.STRING:
                values = [as_bytes(v) for v in values]
            getattr(tensor.contents, _FIELDS[DType.of(array.dtype)]).extend(values)
    return found
