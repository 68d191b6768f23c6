"""XGBoost's and LightGBM's models inside Spark ML and MLeap answer as their own libraries do."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import bundles
import numpy as np
import pytest

import martlet
from martlet.errors import UnsupportedModel

xgboost = pytest.importorskip("xgboost", reason="the extra martlet[xgboost] is not installed")
lightgbm = pytest.importorskip("lightgbm", reason="the extra martlet[lightgbm] is not installed")

RNG = np.random.default_rng(7)
ROWS = np.round(RNG.normal(size=(80, 4)) * (RNG.random((80, 4)) < 0.7), 3)
TWO = (ROWS[:, 0] > ROWS[:, 1]).astype(float)
THREE = (ROWS[:, 0] > 0) + (ROWS[:, 1] > 0.2)
SCALA = "ml.dmlc.xgboost4j.scala.spark."
SYNAPSE = "com.microsoft.azure.synapse.ml.lightgbm."
COLUMNS = {"featuresCol": "features", "predictionCol": "prediction"}
CLASSES = {**COLUMNS, "probabilityCol": "probability", "rawPredictionCol": "rawPrediction"}


def boosted(objective: str, label: Any, missing: float = np.nan, **more: Any) -> Any:
    given = {"objective": objective, "max_depth": 2, "nthread": 1, **more}
    return xgboost.train(given, xgboost.DMatrix(ROWS, label, missing=missing), 6)


def wanted(booster: Any, missing: float = np.nan, margin: bool = False) -> Any:
    found = booster.predict(xgboost.DMatrix(ROWS, missing=missing), output_margin=margin)
    return np.asarray(found, float)


def stage(path: Path, name: str, params: dict[str, Any], **more: Any) -> Path:
    metadata = {"class": name, "timestamp": 1, "sparkVersion": "3.5.1", "uid": "model_1",
                "paramMap": params, "defaultParamMap": {}, **more}  # fmt: skip
    (path / "metadata").mkdir(parents=True)
    (path / "metadata" / "part-00000").write_text(json.dumps(metadata) + "\n")
    return path


def beside(path: Path, name: str, content: bytes) -> Path:
    (path / name).parent.mkdir()
    (path / name).write_bytes(content)
    return path


def answers(path: Path) -> dict[str, np.ndarray]:
    with martlet.load(path) as model:
        return model.predict({"features": ROWS}, "prediction")


class TestXGBoost4JSpark:
    @pytest.mark.parametrize("form", ["json", "ubj", "deprecated"])
    @pytest.mark.parametrize("counted", [True, False])
    def test_a_classifier_of_two_classes(self, tmp_path: Path, form: str, counted: bool) -> None:
        booster = boosted("binary:logistic", TWO)
        if form == "deprecated":
            older = Path(__file__).parents[2] / "fixtures/older/xgboost_2.1.4_logistic.deprecated"
            content = older.read_bytes()
        else:
            content = bytes(booster.save_raw(form))
        head = (2).to_bytes(4, "big") if counted and form == "deprecated" else b""
        path = stage(tmp_path, f"{SCALA}XGBoostClassificationModel", CLASSES)
        beside(path, "data/XGBoostClassificationModel", head + content)
        with martlet.load(path) as model:
            shape = model.signatures["prediction"].inputs["features"].shape
            assert shape is not None
            found = model.predict({"features": np.zeros((3, shape[1]))}, "prediction")
        assert found["probability"].shape == (3, 2)
        if form != "deprecated":
            found = answers(path)
            margin = wanted(booster, margin=True)
            np.testing.assert_array_equal(found["rawPrediction"], np.c_[-margin, margin])
            np.testing.assert_allclose(found["probability"][:, 1], wanted(booster), rtol=1e-6)
            np.testing.assert_array_equal(found["prediction"], wanted(booster) > 0.5)

    def test_its_latest_versions_keep_the_booster_in_a_file_called_model(
        self, tmp_path: Path
    ) -> None:
        booster = boosted("multi:softprob", THREE, num_class=3)
        path = stage(tmp_path, f"{SCALA}XGBoostClassificationModel", CLASSES)
        found = answers(beside(path, "data/model", bytes(booster.save_raw("ubj"))))
        np.testing.assert_allclose(found["probability"], wanted(booster), rtol=1e-6)
        np.testing.assert_array_equal(found["prediction"], wanted(booster).argmax(axis=1))

    def test_multi_softmax_answers_the_class_and_no_probability(self, tmp_path: Path) -> None:
        booster = boosted("multi:softmax", THREE, num_class=3)
        path = stage(tmp_path, f"{SCALA}XGBoostClassificationModel", CLASSES)
        found = answers(beside(path, "data/model", bytes(booster.save_raw("ubj"))))
        assert list(found) == ["rawPrediction", "prediction"]
        np.testing.assert_array_equal(found["prediction"], wanted(booster))

    def test_the_number_that_stands_for_a_missing_one(self, tmp_path: Path) -> None:
        booster = boosted("reg:squarederror", ROWS[:, 2], missing=0.0)
        params = {**COLUMNS, "missing": 0.0, "leafPredictionCol": "leaf"}
        path = stage(tmp_path, f"{SCALA}XGBoostRegressionModel", params)
        found = answers(beside(path, "data/XGBoostRegressionModel", bytes(booster.save_raw())))
        np.testing.assert_array_equal(found["prediction"], wanted(booster, missing=0.0))
        leaves = booster.predict(xgboost.DMatrix(ROWS, missing=0.0), pred_leaf=True)
        np.testing.assert_array_equal(found["leaf"], leaves)

    def test_what_a_sparse_row_leaves_out_is_missing_where_that_is_allowed(
        self, tmp_path: Path
    ) -> None:
        booster = boosted("reg:squarederror", ROWS[:, 2])
        params = {**COLUMNS, "missing": "NaN", "allowNonZeroForMissing": True}
        path = stage(tmp_path, f"{SCALA}XGBoostRegressionModel", params)
        found = answers(beside(path, "data/XGBoostRegressionModel", bytes(booster.save_raw())))
        sparse = 1.5 * (np.count_nonzero(ROWS, axis=1) + 1) < ROWS.shape[1]
        assert sparse.any() and not sparse.all()
        expected = np.where(sparse, wanted(booster, missing=0.0), wanted(booster))
        np.testing.assert_array_equal(found["prediction"], expected)

    @pytest.mark.parametrize("name, value", [("treeLimit", 2), ("baseMarginCol", "base")])
    def test_what_would_change_its_answers_is_refused(
        self, tmp_path: Path, name: str, value: Any
    ) -> None:
        params = {**COLUMNS, name: value}
        path = stage(tmp_path, f"{SCALA}XGBoostRegressionModel", params)
        beside(path, "data/model", bytes(boosted("reg:squarederror", TWO).save_raw()))
        with pytest.raises(UnsupportedModel, match=f"{name}={value!r} is not supported"):
            martlet.load(path)

    def test_a_damaged_booster_is_refused_by_the_name_of_its_stage(self, tmp_path: Path) -> None:
        path = stage(tmp_path, f"{SCALA}XGBoostRegressionModel", COLUMNS)
        beside(path, "data/model", bytes(boosted("reg:squarederror", TWO).save_raw())[:500])
        with pytest.raises(UnsupportedModel, match=r"Model model_1 .*its booster"):
            martlet.load(path)


class TestXGBoostForPySpark:
    def write(self, path: Path, kind: str, booster: Any, **params: Any) -> Path:
        stage(path, f"xgboost.spark.estimator.{kind}", {**CLASSES, **params})
        text = booster.save_raw("json").decode()
        lines = "\n".join(text[i : i + 4096] for i in range(0, len(text), 4096)) + "\n"
        return beside(path, "model/part-00000", lines.encode())

    def test_a_classifier_saved_in_lines(self, tmp_path: Path) -> None:
        booster = boosted("binary:logistic", TWO)
        found = answers(self.write(tmp_path, "SparkXGBClassifierModel", booster))
        np.testing.assert_allclose(found["probability"][:, 1], wanted(booster), rtol=1e-6)
        np.testing.assert_array_equal(found["prediction"], wanted(booster) > 0.5)

    def test_its_columns_may_come_one_by_one(self, tmp_path: Path) -> None:
        booster = boosted("reg:squarederror", ROWS[:, 2])
        names = ["a", "b", "c", "d"]
        path = self.write(tmp_path, "SparkXGBRegressorModel", booster, features_cols=names)
        with martlet.load(path) as model:
            assert list(model.signatures["prediction"].inputs) == names
            found = model.predict(dict(zip(names, ROWS.T, strict=True)), "prediction")
        np.testing.assert_array_equal(found["prediction"], wanted(booster))

    def test_an_early_stop_leaves_out_the_rounds_after_the_best(self, tmp_path: Path) -> None:
        booster = boosted("reg:squarederror", ROWS[:, 2])
        booster.set_attr(best_iteration="2")
        found = answers(self.write(tmp_path, "SparkXGBRankerModel", booster))
        np.testing.assert_array_equal(found["prediction"], wanted(booster[:3]))


def java_object(text: str) -> bytes:
    """An object stream with one string, as ``ObjectOutputStream.writeObject`` leaves it."""
    data = text.encode()
    size = (
        b"|" + len(data).to_bytes(8, "big")
        if len(data) > 0xFFFF
        else b"t" + len(data).to_bytes(2, "big")
    )
    return b"\xac\xed\x00\x05sr\x00\x04Some\x78\x70" + size + data + b"x"


class TestLightGBM:
    @pytest.fixture(params=[3, 200], ids=["short", "long"])
    def booster(self, request: pytest.FixtureRequest) -> Any:
        params = {"objective": "binary", "verbose": -1, "num_leaves": 7, "min_data_in_leaf": 3,
                  "num_threads": 1, "deterministic": True}  # fmt: skip
        return lightgbm.train(params, lightgbm.Dataset(ROWS, TWO), request.param)

    def test_a_classifier_of_synapseml(self, tmp_path: Path, booster: Any) -> None:
        params = {**CLASSES, "leafPredictionCol": "leaf"}
        path = stage(tmp_path, f"{SYNAPSE}LightGBMClassificationModel", params)
        beside(path, "complexParams/lightGBMBooster", java_object(booster.model_to_string()))
        found = answers(path)
        chances = booster.predict(ROWS)
        np.testing.assert_allclose(found["probability"], np.c_[1 - chances, chances], rtol=1e-9)
        np.testing.assert_allclose(
            found["rawPrediction"][:, 1], booster.predict(ROWS, raw_score=True), rtol=1e-9
        )
        np.testing.assert_array_equal(found["prediction"], chances > 0.5)
        np.testing.assert_array_equal(found["leaf"], booster.predict(ROWS, pred_leaf=True))

    def test_a_stream_without_a_model_is_refused(self, tmp_path: Path) -> None:
        path = stage(tmp_path, f"{SYNAPSE}LightGBMRegressionModel", COLUMNS)
        beside(path, "complexParams/lightGBMBooster", java_object("another thing"))
        with pytest.raises(UnsupportedModel, match="holds no model of LightGBM"):
            martlet.load(path)

    def test_within_a_bundle(self, tmp_path: Path, booster: Any) -> None:
        node = bundles.Node(
            "gbm", "lightgbm_classifier", {"booster": booster.model_to_string()},
            {"features": "features"}, {"prediction": "prediction", "probability": "probability"},
        )  # fmt: skip
        found = answers(bundles.write_folder(tmp_path / "b", bundles.files([node], "json")))
        np.testing.assert_allclose(found["probability"][:, 1], booster.predict(ROWS), rtol=1e-9)


class TestMLeapXGBoost:
    def write(self, path: Path, op: str, booster: Any, form: str, **attributes: Any) -> Path:
        outputs = {"prediction": "prediction"}
        if op.endswith("classifier"):
            outputs |= {"probability": "probability", "raw_prediction": "rawPrediction"}
        node = bundles.Node("booster", op, attributes, {"features": "features"}, outputs)
        parts = bundles.files([node], form)
        parts["root/booster.node/xgboost.model"] = bytes(booster.save_raw("ubj"))
        return bundles.write_zip(path / "bundle.zip", parts)

    @pytest.mark.parametrize("form", ["json", "protobuf"])
    def test_a_classifier(self, tmp_path: Path, form: str) -> None:
        booster = boosted("binary:logistic", TWO)
        path = self.write(
            tmp_path, "xgboost.classifier", booster, form, num_classes=2, num_features=4
        )
        found = answers(path)
        np.testing.assert_allclose(found["probability"][:, 1], wanted(booster), rtol=1e-6)
        np.testing.assert_array_equal(found["prediction"], np.floor(wanted(booster) + 0.5))

    def test_a_regression_that_takes_zero_as_missing(self, tmp_path: Path) -> None:
        booster = boosted("reg:squarederror", ROWS[:, 2], missing=0.0)
        path = self.write(
            tmp_path, "xgboost.regression", booster, "json", treats_zero_as_missing=True
        )
        np.testing.assert_array_equal(answers(path)["prediction"], wanted(booster, missing=0.0))


def test_a_stage_of_another_package_is_refused_by_its_class(tmp_path: Path) -> None:
    path = stage(tmp_path, "com.johnsnowlabs.nlp.DocumentAssembler", {})
    with pytest.raises(UnsupportedModel, match=r"com\.johnsnowlabs\.nlp\.DocumentAssembler"):
        martlet.load(path)
