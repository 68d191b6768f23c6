"""The protocol's names of element types, and their bytes.

Source: kserve/open-inference-protocol, inference_rest.md (Tensor Data Types).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from martlet.errors import InvalidInput, Unimplemented
from martlet.tensors import DType, Tensor
from martlet.wire.elements import as_bytes, strings

NAMES: dict[DType, str] = {
    DType.BOOL: "BOOL",
    DType.UINT8: "UINT8",
    DType.UINT16: "UINT16",
    DType.UINT32: "UINT32",
    DType.UINT64: "UINT64",
    DType.INT8: "INT8",
    DType.INT16: "INT16",
    DType.INT32: "INT32",
    DType.INT64: "INT64",
    DType.FLOAT16: "FP16",
    DType.FLOAT32: "FP32",
    DType.FLOAT64: "FP64",
    DType.STRING: "BYTES",
}
_DTYPES = {name: dtype for dtype, name in NAMES.items()}

_MOST_ELEMENTS = 2**31 - 1
_LENGTH = 4


def dtype_of(name: str, datatype: Any) -> DType:
    """
    Return the type that *datatype* names, of the tensor called *name*.

    Raises:
        InvalidInput: it names none.
        Unimplemented: it is BF16, which numpy does not have.
    """
    if datatype == "BF16":
        raise Unimplemented(f"tensor {name!r}: BF16 is not supported; send FP32")
    found = _DTYPES.get(datatype) if isinstance(datatype, str) else None
    if found is None:
        known = ", ".join(_DTYPES)
        raise InvalidInput(f"tensor {name!r} has datatype {datatype!r}; use one of {known}")
    return found


def elements(name: str, shape: Sequence[Any]) -> int:
    """
    Return how many elements *shape* has, of the tensor called *name*.

    Raises:
        InvalidInput: a size is negative or no whole number, or the product is past 2**31 - 1.
    """
    for size in shape:
        if type(size) is not int or size < 0:
            raise InvalidInput(
                f"tensor {name!r} has shape {_shown(shape)}: each size must be a whole number, "
                "0 or more"
            )
    if len(shape) > 64:
        raise InvalidInput(f"tensor {name!r} has {len(shape)} axes; 64 is the most")
    count: int = math.prod(shape)
    # A zero anywhere hides an absurd size from the product.
    if count > _MOST_ELEMENTS or any(size > _MOST_ELEMENTS for size in shape):
        raise InvalidInput(
            f"tensor {name!r} has shape {_shown(shape)}: more than {_MOST_ELEMENTS} elements"
        )
    return count


def _shown(shape: Sequence[Any]) -> str:
    text = str(list(shape))
    return text if len(text) <= 100 else text[:100] + "..."


def from_raw(name: str, raw: bytes | memoryview, dtype: DType, shape: Sequence[int]) -> Tensor:
    """
    Return *raw*, little-endian and row-major, as an array.

    BYTES is, for each element, its length in four bytes and then itself; elements are ``bytes``.

    Raises:
        InvalidInput: its size is not what *shape* says.
    """
    count = elements(name, shape)
    if dtype is DType.STRING:
        return strings(_split(name, raw, count)).reshape(shape)
    wanted = dtype.numpy.newbyteorder("<")
    if len(raw) != count * wanted.itemsize:
        raise InvalidInput(
            f"tensor {name!r} of {NAMES[dtype]} {list(shape)} needs "
            f"{count * wanted.itemsize} bytes; got {len(raw)}"
        )
    if dtype is DType.BOOL:
        octets = np.frombuffer(raw, np.uint8)
        if count and np.maximum.reduce(octets) > 1:
            raise InvalidInput(f"tensor {name!r}: a BOOL is one byte, 0 or 1")
        return octets.view(np.bool_).reshape(shape)
    found = np.frombuffer(raw, wanted).reshape(shape)
    return found if found.flags.aligned else found.copy()  # behind JSON of any length


def _split(name: str, raw: bytes | memoryview, count: int) -> list[bytes]:
    raw = bytes(raw)
    found: list[bytes] = []
    at = 0
    while at < len(raw):
        start = at + _LENGTH
        end = start + int.from_bytes(raw[at:start], "little")
        if start > len(raw) or end > len(raw):
            raise InvalidInput(
                f"tensor {name!r}: the BYTES element {len(found)} is longer than what is left"
            )
        found.append(raw[start:end])
        if len(found) > count:
            break
        at = end
    if len(found) != count:
        more = "more than " if len(found) > count else ""
        raise InvalidInput(
            f"tensor {name!r} needs {count} BYTES elements; got {more}{min(len(found), count)}"
        )
    return found


def to_raw(array: Tensor) -> bytes:
    """Return *array* as the protocol's bytes; the reverse of ``from_raw``."""
    dtype = DType.of(array.dtype)
    if dtype is DType.STRING:
        parts: list[bytes] = []
        for value in array.ravel().tolist():
            each = as_bytes(value)
            parts += (len(each).to_bytes(_LENGTH, "little"), each)
        return b"".join(parts)
    return array.astype(dtype.numpy.newbyteorder("<"), copy=False).tobytes()


def name_of(name: str, array: Tensor) -> str:
    """
    Return the protocol's name of *array*'s type.

    Raises:
        InvalidInput: it has none (complex).
    """
    found = NAMES.get(DType.of(array.dtype))
    if found is None:
        raise InvalidInput(f"output {name!r} is {array.dtype}, which this protocol cannot carry")
    return found
