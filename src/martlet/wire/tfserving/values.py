"""A JSON value as a tensor: nested lists of numbers, words or ``{"b64": ...}``, by dtype.

The ordinary case is settled by a few passes in C over whole lists. Where a pass finds something
amiss, the same value is walked in upstream's order to say what upstream says.

Source: tensorflow_serving/util/json_tensor.cc (GetDenseTensorShape, FillTensorProto,
AddValueToTensor).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from itertools import chain
from typing import Any, NoReturn

import orjson

from martlet.errors import InvalidInput, Unimplemented
from martlet.tensors import DType, Tensor
from martlet.wire.elements import array_of, strings, with_nulls
from martlet.wire.tfserving.dtypes import NAMES
from martlet.wire.tfserving.floats import decimal
from martlet.wire.tfserving.rapidjson import DEEPER

MAX_RANK = 254
"""Axes of a tensor, at most (tensorflow/core/framework/tensor_shape.h)."""


_CATEGORIES = {str, int, float}


def tensor(value: Any, dtype: DType, takes_numbers: bool = False, nullable: bool = False) -> Tensor:
    """
    Return *value* as an array of *dtype*; its shape is that of the first element at each level.

    Args:
        takes_numbers: A STRING may hold numbers too, as they are.
        nullable: A null is a missing value: NaN, or None in text.

    Raises:
        InvalidInput: the lists are ragged, or an element is not of *dtype*.
        Unimplemented: JSON has no form of *dtype* (half, complex).
    """
    shape = shape_of(value)
    flat = _flat(value, shape)
    found = None if flat is None else leaves(flat, dtype)
    if found is None and takes_numbers and flat is not None and set(map(type, flat)) <= _CATEGORIES:
        found = strings(flat)
    if found is None and nullable and flat is not None:
        found = with_nulls(flat, dtype, leaves)
    if found is None:
        explain(value, shape, dtype)
    return found if len(shape) == 1 else found.reshape(shape)


def shape_of(value: Any) -> list[int]:
    """
    Return the sizes of *value*'s lists, by the first element of each.

    Raises:
        InvalidInput: a tensor cannot have so many axes.
    """
    shape: list[int] = []
    while type(value) is list:
        shape.append(len(value))
        if not value:
            break
        value = value[0]
    if value is DEEPER or len(shape) > MAX_RANK:
        raise InvalidInput(
            f"Shape has more than {MAX_RANK} dimensions: lists cannot be nested deeper than that"
        )
    return shape


def _flat(value: Any, shape: list[int]) -> list[Any] | None:
    """Return the leaves in order, or None where a list is of another size than *shape* says."""
    flat = [value] if not shape else value
    for size in shape[1:]:
        if {list}.issuperset(map(type, flat)) and {size}.issuperset(map(len, flat)):
            flat = list(chain.from_iterable(flat))
        else:
            return None
    return flat if type(flat) is list else None


def leaves(flat: list[Any], dtype: DType) -> Tensor | None:
    """Return *flat* as an array of rank 1, or None where an element is not of *dtype*."""
    found = array_of(flat, dtype)
    if dtype is not DType.STRING:
        return found
    if found is None:
        if not all(type(each) is str or is_b64(each) for each in flat):
            return None
        found = strings([unb64(each) if type(each) is dict else each for each in flat])
    return found if all(type(v) is not str or v.isascii() for v in flat) else _as_bytes(found)


def _as_bytes(found: Tensor) -> Tensor:
    """Replace by its bytes a string that was not UTF-8 (it came with surrogate escapes)."""
    for index, each in enumerate(found):
        if type(each) is str:
            try:
                each.encode()
            except UnicodeEncodeError:
                found[index] = each.encode("utf-8", "surrogateescape")
    return found


def is_b64(value: Any) -> bool:
    """Whether *value* is ``{"b64": "<text>"}`` and nothing more."""
    return type(value) is dict and len(value) == 1 and type(value.get("b64")) is str


def unb64(value: dict[str, str]) -> bytes:
    """
    Return the bytes that ``{"b64": text}`` writes. Standard and URL-safe alphabets, padded or not.

    Raises:
        InvalidInput: the text is not base64.
    """
    try:
        text = "".join(value["b64"].split()).rstrip("=").translate(_URL_SAFE)
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (ValueError, binascii.Error):
        raise InvalidInput("Unable to base64 decode") from None


_URL_SAFE = str.maketrans("-_", "+/")

_KINDS = {
    type(None): "Null",
    list: "Array",
    dict: "Object",
    str: "String",
    int: "Number",
    float: "Number",
}


def kind(value: Any) -> str:
    """Return RapidJSON's name of *value*'s type."""
    return str(value) if isinstance(value, bool) else _KINDS.get(type(value), "Array")


def shown(value: Any) -> str:
    """Return *value* as JSON, for a message: at most 200 characters of it."""
    if isinstance(value, float):
        return decimal(value)
    try:
        text = orjson.dumps(value).decode()
    except (TypeError, ValueError):
        # Nested too deep, not UTF-8, or an integer past 64 bits.
        text = repr(value) if isinstance(value, (int, str)) else f"{kind(value)} of {len(value)}"
    return text if len(text) <= 200 else text[:200] + "..."


def explain(value: Any, shape: list[int], dtype: DType) -> NoReturn:
    """
    Say why *value* is no tensor of *shape* and *dtype*: the first fault, depth first.

    Raises:
        InvalidInput, Unimplemented: always.
    """
    _walk([value], 0, shape, dtype)
    raise InvalidInput(f"JSON Value: {shown(value)} is not a tensor of {NAMES[dtype]}")


def _walk(values: Iterable[Any], level: int, shape: list[int], dtype: DType) -> None:
    rank = len(shape)
    for value in values:
        if type(value) is list:
            if level >= rank:
                raise InvalidInput(
                    f"Encountered list at unexpected level: {level} expected < {rank}"
                )
            if len(value) != shape[level]:
                raise InvalidInput(
                    f"Encountered list at unexpected size: {len(value)} at level: {level} "
                    f"expected size: {shape[level]}"
                )
            _walk(value, level + 1, shape, dtype)
        elif level != rank:
            raise InvalidInput(
                f"JSON Value: {shown(value)} found at incorrect level: {level + 1} "
                f"in the JSON DOM. Expected at level: {rank}"
            )
        else:
            _check_leaf(value, dtype)


def _check_leaf(value: Any, dtype: DType) -> None:
    if type(value) is dict:
        if dtype is not DType.STRING:
            raise not_of(value, dtype)
        if not is_b64(value):
            raise InvalidInput(
                f"JSON Value: {shown(value)} not formatted correctly for base64 data"
            )
        unb64(value)
        return
    if dtype in _FORMLESS:
        raise Unimplemented(f"Conversion of JSON Value: {shown(value)} to type: {NAMES[dtype]}")
    if leaves([value], dtype) is None:
        raise not_of(value, dtype)


_FORMLESS = (DType.FLOAT16, DType.COMPLEX64, DType.COMPLEX128)


def not_of(value: Any, dtype: DType) -> InvalidInput:
    """Return the error that *value* is of another type than *dtype*."""
    return InvalidInput(
        f"JSON Value: {shown(value)} Type: {kind(value)} is not of expected type: {NAMES[dtype]}"
    )
