"""Golden examples: a version that answers one wrongly never answers anybody."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from martlet.errors import UnsupportedModel
from martlet.servable import DEFAULT_SIGNATURE
from martlet.serving import golden
from martlet.tensors import DType, Signature, Spec, Tensors


class Doubles:
    signatures: Mapping[str, Signature] = {
        DEFAULT_SIGNATURE: Signature.of(
            [Spec("x", DType.FLOAT32, (-1,))],
            [Spec("y", DType.FLOAT32, (-1,)), Spec("label", DType.STRING, (-1,))],
        )
    }

    def predict(self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE) -> dict[str, Any]:
        x = inputs["x"]
        labels = np.array([b"high" if v > 1 else b"low" for v in x], object)
        return {"y": x * 2, "label": labels}

    def close(self) -> None:
        pass


def checked(tmp_path: Any, document: Any) -> int:
    file = tmp_path / golden.FILE
    file.write_text(json.dumps(document))
    assert golden.find(tmp_path) == file
    return golden.check(Doubles(), golden.read(file), "v2")


def example(outputs: Any, inputs: Any = None) -> dict[str, Any]:
    return {"examples": [{"inputs": inputs or {"x": [1, 2.5]}, "outputs": outputs}]}


def test_right_answers_pass(tmp_path):
    assert checked(tmp_path, example({"y": [2.0, 5.0], "label": ["low", "high"]})) == 1
    assert checked(tmp_path, example({"y": [2.000001, 5.0]})) == 1
    assert checked(tmp_path, {**example({"y": [2.1, 5.0]}), "atol": 0.2}) == 1


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (example({"y": [2.0, 5.1]}), r"'y' at \[1\] is 5.0; 5.1 was expected \(off by more"),
        (example({"label": ["low", "low"]}), "high.*; low was expected"),
        (example({"y": [2.0]}), r"'y' has shape \[2\]; \[1\] was expected"),
        (example({"z": [2.0]}), "there is no output 'z'"),
        (example({"y": [2.0]}, {"w": [1.0]}), "its inputs do not fit"),
        (example({"y": [2.0]}, {"x": ["a"]}), "its inputs do not fit"),
        (example({"y": ["a", 5.0]}), "expected of output 'y' is not a tensor of float32"),
        (example({"y": [[2.0], [5.0, 6.0]]}), "expected of output 'y' is not a tensor of float32"),
        (example({}), "'outputs' holds no tensors by name"),
        (example({"y": [2.0, 5.0]}, [1, 2.5]), "'inputs' holds no tensors by name"),
        ({"examples": []}, "'examples' holds no examples"),
        ({**example({"y": [2.0, 5.0]}), "rtol": -1}, "'rtol' is -1.0"),
        ({**example({"y": [2.0, 5.0]}), "atol": float("inf")}, "'atol' is inf"),
        ({**example({"y": [2.0, 5.0]}), "atol": float("nan")}, "'atol' is nan"),
        ({"examples": [{"inputs": {}}]}, "does not hold golden examples"),
        ([], "does not hold golden examples"),
    ],
)
def test_a_wrong_answer_is_told_in_words(tmp_path, document, why):
    with pytest.raises(UnsupportedModel, match=why):
        checked(tmp_path, document)


def test_outputs_that_are_not_those_of_the_signature_are_refused():
    class Lies(Doubles):
        def predict(self, inputs: Tensors, signature_name: str = "") -> dict[str, Any]:
            return {"y": inputs["x"].astype(np.float64), "label": inputs["x"]}

    with pytest.raises(UnsupportedModel, match="output 'y' is float64; the signature says float32"):
        golden.check_runs(Lies(), {"x": np.ones(1, np.float32)}, "v2")


def test_a_file_has_its_examples_beside_it(tmp_path):
    model = tmp_path / "m.onnx"
    model.touch()
    assert golden.find(model) is None
    beside = tmp_path / "m.onnx.golden.json"
    beside.touch()
    assert golden.find(model) == beside
