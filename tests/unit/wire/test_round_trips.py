"""What is written is read back the same, whatever it is."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from martlet.errors import InvalidInput
from martlet.tensors import DType, Signature, Spec
from martlet.wire import compression
from martlet.wire.openinference import contents, datatypes, request, response
from martlet.wire.tfserving import floats, messages, rapidjson, requests, responses, tensorproto

NUMERIC = [each for each in DType if each is not DType.STRING and not each.value.startswith("c")]
SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


def strings(shape: tuple[int, ...]) -> st.SearchStrategy[Any]:
    size = math.prod(shape)
    text = st.binary(max_size=12)
    return st.lists(text, min_size=size, max_size=size).map(lambda values: filled(values, shape))


def filled(values: list[Any], shape: tuple[int, ...]) -> Any:
    found = np.empty(len(values), object)
    found[:] = values
    return found.reshape(shape)


@st.composite
def tensor(draw: Any, dtypes: list[DType] = NUMERIC) -> Any:
    dtype, shape = draw(st.sampled_from([*dtypes, DType.STRING])), draw(SHAPES)
    if dtype is DType.STRING:
        return draw(strings(shape))
    return draw(arrays.arrays(dtype.numpy, shape))


def same(found: Any, wanted: Any) -> None:
    assert found.shape == wanted.shape
    assert DType.of(found.dtype) is DType.of(wanted.dtype)
    if wanted.dtype == object:
        assert found.ravel().tolist() == wanted.ravel().tolist()
    else:
        np.testing.assert_array_equal(found, wanted)


@given(tensor(), st.booleans())
@settings(max_examples=200)
def test_a_tensor_proto(array, as_content):
    proto = messages.TensorProto()
    tensorproto.encode(array, proto, as_content)
    read = messages.TensorProto.FromString(proto.SerializeToString())
    same(tensorproto.decode(read, "x"), array)


@given(tensor())
@settings(max_examples=200)
def test_raw_bytes(array):
    dtype = DType.of(array.dtype)
    raw = datatypes.to_raw(array)
    same(datatypes.from_raw("x", raw, dtype, array.shape), array)
    odd = datatypes.from_raw("x", memoryview(b"{" + raw)[1:], dtype, array.shape)
    same(odd, array)
    assert odd.flags.aligned


@given(tensor())
@settings(max_examples=200)
def test_an_open_inference_reply_is_a_request_that_reads_the_same(array):
    asked = request.InferRequest({}, binary=True)
    body, length = response.write(asked, "m", "1", {"x": array})
    document = json.loads(body[:length])
    text = orjson.dumps({"inputs": document["outputs"]})
    signature = Signature.of([Spec("x", DType.of(array.dtype), None)], [])
    found = request.read(text + body[length:], b"%d" % len(text), lambda _: signature)
    same(found.inputs["x"], array)


TYPED = [each for each in NUMERIC if each is not DType.FLOAT16]


@given(tensor(TYPED), st.booleans())
@settings(max_examples=200)
def test_a_grpc_reply_is_a_request_that_reads_the_same(array, raw):
    made = contents.write(request.InferRequest({}, raw=raw), "m", "1", {"x": array})
    asked = contents.ModelInferRequest(model_name="m")
    for each in made.outputs:
        asked.inputs.add().MergeFromString(each.SerializeToString())
        asked.inputs[-1].contents.SetInParent() if not raw else None
    asked.raw_input_contents.extend(made.raw_output_contents)
    same(contents.read(asked).inputs["x"], array)


FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(arrays.arrays(np.float32, SHAPES.filter(lambda s: len(s) > 0)))
@settings(max_examples=300)
def test_tfserving_floats_read_back_as_themselves(array):
    column = requests.parse_object(responses.outputs({"y": array}))["outputs"]
    np.testing.assert_array_equal(np.array(column, np.float32).reshape(array.shape), array)
    rows = requests.parse_object(responses.predictions({"y": array, "z": array}))["predictions"]
    assert len(rows) == len(array)
    for row, wanted in zip(rows, array, strict=True):
        found = np.array(row["y"], np.float32).reshape(wanted.shape)
        np.testing.assert_array_equal(found, wanted)


@given(st.floats())
def test_a_double_is_written_so_that_it_reads_back(value):
    text = floats.decimal(value)
    assert "." in text or "e" in text or "N" in text or "I" in text
    found = rapidjson.parse(text.encode())
    assert found == value or (math.isnan(found) and math.isnan(value))


@given(FINITE)
def test_a_float_takes_no_more_digits_than_upstream_writes(value):
    text = floats.decimal(value, itemsize=4)
    # C's %g, by Python's, which is the same function.
    plain = f"{value:g}"
    wanted = plain if np.float32(plain) == np.float32(value) else f"{value:.9g}"
    assert text in (wanted, wanted + ".0")


LEAVES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.text(max_size=8)
    | st.floats(allow_nan=False, allow_infinity=False)
)
JSON = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(JSON, st.booleans())
@settings(max_examples=300)
def test_the_tolerant_reader_reads_json_as_python_does(value, indented):
    text = json.dumps(value, indent=1 if indented else None)
    assert rapidjson.parse(text.encode()) == json.loads(text)
    assert rapidjson.parse(json.dumps(value, ensure_ascii=False).encode() + b" ...") == value


def test_a_category_may_be_a_number_in_json():
    spec = Spec("id", DType.STRING, (-1,), takes_numbers=True)
    tensor = {"name": "id", "datatype": "BYTES", "shape": [3], "data": [1005, "a", 2.5]}
    body = orjson.dumps({"inputs": [tensor]})
    for takes in (True, False):
        told = {None: Signature.of([replace(spec, takes_numbers=takes)], [])}
        if takes:
            found = request.read(body, None, told.__getitem__)
            assert found.inputs["id"].tolist() == [1005, "a", 2.5]
        else:
            with pytest.raises(InvalidInput, match="the element 0 is 1005, no BYTES"):
                request.read(body, None, told.__getitem__)


# As libraries hand them over: onnxruntime's int64 is C's long long, not long; a probability may lie
# column by column, or be a view; an old file's numbers are of another byte order.
KINDS = [*"?bhilqBHILQefd", ">i8", ">f4", ">f8"]
LAYOUTS = {
    "by row": lambda value: value,
    "by column": np.asfortranarray,
    "backwards": lambda value: value[::-1],
    "every other": lambda value: np.repeat(value, 2, axis=0)[::2],
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_outputs_however_they_lie_in_memory(kind: str, layout: str):
    whole = np.array([[0, 1], [1, 0], [0, 0]])
    matrix = LAYOUTS[layout](whole.astype(kind))
    column = LAYOUTS[layout](whole[:, 0].astype(kind))
    outputs = {"label": column, "both": matrix}
    told = json.loads(responses.predictions(outputs))["predictions"]
    assert [row["label"] for row in told] == column.tolist()
    assert [row["both"] for row in told] == matrix.tolist()
    wanted = {name: value.tolist() for name, value in outputs.items()}
    assert json.loads(responses.outputs(outputs))["outputs"] == wanted
    for value in (column, matrix, matrix[0, 1:].reshape(())):
        assert json.loads(responses.outputs({"y": value}))["outputs"] == value.tolist()
        if value.ndim:
            assert json.loads(responses.predictions({"y": value}))["predictions"] == value.tolist()
        body, _ = response.write(request.InferRequest({}), "m", "1", {"y": value})
        assert json.loads(body)["outputs"][0]["data"] == value.ravel().tolist()


@given(st.binary(max_size=2000), st.sampled_from([b"gzip", b"deflate"]))
def test_compression(body, encoding):
    packed = compression.deflate(body, encoding)
    assert compression.inflate(packed, encoding, limit=len(body)) == body
    if body:
        with pytest.raises(Exception, match="more than"):
            compression.inflate(packed, encoding, limit=len(body) - 1)
