"""A model behind a ColumnTransformer answers as scikit-learn does, without a data frame."""

from __future__ import annotations

import numpy as np
import pytest

import martlet
from martlet.errors import InvalidInput
from martlet.formats.sklearn.estimator import EstimatorServable

pytest.importorskip("sklearn")
import joblib
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.compose import ColumnTransformer, make_column_transformer
from sklearn.decomposition import PCA
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    RandomForestRegressor,
)
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)
from sklearn.svm import SVC

pytestmark = pytest.mark.filterwarnings("ignore")

NUMBERS = ["price", "age", "rate"]
TEXTS = ["city", "kind"]
NAMES = [*NUMBERS, "hour", *TEXTS]
CITIES, KINDS = ["Oslo", "Rome", "São Paulo", "Lima"], ["a", "b"]


def drawn(count: int, seed: int = 3) -> pd.DataFrame:
    dice = np.random.default_rng(seed)
    columns = {name: dice.normal(size=count) * 10 for name in NUMBERS}
    columns["hour"] = dice.integers(0, 24, count).astype(float)
    columns["city"] = np.array(CITIES, object)[dice.integers(0, len(CITIES), count)]
    columns["kind"] = np.array(KINDS, object)[dice.integers(0, len(KINDS), count)]
    return pd.DataFrame(columns)


FITTED = drawn(200, seed=0)
FITTED.loc[FITTED.index % 9 == 0, "kind"] = "rare"
LABEL = (FITTED["price"] + (FITTED["city"] == "Rome") * 9 > 0).astype(int)


def known(**how: object) -> OneHotEncoder:
    return OneHotEncoder(handle_unknown="ignore", **how)


def scaled(encoder: object, numbers: object | None = None, **how: object) -> ColumnTransformer:
    numbers = StandardScaler() if numbers is None else numbers
    return make_column_transformer((numbers, NUMBERS), (encoder, TEXTS), **how)


ORDINAL = OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1)
FILLED = make_pipeline(SimpleImputer(strategy="median"), RobustScaler())
TEXT_FILLED = make_pipeline(SimpleImputer(strategy="most_frequent"), known())

WALKED = {
    "sparse": (scaled(known()), LogisticRegression()),
    "dense": (scaled(known(), sparse_threshold=0), LogisticRegression()),
    "dropped": (scaled(OneHotEncoder(drop="if_binary")), LogisticRegression()),
    "first dropped, unknown": (scaled(known(drop="first")), LogisticRegression()),
    "rare ones joined": (
        scaled(OneHotEncoder(min_frequency=30, handle_unknown="infrequent_if_exist")),
        LogisticRegression(),
    ),
    "one dropped of joined": (
        scaled(OneHotEncoder(max_categories=2, drop="first", sparse_output=False)),
        LinearRegression(),
    ),
    "unknown refused": (scaled(OneHotEncoder()), LogisticRegression()),
    "ordinal": (
        scaled(ORDINAL, "passthrough"),
        GradientBoostingClassifier(n_estimators=5, random_state=0),
    ),
    "ordinal, unknown refused": (
        scaled(OrdinalEncoder()),
        RandomForestRegressor(3, random_state=0),
    ),
    "missing number": (
        scaled(ORDINAL, "passthrough"),
        HistGradientBoostingClassifier(max_iter=5, random_state=0),
    ),
    "filled": (
        make_column_transformer((FILLED, NUMBERS), (TEXT_FILLED, TEXTS)),
        LogisticRegression(),
    ),
    "the rest": (
        make_column_transformer((known(), [*TEXTS, "hour"]), remainder=MinMaxScaler(clip=True)),
        LogisticRegression(),
    ),
    "the rest as it is": (
        make_column_transformer((ORDINAL, TEXTS), ("drop", ["age"]), remainder="passthrough"),
        MLPClassifier((4,), max_iter=5, random_state=0),
    ),
    "numbers as categories": (
        make_column_transformer(
            (make_pipeline(SimpleImputer(), known()), ["hour"]), (StandardScaler(), NUMBERS)
        ),
        LogisticRegression(),
    ),
    "other steps": (
        make_column_transformer(
            (make_pipeline(StandardScaler(), PCA(2)), NUMBERS),
            (FunctionTransformer(np.abs), ["hour"]),
            (KBinsDiscretizer(4, encode="ordinal"), ["price"]),
            (known(sparse_output=False), TEXTS),
        ),
        SVC(probability=True, random_state=0),
    ),
    "steps between": (scaled(known()), MaxAbsScaler(), LogisticRegression()),
    "several classes": (scaled(known()), LogisticRegression()),
    "nothing after": (scaled(known()),),
}


