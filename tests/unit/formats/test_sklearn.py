"""scikit-learn's estimators and their trees."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from hosting import RNG, frame

import martlet
from martlet.errors import InvalidInput

pytestmark = pytest.mark.filterwarnings("ignore")


class TestScikitLearn:
    @pytest.fixture
    def pipeline(self):
        from sklearn.compose import ColumnTransformer
        from sklearn.impute import SimpleImputer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import OneHotEncoder

        table = frame()
        label = np.where(table["year"] > 1980, "new", "old")
        encode = ColumnTransformer(
            [
                ("text", OneHotEncoder(handle_unknown="ignore"), ["genre"]),
                ("numbers", make_pipeline(SimpleImputer()), ["year", "stars"]),
            ]
        )
        return make_pipeline(encode, LogisticRegression()).fit(table, label)

    @pytest.mark.parametrize("kind", ["skops", "joblib"])
    def test_a_data_frames_columns_are_inputs_by_name(self, pipeline, kind: str, tmp_path: Path):
        import joblib
        import pandas
        import skops.io

        path = tmp_path / f"m.{kind}"
        (skops.io if kind == "skops" else joblib).dump(pipeline, path)
        asked = {
            "genre": np.array(["drama", "unseen"], dtype=object),
            "year": np.array([1999.0, np.nan]),
            "stars": np.array([1.0, 5.0]),
        }
        with martlet.load(path, trusted=kind == "joblib") as model:
            inputs = model.signatures["serving_default"].inputs
            assert {n: s.dtype.value for n, s in inputs.items()} == {
                "genre": "string",
                "year": "float64",
                "stars": "float64",
            }
            found = model.predict(asked)
        same = pandas.DataFrame(asked)
        assert found["predict"].tolist() == pipeline.predict(same).tolist()
        np.testing.assert_allclose(found["predict_proba"], pipeline.predict_proba(same))

    def test_documents_are_one_column_of_text(self, tmp_path: Path):
        import skops.io
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline

        texts = ["a good film", "a bad film", "good", "bad bad"]
        trained = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, [1, 0, 1, 0])
        skops.io.dump(trained, tmp_path / "m.skops")
        with martlet.load(tmp_path / "m.skops") as model:
            found = model.predict({"X": texts})
        np.testing.assert_allclose(found["predict_proba"], trained.predict_proba(texts))

    def test_a_classifier_of_two_outputs_gives_each_its_own(self, tmp_path: Path):
        import skops.io
        from sklearn.linear_model import LogisticRegression
        from sklearn.multioutput import MultiOutputClassifier

        rows = RNG.normal(size=(60, 3))
        label = np.column_stack([rows[:, 0] > 0, rows[:, 1] > 0]).astype(int)
        trained = MultiOutputClassifier(LogisticRegression()).fit(rows, label)
        skops.io.dump(trained, tmp_path / "m.skops")
        with martlet.load(tmp_path / "m.skops") as model:
            found = model.predict({"X": rows})
        assert found["predict"].tolist() == trained.predict(rows).tolist()
        for i, chances in enumerate(trained.predict_proba(rows)):
            np.testing.assert_allclose(found[f"predict_proba_{i}"], chances)


class TestTreesOfScikitLearn:
    """Its trees and forests walk through martlet's own where that gives its very numbers."""

    KINDS: ClassVar = {
        "tree": ("DecisionTreeClassifier", {}),
        "tree of numbers": ("DecisionTreeRegressor", {}),
        "forest": ("RandomForestClassifier", {"n_estimators": 12}),
        "forest of numbers": ("RandomForestRegressor", {"n_estimators": 12}),
        "extra": ("ExtraTreesClassifier", {"n_estimators": 12}),
        "boosted": ("GradientBoostingClassifier", {"n_estimators": 12}),
        "boosted numbers": ("GradientBoostingRegressor", {"n_estimators": 12}),
        "boosted of weights": ("GradientBoostingClassifier", {"loss": "exponential"}),
    }

    @pytest.mark.parametrize("classes", [2, 3])
    @pytest.mark.parametrize("kind", KINDS)
    def test_answer_to_the_last_bit(self, kind: str, classes: int, tmp_path: Path):
        import skops.io
        from sklearn import ensemble, tree

        from martlet.native import find

        name, settings = self.KINDS[kind]
        if classes == 3 and "loss" in settings:
            pytest.skip("two classes are all that it takes")
        rows = RNG.normal(size=(300, 4))
        signal = rows[:, 0] + rows[:, 1] * rows[:, 2]
        label = np.array(["low", "mid", "high"])[np.digitize(signal, [0.0, 1.0][: classes - 1])]
        chosen = getattr(tree, name, None) or getattr(ensemble, name)
        own = chosen(**settings).fit(rows, signal if name.endswith("Regressor") else label)
        skops.io.dump(own, tmp_path / "m")
        with martlet.load(tmp_path / "m") as model:
            assert (model._servable._quick is not None) == (find("forest") is not None)
            for some in (rows, rows[:1], np.asfortranarray(rows * 1.1), rows[::3], rows * 1e30):
                for output, found in model.predict({"X": some}).items():
                    assert found.tolist() == getattr(own, output)(some).tolist()
            with pytest.raises(InvalidInput, match=r"infinity|too large"):
                model.predict({"X": np.full((1, 4), 1e300)})

    def test_what_the_forest_has_not_is_scikit_learns(self, tmp_path: Path):
        import skops.io
        from sklearn.ensemble import GradientBoostingRegressor, RandomForestRegressor
        from sklearn.linear_model import LinearRegression

        rows = RNG.normal(size=(100, 3))
        for own, label in (
            (RandomForestRegressor(4), rows[:, :2]),  # two outputs
            (GradientBoostingRegressor(n_estimators=4, init=LinearRegression()), rows[:, 0]),
        ):
            own.fit(rows, label)
            skops.io.dump(own, tmp_path / "m")
            with martlet.load(tmp_path / "m") as model:
                assert model._servable._quick is None
                found = model.predict({"X": rows})["predict"]
                np.testing.assert_array_equal(found, own.predict(rows))

    def test_missing_values_are_scikit_learns(self, tmp_path: Path):
        import skops.io
        from sklearn.ensemble import RandomForestClassifier

        rows = RNG.normal(size=(300, 3))
        rows[RNG.random(rows.shape) < 0.2] = np.nan
        own = RandomForestClassifier(6).fit(rows, np.nan_to_num(rows[:, 0], nan=1.0) > 0)
        skops.io.dump(own, tmp_path / "m")
        with martlet.load(tmp_path / "m") as model:
            found = model.predict({"X": rows})["predict_proba"]
            np.testing.assert_array_equal(found, own.predict_proba(rows))
