"""Boosted trees become ONNX with every threshold as wide as it was: equal to the last bits."""

from __future__ import annotations

import numpy as np
import pytest

import martlet
from martlet.certificate import Limits, read_certificates
from martlet.convert.parity.converted import converted

ROWS, FEATURES = 400, 4


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(3)
    x = random.random((ROWS, FEATURES))
    x[random.random(x.shape) < 0.1] = np.nan
    y = np.nan_to_num(x[:, 0]) + random.normal(0, 0.1, ROWS)
    return x, y


@pytest.mark.parametrize("objective", ["regression", "binary", "multiclass", "poisson"])
def test_lightgbm(tmp_path, data, objective):
    lightgbm = pytest.importorskip("lightgbm")
    x, y = data
    classes = {"binary": 2, "multiclass": 3}.get(objective)
    target = np.abs(y) if classes is None else np.clip(y * classes, 0, classes - 1).astype(int)
    more = {"num_class": 3} if objective == "multiclass" else {}
    settings = {"objective": objective, "verbose": -1, **more}
    booster = lightgbm.train(settings, lightgbm.Dataset(x, target), 10)
    booster.save_model(str(tmp_path / "model.txt"))
    found = made(tmp_path, "lightgbm", "model.txt")
    assert found.passed, found.faults
    assert found.worst.absolute < 1e-14


@pytest.mark.parametrize(
    "objective", ["binary:logistic", "binary:hinge", "multi:softmax", "multi:softprob"]
)
def test_xgboost(tmp_path, data, objective):
    xgboost = pytest.importorskip("xgboost")
    x, y = data
    classes = 3 if objective.startswith("multi") else 2
    labels = np.clip(y * classes, 0, classes - 1).astype(int)
    settings = {"objective": objective, "max_depth": 4}
    settings |= {"num_class": 3} if classes == 3 else {}
    booster = xgboost.train(settings, xgboost.DMatrix(x, labels), 10)
    booster.save_model(tmp_path / "model.json")
    found = made(tmp_path, "xgboost", "model.json")
    assert found.passed, found.faults


@pytest.mark.parametrize("labels", [[0, 1], ["no", "yes"], [3, 5, 9], ["a", "b", "c"]], ids=str)
@pytest.mark.parametrize("loss", ["", "MultiClassOneVsAll"])
def test_a_classifier_of_catboost(tmp_path, data, labels, loss):
    catboost = pytest.importorskip("catboost")
    x, y = data
    classes = np.clip(y * len(labels), 0, len(labels) - 1).astype(int)
    more = {"loss_function": loss} if loss else {}
    model = catboost.CatBoostClassifier(
        iterations=10, verbose=False, allow_writing_files=False, **more
    )
    model.fit(x, np.array(labels)[classes]).save_model(str(tmp_path / "model.cbm"))
    assert made(tmp_path, "catboost", "model.cbm").passed
    found = martlet.load(tmp_path / "made.onnx").predict({"X": x})
    np.testing.assert_allclose(found["Probability"], model.predict_proba(x), rtol=1e-12)
    assert found["Class"].astype(str).tolist() == model.predict(x).ravel().astype(str).tolist()


@pytest.mark.parametrize("loss", ["RMSE", "Poisson", "Quantile"])
def test_a_regression_of_catboost(tmp_path, data, loss):
    catboost = pytest.importorskip("catboost")
    x, y = data
    model = catboost.CatBoostRegressor(
        iterations=10, verbose=False, allow_writing_files=False, loss_function=loss
    )
    model.fit(x, np.abs(y)).save_model(str(tmp_path / "model.cbm"))
    found = made(tmp_path, "catboost", "model.cbm")
    assert found.passed, found.faults


def test_a_single_leaf_is_a_tree_too(tmp_path, data):
    lightgbm = pytest.importorskip("lightgbm")
    x, _ = data
    data_set = lightgbm.Dataset(x, np.full(ROWS, 2.5), params={"verbose": -1})
    lightgbm.train({"verbose": -1}, data_set, 3).save_model(str(tmp_path / "model.txt"))
    assert made(tmp_path, "lightgbm", "model.txt").passed


def made(folder, format, file):
    out = folder / "made.onnx"
    return converted(folder / file, format, out, "matrix", Limits())


def test_columns_by_name_are_kept(tmp_path, data, invoke):
    lightgbm = pytest.importorskip("lightgbm")
    x, y = data
    names = ["age", "price", "hour", "clicks"]
    set_of = lightgbm.Dataset(x, y, feature_name=names)
    lightgbm.train({"verbose": -1}, set_of, 3).save_model(str(tmp_path / "model.txt"))
    out = tmp_path / "trees.onnx"
    invoke("convert", tmp_path / "model.txt", out)
    (found,) = read_certificates(tmp_path / "trees.onnx.certificate.json")
    assert found.passed
    import onnx

    assert [each.name for each in onnx.load(out).graph.input] == names
