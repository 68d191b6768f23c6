"""Models trained and exported on the spot answer as the library that trained them.

``make pmml-exporters`` runs this: scikit-learn's, LightGBM's and XGBoost's exporters need Java,
and a scikit-learn that they know.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from martlet import formats

pd = pytest.importorskip("pandas", reason="exporting needs pandas")
sklearn2pmml = pytest.importorskip(
    "sklearn2pmml", reason="no exporters here: make pmml-exporters installs them"
)
if shutil.which("java") is None:
    pytest.skip("the exporters need Java", allow_module_level=True)

from hypothesis import HealthCheck, given, settings  # noqa: E402 - after what may skip
from hypothesis import strategies as st  # noqa: E402
from lightgbm import LGBMClassifier, LGBMRegressor  # noqa: E402
from sklearn.cluster import KMeans  # noqa: E402
from sklearn.compose import ColumnTransformer  # noqa: E402
from sklearn.ensemble import (  # noqa: E402
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer  # noqa: E402
from sklearn.linear_model import LinearRegression, LogisticRegression  # noqa: E402
from sklearn.naive_bayes import GaussianNB  # noqa: E402
from sklearn.neighbors import KNeighborsRegressor  # noqa: E402
from sklearn.neural_network import MLPClassifier, MLPRegressor  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import OneHotEncoder, StandardScaler  # noqa: E402
from sklearn.svm import SVC, SVR  # noqa: E402
from sklearn.tree import DecisionTreeClassifier, DecisionTreeRegressor  # noqa: E402
from xgboost import XGBClassifier, XGBRegressor  # noqa: E402

NUMBERS = ["a", "b", "c"]
LETTERS = ["k"]
ROWS = 160
FEW = settings(
    max_examples=4,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

# A factory a kind of model: (is it a classifier, may numbers be missing, how to make it).
MODELS: dict[str, tuple[bool, bool, Any]] = {
    "LinearRegression": (False, False, LinearRegression),
    "LogisticRegression": (True, False, lambda: LogisticRegression(max_iter=400)),
    "DecisionTreeRegressor": (False, False, lambda: DecisionTreeRegressor(max_depth=5)),
    "DecisionTreeClassifier": (True, False, lambda: DecisionTreeClassifier(max_depth=5)),
    "RandomForestRegressor": (False, False, lambda: RandomForestRegressor(9, max_depth=5)),
    "RandomForestClassifier": (True, False, lambda: RandomForestClassifier(9, max_depth=5)),
    "ExtraTreesRegressor": (False, False, lambda: ExtraTreesRegressor(9, max_depth=5)),
    "GradientBoosting": (True, False, lambda: GradientBoostingClassifier(n_estimators=8)),
    "IsolationForest": (False, False, lambda: IsolationForest(n_estimators=10)),
    "GaussianNB": (True, False, GaussianNB),
    "KNeighbors": (False, False, lambda: KNeighborsRegressor(4)),
    "KMeans": (True, False, lambda: KMeans(4, n_init=2)),
    "MLPRegressor": (False, False, lambda: MLPRegressor(hidden_layer_sizes=(6,), max_iter=60)),
    "MLPClassifier": (True, False, lambda: MLPClassifier(hidden_layer_sizes=(6,), max_iter=60)),
    "SVR": (False, False, SVR),
    "SVC": (True, False, SVC),
    "LGBMRegressor": (False, True, lambda: LGBMRegressor(n_estimators=12, verbose=-1)),
    "LGBMClassifier": (True, True, lambda: LGBMClassifier(n_estimators=12, verbose=-1)),
    "XGBRegressor": (False, True, lambda: XGBRegressor(n_estimators=12, max_depth=4)),
    "XGBClassifier": (True, True, lambda: XGBClassifier(n_estimators=12, max_depth=4)),
}


def _data(seed: int, classes: int, holes: bool) -> tuple[Any, np.ndarray]:
    random = np.random.default_rng(seed)
    # Float32 values: what scikit-learn's and XGBoost's trees compare.
    x = random.normal(size=(ROWS, len(NUMBERS))).astype(np.float32).astype(np.float64)
    frame = pd.DataFrame(x, columns=NUMBERS)
    frame["k"] = np.array(["u", "v", "w"], dtype=object)[random.integers(0, 3, ROWS)]
    score = x[:, 0] + x[:, 1] * (frame["k"] == "u") + random.normal(size=ROWS) / 4
    y = np.digitize(score, np.quantile(score, np.arange(1, classes) / classes))
    if holes:
        frame = frame.mask((random.random(frame.shape) < 0.1) & (frame.columns.isin(NUMBERS)))
    return frame, y if classes > 1 else np.asarray(score, dtype=np.float64)


def _exported(model: Any, frame: Any, y: np.ndarray, holes: bool, path: Path) -> Any:
    scaled = "passthrough" if holes else make_pipeline(SimpleImputer(), StandardScaler())
    columns = ColumnTransformer(
        [("numbers", scaled, NUMBERS), ("letters", OneHotEncoder(sparse_output=False), LETTERS)]
    )
    pipeline = sklearn2pmml.PMMLPipeline([("columns", columns), ("model", model)])
    pipeline.fit(frame, y)
    sklearn2pmml.sklearn2pmml(pipeline, str(path))
    return pipeline


def _inputs(frame: Any) -> dict[str, np.ndarray]:
    numbers = {name: frame[name].to_numpy(np.float64) for name in NUMBERS}
    return numbers | {name: frame[name].to_numpy(object) for name in LETTERS}


@pytest.mark.parametrize("kind", list(MODELS))
@FEW
@given(seed=st.integers(0, 2**31), classes=st.integers(2, 4))
def test_an_exported_model_answers_as_its_library(
    kind: str, seed: int, classes: int, tmp_path: Path
):
    is_classifier, holes, make = MODELS[kind]
    frame, y = _data(seed, classes if is_classifier else 1, holes)
    pipeline = _exported(make(), frame, y, holes, tmp_path / "model.pmml")
    model = formats.load(tmp_path / "model.pmml")
    given = {
        n: v for n, v in _inputs(frame).items() if n in model.signatures["serving_default"].inputs
    }
    found = model.predict(given)
    assert all(why is None for why in found["_reason"])
    main = next(iter(found))
    wanted = pipeline.predict(frame)
    if is_classifier:
        assert [int(float(each)) for each in found[main].tolist()] == wanted.tolist()
    elif kind != "IsolationForest":
        np.testing.assert_allclose(found[main].astype(float), wanted, rtol=2e-5, atol=2e-5)
    if is_classifier and hasattr(pipeline, "predict_proba"):
        shares = pipeline.predict_proba(frame)
        for code, label in enumerate(pipeline.classes_):
            own = found.get(f"probability({label})")
            if own is not None:
                np.testing.assert_allclose(own.astype(float), shares[:, code], rtol=2e-5, atol=2e-6)
    for row in range(0, ROWS, 40):
        alone = model.predict({name: values[row : row + 1] for name, values in given.items()})
        for name in found:
            assert alone[name][0] == found[name][row] or (
                float(alone[name][0]) == pytest.approx(float(found[name][row]), rel=1e-6)
            )
