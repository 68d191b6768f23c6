"""Flat lists of JSON values to arrays, by dtype: a few passes in C, no loop of ours."""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable
from typing import Any

import numpy as np

from martlet.tensors import DType, Tensor

_NUMBERS = frozenset({int, float})
_INT = frozenset({int})
_BOOL = frozenset({bool})
_STR = frozenset({str})

_FLOAT_CODE = {DType.FLOAT32: "f", DType.FLOAT64: "d"}

_RANGES = {
    dtype: (np.iinfo(dtype.numpy).min, np.iinfo(dtype.numpy).max)
    for dtype in DType
    if dtype.is_integer
}


def array_of(flat: list[Any], dtype: DType) -> Tensor | None:
    """
    Return *flat* as an array of rank 1, or None where an element is not of *dtype*.

    Floats take any number, and what they cannot hold becomes an infinity; integers take whole
    numbers in their range, bool takes true and false, string takes text. Half and complex take
    nothing: JSON has no form of them.
    """
    kinds = set(map(type, flat))
    code = _FLOAT_CODE.get(dtype)
    if code is not None:
        # array() rounds what a float32 cannot hold to infinity without a word; numpy does too,
        # with a warning that costs as much as the conversion to suppress.
        if not kinds <= _NUMBERS:
            return None
        return np.frombuffer(array(code, flat), dtype.numpy) if flat else empty(dtype)
    if dtype.is_integer:
        return _integers(flat, dtype) if kinds <= _INT else None
    if dtype is DType.BOOL:
        return np.array(flat, dtype.numpy) if kinds <= _BOOL else None
    if dtype is DType.STRING and kinds <= _STR:
        return strings(flat)
    return None if flat else empty(dtype)


def with_nulls(flat: list[Any], dtype: DType, read: Callable[..., Tensor | None]) -> Tensor | None:
    """
    Return *flat*, whose nulls are missing values, as an array of rank 1: NaN, or None in text.

    Args:
        read: As :func:`array_of`, what reads the others.
    """
    if None not in flat:
        return None
    if dtype.is_float:
        return read([math.nan if each is None else each for each in flat], dtype)
    if dtype is not DType.STRING:
        return None
    found = read(["" if each is None else each for each in flat], dtype)
    if found is not None:
        found[[each is None for each in flat]] = None
    return found


def as_bytes(value: Any) -> bytes:
    """Return the element *value* of a string tensor as bytes; what is missing is empty."""
    if isinstance(value, bytes):
        return value
    return b"" if value is None else str(value).encode()


def in_one_piece(array: Tensor) -> Tensor:
    """Return *array* as orjson takes it: row by row, in the byte order of this machine."""
    if array.flags.c_contiguous and array.dtype.isnative:
        return array
    return array.astype(array.dtype.newbyteorder("="), order="C", copy=False)


def empty(dtype: DType) -> Tensor:
    """Return no elements of *dtype*."""
    return np.empty(0, dtype.numpy)


def strings(flat: list[Any]) -> Tensor:
    """Return *flat*, text or bytes, as a string tensor of rank 1."""
    found = np.empty(len(flat), object)
    found[:] = flat
    return found


def _integers(flat: list[int], dtype: DType) -> Tensor | None:
    if not flat:
        return empty(dtype)
    low, high = _RANGES[dtype]
    if min(flat) < low or max(flat) > high:
        return None
    return np.array(flat, dtype.numpy)
