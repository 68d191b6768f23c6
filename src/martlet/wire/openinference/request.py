"""The body of an infer request: JSON, or JSON followed by binary tensors.

Strict where the protocol leaves room: what is doubtful is refused, with the tensor's name.

Source: kserve/open-inference-protocol inference_rest.md; triton-inference-server/server
docs/protocol/extension_binary_data.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np
import orjson

from martlet.errors import InvalidInput, Unimplemented
from martlet.tensors import DType, Signature, Spec, Tensor
from martlet.wire import elements
from martlet.wire.openinference.datatypes import NAMES, dtype_of, from_raw
from martlet.wire.openinference.datatypes import elements as count_of

SIGNATURE_NAME = "signature_name"
"""The request's parameter that asks another signature: an extension of ours."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One output that is asked for; *binary* None: as the request says for all."""

    name: str
    binary: bool | None = None


@dataclass(frozen=True, slots=True)
class InferRequest:
    """
    What is asked.

    Args:
        inputs: By name.
        outputs: Those wanted; empty: all.
        id: Echoed; None where none was sent.
        binary: Whether outputs come in binary where they do not say themselves.
        raw: gRPC: whether the tensors came as raw bytes, and go back so.
        timeout_us: After which the caller no longer wants the answer; 0: never.
        signature_name: That of the model's signatures which is asked; None: the one it shows.
    """

    inputs: Mapping[str, Tensor]
    outputs: tuple[Wanted, ...] = ()
    id: str | None = None
    binary: bool = False
    raw: bool = True
    timeout_us: int = 0
    signature_name: str | None = None


def read(
    body: bytes, header_length: bytes | None, signature_of: Callable[[str | None], Signature]
) -> InferRequest:
    """
    Return what *body* asks of a model.

    Args:
        header_length: The Inference-Header-Content-Length header, where one came.
        signature_of: Returns the model's signature of a name, or the one it shows for None.

    Raises:
        InvalidInput: it is malformed, or contradicts itself.
        Unimplemented: it asks for shared memory, classification, or a type we do not have.
    """
    length = len(body)
    if header_length is not None:
        length = _length(header_length, len(body))
        if length == 0 and body:
            return _bare(body, signature_of(None))
    document = _document(body[:length])
    parameters = _parameters(document, "the request")
    signature_name = named_signature(parameters.get(SIGNATURE_NAME))
    signature = signature_of(signature_name)
    tensors = document.get("inputs")
    if type(tensors) is not list or not tensors:
        raise InvalidInput("'inputs' must be a list of at least one tensor")
    binary = memoryview(body)[length:]
    inputs: dict[str, Tensor] = {}
    for each in tensors:
        name = _name(each, "input")
        if name in inputs:
            raise InvalidInput(f"input {name!r} is given twice")
        inputs[name], binary = _tensor(name, each, binary, signature.inputs.get(name))
    if binary:
        raise InvalidInput(f"{len(binary)} bytes follow the last binary tensor")
    return InferRequest(
        inputs,
        _outputs(document.get("outputs")),
        _id(document.get("id")),
        _flag(parameters, "binary_data_output", "the request") or False,
        timeout_us=_timeout(parameters),
        signature_name=signature_name,
    )


def check(inputs: Mapping[str, Tensor], signature: Signature) -> dict[str, Tensor]:
    """
    Return *inputs* as *signature* wants them: by its declared shapes, whoever enforces them.

    Raises:
        InvalidInput: one is missing, unknown, or of the wrong type or shape.
    """
    for name, spec in signature.inputs.items():
        given = inputs.get(name)
        if given is None:
            continue
        boolean = given.dtype == np.bool_
        if boolean is not (spec.dtype is DType.BOOL):
            raise InvalidInput(
                f"input {name!r} is {NAMES[DType.of(given.dtype)]}; {spec} is wanted"
            )
        if not spec.enforced:
            replace(spec, enforced=True).check(given)
    return signature.check(inputs)


