"""Small models, each trained on the spot by its own library, with that library's answers.

The contract of test_formats.py holds over all of them. A case that needs TensorFlow or PyTorch
stands in a test module of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FEATURES = 5
_RNG = np.random.default_rng(7)
X = _RNG.normal(size=(300, FEATURES))
X[_RNG.random(X.shape) < 0.1] = np.nan
FILLED = np.nan_to_num(X)
SIGNAL = FILLED[:, 0] + FILLED[:, 1] * FILLED[:, 2]
LABEL = (SIGNAL > 0).astype(int)
CLASS = np.digitize(SIGNAL, [-0.5, 0.5])
COUNT = np.floor(np.exp(np.clip(SIGNAL, -2, 2)))

Reference = Callable[[np.ndarray], dict[str, np.ndarray]]


@dataclass(frozen=True)
class Trained:
    """
    A saved model.

    Args:
        path: The file.
        reference: From rows to what its own library answers, by the output's name.
        rtol, atol: How close martlet's answers must be.
        missing: Whether the library takes NaN.
        infinite: Whether the library takes infinities.
        trusted: Whether it opens only when trusted.
    """

    path: Path
    reference: Reference
    rtol: float = 1e-6
    atol: float = 1e-9
    missing: bool = True
    infinite: bool = True
    trusted: bool = False


Maker = Callable[[Path], Trained]


@dataclass(frozen=True)
class Case:
    """How a model is made, and the format that must be found in its content."""

    name: str
    format: str
    make: Maker

    def __str__(self) -> str:
        return self.name


def _lightgbm(label: Any, **parameters: Any) -> Maker:
    def make(folder: Path) -> Trained:
        import lightgbm

        data = lightgbm.Dataset(X, label, group=[100, 200] if "rank" in str(parameters) else None)
        booster = lightgbm.train(
            {"verbose": -1, "num_leaves": 7, "num_threads": 1, "min_data_in_leaf": 5, **parameters},
            data,
            num_boost_round=8,
        )
        path = folder / "model"
        booster.save_model(path)

        def reference(rows: np.ndarray) -> dict[str, np.ndarray]:
            return {
                "predict": booster.predict(rows),
                "raw_score": booster.predict(rows, raw_score=True),
                "leaf": booster.predict(rows, pred_leaf=True),
            }

        return Trained(path, reference)

    return make


def _xgboost(label: Any, suffix: str, **parameters: Any) -> Maker:
    def make(folder: Path) -> Trained:
        import xgboost

        booster = xgboost.train(
            {"max_depth": 3, "verbosity": 0, "nthread": 1, **parameters},
            xgboost.DMatrix(X, label),
            num_boost_round=8,
        )
        path = folder / f"named.{suffix}"
        booster.save_model(path)

        def reference(rows: np.ndarray) -> dict[str, np.ndarray]:
            table = xgboost.DMatrix(rows)
            found = {
                "predict": booster.predict(table),
                "margin": booster.predict(table, output_margin=True),
            }
            if parameters.get("booster") != "gblinear":
                found["leaf"] = booster.predict(table, pred_leaf=True).reshape(len(rows), -1)
            return found

        # Infinities: XGBoost refuses them in a DMatrix unless they are what "missing" is.
        return Trained(path, reference, rtol=1e-5, atol=1e-6, infinite=False)

    return make


_QUIET = {"depth": 3, "verbose": False, "allow_writing_files": False, "thread_count": 1}


def _catboost(label: Any, kind: str = "cbm", **parameters: Any) -> Maker:
    def make(folder: Path) -> Trained:
        import catboost

        model = catboost.CatBoost({"iterations": 8} | _QUIET | parameters).fit(X, label)
        path = folder / "model"
        model.save_model(path, format=kind)
        loss = parameters["loss_function"]
        kinds = {"RawFormulaVal"}
        kinds |= {"Probability", "Class"} if loss in ("Logloss", "MultiClass") else set()
        kinds |= {"Exponent"} if loss == "Poisson" else set()
        kinds |= {loss} if loss == "RMSEWithUncertainty" else set()

        def reference(rows: np.ndarray) -> dict[str, np.ndarray]:
            found = {k: model.predict(rows, prediction_type=k) for k in kinds}
            if "Class" in found:
                found["Class"] = np.asarray(found["Class"]).reshape(-1)
            found["leaf"] = model.calc_leaf_indexes(rows)
            return found

        return Trained(path, reference)

    return make


def _catboost_summed(folder: Path) -> Trained:
    import catboost

    parts = [
        catboost.CatBoost({"iterations": 4, "random_seed": seed} | _QUIET).fit(X, SIGNAL)
        for seed in (1, 2)
    ]
    model = catboost.sum_models(parts, weights=[0.25, 0.75])
    model.save_model(folder / "model")

    def reference(rows: np.ndarray) -> dict[str, np.ndarray]:
        raw = model.predict(rows, prediction_type="RawFormulaVal")
        return {"RawFormulaVal": raw, "leaf": model.calc_leaf_indexes(rows)}

    return Trained(folder / "model", reference)


def _sklearn(estimator: Callable[[], Any], label: Any, kind: str = "skops") -> Maker:
    def make(folder: Path) -> Trained:
        import joblib
        import skops.io

        model = estimator().fit(FILLED, label)
        path = folder / "model"
        skops.io.dump(model, path) if kind == "skops" else joblib.dump(model, path)
        methods = ("predict", "predict_proba", "decision_function", "transform")
        methods += ("predict_log_proba", "score_samples", "apply")

        def reference(rows: np.ndarray) -> dict[str, np.ndarray]:
            return {n: getattr(model, n)(rows) for n in methods if hasattr(model, n)}

        return Trained(
            path, reference, missing=False, infinite=False, trusted=kind == "joblib", atol=1e-12
        )

    return make


def _estimator(module: str, name: str, **parameters: Any) -> Callable[[], Any]:
    def build() -> Any:
        import importlib

        return getattr(importlib.import_module(f"sklearn.{module}"), name)(**parameters)

    return build


def _pipeline() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression())


def _onnx_linear(folder: Path) -> Trained:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weight = _RNG.normal(size=(FEATURES, 2))
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["X", "w"], ["scores"]),
            helper.make_node("Softmax", ["scores"], ["chances"]),
        ],
        "linear",
        [helper.make_tensor_value_info("X", TensorProto.DOUBLE, ["rows", FEATURES])],
        [
            helper.make_tensor_value_info("scores", TensorProto.DOUBLE, ["rows", 2]),
            helper.make_tensor_value_info("chances", TensorProto.DOUBLE, ["rows", 2]),
        ],
        [numpy_helper.from_array(weight, "w")],
    )
    path = folder / "model"
    # onnxruntime may lag behind the opsets that the onnx package writes.
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)

    def reference(rows: np.ndarray) -> dict[str, np.ndarray]:
        scores = rows @ weight
        powers = np.exp(scores - scores.max(axis=1, keepdims=True))
        return {"scores": scores, "chances": powers / powers.sum(axis=1, keepdims=True)}

    return Trained(path, reference, missing=False, infinite=False)


CASES = [
    Case("lightgbm binary", "lightgbm", _lightgbm(LABEL, objective="binary", sigmoid=1.7)),
    Case("lightgbm multiclass", "lightgbm", _lightgbm(CLASS, objective="multiclass", num_class=3)),
    Case("lightgbm ova", "lightgbm", _lightgbm(CLASS, objective="multiclassova", num_class=3)),
    Case("lightgbm sqrt", "lightgbm", _lightgbm(SIGNAL, objective="regression", reg_sqrt=True)),
    Case("lightgbm poisson", "lightgbm", _lightgbm(COUNT, objective="poisson")),
    Case("lightgbm tweedie", "lightgbm", _lightgbm(COUNT, objective="tweedie")),
    Case("lightgbm entropy", "lightgbm", _lightgbm(LABEL, objective="cross_entropy")),
    Case("lightgbm lambda", "lightgbm", _lightgbm(LABEL, objective="cross_entropy_lambda")),
    Case("lightgbm rank", "lightgbm", _lightgbm(LABEL, objective="lambdarank")),
    Case("lightgbm quantile", "lightgbm", _lightgbm(SIGNAL, objective="quantile", alpha=0.3)),
    Case("lightgbm linear trees", "lightgbm", _lightgbm(SIGNAL, linear_tree=True)),
    Case("lightgbm dart", "lightgbm", _lightgbm(LABEL, objective="binary", boosting="dart")),
    Case(
        "lightgbm forest",
        "lightgbm",
        _lightgbm(LABEL, objective="binary", boosting="rf", bagging_freq=1, bagging_fraction=0.5),
    ),
    Case("lightgbm categories", "lightgbm", _lightgbm(LABEL, categorical_feature=[3])),
    *(
        Case(f"xgboost {objective} {suffix}", "xgboost", _xgboost(y, suffix, objective=objective))
        for objective, y, suffix in (
            ("binary:logistic", LABEL, "json"),
            ("binary:logistic", LABEL, "ubj"),
            ("binary:logitraw", LABEL, "ubj"),
            ("binary:hinge", LABEL, "ubj"),
            ("reg:squarederror", SIGNAL, "json"),
            ("reg:logistic", LABEL, "ubj"),
            ("reg:gamma", COUNT + 1, "ubj"),
            ("reg:tweedie", COUNT, "ubj"),
            ("count:poisson", COUNT, "ubj"),
            ("survival:cox", COUNT + 1, "ubj"),
            ("rank:ndcg", LABEL, "ubj"),
            ("reg:pseudohubererror", SIGNAL, "ubj"),
        )
    ),
    *(
        Case(
            f"xgboost {objective} {suffix}",
            "xgboost",
            _xgboost(CLASS, suffix, objective=objective, num_class=3),
        )
        for objective, suffix in (("multi:softmax", "json"), ("multi:softprob", "ubj"))
    ),
    Case("xgboost dart", "xgboost", _xgboost(LABEL, "ubj", booster="dart", rate_drop=0.3)),
    Case("xgboost linear", "xgboost", _xgboost(SIGNAL, "json", booster="gblinear")),
    Case(
        "xgboost quantiles",
        "xgboost",
        _xgboost(SIGNAL, "ubj", objective="reg:quantileerror", quantile_alpha=np.array([0.1, 0.9])),
    ),
    Case(
        "xgboost vector leaves",
        "xgboost",
        _xgboost(np.stack([SIGNAL, SIGNAL**2], 1), "ubj", multi_strategy="multi_output_tree"),
    ),
    Case("xgboost pairwise", "xgboost", _xgboost(LABEL, "ubj", objective="rank:pairwise")),
    Case(
        "xgboost dart of classes",
        "xgboost",
        _xgboost(CLASS, "json", booster="dart", objective="multi:softprob", num_class=3),
    ),
    Case("lightgbm xendcg", "lightgbm", _lightgbm(LABEL, objective="rank_xendcg")),
    Case("catboost summed", "catboost", _catboost_summed),
    Case("catboost binary", "catboost", _catboost(LABEL, loss_function="Logloss")),
    Case("catboost binary json", "catboost", _catboost(LABEL, "json", loss_function="Logloss")),
    Case("catboost multiclass", "catboost", _catboost(CLASS, loss_function="MultiClass")),
    Case(
        "catboost text labels",
        "catboost",
        _catboost(np.array(["low", "mid", "high"])[CLASS], loss_function="MultiClass"),
    ),
    Case("catboost regression", "catboost", _catboost(SIGNAL, loss_function="RMSE")),
    Case("catboost variance", "catboost", _catboost(SIGNAL, loss_function="RMSEWithUncertainty")),
    Case("catboost poisson", "catboost", _catboost(COUNT, loss_function="Poisson")),
    Case("sklearn pipeline", "sklearn", _sklearn(_pipeline, CLASS)),
    Case("sklearn pipeline joblib", "sklearn", _sklearn(_pipeline, LABEL, "joblib")),
    Case(
        "sklearn forest of text labels",
        "sklearn",
        _sklearn(
            _estimator("ensemble", "RandomForestClassifier", n_estimators=5),
            np.array(["low", "mid", "high"])[CLASS],
        ),
    ),
    *(
        Case(f"sklearn {name}", "sklearn", _sklearn(_estimator(module, name, **more), y))
        for module, name, y, more in (
            ("ensemble", "GradientBoostingClassifier", CLASS, {"n_estimators": 4}),
            ("ensemble", "HistGradientBoostingClassifier", LABEL, {"max_iter": 4}),
            ("ensemble", "RandomForestRegressor", SIGNAL, {"n_estimators": 4}),
            ("svm", "SVC", CLASS, {}),
            ("linear_model", "Ridge", SIGNAL, {}),
            ("linear_model", "SGDClassifier", LABEL, {}),
            ("naive_bayes", "GaussianNB", CLASS, {}),
            ("neural_network", "MLPClassifier", LABEL, {"max_iter": 20}),
            ("cluster", "KMeans", None, {"n_clusters": 3, "n_init": 1}),
            ("ensemble", "IsolationForest", None, {"n_estimators": 4}),
            ("mixture", "GaussianMixture", None, {"n_components": 2}),
            ("neighbors", "KNeighborsClassifier", CLASS, {"algorithm": "kd_tree"}),
            ("ensemble", "ExtraTreesClassifier", CLASS, {"n_estimators": 3}),
            ("decomposition", "PCA", None, {"n_components": 2}),
        )
    ),
    Case("onnx linear", "onnx", _onnx_linear),
]
