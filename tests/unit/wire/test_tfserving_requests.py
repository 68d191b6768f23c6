"""Bodies of ``:predict`` for a signature with inputs that may be left out."""

from __future__ import annotations

import pytest

from martlet.errors import InvalidInput
from martlet.tensors import DType, Signature, Spec
from martlet.wire.tfserving.requests import PredictDecoder

DECODER = PredictDecoder(
    Signature.of(
        [
            Spec("x", DType.FLOAT64, (-1,)),
            Spec("k", DType.STRING, (-1,), required=False, nullable=True),
        ],
        [],
    ),
    "serving_default",
)


@pytest.mark.parametrize(
    "document",
    [{"instances": [{"x": 1.0}, {"x": 2.0}]}, {"inputs": {"x": [1.0, 2.0]}}],
    ids=["rows", "columns"],
)
def test_an_optional_input_may_be_left_out(document: dict):
    found, _ = DECODER.decode(document)
    assert {name: values.tolist() for name, values in found.items()} == {"x": [1.0, 2.0]}


def test_it_is_read_where_it_comes():
    found, _ = DECODER.decode({"instances": [{"x": 1.0, "k": "a"}]})
    assert found["k"].tolist() in (["a"], [b"a"])


@pytest.mark.parametrize("document", [{"instances": [{"k": "a"}]}, {"inputs": {"k": ["a"]}}])
def test_a_required_one_may_not(document: dict):
    with pytest.raises(InvalidInput):
        DECODER.decode(document)


def test_rows_bring_the_same_inputs():
    with pytest.raises(InvalidInput, match="does not have named input: k"):
        DECODER.decode({"instances": [{"x": 1.0}, {"x": 2.0, "k": "a"}]})


def test_what_does_not_fit_is_told_by_the_inputs_name():
    with pytest.raises(InvalidInput, match=r"^input 'x': JSON Value: \"a\" Type: String is not"):
        DECODER.decode({"inputs": {"x": [1.0, "a"]}})


@pytest.mark.parametrize("document", [{"inputs": {"x": []}}, {"inputs": []}], ids=["named", "bare"])
@pytest.mark.parametrize(
    ("declared", "enforced", "wanted"),
    [
        ((-1, 3), True, (0, 3)),
        ((-1, 2, -1), True, (0, 2, 0)),
        ((-1,), True, (0,)),
        ((2, 3), True, (0,)),
        (None, True, (0,)),
        ((-1, 3), False, (0,)),  # TensorFlow's own operators judge
    ],
)
def test_an_empty_list_is_no_rows(document, declared, enforced, wanted):
    spec = Spec("x", DType.FLOAT32, declared, enforced=enforced)
    found, _ = PredictDecoder(Signature.of([spec], []), "s").decode(document)
    assert found["x"].shape == wanted
