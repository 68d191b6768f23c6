"""Files of an older Keras and TensorFlow, and what those answered."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import martlet

FOLDER = Path(__file__).resolve().parents[2] / "fixtures" / "older"
TOLD = json.loads((FOLDER / "keras.json").read_text(encoding="utf-8"))
pytestmark = pytest.mark.filterwarnings("ignore")


def test_a_click_model_of_keras_3_0_answers_as_it_predicted_then():
    pytest.importorskip("tensorflow")
    rows = TOLD["click"]["rows"]
    with martlet.load(FOLDER / "keras_3.0.5.keras") as model:
        signature = model.signatures["serving_default"]
        assert {name: spec.dtype.value for name, spec in signature.inputs.items()} == {
            "city": "string",
            "history": "int64",
            "price": "float32",
            "user": "int64",
        }
        found = model.predict(rows)
        alone = model.predict({name: values[2:3] for name, values in rows.items()})
    for name, wanted in TOLD["click"]["answers"].items():
        np.testing.assert_allclose(found[name], wanted, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(alone[name], wanted[2:3], rtol=1e-5, atol=1e-6)


def test_a_quantised_file_with_others_appended_answers_as_litert_did():
    pytest.importorskip("ai_edge_litert")
    with martlet.load(FOLDER / "tensorflow_2.16.2_int8.tflite") as model:
        found = model.predict({"x": np.array(TOLD["int8"]["rows"], np.int8)})
    assert found["scores"].tolist() == TOLD["int8"]["answers"]
