"""The client's side of the protocol: tensors to an infer request, and a reply to tensors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
from numpy.typing import ArrayLike

from martlet.errors import InvalidInput, ServableFailed, brief
from martlet.tensors import DType, Tensor
from martlet.wire.openinference.datatypes import dtype_of, from_raw, name_of, to_raw
from martlet.wire.openinference.request import SIGNATURE_NAME


def arrays(inputs: Mapping[str, ArrayLike]) -> dict[str, Tensor]:
    """
    Return *inputs* as arrays.

    Raises:
        InvalidInput: one is ragged, or of a type that no tensor has.
    """
    found = {}
    for name, value in inputs.items():
        try:
            array = np.asarray(value)
        except ValueError as exc:
            raise InvalidInput(f"input {name!r} is not an array: {exc}") from None
        found[name] = array.astype(object) if array.dtype.kind in "SU" else array
    return found


def write(inputs: Mapping[str, Tensor], signature_name: str | None = None) -> tuple[bytes, int]:
    """Return the body of an infer request, all binary both ways, and the length of its JSON."""
    tensors, raws = [], []
    for name, array in inputs.items():
        raws.append(to_raw(array))
        tensors.append(
            {
                "name": name,
                "datatype": name_of(name, array),
                "shape": list(array.shape),
                "parameters": {"binary_data_size": len(raws[-1])},
            }
        )
    parameters: dict[str, Any] = {"binary_data_output": True}
    if signature_name is not None:
        parameters[SIGNATURE_NAME] = signature_name
    text = orjson.dumps({"inputs": tensors, "parameters": parameters})
    return b"".join([text, *raws]), len(text)


def read(body: bytes, header_length: str | None) -> tuple[int, dict[str, Tensor]]:
    """
    Return the version that answered, 0 where the server does not say, and its outputs.

    Raises:
        ServableFailed: the reply is not the protocol's.
    """
    length = len(body) if header_length is None else int(header_length)
    try:
        document = orjson.loads(body[:length])
        rest = memoryview(body)[length:]
        outputs: dict[str, Tensor] = {}
        for each in document["outputs"]:
            outputs[each["name"]], rest = _tensor(each, rest)
        return _version(document.get("model_version", "")), outputs
    except (orjson.JSONDecodeError, KeyError, TypeError, InvalidInput) as exc:
        raise ServableFailed(f"the server's reply cannot be read: {brief(exc)}") from exc


def _tensor(given: Any, rest: memoryview) -> tuple[Tensor, memoryview]:
    name, shape = given["name"], given["shape"]
    dtype = dtype_of(name, given["datatype"])
    size = given.get("parameters", {}).get("binary_data_size")
    if size is None:
        kind = object if dtype is DType.STRING else dtype.numpy
        return np.array(given["data"], kind).reshape(shape), rest
    return from_raw(name, rest[:size], dtype, shape), rest[size:]


def _version(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() else 0
