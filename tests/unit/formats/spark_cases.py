"""What Spark recorded, as martlet takes and gives it: numbers, missing values, comparison."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from martlet.tensors import DType, Spec


def numbers(value: Any) -> Any:
    """Return *value* with the numbers that JSON cannot write, which are spelled."""
    if isinstance(value, list):
        return [numbers(each) for each in value]
    special = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
    return special.get(value, value) if isinstance(value, str) else value


def same(found: np.ndarray, wanted: Any) -> bool:
    """Return whether *found* is what Spark answered."""
    if found.dtype == object:
        lists = [
            [word for word in row if word is not None] if isinstance(row, list) else row
            for row in found.tolist()
        ]
        return bool(lists == wanted)
    expected = np.array(numbers(wanted), dtype=np.float64)
    # A float keeps seven digits, and the last is a matter of the order of a sum.
    close = 1e-6 if found.dtype == np.float32 else 1e-9
    return found.shape == expected.shape and np.allclose(
        found, expected, rtol=close, atol=1e-12, equal_nan=True
    )


def given(value: Any, spec: Spec) -> Any:
    """Return one row's value as the input *spec* takes it."""
    if spec.dtype is DType.STRING:
        return numbers(value) if spec.takes_numbers else value
    if value is None:
        return math.nan if spec.dtype.is_float else 0
    return numbers(value)


def missing(values: np.ndarray) -> bool:
    """Return whether *values* say that their row has no answer."""
    if values.dtype == object:
        return all(each is None for each in values.ravel().tolist())
    return bool(np.isnan(values).any()) if values.dtype.kind == "f" else bool((values == -1).all())
