"""The reply to an infer request: JSON, followed by the tensors that were asked for in binary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import orjson

from martlet.errors import InvalidInput
from martlet.tensors import DType, Spec, Tensor
from martlet.wire import elements
from martlet.wire.openinference.datatypes import NAMES, name_of, to_raw
from martlet.wire.openinference.request import InferRequest, Wanted
from martlet.wire.tfserving import floats

_NUMPY = orjson.OPT_SERIALIZE_NUMPY


def chosen(request: InferRequest, there: Sequence[str]) -> Sequence[Wanted]:
    """
    Return the outputs that *request* wants of those that are *there*.

    Raises:
        InvalidInput: it wants one that is not.
    """
    for each in request.outputs:
        if each.name not in there:
            known = ", ".join(map(repr, there))
            raise InvalidInput(f"no output is named {each.name!r}; the outputs are {known}")
    return request.outputs or [Wanted(name) for name in there]


def write(
    request: InferRequest, model: str, version: str, outputs: Mapping[str, Tensor]
) -> tuple[bytes, int | None]:
    """
    Return the body, and the length of its JSON where binary tensors follow it.

    Args:
        version: As the client is told it; "" leaves it out.

    Raises:
        InvalidInput: an output has no form in JSON, or in this protocol.
    """
    head = {"model_name": model}
    if version:
        head["model_version"] = version
    if request.id is not None:
        head["id"] = request.id
    tensors, raws = [], []
    for wanted in chosen(request, list(outputs)):
        array = outputs[wanted.name]
        binary = request.binary if wanted.binary is None else wanted.binary
        start = orjson.dumps(
            {
                "name": wanted.name,
                "datatype": name_of(wanted.name, array),
                "shape": list(array.shape),
            }
        )[:-1]
        if binary:
            raws.append(to_raw(array))
            tensors.append(start + b',"parameters":{"binary_data_size":%d}}' % len(raws[-1]))
        else:
            tensors.append(start + b',"data":%b}' % _data(wanted.name, array))
    text = orjson.dumps(head)[:-1] + b',"outputs":[%b]}' % b",".join(tensors)
    if not raws:
        return text, None
    return b"".join([text, *raws]), len(text)


Parts = tuple[bytes, bytes, bytes, bytes]
"""What stands before what is said of the request, before the output's shape, before its numbers,
and behind them."""

_KINDS = {DType.FLOAT32: b"f", DType.FLOAT64: b"d"}


def parts(model: str, version: str, output: Spec) -> tuple[Parts, Parts, bytes] | None:
    """
    Return what ``write`` writes around the shape and the numbers of the only *output*.

    Returns:
        Of the reply in JSON; of the one in binary, where the numbers' size in bytes stands in
        their place; and the format of the buffer that holds them. None: they are no floats.
    """
    kind = _KINDS.get(output.dtype)
    if kind is None:
        return None
    begin = orjson.dumps({"model_name": model, "model_version": version})[:-1]
    about = orjson.dumps({"name": output.name, "datatype": NAMES[output.dtype]})[:-1]
    shape = b',"outputs":[%b,"shape":' % about
    in_json = begin, shape, b',"data":', b"}]}"
    in_binary = begin, shape, b',"parameters":{"binary_data_size":', b"}}]}"
    return in_json, in_binary, kind


def _data(name: str, array: Tensor) -> bytes:
    """Return *array* as a flat JSON list."""
    flat = elements.in_one_piece(array).ravel()
    dtype = DType.of(flat.dtype)
    if dtype is DType.STRING:
        return orjson.dumps([_text(name, each) for each in flat.tolist()])
    if dtype is DType.FLOAT16:
        flat = flat.astype(np.float32)
    if dtype.is_float and not np.isfinite(flat).all():
        # JSON has no word for these; the tokens are those that Python's parser takes.
        return b"[%b]" % b",".join(floats.texts(flat).tolist())
    return orjson.dumps(flat, option=_NUMPY)


def _text(name: str, value: object) -> str | None:
    if not isinstance(value, bytes):
        return None if value is None else str(value)
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidInput(
            f"output {name!r} holds bytes that are not UTF-8, which JSON cannot carry: ask for "
            "it with the parameter binary_data"
        ) from None