def _document(text: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as exc:
        raise InvalidInput(f"the request is not JSON: {exc}") from None
    if type(found) is not dict:
        raise InvalidInput("the request must be a JSON object")
    return found


def _length(header: bytes, size: int) -> int:
    text = header.decode("latin-1").strip()
    if not (text.isascii() and text.isdigit() and len(text) <= 10):
        raise InvalidInput(
            f"Inference-Header-Content-Length is {text[:40]!r}; it must be a whole number of bytes"
        )
    if int(text) > size:
        raise InvalidInput(
            f"Inference-Header-Content-Length is {text}, past the body's {size} bytes"
        )
    return int(text)


def _bare(body: bytes, signature: Signature) -> InferRequest:
    """Read a body that is the one input's bytes, and nothing else."""
    if len(signature.inputs) != 1:
        raise InvalidInput(
            f"a raw request needs a model of one input; this one has {len(signature.inputs)}"
        )
    [spec] = signature.inputs.values()
    shape = list(spec.shape) if spec.shape is not None else [-1]
    if spec.dtype is DType.STRING:
        if any(size not in (1, -1) for size in shape):
            raise InvalidInput(f"a raw request of BYTES holds one element; {spec} is wanted")
        return InferRequest({spec.name: elements.strings([body]).reshape([1] * len(shape))},
                            binary=True)  # fmt: skip
    if shape.count(-1) > 1 and shape[0] == -1:
        shape[0] = 1
    if shape.count(-1) > 1:
        raise InvalidInput(
            f"a raw request needs an input with one size that varies at most; {spec} is wanted"
        )
    known = int(np.prod([size for size in shape if size != -1])) * spec.dtype.numpy.itemsize
    if -1 in shape and known:
        shape[shape.index(-1)] = len(body) // known
    return InferRequest({spec.name: from_raw(spec.name, body, spec.dtype, shape)}, binary=True)


def _name(given: Any, what: str) -> str:
    if type(given) is not dict:
        raise InvalidInput(f"each {what} must be a JSON object")
    name = given.get("name")
    if type(name) is not str or not name:
        raise InvalidInput(f"each {what} needs a 'name', which is text")
    return name


def _id(given: Any) -> str | None:
    if given is None or type(given) is str:
        return given
    raise InvalidInput("'id' must be text")


def _parameters(given: dict[str, Any], whose: str) -> dict[str, Any]:
    found = given.get("parameters")
    if found is None:
        return {}
    if type(found) is not dict:
        raise InvalidInput(f"the 'parameters' of {whose} must be a JSON object")
    for name in found:
        refuse_unsupported(name, whose)
    return found


def refuse_unsupported(name: str, whose: str) -> None:
    """
    Refuse a parameter that must not be ignored: what it asks for would be missed.

    Raises:
        Unimplemented: martlet has no such extension.
    """
    if name.startswith("shared_memory_"):
        raise Unimplemented(f"{whose}: shared memory is not supported; send the tensor itself")
    if name == "classification":
        raise Unimplemented(f"{whose}: the classification extension is not supported")
    if name in ("sequence_start", "sequence_end"):
        raise Unimplemented(f"{whose}: sequences are not supported; models keep no state")


def named_signature(given: Any) -> str | None:
    """
    Return the name of a signature that a request's parameters give, None where they give none.

    Raises:
        InvalidInput: it is not text.
    """
    if given is None or (type(given) is str and given):
        return given
    raise InvalidInput(f"the parameter {SIGNATURE_NAME!r} must be the name of a signature")


def _flag(parameters: Mapping[str, Any], name: str, whose: str) -> bool | None:
    found = parameters.get(name)
    if found is not None and type(found) is not bool:
        raise InvalidInput(f"the parameter {name!r} of {whose} must be true or false")
    return found


def _timeout(parameters: Mapping[str, Any]) -> int:
    found = parameters.get("timeout", 0)
    # Some clients send every parameter as text.
    if type(found) is str and found.isascii() and found.isdigit() and len(found) <= 18:
        found = int(found)
    if type(found) is not int or found < 0:
        raise InvalidInput("the parameter 'timeout' must be a whole number of microseconds")
    return found


def _outputs(given: Any) -> tuple[Wanted, ...]:
    if given is None:
        return ()
    if type(given) is not list:
        raise InvalidInput("'outputs' must be a list")
    found: dict[str, Wanted] = {}
    for each in given:
        name = _name(each, "output")
        if name in found:
            raise InvalidInput(f"output {name!r} is asked for twice")
        parameters = _parameters(each, f"output {name!r}")
        found[name] = Wanted(name, _flag(parameters, "binary_data", f"output {name!r}"))
    return tuple(found.values())


def _tensor(
    name: str, given: dict[str, Any], binary: memoryview, spec: Spec | None
) -> tuple[Tensor, memoryview]:
    """Return the tensor, and the binary that is left. *spec*: of the input, where there is one."""
    dtype = dtype_of(name, given.get("datatype"))
    shape = given.get("shape")
    if type(shape) is not list:
        raise InvalidInput(f"input {name!r} needs a 'shape', which is a list of sizes")
    count = count_of(name, shape)
    parameters = _parameters(given, f"input {name!r}")
    size = parameters.get("binary_data_size")
    if size is None:
        if "data" not in given:
            raise InvalidInput(f"input {name!r} has neither 'data' nor 'binary_data_size'")
        return _from_json(name, given["data"], dtype, shape, count, spec), binary
    if "data" in given:
        raise InvalidInput(f"input {name!r} has both 'data' and 'binary_data_size'")
    if type(size) is not int or size < 0:
        raise InvalidInput(f"'binary_data_size' of input {name!r} must be a whole number of bytes")
    if size > len(binary):
        raise InvalidInput(
            f"input {name!r} says it has {size} bytes; {len(binary)} are left in the body"
        )
    return from_raw(name, binary[:size], dtype, shape), binary[size:]


def _from_json(
    name: str, data: Any, dtype: DType, shape: list[int], count: int, spec: Spec | None
) -> Tensor:
    if type(data) is not list:
        raise InvalidInput(f"'data' of input {name!r} must be a list")
    flat = _flat(name, data, shape)
    if len(flat) != count:
        raise InvalidInput(
            f"input {name!r} has {len(flat)} elements; its shape {shape} needs {count}"
        )
    nulls = False
    # JSON has numbers for FP16 too: they are rounded to it.
    read_as = DType.FLOAT32 if dtype is DType.FLOAT16 else dtype
    found = elements.array_of(flat, read_as)
    takes_numbers = spec is not None and spec.takes_numbers and dtype is DType.STRING
    if found is None and takes_numbers and {str, int, float}.issuperset(map(type, flat)):
        found = elements.strings(flat)
    if found is None and spec is not None and spec.nullable:
        found = elements.with_nulls(flat, read_as, elements.array_of)
        nulls = found is not None and dtype.is_float
    if found is None:
        raise _wrong_element(name, flat, dtype)
    if dtype.is_float:
        if dtype is DType.FLOAT16:
            with np.errstate(over="ignore"):
                found = found.astype(np.float16)
        if not (np.isfinite(found).all() or (nulls and not np.isinf(found).any())):
            raise InvalidInput(f"input {name!r} has a number that {NAMES[dtype]} cannot hold")
    return found if len(shape) == 1 else found.reshape(shape)


def _flat(name: str, data: list[Any], shape: list[int]) -> list[Any]:
    """Return the leaves of *data*, which is flat, or nested exactly as *shape* says."""
    if list not in set(map(type, data)):
        return data
    flat = [data]
    for size in shape:
        if not ({list}.issuperset(map(type, flat)) and {size}.issuperset(map(len, flat))):
            raise InvalidInput(f"'data' of input {name!r} is not nested as its shape {shape} says")
        flat = list(chain.from_iterable(flat))
    return flat


def _wrong_element(name: str, flat: list[Any], dtype: DType) -> InvalidInput:
    for at, value in enumerate(flat):
        if elements.array_of([value], DType.FLOAT32 if dtype is DType.FLOAT16 else dtype) is None:
            shown = orjson.dumps(value).decode()[:60]
            return InvalidInput(f"input {name!r}: the element {at} is {shown}, no {NAMES[dtype]}")
    return InvalidInput(f"input {name!r} is no {NAMES[dtype]}")
