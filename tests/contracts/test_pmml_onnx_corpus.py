"""PMML as ONNX against the shared corpus: what converts answers as the tool that wrote the file."""

from __future__ import annotations

import importlib.util
import json
import os
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from martlet.certificate import Limits
from martlet.convert.parity.converted import conversion
from martlet.convert.parity.judge import judging
from martlet.errors import UnsupportedModel

pytest.importorskip("onnx", reason="the extra martlet[convert] is not installed")

_SHARED = Path(os.environ.get("MARTLET_SHARED", Path(__file__).parents[3] / "shared")) / "pmml"
_WHOLE = os.environ.get("MARTLET_PMML") == "whole"
_SAMPLE = (
    "jpmml-r/EvTreeAuto",
    "jpmml-r/lightgbm-LightGBMIris",
    "jpmml-sklearn/OrdinalEncoderAutoNA",
    "jpmml-lightgbm/RegressionAuto_17__v2",
    "jpmml-xgboost/LinearRegressionAuto__v4",
    "sklearn-pmml-model/linear-model-lmc",
    "sklearn-pmml-model/nn-iris",
    "synth/regbin_loglog",
)
"""A file of each tool and kind, where the whole corpus (``make pmml-onnx``) is too much."""


def _entries() -> list[Any]:
    index = _SHARED / "open.json"
    if not index.is_file():
        return [pytest.param(None, marks=pytest.mark.skip(f"no {index}: set MARTLET_SHARED"))]
    triples = json.loads(index.read_text(encoding="utf-8"))["triples"]
    chosen = [each for each in triples if _WHOLE or each["id"] in _SAMPLE]
    return [pytest.param(each, id=each["id"]) for each in chosen]


@pytest.fixture(scope="module")
def check(shared: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_pmml", shared / "pmml/check_pmml.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("entry", _entries())
def test_the_graph_answers_as_the_tool_that_wrote_the_file(entry: Any, check: ModuleType):
    from pmml_onnx_adapter import score

    try:
        passed, message = check.check_entry(score, entry, str(_SHARED), "dict")
    except UnsupportedModel as exc:
        if not _WHOLE:
            raise
        pytest.skip(str(exc))
    if not passed and _WHOLE and not _certified(_SHARED / entry["pmml"]):
        pytest.skip(f"refused by its certificate: {message}")
    assert passed, message


def _certified(path: Path) -> bool:
    """Whether ``martlet convert`` would let the graph pass."""
    with judging(path, strict=True) as judge, tempfile.TemporaryDirectory() as folder:
        return conversion(judge, Path(folder, "model.onnx"), Limits()).passed
