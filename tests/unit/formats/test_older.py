"""Files that older versions of the libraries wrote, and what those versions answered."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import martlet
from martlet.formats import LoadOptions
from martlet.formats.sklearn import file

pytestmark = pytest.mark.filterwarnings("ignore")

FOLDER = Path(__file__).resolve().parents[2] / "fixtures" / "older"
TOLD = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
LIBRARY = {".joblib": "sklearn", ".model": "xgboost", ".txt": "lightgbm"}


def opened(path: Path) -> martlet.Checked:
    """The model; a pickle, which is ours, in this process: to start one for each takes seconds."""
    if path.suffix != ".joblib":
        return martlet.load(path)
    return martlet.Checked(file.open_pickle(path, LoadOptions(trusted=True)))


@pytest.mark.parametrize("name", TOLD["answers"])
def test_an_older_file_answers_as_the_version_that_wrote_it(name: str):
    pytest.importorskip(LIBRARY[Path(name).suffix])
    with opened(FOLDER / name) as model:
        found: dict[str, np.ndarray] = {}
        for called, signature in model.signatures.items():
            if list(signature.inputs) == ["X"]:
                found |= model.predict({"X": np.array(TOLD["rows"])}, called)
        if not found:
            found = model.predict(TOLD["frame"])
    for output, wanted in TOLD["answers"][name].items():
        np.testing.assert_allclose(found[output], wanted, rtol=1e-5, atol=1e-7, err_msg=output)


SKLEARN = json.loads((FOLDER / "sklearn.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", SKLEARN)
def test_what_scikit_learn_answers_otherwise_now_answers_as_it_did(name: str):
    pytest.importorskip("sklearn")
    told = SKLEARN[name]
    inputs = {
        column: np.array(values, object if isinstance(values[0], str) else np.float64)
        for column, values in told["inputs"].items()
    }
    with opened(FOLDER / name) as model:
        for method, wanted in told["answers"].items():
            found = model.predict(inputs, method)[method]
            np.testing.assert_allclose(found, wanted, rtol=1e-7, atol=1e-9, err_msg=method)


XGBOOST = json.loads((FOLDER / "xgboost.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", XGBOOST["answers"])
def test_what_xgboost_reads_otherwise_now_answers_as_it_did(name: str):
    pytest.importorskip("xgboost")
    with martlet.load(FOLDER / name) as model:
        found = model.predict({"X": np.array(XGBOOST["rows"])})
    for output, wanted in XGBOOST["answers"][name].items():
        np.testing.assert_allclose(found[output], wanted, rtol=1e-5, atol=1e-6, err_msg=output)


LIGHTGBM = json.loads((FOLDER / "lightgbm.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", LIGHTGBM["answers"])
def test_what_lightgbm_reads_otherwise_now_answers_as_it_did(name: str):
    pytest.importorskip("lightgbm")
    with martlet.load(FOLDER / name) as model:
        found = model.predict({"X": np.array(LIGHTGBM["rows"])})["predict"]
    np.testing.assert_allclose(found, LIGHTGBM["answers"][name], rtol=1e-12)


def test_a_random_forest_of_chances_gives_their_average():
    """LightGBM 2.2.2 trained it and answered so; later versions take its leaves for log-odds."""
    pytest.importorskip("lightgbm")
    rows = np.array([[-2.0, 0.0], [-0.3, 1.0], [0.2, -1.0], [2.0, 0.5]])
    wanted = [0.41830065359477125, 0.3650623885918003, 0.6746031746031745, 0.6431372549019607]
    with martlet.load(FOLDER / "random_forest.txt") as model:
        np.testing.assert_allclose(model.predict({"X": rows})["predict"], wanted, rtol=1e-12)
