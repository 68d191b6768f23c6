"""Files that older versions of the libraries wrote, and what those versions answered."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import martlet
from martlet.errors import UnsupportedModel
from martlet.formats import LoadOptions, sklearn

pytestmark = pytest.mark.filterwarnings("ignore")

FOLDER = Path(__file__).resolve().parents[2] / "fixtures" / "older"
TOLD = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))
LIBRARY = {".joblib": "sklearn", ".model": "xgboost", ".txt": "lightgbm"}


def opened(path: Path) -> martlet.Checked:
    """The model; a pickle, which is ours, in this process: to start one for each takes seconds."""
    if path.suffix != ".joblib":
        return martlet.load(path)
    return martlet.Checked(sklearn.open_pickle(path, LoadOptions(trusted=True)))


@pytest.mark.parametrize("name", [n for n in TOLD["answers"] if n != "adaboost.joblib"])
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


def test_what_would_answer_otherwise_is_refused():
    pytest.importorskip("sklearn")
    with pytest.raises(UnsupportedModel, match=r"SAMME\.R"):
        martlet.load(FOLDER / "adaboost.joblib", trusted=True)
