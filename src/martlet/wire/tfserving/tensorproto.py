"""``tensorflow.TensorProto`` to arrays and back.

Source: tensorflow/core/framework/tensor.cc (Tensor::FromProto, AsProtoField, AsProtoTensorContent).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from martlet.errors import InvalidInput
from martlet.tensors import DType, Tensor
from martlet.wire.elements import as_bytes
from martlet.wire.tfserving.dtypes import NUMBERS, REFERENCE, of_number
from martlet.wire.tfserving.values import MAX_RANK

_FIELDS: dict[DType, str] = {
    DType.FLOAT32: "float_val",
    DType.FLOAT64: "double_val",
    DType.INT8: "int_val",
    DType.INT16: "int_val",
    DType.INT32: "int_val",
    DType.UINT8: "int_val",
    DType.UINT16: "int_val",
    DType.STRING: "string_val",
    DType.COMPLEX64: "scomplex_val",
    DType.COMPLEX128: "dcomplex_val",
    DType.INT64: "int64_val",
    DType.BOOL: "bool_val",
    DType.FLOAT16: "half_val",
    DType.UINT32: "uint32_val",
    DType.UINT64: "uint64_val",
}
MOST_FILLED = 1 << 20
"""Elements that may be left to repeat the last one: a shape asks for memory in a few bytes."""

_PAIRS = (DType.COMPLEX64, DType.COMPLEX128)


def decode(proto: Any, alias: str) -> Tensor:
    """
    Return *proto* as an array. Too few values: the last one fills the rest, as upstream has it.

    Args:
        alias: The input's name, for the message.

    Raises:
        InvalidInput: it is no tensor that martlet holds, or its parts contradict each other.
    """
    dtype = of_number(proto.dtype)
    shape = proto.tensor_shape
    if dtype is None or proto.dtype > REFERENCE or shape.unknown_rank:
        raise _broken(alias)
    sizes = [dim.size for dim in shape.dim]
    count = math.prod(sizes)
    if len(sizes) > MAX_RANK or any(size < 0 for size in sizes):
        raise _broken(alias)
    found = (
        _from_content(proto.tensor_content, dtype, count, alias)
        if proto.tensor_content and dtype is not DType.STRING
        else _from_values(getattr(proto, _FIELDS[dtype]), dtype, count, alias)
    )
    return found.reshape(sizes)


def _broken(alias: str) -> InvalidInput:
    return InvalidInput(f"tensor parsing error: {alias}")


def _from_content(content: bytes, dtype: DType, count: int, alias: str) -> Tensor:
    wanted = dtype.numpy.newbyteorder("<")
    if len(content) != count * wanted.itemsize:
        raise _broken(alias)
    return np.frombuffer(content, wanted)


def _from_values(values: Any, dtype: DType, count: int, alias: str) -> Tensor:
    found = _array(values, dtype)
    if len(found) > count or (count and not len(found)):
        raise _broken(alias)
    if count - len(found) > MOST_FILLED:
        raise InvalidInput(
            f"tensor parsing error: {alias}: its shape asks for {count} elements, and "
            f"{len(found)} are given; at most {MOST_FILLED} are filled in"
        )
    if len(found) < count:
        found = np.concatenate([found, np.repeat(found[-1:], count - len(found))])
    return found


def _array(values: Any, dtype: DType) -> Tensor:
    if dtype is DType.STRING:
        found = np.empty(len(values), object)
        found[:] = list(values)
        return found
    if dtype is DType.FLOAT16:
        return np.array(values, np.uint16).view(np.float16)
    if dtype in _PAIRS:
        part = np.float32 if dtype is DType.COMPLEX64 else np.float64
        halves = np.array(values, part)
        return halves[: len(halves) & ~1].view(dtype.numpy)
    # int_val carries the small integers as int32: what does not fit them wraps, as upstream's.
    wide = np.int32 if _FIELDS[dtype] == "int_val" else dtype.numpy
    return np.array(values, wide).astype(dtype.numpy, copy=False)


def encode(array: Tensor, proto: Any, as_content: bool = False) -> None:
    """
    Fill *proto* with *array*: in the ``*_val`` fields, or with *as_content* in ``tensor_content``.

    Raises:
        InvalidInput: TensorFlow has no type for the elements.
    """
    dtype = DType.of(array.dtype)
    proto.dtype = NUMBERS[dtype]
    proto.tensor_shape.SetInParent()
    dims = proto.tensor_shape.dim
    for size in array.shape:
        dims.add(size=size)
    flat = array.ravel()
    if dtype is DType.STRING:
        proto.string_val.extend(as_bytes(v) for v in flat)
    elif as_content:
        proto.tensor_content = flat.astype(dtype.numpy.newbyteorder("<"), copy=False).tobytes()
    else:
        getattr(proto, _FIELDS[dtype]).extend(_values(flat, dtype))


def _values(flat: Tensor, dtype: DType) -> Any:
    if dtype is DType.FLOAT16:
        return flat.view(np.uint16).tolist()
    if dtype in _PAIRS:
        return flat.view(np.float32 if dtype is DType.COMPLEX64 else np.float64).tolist()
    return flat.tolist()
