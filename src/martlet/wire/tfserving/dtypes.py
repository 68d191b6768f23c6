"""How TensorFlow names and numbers the types of a tensor's elements.

Source: tensorflow/core/framework/types.proto and types.cc (DataTypeString).
"""

from __future__ import annotations

from martlet.tensors import DType

NAMES: dict[DType, str] = {each: each.value for each in DType} | {
    DType.FLOAT16: "half",
    DType.FLOAT32: "float",
    DType.FLOAT64: "double",
}
"""By type: what TensorFlow's messages call it."""

NUMBERS: dict[DType, int] = {
    DType.FLOAT32: 1,
    DType.FLOAT64: 2,
    DType.INT32: 3,
    DType.UINT8: 4,
    DType.INT16: 5,
    DType.INT8: 6,
    DType.STRING: 7,
    DType.COMPLEX64: 8,
    DType.INT64: 9,
    DType.BOOL: 10,
    DType.UINT16: 17,
    DType.COMPLEX128: 18,
    DType.FLOAT16: 19,
    DType.UINT32: 22,
    DType.UINT64: 23,
}
"""By type: its number in ``tensorflow.DataType``."""

_BY_NUMBER = {number: dtype for dtype, number in NUMBERS.items()}

REFERENCE = 100
"""Added to the number of a variable's type when a graph hands out the variable itself."""


def of_number(number: int) -> DType | None:
    """Return the type that TensorFlow numbers so; None: one that martlet does not hold."""
    return _BY_NUMBER.get(number - REFERENCE if number > REFERENCE else number)
