"""Where martlet's forest stands in for a library: where it was proved equal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hosting import RNG

import martlet

pytestmark = pytest.mark.filterwarnings("ignore")


class TestProvedForest:
    """Trees walk through martlet's own forest where it gave the library's very numbers at load."""

    @pytest.fixture(
        params=[
            *("lightgbm", "lightgbm, zero is missing", "lightgbm, categories"),
            *("xgboost", "xgboost dart"),
            *("catboost cbm", "catboost json", "catboost cbm Lossguide"),
        ]
    )
    def trained(self, request, tmp_path: Path):
        """The file, rows, what its library answers, and by which name martlet does."""
        rows = RNG.normal(size=(400, 4))
        rows[RNG.random(rows.shape) < 0.1] = np.nan
        label = np.nan_to_num(rows[:, 0] * rows[:, 1])
        path = tmp_path / "model"
        if request.param.startswith("lightgbm"):
            import lightgbm

            zero = request.param.endswith("missing")
            if zero:
                rows[RNG.random(rows.shape) < 0.2] = 0
                rows[:5, 0] = [-0.0, 1e-35, -1e-36, 2e-35, -2e-35]
            parameters = {"verbose": -1, "zero_as_missing": zero}
            coded = []
            if request.param.endswith("categories"):
                coded, parameters["min_data_per_group"] = [2, 3], 5
                rows[:, 2] = RNG.integers(0, 30, len(rows))
                rows[:, 3] = RNG.integers(0, 200, len(rows))
                label += np.sin(rows[:, 2] * 7) + np.sin(rows[:, 3] * 5)
            data = lightgbm.Dataset(rows, label, categorical_feature=coded)
            booster = lightgbm.train(parameters, data, 20)
            for column in coded:  # unknown ones, and what is rounded to one
                rows[:40, column] = RNG.choice([-1.0, -0.5, 3.7, 31.0, 1e4, 1e10, np.nan], 40)
            booster.save_model(path)
            return path, rows, booster.predict, "predict"
        if request.param.startswith("catboost"):
            import catboost

            _, kind, *policy = request.param.split()
            parameters = {"iterations": 20, "thread_count": 1, "allow_writing_files": False}
            parameters |= {"grow_policy": policy[0]} if policy else {}
            model = catboost.CatBoost(parameters).fit(rows, label, verbose=False)
            model.save_model(str(path), format=kind)
            if kind == "json":  # whose numbers it reads to the last bit but one
                model = catboost.CatBoost().load_model(str(path), format="json")
            return path, rows, model.predict, "RawFormulaVal"
        import xgboost

        parameters = {"max_depth": 4, "base_score": 0.3}
        if request.param.endswith("dart"):
            # Each tree's weight multiplies what it added to a base score that rounds it.
            parameters |= {"booster": "dart", "rate_drop": 0.3}
        booster = xgboost.train(parameters, xgboost.DMatrix(rows, label), 20)
        booster.save_model(tmp_path / "model.ubj")
        return tmp_path / "model.ubj", rows, booster.inplace_predict, "predict"

    @pytest.mark.parametrize("native", ["0", "1"])
    def test_both_ways_answer_as_the_library_to_the_last_bit(self, trained, native, monkeypatch):
        from martlet.native import find

        monkeypatch.setenv("MARTLET_NATIVE", native)
        path, rows, own, name = trained
        with martlet.load(path) as model:
            assert (model._servable._sum is not None) == (find("forest") is not None)
            many = np.concatenate([rows, rows, rows])  # which CatBoost's own may take faster
            for some in (rows, rows[:1], np.asfortranarray(rows), rows[::3], many):
                assert model.predict({"X": some})[name].tolist() == own(some).tolist()

    def test_a_forest_that_adds_up_to_something_else_is_not_used(self, trained, monkeypatch):
        path, rows, own, name = trained
        wrong = np.zeros((1, 1))
        monkeypatch.setattr("martlet.formats.trees.forest.TreeSum.__call__", lambda self, x: wrong)
        with martlet.load(path) as model:
            assert model._servable._sum is None
            assert model.predict({"X": rows})[name].tolist() == own(rows).tolist()
