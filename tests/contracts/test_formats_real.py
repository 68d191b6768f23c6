"""Real files of the formats hosted by a library: found by content, equal to their own answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
    if not str(real.entry["ort_load"]).startswith("ok"):
        with pytest.raises(UnsupportedModel):
            martlet.load(real.path)
        return
    with martlet.load(real.path) as model:
        names = [n for n in model.signatures["serving_default"].inputs if not n.endswith("_shapes")]
        given = dict(zip(names, tensors(real.folder, "input"), strict=True))
        found = model.predict(dict(_padded(given)))
        names = [name for name in found if not name.endswith("_shapes")]
        for name, wanted in zip(names, tensors(real.folder, "output"), strict=True):
            for got, each in _pairs(found, name, wanted):
                assert got.dtype == each.dtype and got.shape == each.shape, name
                if each.dtype.kind == "f":
                    np.testing.assert_allclose(got, each, rtol=1e-5, atol=1e-6)
                else:
                    assert got.tolist() == each.tolist()


def _padded(given: dict[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """The inputs, of which a list of lists of different lengths is a tensor and their lengths."""
    for name, value in given.items():
        if isinstance(value, list):
            lengths = np.array([[len(each)] for each in value])
            padded = np.zeros((len(value), lengths.max()), value[0].dtype)
            for row, each in zip(padded, value, strict=True):
                row[: len(each)] = each
            yield from ((name, padded), (f"{name}_shapes", lengths))
        else:
            yield name, value


def _pairs(found: dict[str, np.ndarray], name: str, wanted: Any) -> Iterator[Any]:
    if isinstance(wanted, list):
        assert len(found[name]) == len(wanted)
        for row, shape, each in zip(found[name], found[f"{name}_shapes"], wanted, strict=True):
            yield row[tuple(map(slice, shape))], each
    else:
        yield found[name], wanted


def tensors(folder: Path, side: str) -> list[Any]:
    import onnx
    from onnx import numpy_helper

    files = sorted((folder / "test_data_set_0").glob(f"{side}_*.pb"))
    signature = onnx.load(folder / "model.onnx").graph
    ends = signature.input if side == "input" else signature.output
    return [
        numpy_helper.to_list(onnx.SequenceProto.FromString(file.read_bytes()))
        if end.type.HasField("sequence_type")
        else numpy_helper.to_array(onnx.TensorProto.FromString(file.read_bytes()))
        for file, end in zip(files, ends, strict=True)
    ]
