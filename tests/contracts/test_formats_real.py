"""Real files of the formats hosted by a library: found by content, equal to their own answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from real_models import Real, check, real_models

import martlet
from martlet.errors import UnsupportedModel

pytestmark = [pytest.mark.shared, pytest.mark.filterwarnings("ignore")]


@pytest.mark.parametrize(
    "real", real_models("lightgbm", "xgboost", "catboost", "sklearn", "mlflow")
)
def test_a_model_of_tables_answers_as_its_library_did(real: Real):
    check(real)


@pytest.mark.parametrize("real", real_models("onnx"))
def test_an_onnx_graph_answers_as_onnxruntime_did(real: Real):
    if (real.folder / "test_data_set_0").is_dir():
        check_conformance(real)
    else:
        check(real)


def check_conformance(real: Real) -> None:
    """An operator of ONNX' own conformance suite: inputs and outputs are protobufs."""
    if real.entry["id"] == "backend_sequence_insert_at_front":
        with martlet.load(real.path) as model:
            # Elements of different lengths are no tensor; what is one goes in.
            same = np.arange(6).reshape(2, 3)
            got = model.predict(
                {"sequence": same, "tensor": np.array([7, 8, 9]), "position": np.array([0])}
            )
            assert got["output_sequence"].tolist() == [[7, 8, 9], [0, 1, 2], [3, 4, 5]]
        return
    if not str(real.entry["ort_load"]).startswith("ok"):
        with pytest.raises(UnsupportedModel):
            martlet.load(real.path)
        return
    with martlet.load(real.path) as model:
        signature = model.signatures["serving_default"]
        given = dict(zip(signature.inputs, tensors(real.folder, "input"), strict=True))
        found = model.predict(given)
        for (name, got), wanted in zip(found.items(), tensors(real.folder, "output"), strict=True):
            assert got.dtype == wanted.dtype and got.shape == wanted.shape, name
            if wanted.dtype.kind == "f":
                np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)
            else:
                assert got.tolist() == wanted.tolist()


def tensors(folder: Path, side: str) -> list[np.ndarray]:
    import onnx
    from onnx import numpy_helper

    files = sorted((folder / "test_data_set_0").glob(f"{side}_*.pb"))
    return [numpy_helper.to_array(onnx.TensorProto.FromString(f.read_bytes())) for f in files]