def fitted(name: str) -> object:
    label = FITTED["hour"] // 6 if name == "several classes" else LABEL
    return make_pipeline(*map(clone, WALKED[name])).fit(FITTED, label)


def inputs_of(table: pd.DataFrame) -> dict[str, np.ndarray]:
    return {
        name: table[name].to_numpy(object if name in TEXTS else np.float64)
        for name in table.columns
    }


def asked(servable: EstimatorServable, table: pd.DataFrame) -> dict[str, np.ndarray]:
    taken = servable.signatures["serving_default"].inputs
    return servable.predict({k: v for k, v in inputs_of(table).items() if k in taken})


def check(model: object, servable: EstimatorServable, table: pd.DataFrame) -> None:
    names = list(servable.signatures["serving_default"].outputs)
    try:
        own = {name: getattr(model, name)(table) for name in names}
    except ValueError:
        with pytest.raises(InvalidInput):
            asked(servable, table)
        return
    told = asked(servable, table)
    for name in names:
        expected = own[name].toarray() if hasattr(own[name], "toarray") else own[name]
        np.testing.assert_array_equal(told[name], expected, strict=name != "transform")


@pytest.fixture(scope="module", params=WALKED, name="pair")
def _pair(request: pytest.FixtureRequest) -> tuple[object, EstimatorServable]:
    return fitted(request.param), EstimatorServable(fitted(request.param))


def test_it_equals_scikit_learn_to_the_last_bit(pair):
    for count in (1, 2, 3, 60):
        check(*pair, drawn(count))


def test_it_makes_no_data_frame(pair, monkeypatch):
    def none(*_: object) -> None:
        raise AssertionError("a data frame was made")

    monkeypatch.setattr(EstimatorServable, "_framed", none)
    check(*pair, drawn(5))


def test_what_is_unknown_missing_or_infinite_is_as_scikit_learn_has_it(pair):
    for name, value in [
        ("city", "Atlantis"),
        ("kind", ""),
        ("hour", 24.5),
        ("price", np.nan),
        ("hour", np.nan),
        ("age", np.inf),
        ("rate", 1e308),
    ]:
        table = drawn(4)
        table.loc[1, name] = value
        check(*pair, table)


def test_no_rows_are_answered_with_none(pair):
    told = asked(pair[1], drawn(0))
    assert all(len(value) == 0 for value in told.values())


def test_a_missing_text_is_filled_as_scikit_learn_fills_it():
    model, servable = fitted("filled"), EstimatorServable(fitted("filled"))
    table = drawn(3)
    columns = inputs_of(table)
    columns["city"] = np.array(["Rome", None, "Oslo"], object)
    table["city"] = pd.Series(["Rome", np.nan, "Oslo"], dtype=object)
    taken = servable.signatures["serving_default"].inputs
    told = servable.predict({k: v for k, v in columns.items() if k in taken})
    np.testing.assert_array_equal(told["predict_proba"], model.predict_proba(table))


