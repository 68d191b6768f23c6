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


WORDS = np.array(["war", "", "ünï", "nan", "7", "drama"], dtype=object)


class TestCategoriesOfCatBoost:
    """However the rows are handed to CatBoost, few or many, its own answers come back."""

    KINDS = ("words first", "numbers first", "turn by turn", "turn by turn, named", "words alone")

    @pytest.fixture(scope="class")
    def trained(self, tmp_path_factory):
        import catboost

        folder = tmp_path_factory.mktemp("categories")

        def train(kind: str):
            kinds = {"words first": "wwnn", "numbers first": "nnww", "words alone": "www"}
            order = kinds.get(kind, "nwnwn")
            words = [at for at, letter in enumerate(order) if letter == "w"]
            rows = np.empty((300, len(order)), object)
            for at in range(len(order)):
                chosen = WORDS[RNG.integers(0, len(WORDS), 300)]
                rows[:, at] = chosen if at in words else RNG.normal(size=300)
            label = (rows[:, words[0]] == "war") ^ (rows[:, words[1]] == "7")
            names = [f"column {at}" for at in range(len(order))] if "named" in kind else None
            model = catboost.CatBoostClassifier(
                iterations=8, verbose=False, allow_writing_files=False, one_hot_max_size=2
            )
            model.fit(catboost.Pool(rows, label, words, feature_names=names))
            model.save_model(str(folder / kind))
            return model, folder / kind, rows, words

        return train

    @pytest.mark.parametrize("kind", KINDS)
    def test_every_order_of_features(self, trained, kind: str):
        import catboost

        model, path, rows, words = trained(kind)
        rows[3, words[0]] = "unseen"
        rows[5, [at for at in range(rows.shape[1]) if at not in words]] = np.nan
        rows[6, [at for at in range(rows.shape[1]) if at not in words]] = 1e300
        with martlet.load(path) as served:
            names = list(served.signatures["serving_default"].inputs)
            for count in (1, 2, 7, 8, 9, 300):
                part = rows[:count]
                asked = {
                    name: part[:, at] if at in words else part[:, at].astype(np.float64)
                    for at, name in enumerate(names)
                }
                expected = model.predict(part, prediction_type="RawFormulaVal")
                np.testing.assert_array_equal(served.predict(asked)["RawFormulaVal"], expected)
                leaf = model.calc_leaf_indexes(catboost.Pool(part, cat_features=words))
                np.testing.assert_array_equal(served.predict(asked, "leaf")["leaf"], leaf)
            none = {name: column[:0] for name, column in asked.items()}
            assert served.predict(none)["Probability"].shape == (0, 2)

    @pytest.mark.parametrize("count", [2, 50])
    def test_whole_numbers_and_bytes_stand_for_their_text(self, trained, count: int):
        model, path, _, _ = trained("words alone")
        told = [[7, "war", b"nan"], [np.int64(7), np.str_("war"), True]] * (count // 2)
        texts = [["7", "war", "nan"], ["7", "war", "1"]] * (count // 2)
        columns = [np.array(column, dtype=object) for column in zip(*told, strict=True)]
        columns[0] = columns[0].astype(np.int64)
        with martlet.load(path) as served:
            found = served.predict({str(at): column for at, column in enumerate(columns)})
        expected = model.predict(texts, prediction_type="RawFormulaVal")
        np.testing.assert_array_equal(found["RawFormulaVal"], expected)

    @pytest.mark.parametrize("count", [1, 50])
    @pytest.mark.parametrize(
        ("cell", "told"),
        [
            (None, "'0' has a missing category"),
            (1.5, "a cat_feature is text or a whole number"),
            (float("nan"), "a cat_feature is text or a whole number"),
            ([1], "a cat_feature is text or a whole number"),
            ("\ud800", "UTF-8"),
        ],
    )
    def test_what_is_no_category_is_refused(self, trained, count: int, cell, told: str):
        _, path, rows, _ = trained("words first")
        asked = {str(at): rows[:count, at].copy() for at in range(2)}
        asked |= {str(at): rows[:count, at].astype(np.float64) for at in (2, 3)}
        asked["0"][0] = cell
        with martlet.load(path) as served, pytest.raises(InvalidInput, match=told):
            served.predict(asked)

    def test_text_features(self, tmp_path: Path):
        import catboost

        rows = np.empty((200, 3), object)
        rows[:, 0] = WORDS[RNG.integers(0, len(WORDS), 200)]
        rows[:, 1] = RNG.normal(size=200)
        rows[:, 2] = [" ".join(WORDS[RNG.integers(0, len(WORDS), 5)]) for _ in range(200)]
        label = np.array(["war" in text for text in rows[:, 2]])
        model = catboost.CatBoostClassifier(iterations=8, verbose=False, allow_writing_files=False)
        model.fit(catboost.Pool(rows, label, cat_features=[0], text_features=[2]))
        model.save_model(str(tmp_path / "m.cbm"))
        with martlet.load(tmp_path / "m.cbm") as served:
            for count in (1, 200):
                part = rows[:count]
                asked = {"0": part[:, 0], "1": part[:, 1].astype(float), "2": part[:, 2]}
                found = served.predict(asked)["RawFormulaVal"]
                expected = model.predict(part, prediction_type="RawFormulaVal")
                np.testing.assert_array_equal(found, expected)


def test_an_objective_that_is_not_known_is_asked_of_xgboost(tmp_path: Path, monkeypatch):
    import xgboost

    from martlet.formats.xgboost import servable as ours

    monkeypatch.delitem(ours._LINKS, "binary:logistic")
    rows = RNG.normal(size=(80, 3))
    label = (rows[:, 0] > 0).astype(int)
    booster = xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(rows, label), 3)
    booster.save_model(tmp_path / "m.json")
    with martlet.load(tmp_path / "m.json") as model:
        found = model.predict({"X": rows})["predict"]
        assert model.predict({"X": rows[:0]})["predict"].shape == (0,)
    np.testing.assert_allclose(found, booster.inplace_predict(rows), rtol=1e-6)
