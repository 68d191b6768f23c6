"""What a TensorProto may leave out, and what it may not claim."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from martlet.errors import InvalidInput
from martlet.wire.tfserving import messages, tensorproto


def proto(shape: list[int], **fields: Any) -> Any:
    made = messages.TensorProto(dtype=fields.pop("dtype", 1), **fields)
    made.tensor_shape.SetInParent()
    for size in shape:
        made.tensor_shape.dim.add(size=size)
    return made


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (proto([3], float_val=[2.0]), [2, 2, 2]),
        (proto([3], float_val=[1.0, 2.0]), [1, 2, 2]),
        (proto([], float_val=[1.0]), 1),
        (proto([0]), []),
        (proto([2], tensor_content=np.array([1, 2], "<f4").tobytes()), [1, 2]),
        (proto([2], dtype=19, half_val=[0x3C00, 0x4000]), [1, 2]),
        (proto([1], dtype=8, scomplex_val=[1.0, 2.0]), [1 + 2j]),
        (proto([2], dtype=7, string_val=[b"a"]), [b"a", b"a"]),
    ],
)
def test_values_are_read_as_tensorflow_reads_them(given, wanted):
    assert tensorproto.decode(given, "x").tolist() == wanted


@pytest.mark.parametrize(
    "given",
    [
        proto([1], float_val=[1.0, 2.0]),
        proto([2]),
        proto([2], tensor_content=b"\0" * 7),
        proto([-1], float_val=[1.0]),
        proto([1] * 255, float_val=[1.0]),
        proto([1], dtype=0, float_val=[1.0]),
        proto([1], dtype=20),
        proto([1], dtype=101, float_val=[1.0]),
        proto([2**40], float_val=[1.0]),
        proto([2**62, 2**62], float_val=[1.0]),
        proto([2**40], dtype=7, string_val=[b"a"]),
    ],
)
def test_what_contradicts_itself_is_refused_with_the_inputs_name(given):
    with pytest.raises(InvalidInput, match="tensor parsing error: x"):
        tensorproto.decode(given, "x")
