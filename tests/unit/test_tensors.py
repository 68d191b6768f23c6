"""Specs and signatures: what fits them, and what is told of what does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from martlet.errors import InvalidInput
from martlet.tensors import DType, Signature, Spec, repeated


class TestDType:
    @pytest.mark.parametrize("dtype", DType, ids=lambda d: d.value)
    def test_each_is_that_of_its_numpy_dtype(self, dtype: DType):
        assert DType.of(dtype.numpy) is dtype

    @pytest.mark.parametrize("text", ["U5", "S3", "O"])
    def test_text_of_any_kind_is_a_string(self, text: str):
        assert DType.of(np.dtype(text)) is DType.STRING

    @pytest.mark.parametrize("other", ["M8[s]", "m8[D]", "i4,f4"])
    def test_what_no_tensor_holds_is_refused(self, other: str):
        with pytest.raises(InvalidInput, match="are not supported; use one of bool, int8"):
            DType.of(np.dtype(other))

    def test_floats_and_integers_know_that_they_are(self):
        assert {d.value for d in DType if d.is_float} == {"float16", "float32", "float64"}
        assert {d for d in DType if d.is_integer} == {
            d for d in DType if np.issubdtype(d.numpy, np.integer)
        }


FITS: list[tuple[DType, tuple[int, ...] | None, Any]] = [
    (DType.FLOAT32, (-1, 2), np.zeros((3, 2), np.float32)),
    (DType.FLOAT32, (-1, 2), np.zeros((0, 2), np.float32)),
    (DType.FLOAT32, (-1,), np.zeros(3, np.float16)),
    (DType.FLOAT64, (-1,), np.zeros(3, np.float32)),
    (DType.INT64, (-1,), np.zeros(3, np.int32)),
    (DType.INT64, (-1,), np.zeros(3, np.uint32)),
    (DType.FLOAT32, None, np.zeros((1, 2, 3), np.float32)),
    (DType.FLOAT32, (), np.float32(1)),
    (DType.STRING, (-1,), np.array(["a", "b"])),
    (DType.STRING, (-1,), np.array([b"a"], dtype=object)),
    # Python's own numbers have no width: they fit where no value changes.
    (DType.FLOAT32, (-1,), [1.5, 2]),
    (DType.FLOAT32, (-1, 1), [[1], [2]]),
    (DType.INT32, (-1,), [1, 2]),
    (DType.UINT8, (-1,), [0, 255]),
    (DType.BOOL, (-1,), [True]),
    (DType.STRING, (-1,), ["a", b"b"]),
    (DType.FLOAT32, (-1,), []),
    (DType.FLOAT32, (-1,), [float("nan"), float("inf")]),
]


@pytest.mark.parametrize(("dtype", "shape", "value"), FITS)
def test_what_fits_comes_out_as_the_spec_says(dtype: DType, shape: Any, value: Any):
    found = Spec("x", dtype, shape).check(value)
    assert found.dtype == dtype.numpy
    assert found.shape == np.shape(value)
    if dtype is not DType.STRING:
        assert np.array_equal(found, np.asarray(value), equal_nan=dtype.is_float)


MISFITS: list[tuple[DType, tuple[int, ...] | None, Any, str]] = [
    (DType.FLOAT32, (-1,), np.zeros(3), "input 'x' is float64; float32 [-1] is wanted"),
    (DType.FLOAT32, (-1,), np.zeros(3, np.int64), "input 'x' is int64; float32 [-1] is wanted"),
    (DType.INT32, (-1,), np.zeros(3, np.int64), "input 'x' is int64; int32 [-1] is wanted"),
    (DType.INT64, (-1,), [1.5], "input 'x' is float64; int64 [-1] is wanted"),
    (DType.INT64, (-1,), ["1"], "input 'x' is string; int64 [-1] is wanted"),
    (DType.INT64, (-1,), [None], "input 'x' is string; int64 [-1] is wanted"),
    (DType.BOOL, (-1,), [1], "input 'x' is int64; bool [-1] is wanted"),
    (DType.INT8, (-1,), [128], "input 'x' holds a value beyond int8"),
    (DType.UINT8, (-1,), [-1], "input 'x' holds a value beyond uint8"),
    (DType.FLOAT32, (-1,), [1e300], "input 'x' holds a value beyond float32"),
    (DType.STRING, (-1,), np.zeros(2), "input 'x' is float64; string [-1] is wanted"),
    (DType.STRING, (-1,), ["a", 1], "input 'x' holds int; string [-1] is wanted"),
    (DType.STRING, (-1,), ["a", None], "input 'x' holds NoneType; string [-1] is wanted"),
    (DType.INT64, (-1,), np.array(["2020"], "M8[D]"), "input 'x' is datetime64[D]; int64"),
    (DType.FLOAT32, (-1,), [[1.0], [2.0, 3.0]], "input 'x' is not an array: "),
    (
        DType.FLOAT32,
        (-1, 2),
        np.zeros((3, 3), np.float32),
        "input 'x' has shape [3, 3]; float32 [-1, 2] is wanted (-1 is any size)",
    ),
    (DType.FLOAT32, (-1, 2), np.zeros(2, np.float32), "input 'x' has shape [2]; "),
    (DType.FLOAT32, (), np.zeros(2, np.float32), "input 'x' has shape [2]; float32 [] is"),
]


@pytest.mark.parametrize(("dtype", "shape", "value", "says"), MISFITS)
def test_what_does_not_fit_is_told(dtype: DType, shape: Any, value: Any, says: str):
    with pytest.raises(InvalidInput) as caught:
        Spec("x", dtype, shape).check(value)
    assert says in str(caught.value)


def test_a_spec_may_leave_the_shape_to_the_model():
    spec = Spec("x", DType.FLOAT32, (-1, 2), enforced=False)
    assert spec.check(np.zeros(5, np.float32)).shape == (5,)


def test_a_category_may_be_a_number_where_it_was_learnt_from_numbers():
    spec = Spec("x", DType.STRING, (-1,), takes_numbers=True)
    assert spec.check(np.array([7, 8])).tolist() == [7, 8]
    assert spec.check(["a", 8]).tolist() == ["a", 8]


def test_text_may_be_missing_where_the_spec_says_so():
    assert Spec("x", DType.STRING, (-1,), nullable=True).check(["a", None]).tolist() == ["a", None]


def test_numbers_may_be_missing_where_the_spec_says_so():
    spec = Spec("x", DType.FLOAT64, (-1,), nullable=True)
    for given in ([1, None, 2.5], np.array([1, None, 2.5], object)):
        np.testing.assert_array_equal(spec.check(given), [1.0, np.nan, 2.5])
    np.testing.assert_array_equal(spec.check([None]), [np.nan])
    for given in ([1.0, "a"], [None, "1"], [True, None]):
        with pytest.raises(InvalidInput, match="is string"):
            spec.check(given)
    with pytest.raises(InvalidInput, match="is string"):
        Spec("x", DType.FLOAT64, (-1,)).check([1.0, None])


class TestSignature:
    SIGNATURE = Signature.of(
        [
            Spec("a", DType.FLOAT32, (-1,)),
            Spec("b", DType.INT64, (-1,)),
            Spec("c", DType.STRING, None, required=False),
        ],
        [Spec("y", DType.FLOAT32, (-1,))],
    )

    def test_inputs_come_back_in_its_order_and_what_is_absent_stays_so(self):
        found = self.SIGNATURE.check({"b": [1], "a": [2.0]})
        assert list(found) == ["a", "b"]

    @pytest.mark.parametrize(
        ("given", "says"),
        [
            ({"a": [1.0]}, "input 'b' is missing; the inputs are 'a' (float32 [-1]), 'b' (int64"),
            ({"a": [1.0], "b": [1], "z": [1]}, "no input is named 'z'; the inputs are 'a'"),
            ({}, "input 'a' is missing"),
        ],
    )
    def test_a_name_that_is_missing_or_unknown_is_told(self, given: Any, says: str):
        with pytest.raises(InvalidInput) as caught:
            self.SIGNATURE.check(given)
        assert says in str(caught.value)


def test_a_long_row_is_repeated_without_copies_and_stays_so_through_a_check():
    row = np.arange(50)[None]
    rows = repeated(row, 200)
    np.testing.assert_array_equal(rows, np.repeat(row, 200, axis=0))
    signature = Signature.of([Spec("history", DType.INT64, (-1, 50))], [])
    assert signature.check({"history": rows})["history"].strides[0] == 0
    np.testing.assert_array_equal(repeated(row[:, :2], 3), np.repeat(row[:, :2], 3, axis=0))
