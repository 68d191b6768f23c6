"""Categories that a booster learnt, and objectives that martlet does not know."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hosting import RNG, frame

import martlet
from martlet.errors import InvalidInput

pytestmark = pytest.mark.filterwarnings("ignore")


class TestCategories:
    """A column that was a category takes its values; the rest is as the library treats it."""

    @pytest.fixture
    def table(self):
        return frame().astype({"genre": "category", "stars": "category"})

    def test_lightgbm(self, table, tmp_path: Path):
        import lightgbm
        import pandas

        label = (table["genre"] == "drama") | (table["year"] > 2000)
        booster = lightgbm.train(
            {"objective": "binary", "verbose": -1, "min_data_in_leaf": 5},
            lightgbm.Dataset(table, label),
            5,
        )
        booster.save_model(tmp_path / "m.txt")
        asked = {
            "genre": np.array(["drama", "unseen", None, "war"], dtype=object),
            "year": np.array([1999.0, 2010.0, np.nan, 1960.0]),
            "stars": np.array([1, 3, 4, 5]),
        }
        same = pandas.DataFrame(asked).assign(
            genre=lambda t: pandas.Categorical(t["genre"], ["action", "drama", "war"]),
            stars=lambda t: pandas.Categorical(t["stars"], [1, 3, 5]),
        )
        with martlet.load(tmp_path / "m.txt") as model:
            found = model.predict(asked)["predict"]
            assert str(model.signatures["serving_default"].inputs["genre"]) == "string [-1]"
            assert "matrix" not in model.signatures
        np.testing.assert_allclose(found, booster.predict(same), rtol=1e-12)

    def test_xgboost(self, table, tmp_path: Path):
        import pandas
        import xgboost

        label = ((table["genre"] == "drama") | (table["year"] > 2000)).astype(int)
        booster = xgboost.train(
            {"objective": "binary:logistic"},
            xgboost.DMatrix(table, label, enable_categorical=True),
            5,
        )
        booster.save_model(tmp_path / "m.ubj")
        asked = {
            "genre": np.array(["drama", "action", None, "war"], dtype=object),
            "year": np.array([1999.0, 2010.0, np.nan, 1960.0]),
            "stars": np.array([1, 3, 5, 5]),
        }
        same = pandas.DataFrame(asked).assign(
            genre=lambda t: pandas.Categorical(t["genre"], ["action", "drama", "war"]),
            stars=lambda t: pandas.Categorical(t["stars"], [1, 3, 5]),
        )
        expected = booster.predict(xgboost.DMatrix(same, enable_categorical=True))
        with martlet.load(tmp_path / "m.ubj") as model:
            np.testing.assert_allclose(model.predict(asked)["predict"], expected, rtol=1e-5)

    def test_catboost(self, tmp_path: Path):
        import catboost

        table = frame()
        table["stars"] = table["stars"].astype(str)
        label = ((table["genre"] == "drama") | (table["year"] > 2000)).astype(int)
        trained = catboost.CatBoostClassifier(
            iterations=5, verbose=False, allow_writing_files=False, cat_features=["genre", "stars"]
        ).fit(table, label)
        trained.save_model(str(tmp_path / "m.cbm"))
        asked = {
            "genre": np.array(["drama", "unseen", b"war"], dtype=object),
            "year": np.array([1999.0, np.nan, 1960.0]),
            "stars": np.array(["1", "4", "5"], dtype=object),
        }
        rows = [["drama", 1999.0, "1"], ["unseen", np.nan, "4"], ["war", 1960.0, "5"]]
        with martlet.load(tmp_path / "m.cbm") as model:
            found = model.predict(asked)
            np.testing.assert_allclose(
                found["Probability"], trained.predict_proba(rows), rtol=1e-12
            )
            assert found["Class"].tolist() == trained.predict(rows).tolist()
            numbers = asked | {"stars": np.array([1, 4, 5])}
            assert model.predict(numbers)["Class"].tolist() == found["Class"].tolist()
            with pytest.raises(InvalidInput, match="cat_feature"):
                model.predict(asked | {"stars": np.array([1.5, 4, 5])})
            with pytest.raises(InvalidInput, match="missing category"):
                model.predict(asked | {"genre": np.array(["drama", None, "war"], dtype=object)})


def test_an_objective_that_is_not_known_is_asked_of_xgboost(tmp_path: Path, monkeypatch):
    import xgboost

    from martlet.formats import xgboost as ours

    monkeypatch.delitem(ours._LINKS, "binary:logistic")
    rows = RNG.normal(size=(80, 3))
    label = (rows[:, 0] > 0).astype(int)
    booster = xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(rows, label), 3)
    booster.save_model(tmp_path / "m.json")
    with martlet.load(tmp_path / "m.json") as model:
        found = model.predict({"X": rows})["predict"]
        assert model.predict({"X": rows[:0]})["predict"].shape == (0,)
    np.testing.assert_allclose(found, booster.inplace_predict(rows), rtol=1e-6)
