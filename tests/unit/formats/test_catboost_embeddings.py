"""Embedding features of CatBoost: inputs of vectors, answered as CatBoost answers."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import martlet
from martlet.errors import InvalidInput, UnsupportedModel

catboost = pytest.importorskip("catboost")
pytestmark = pytest.mark.filterwarnings("ignore")

DICE = np.random.default_rng(8)
ROWS = 150
USER, ITEM = DICE.normal(size=(ROWS, 6)), DICE.normal(size=(ROWS, 4))
AGE = DICE.normal(size=ROWS)
WORD = np.array(["a b", "b c", "c"], object)[DICE.integers(0, 3, ROWS)]
SCORE = USER[:, 0] + ITEM[:, 1] * AGE + (WORD == "c")

MODELS: dict[str, tuple[list[Any], list[int], list[int], list[int], Any, str]] = {
    "beside all others": (
        [AGE, USER, WORD, ITEM, WORD],
        [2],
        [4],
        [1, 3],
        SCORE > 0,
        "Logloss",
    ),
    "beside numbers": ([USER, AGE, ITEM], [], [], [0, 2], SCORE, "RMSE"),
    "beside categories": ([USER, WORD], [1], [], [0], SCORE > 0, "Logloss"),
    "alone": ([USER], [], [], [0], np.digitize(SCORE, [-0.5, 0.5]), "MultiClass"),
    "alone, of one size": ([USER, USER[::-1]], [], [], [0, 1], SCORE > 0, "Logloss"),
}


@pytest.fixture(params=MODELS)
def trained(request, tmp_path: Path):
    """The model, its columns, what makes a pool of some rows, and its file."""
    columns, categories, texts, vectors, target, loss = MODELS[request.param]

    def pool(count: int, label: Any = None):
        cells = [each[:count].tolist() for each in columns]
        return catboost.Pool(
            [list(row) for row in zip(*cells, strict=True)],
            label,
            cat_features=categories,
            text_features=texts,
            embedding_features=vectors,
        )

    told = {"iterations": 8, "loss_function": loss, "allow_writing_files": False}
    model = catboost.CatBoost(told).fit(pool(ROWS, np.asarray(target, float)), verbose=False)
    model.save_model(str(tmp_path / "m.cbm"))
    return model, columns, pool, tmp_path / "m.cbm"


@pytest.mark.parametrize("count", [1, 9, ROWS])
def test_vectors_are_inputs(trained, count: int):
    model, columns, pool, path = trained
    with martlet.load(path) as served:
        inputs = served.signatures["serving_default"].inputs
        shapes = [(-1, *each.shape[1:]) for each in columns]
        assert [spec.shape for spec in inputs.values()] == shapes
        asked = {str(at): column[:count] for at, column in enumerate(columns)}
        found = served.predict(asked)["RawFormulaVal"]
        expected = model.predict(pool(count), prediction_type="RawFormulaVal")
        assert found.tobytes() == np.asarray(expected).tobytes()
        leaf = model.calc_leaf_indexes(pool(count))
        np.testing.assert_array_equal(served.predict(asked, "leaf")["leaf"], leaf)
        none = {name: column[:0] for name, column in asked.items()}
        assert len(served.predict(none)["RawFormulaVal"]) == 0


def test_one_vector_stands_for_every_row(trained):
    _, columns, _, path = trained
    if len(columns) == 1:
        pytest.skip("there is no other column")
    first, *others = (column[:5] for column in columns)
    same = np.repeat(first[:1], 5, axis=0)
    with martlet.load(path) as served:
        found, expected = (
            served.predict({"0": each} | {str(at): c for at, c in enumerate(others, 1)})
            for each in (first[:1], same)
        )
    assert found["RawFormulaVal"].tolist() == expected["RawFormulaVal"].tolist()


def test_a_vector_of_another_size_is_refused(trained):
    """CatBoost itself would read what lies behind it in memory."""
    _, columns, _, path = trained
    at = next(at for at, column in enumerate(columns) if column.ndim == 2)
    asked = {str(at): column[:3] for at, column in enumerate(columns)}
    with martlet.load(path) as served, pytest.raises(InvalidInput, match="is wanted"):
        served.predict(asked | {str(at): columns[at][:3, :-1]})


def test_a_file_that_lost_its_embeddings_is_refused(trained, tmp_path: Path):
    content = trained[3].read_bytes()
    at = content.rindex(b"EmbedCalcerV1")
    for damaged in (content[:at], content.replace(b"EmbedCalcerV1", b"EmbedCalcerV0")):
        (tmp_path / "damaged.cbm").write_bytes(damaged)
        with pytest.raises(UnsupportedModel):
            martlet.load(tmp_path / "damaged.cbm").close()


def test_neighbours_that_are_not_there_are_refused(trained, tmp_path: Path):
    """A graph of the vectors that training saw, level by level; CatBoost follows it anywhere."""
    content = trained[3].read_bytes()
    levels = struct.pack("<8I", 8, ROWS, 128, 64, 32, 16, 8, 4)
    damaged = bytearray(content)
    struct.pack_into("<I", damaged, content.index(levels) + len(levels) + 8, 1 << 20)
    (tmp_path / "damaged.cbm").write_bytes(damaged)
    with pytest.raises(UnsupportedModel, match="graph of an embedding"):
        martlet.load(tmp_path / "damaged.cbm").close()
