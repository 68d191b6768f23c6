"""scikit-learn's checks made quick: every estimator that it lists answers, or refuses, the same."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from martlet.errors import InvalidInput
from martlet.formats.sklearn import checks
from martlet.formats.sklearn.estimator import EstimatorServable
from martlet.formats.sklearn.trials import equal, outcomes

pytest.importorskip("sklearn")
import pandas as pd
from sklearn.ensemble import StackingClassifier, VotingClassifier, VotingRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from sklearn.svm import SVC
from sklearn.utils import all_estimators, validation

pytestmark = pytest.mark.filterwarnings("ignore")

RNG = np.random.default_rng(7)
ROWS = RNG.gamma(2, size=(40, 4))
CLASSES = (ROWS[:, 0] > np.median(ROWS[:, 0])).astype(int)
METHODS = ("predict", "predict_proba", "decision_function", "transform", "score_samples")

# What would take long to fit.
QUICKER = {
    "HistGradientBoostingClassifier": {"max_iter": 3},
    "HistGradientBoostingRegressor": {"max_iter": 3},
    "IsolationForest": {"n_estimators": 5},
    "LogisticRegressionCV": {"Cs": 2, "cv": 2, "l1_ratios": (0,), "use_legacy_attributes": False},
    "MiniBatchDictionaryLearning": {"max_iter": 2},
    "RandomForestClassifier": {"n_estimators": 5},
    "RandomForestRegressor": {"n_estimators": 5},
    "RandomTreesEmbedding": {"n_estimators": 5},
    "TheilSenRegressor": {"max_subpopulation": 50},
}


SLOW = {"AffinityPropagation", "MeanShift"}


def listed():
    """Yield one of each class that answers rows, but for those that are made of others."""
    for name, kind in all_estimators():
        if name in SLOW or not any(hasattr(kind, method) for method in METHODS):
            continue
        with contextlib.suppress(TypeError):
            model = kind()
            settings = {"random_state": 0, "n_jobs": 1, **QUICKER.get(name, {})}
            known = {key: settings[key] for key in settings if key in model.get_params()}
            yield pytest.param(model.set_params(**known), id=name)


PAIR = [("a", LogisticRegression()), ("b", GaussianNB())]
OF_OTHERS = [
    GridSearchCV(SVC(), {"C": [1.0, 2.0]}, cv=2),
    StackingClassifier(PAIR, cv=2),
    VotingClassifier(PAIR, voting="soft"),
    VotingRegressor([("a", Ridge()), ("b", SVC())]),
    make_pipeline(SimpleImputer(), StandardScaler(), PolynomialFeatures(), SVC()),
]
TABLES = [
    ROWS,
    ROWS[:1],
    ROWS[::-2],
    np.asfortranarray(ROWS),
    ROWS.astype(np.float32),
    (ROWS * 5).astype(int),
    ROWS * 1e300,
    ROWS[:0],
    ROWS[:, :3],
    ROWS[0],
    ROWS[np.newaxis],
    ROWS + 1j,
    -ROWS,
    np.where(ROWS > 2, np.nan, ROWS),
    np.where(ROWS > 2, np.inf, ROWS),
    ROWS.astype(object),
    ROWS.tolist(),
    pd.DataFrame(ROWS, columns=list("abcd")),
]


def answers(model, tables):
    ways = [getattr(model, name) for name in METHODS if hasattr(model, name)]
    return outcomes(ways, tables)


@pytest.mark.parametrize("model", [*listed(), *OF_OTHERS])
def test_an_estimator_answers_as_with_all_its_checks(model):
    try:
        model.fit(ROWS, CLASSES)
    except (AttributeError, TypeError, ValueError):
        pytest.skip("it is not for rows like these")
    before = answers(model, TABLES)
    with checks.quick():
        assert equal(before, answers(model, TABLES))


def test_the_checks_are_as_they_were_afterwards():
    names = ("check_array", "check_is_fitted", "validate_data")
    before = [getattr(validation, name) for name in names if hasattr(validation, name)]
    with pytest.raises(ZeroDivisionError), checks.quick():
        assert validation.check_array is not before[0]
        raise ZeroDivisionError
    assert [getattr(validation, name) for name in names if hasattr(validation, name)] == before
    assert SVC.fit.__globals__["check_is_fitted"] is validation.check_is_fitted


@pytest.mark.parametrize(
    "asked",
    [
        {"copy": True},
        {"order": "F"},
        {"order": "C", "dtype": np.float32},
        {"dtype": [np.float64, np.float32]},
        {"dtype": (np.float32,), "copy": True},
        {"dtype": np.int64},
        {"dtype": object},
        {"dtype": "float32"},
        {"ensure_2d": False},
        {"ensure_all_finite": False},
        {"ensure_all_finite": "allow-nan"},
        {"ensure_min_samples": 3},
        {"ensure_min_features": 5, "estimator": "mine"},
        {"ensure_non_negative": True, "input_name": "X"},
        {"force_writeable": True},
        {"accept_sparse": "csr", "allow_nd": True},
    ],
    ids=str,
)
def test_an_array_is_made_what_is_asked(asked):
    locked = ROWS.copy()
    locked.flags.writeable = False
    tables = [*TABLES, locked, ROWS[:2], ROWS.astype(np.float16), ROWS > 2, ROWS.astype(str)]
    before = outcomes([lambda rows: validation.check_array(rows, **asked)], tables)
    with checks.quick():
        after = outcomes([lambda rows: validation.check_array(rows, **asked)], tables)
    assert equal(before, after)
    for rows, one, other in zip(tables, before, after, strict=True):
        if isinstance(rows, np.ndarray) and isinstance(one, np.ndarray):
            assert np.may_share_memory(rows, other) == np.may_share_memory(rows, one)
            assert other.flags.f_contiguous == one.flags.f_contiguous
            assert other.flags.writeable == one.flags.writeable


def test_they_are_quick_while_a_model_that_is_alone_is_open():
    own = SVC().fit(ROWS, CLASSES)
    before = validation.check_array
    servable = EstimatorServable(own, alone=True)
    assert validation.check_array is not before
    found = servable.predict({"X": ROWS})
    with pytest.raises(InvalidInput, match="contains NaN"):
        servable.predict({"X": ROWS * np.nan})
    servable.close()
    assert validation.check_array is before
    assert found["predict"].tolist() == own.predict(ROWS).tolist()
    assert found["decision_function"].tolist() == own.decision_function(ROWS).tolist()


def test_they_stay_as_they_are_where_an_answer_would_differ(monkeypatch):
    monkeypatch.setattr(checks, "_passed", lambda array, asked: np.ones((len(array), 4)))
    before = validation.check_array
    servable = EstimatorServable(SVC().fit(ROWS, CLASSES), alone=True)
    assert validation.check_array is before
    servable.close()
