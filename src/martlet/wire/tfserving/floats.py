"""Floating-point numbers as TensorFlow Serving writes them: ``2.0``, ``0.2``, ``9e+06``, ``NaN``.

Six digits (``%g``) where those read back as the same number in the tensor's own type, else as
many as it takes: 9 for a float32, 17 for a float64.

Source: tensorflow_serving/util/json_tensor.cc (WriteDecimal).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from martlet.tensors import Tensor
from martlet.wire.elements import in_one_piece

_DIGITS = {2: 9, 4: 9, 8: 17}

PLAIN_BELOW = 1e6
"""Below this orjson's shortest digits are what ``%g`` would be taken for; from it ``%g`` writes
an exponent, which orjson does not."""


def is_plain(flat: Tensor) -> bool:
    """Whether orjson may write *flat* (rank 1): all finite, and within PLAIN_BELOW."""
    if flat.size == 0:
        return True
    # A NaN is the greatest and the least of all, and below nothing.
    top, bottom = np.maximum.reduce(flat), np.minimum.reduce(flat)
    return bool(top < PLAIN_BELOW and bottom > -PLAIN_BELOW)


def decimal(value: float, itemsize: int = 8) -> str:
    """Return *value*, of a float type of *itemsize* bytes, as upstream writes it."""
    if value != value:
        return "NaN"
    if value in (np.inf, -np.inf):
        return "Infinity" if value > 0 else "-Infinity"
    text = f"{value:g}"
    same = float(text) == value if itemsize == 8 else np.float32(text) == np.float32(value)
    if not same:
        text = f"{value:.{_DIGITS[itemsize]}g}"
    return text if "." in text or "e" in text else text + ".0"


def texts(flat: Tensor) -> NDArray[np.object_]:
    """Return each number of *flat* (rank 1) as upstream writes it: bytes in an object array."""
    if flat.itemsize == 2:
        flat = flat.astype(np.float32)
    flat = in_one_piece(flat)
    written = orjson.dumps(flat, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1].split(b",")
    found: NDArray[Any] = np.empty(len(flat), object)
    if len(flat):
        found[:] = written
    size = np.abs(flat)
    for index in np.flatnonzero(~(size < PLAIN_BELOW)).tolist():
        found[index] = decimal(flat[index].item(), flat.itemsize).encode()
    return found