def test_text_comes_as_bytes_too():
    servable = EstimatorServable(fitted("sparse"))
    columns = inputs_of(drawn(6))
    columns.pop("hour")
    as_bytes = {
        k: np.array([each.encode() for each in v], object) if k in TEXTS else v
        for k, v in columns.items()
    }
    plain, packed = servable.predict(columns), servable.predict(as_bytes)
    np.testing.assert_array_equal(plain["predict_proba"], packed["predict_proba"])


def test_a_search_answers_by_the_best_that_it_found():
    pipeline = make_pipeline(scaled(known()), LogisticRegression())
    search = GridSearchCV(pipeline, {"logisticregression__C": [0.1, 1.0]}, cv=2).fit(FITTED, LABEL)
    check(search, EstimatorServable(search), drawn(9))


@pytest.mark.parametrize(
    "before",
    [
        make_column_transformer(
            (StandardScaler(), NUMBERS), (TargetEncoder(random_state=0), TEXTS)
        ),
        make_column_transformer((FunctionTransformer(lambda t: t[["age"]] * 2), NUMBERS)),
        scaled(known(sparse_output=False)).set_output(transform="pandas"),
    ],
    ids=["an encoder of targets", "a function of names", "data frames within"],
)
def test_what_scikit_learn_alone_can_do_it_does(before):
    model = make_pipeline(clone(before), LogisticRegression()).fit(FITTED, LABEL)
    again = make_pipeline(clone(before), LogisticRegression()).fit(FITTED, LABEL)
    for count in (1, 30):
        check(model, EstimatorServable(again), drawn(count))


SEARCHED = fitted("rare ones joined"), EstimatorServable(fitted("rare ones joined"))
VALUES = st.floats(allow_nan=True, allow_infinity=True) | st.sampled_from([0.0, -0.0, 5e-324])


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(VALUES, VALUES, VALUES, st.sampled_from([*CITIES, "?"]), st.text(max_size=3)),
        min_size=1,
        max_size=4,
    )
)
def test_any_row_is_answered_or_refused_as_by_scikit_learn(rows):
    *numbers, cities, kinds = zip(*rows, strict=True)
    table = drawn(len(rows))
    for name, values in zip(NUMBERS, numbers, strict=True):
        table[name] = np.array(values)
    table["city"] = pd.Series(cities, dtype=object)
    table["kind"] = pd.Series(kinds, dtype=object)
    check(*SEARCHED, table)


@pytest.mark.parametrize("known", ["error", "ignore"])
def test_words_in_a_process_of_its_own(known, tmp_path):
    encoder = OneHotEncoder(handle_unknown=known)
    own = make_pipeline(make_column_transformer((encoder, ["city"])), LogisticRegression())
    cities = np.array(["Ulm", "Köln", "Bonn", "Ulm"] * 5, object)
    own.fit(pd.DataFrame({"city": cities}), np.array(["yes", "no", "é", "yes"] * 5))
    joblib.dump(own, tmp_path / "m.joblib")
    with martlet.load(tmp_path / "m.joblib", trusted=True) as model:
        for given in (cities, cities[:1], cities[:0], cities[::-1], np.tile(cities, 100)):
            sent = given.copy()
            sent[::2] = [each.encode() for each in sent[::2]]
            for _ in range(2):
                found = model.predict({"city": sent})
                frame = pd.DataFrame({"city": given})
                expected = own.predict(frame).tolist() if len(given) else []
                assert found["predict"].tolist() == expected
        new = np.array(["Rom", "Ulm"], object)
        if known == "error":
            with pytest.raises(InvalidInput, match="Rom"):
                model.predict({"city": new})
        else:
            expected = own.predict(pd.DataFrame({"city": new})).tolist()
            assert model.predict({"city": new})["predict"].tolist() == expected
        for bad, told in (("\ud800", "surrogates"), (b"\xff", "not UTF-8")):
            with pytest.raises(InvalidInput, match=told):
                model.predict({"city": np.array([bad, "Ulm"], object)})
        assert model.predict({"city": cities[:1]})["predict"].tolist() == ["yes"]
