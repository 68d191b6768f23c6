"""scikit-learn models of data frames, fitted on the spot: columns by name, whatever holds them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import martlet
from martlet.errors import UnsupportedModel
from martlet.formats import LoadOptions
from martlet.formats.sklearn import file

pandas = pytest.importorskip("pandas")
pytest.importorskip("sklearn", reason="the extra martlet[sklearn] is not installed")
skops_io = pytest.importorskip("skops.io")

from sklearn.calibration import CalibratedClassifierCV  # noqa: E402
from sklearn.compose import (  # noqa: E402
    ColumnTransformer,
    TransformedTargetRegressor,
    make_column_selector,
    make_column_transformer,
)
from sklearn.ensemble import (  # noqa: E402
    HistGradientBoostingClassifier,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.feature_extraction.text import HashingVectorizer, TfidfVectorizer  # noqa: E402
from sklearn.impute import SimpleImputer  # noqa: E402
from sklearn.linear_model import LogisticRegression, Ridge  # noqa: E402
from sklearn.model_selection import GridSearchCV  # noqa: E402
from sklearn.multiclass import OneVsRestClassifier  # noqa: E402
from sklearn.neighbors import NearestNeighbors  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")

DICE = np.random.default_rng(4)
ROWS = 160
FRAME = pandas.DataFrame(
    {
        "age": np.where(DICE.random(ROWS) < 0.1, np.nan, DICE.normal(size=ROWS)),
        "income": DICE.normal(size=ROWS),
        "city": DICE.choice(np.array(["oslo", "bergen", None], object), ROWS),
        "note": DICE.choice(["the cat", "a dog ran", ""], ROWS),
        "id": DICE.choice(["x", "y"], ROWS),
    }
)
LABEL = np.where(FRAME.income > 0, "yes", "no")
METHODS = ("predict", "predict_proba", "decision_function")


def columns(encoder: Any = None) -> Any:
    """The transformer of these columns; it never looks at ``id`` and ``note``."""
    encoder = encoder or OneHotEncoder(handle_unknown="ignore")
    return ColumnTransformer(
        [("numbers", SimpleImputer(), ["age", "income"]), ("texts", encoder, ["city"])]
    )


def pipeline() -> Any:
    return make_pipeline(columns(), LogisticRegression())


def by_kind() -> Any:
    return make_column_transformer(
        (OneHotEncoder(handle_unknown="ignore"), make_column_selector(dtype_exclude=np.number)),
        (SimpleImputer(), make_column_selector(dtype_include=np.number)),
    )


MODELS: dict[str, Callable[[], Any]] = {
    "pipeline": pipeline,
    "imputed texts": lambda: make_pipeline(
        columns(make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder())),
        LogisticRegression(),
    ),
    "columns by kind": lambda: make_pipeline(by_kind(), LogisticRegression()),
    "ordinal codes, boosted": lambda: make_pipeline(
        columns(OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=np.nan)),
        HistGradientBoostingClassifier(max_iter=3, categorical_features=[2]),
    ),
    "stacked": lambda: StackingClassifier([("a", pipeline()), ("b", pipeline())], cv=2),
    "voting": lambda: VotingClassifier([("a", pipeline()), ("b", pipeline())], voting="soft"),
    "calibrated": lambda: CalibratedClassifierCV(pipeline(), cv=2),
    "searched": lambda: GridSearchCV(pipeline(), {"logisticregression__C": [0.1, 1.0]}, cv=2),
    "one against the rest": lambda: OneVsRestClassifier(pipeline()),
    "documents": lambda: make_pipeline(
        ColumnTransformer([("words", TfidfVectorizer(), "note"), ("n", "passthrough", ["income"])]),
        LogisticRegression(),
    ),
    "hashed documents": lambda: make_pipeline(
        ColumnTransformer([("words", HashingVectorizer(n_features=16), "note")]),
        LogisticRegression(),
    ),
}


def given(frame: Any, names: Any) -> dict[str, Any]:
    """The columns as a client sends them: text, or numbers; what is missing is None or NaN."""
    found = {}
    for name in names:
        column = frame[name]
        if pandas.api.types.is_numeric_dtype(column):
            found[name] = column.to_numpy(float)
        else:
            found[name] = np.array([None if each != each else each for each in column], object)
    return found


@pytest.mark.parametrize("name", MODELS)
def test_answers_are_the_models_own(name: str, tmp_path: Path) -> None:
    own = MODELS[name]().fit(FRAME, LABEL)
    skops_io.dump(own, tmp_path / "m.skops")
    with martlet.load(tmp_path / "m.skops") as model:
        signature = model.signatures["serving_default"]
        used = [n for n, spec in signature.inputs.items() if spec.required]
        for rows in (FRAME, FRAME[:1]):
            for method in METHODS:
                if hasattr(own, method):
                    wanted = getattr(own, method)(rows)
                    for names in (used, FRAME.columns):  # what it never looks at may be given
                        found = model.predict(given(rows, names), method)[method]
                        if wanted.dtype.kind == "f":
                            np.testing.assert_allclose(found, wanted, rtol=1e-9)
                        else:
                            assert found.tolist() == wanted.tolist()
        assert len(model.predict(given(FRAME[:0], used))["predict"]) == 0


def test_what_a_model_never_looks_at_is_optional(tmp_path: Path) -> None:
    skops_io.dump(pipeline().fit(FRAME, LABEL), tmp_path / "m.skops")
    with martlet.load(tmp_path / "m.skops") as model:
        inputs = model.signatures["serving_default"].inputs
    assert {n for n, spec in inputs.items() if not spec.required} == {"id", "note"}


def test_a_target_that_was_transformed(tmp_path: Path) -> None:
    own = TransformedTargetRegressor(
        make_pipeline(columns(), Ridge()), func=np.log1p, inverse_func=np.expm1
    ).fit(FRAME, np.exp(FRAME.income))
    skops_io.dump(own, tmp_path / "m.skops")
    with martlet.load(tmp_path / "m.skops") as model:
        found = model.predict(given(FRAME, ["age", "income", "city"]))["predict"]
    np.testing.assert_allclose(found, own.predict(FRAME), rtol=1e-12)


def test_categories_of_boosting_by_histograms(tmp_path: Path) -> None:
    frame = FRAME[["age", "income", "id"]].assign(id=FRAME.id.astype("category"))
    own = HistGradientBoostingClassifier(max_iter=4, categorical_features="from_dtype")
    own.fit(frame, LABEL)
    skops_io.dump(own, tmp_path / "m.skops")
    with martlet.load(tmp_path / "m.skops") as model:
        rows = given(frame, frame.columns) | {"id": frame.id.to_numpy(object)}
        found = model.predict(rows)["predict_proba"]
    np.testing.assert_allclose(found, own.predict_proba(frame), rtol=1e-12)


def test_a_catboost_model_that_was_pickled(tmp_path: Path) -> None:
    catboost = pytest.importorskip("catboost")
    joblib = pytest.importorskip("joblib")
    frame = FRAME[["age", "income", "id"]]
    own = catboost.CatBoostClassifier(
        iterations=3, verbose=False, allow_writing_files=False, cat_features=["id"]
    ).fit(frame, LABEL)
    joblib.dump(own, tmp_path / "m.joblib")
    with martlet.load(tmp_path / "m.joblib", trusted=True) as model:
        found = model.predict(given(frame, frame.columns))
    np.testing.assert_allclose(found["predict_proba"], own.predict_proba(frame), rtol=1e-12)
    assert found["predict"].ravel().tolist() == own.predict(frame).ravel().tolist()


def test_neighbours_that_point_outside_their_rows_are_refused(tmp_path: Path) -> None:
    from sklearn.neighbors import KNeighborsClassifier

    own = KNeighborsClassifier(algorithm="kd_tree").fit(np.arange(40.0).reshape(-1, 1), LABEL[:40])
    _, order, _, _ = own._tree.get_arrays()
    np.asarray(order)[0] = 1_000_000
    skops_io.dump(own, tmp_path / "m.skops")
    with pytest.raises(UnsupportedModel, match="neighbours"):
        martlet.load(tmp_path / "m.skops")


@pytest.mark.parametrize(
    ("name", "text", "takes"), [("pipeline", "city", True), ("documents", "note", False)]
)
def test_a_text_may_be_missing_where_the_model_takes_that(
    name: str, text: str, takes: bool, tmp_path: Path
) -> None:
    skops_io.dump(MODELS[name]().fit(FRAME, LABEL), tmp_path / "m.skops")
    with martlet.load(tmp_path / "m.skops") as model:
        assert model.signatures["serving_default"].inputs[text].nullable == takes


def test_none_is_a_category_where_the_model_learnt_it_as_one(tmp_path: Path) -> None:
    texts = [None if each != each else each for each in FRAME.city]
    frame = FRAME.assign(city=pandas.Series(texts, dtype=object))
    own = pipeline().fit(frame, LABEL)
    assert None in own[0].named_transformers_["texts"].categories_[0]
    skops_io.dump(own, tmp_path / "m.skops")
    with martlet.load(tmp_path / "m.skops") as model:
        found = model.predict(given(frame, ["age", "income", "city"]))["predict_proba"]
    np.testing.assert_allclose(found, own.predict_proba(frame), rtol=1e-12)


@pytest.mark.parametrize("library", ["lightgbm", "xgboost"])
def test_categories_of_a_booster_that_was_pickled(library: str, tmp_path: Path) -> None:
    joblib = pytest.importorskip("joblib")
    if library == "lightgbm":
        own = pytest.importorskip("lightgbm").LGBMClassifier(n_estimators=3, verbose=-1, n_jobs=1)
    else:
        own = pytest.importorskip("xgboost").XGBClassifier(
            n_estimators=3, enable_categorical=True, n_jobs=1
        )
    frame = FRAME[["age", "income", "id"]].assign(id=FRAME.id.astype("category"))
    own.fit(frame, (frame.id == "y") ^ (frame.income > 0))
    joblib.dump(own, tmp_path / "m.joblib")
    opened = file.open_pickle(tmp_path / "m.joblib", LoadOptions(trusted=True))
    with martlet.Checked(opened) as model:
        rows = given(frame, ["age", "income"]) | {"id": frame.id.to_numpy(object)}
        found = model.predict(rows)["predict_proba"]
        rows["id"] = np.array(["of no kind that it knows"] * ROWS, object)
        unknown = model.predict(rows)["predict_proba"]
    np.testing.assert_allclose(found, own.predict_proba(frame), rtol=1e-6)
    missing = frame.assign(id=frame.id.where(frame.id == "neither"))
    np.testing.assert_allclose(unknown, own.predict_proba(missing), rtol=1e-6)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\x80\x02ccategory_encoders.target\nTargetEncoder\n)\x81.", "module 'category_encoders'"),
        (b"\x80\x02c__main__\na_function_of_mine\n.", "holds 'a_function_of_mine'"),
    ],
)
def test_what_a_pickle_needs_and_is_not_here_is_named(
    content: bytes, told: str, tmp_path: Path
) -> None:
    path = tmp_path / "m.pkl"
    path.write_bytes(content)
    with pytest.raises(UnsupportedModel, match=told):
        file.open_pickle(path, LoadOptions(trusted=True))


def test_neighbours_alone_answer_how_far_and_which(tmp_path: Path) -> None:
    rows = FRAME[["income"]].to_numpy()
    own = NearestNeighbors(n_neighbors=3).fit(rows)
    skops_io.dump(own, tmp_path / "m.skops")
    with martlet.load(tmp_path / "m.skops") as model:
        found = model.predict({"X": rows})
    distances, indices = own.kneighbors(rows)
    np.testing.assert_array_equal(found["distances"], distances)
    np.testing.assert_array_equal(found["indices"], indices)
