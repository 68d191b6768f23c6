"""scikit-learn's linear models, networks, naive Bayes, scalers without it: to the last bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import martlet
from martlet.errors import InvalidInput
from martlet.formats.sklearn.quick import answers_of

pytest.importorskip("skops")
import skops.io
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import GradientBoostingClassifier, RandomForestRegressor
from sklearn.linear_model import (
    BayesianRidge,
    ElasticNet,
    HuberRegressor,
    Lasso,
    LinearRegression,
    LogisticRegression,
    Perceptron,
    Ridge,
    RidgeClassifier,
    SGDClassifier,
    SGDRegressor,
)
from sklearn.naive_bayes import ComplementNB, GaussianNB, MultinomialNB
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, Normalizer, RobustScaler, StandardScaler
from sklearn.svm import LinearSVC, LinearSVR
from sklearn.tree import DecisionTreeClassifier

pytestmark = pytest.mark.filterwarnings("ignore")

CLASSIFIERS = [LogisticRegression, RidgeClassifier, Perceptron, LinearSVC]
REGRESSORS = [LinearRegression, Ridge, Lasso, ElasticNet]
RNG = np.random.default_rng(5)
ROWS = RNG.normal(size=(200, 6)) * 10.0 ** RNG.integers(-1, 2, size=6) + 3


def fitted(kind, labels, *before):
    model = make_pipeline(*before, kind()) if before else kind()
    return model.fit(ROWS, labels)


def labels_of(classes: int):
    signal = ROWS[:, 0] + np.tanh(ROWS[:, 1]) + RNG.normal(size=len(ROWS))
    cuts = np.quantile(signal, np.linspace(0, 1, classes + 1)[1:-1])
    return np.array([f"class {i}" for i in range(classes)])[np.digitize(signal, cuts)]


def assert_equals_its_own(own, rows, tmp_path):
    skops.io.dump(own, tmp_path / "m")
    with martlet.load(tmp_path / "m") as model:
        assert model._servable._quick is not None
        for method in ("predict", "predict_proba", "decision_function"):
            if hasattr(own, method):
                found = model.predict({"X": rows}, f"{method}_matrix")[method]
                assert found.tolist() == getattr(own, method)(rows).tolist()


FORMS = (
    ROWS,
    ROWS[:1],
    ROWS[:3] * 1e150,
    np.asfortranarray(ROWS * 1.1),
    ROWS[::3],
    ROWS.astype(np.float32).astype(float),
)


@pytest.mark.parametrize("before", [(), (StandardScaler(),), (StandardScaler(with_mean=False),)])
@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_a_classifier_answers_to_the_last_bit(kind, classes, before, tmp_path):
    own = fitted(kind, labels_of(classes), *before)
    for rows in FORMS:
        assert_equals_its_own(own, rows, tmp_path)


@pytest.mark.parametrize("before", [(), (StandardScaler(with_std=False),)])
@pytest.mark.parametrize("targets", [1, 2])
@pytest.mark.parametrize("kind", REGRESSORS)
def test_a_regressor_answers_to_the_last_bit(kind, targets, before, tmp_path):
    own = fitted(kind, ROWS[:, 0] if targets == 1 else ROWS[:, :2] * [1, -1], *before)
    for rows in FORMS:
        assert_equals_its_own(own, rows, tmp_path)


TWO, THREE, NUMBERS = labels_of(2), labels_of(3), ROWS[:, 0] / 50


@pytest.mark.parametrize(
    "own",
    [
        make_pipeline(MinMaxScaler(), LinearDiscriminantAnalysis()).fit(ROWS, TWO),
        LinearDiscriminantAnalysis().fit(ROWS, THREE),
        make_pipeline(RobustScaler(), SGDClassifier(random_state=0)).fit(ROWS, THREE),
        SGDClassifier(loss="log_loss", random_state=0).fit(ROWS, TWO),
        make_pipeline(MinMaxScaler(clip=True), BayesianRidge()).fit(ROWS, NUMBERS),
        *(each.fit(ROWS, NUMBERS) for each in (HuberRegressor(), LinearSVR(), SGDRegressor())),
        *(
            make_pipeline(StandardScaler(), MLPClassifier((7, 5), activation, max_iter=3)).fit(
                ROWS, labels
            )
            for activation in ("relu", "tanh")
            for labels in (TWO, THREE, np.median(NUMBERS) < NUMBERS)
        ),
        MLPRegressor(hidden_layer_sizes=(4,), activation="logistic", max_iter=3).fit(ROWS, NUMBERS),
        MLPRegressor(hidden_layer_sizes=(4,), activation="identity", max_iter=3).fit(
            ROWS, ROWS[:, :2]
        ),
        *(GaussianNB().fit(ROWS, labels) for labels in (TWO, THREE, THREE == TWO)),
        make_pipeline(StandardScaler(), GaussianNB()).fit(ROWS, THREE),
        *(kind().fit(np.abs(ROWS), THREE) for kind in (MultinomialNB, ComplementNB)),
        *(
            make_pipeline(StandardScaler(), of_trees).fit(ROWS, TWO if labels else NUMBERS)
            for of_trees, labels in (
                (GradientBoostingClassifier(n_estimators=4), True),
                (RandomForestRegressor(4, random_state=0), False),
                (DecisionTreeClassifier(max_depth=4), True),
            )
        ),
    ],
    ids=repr,
)
def test_other_models_answer_to_the_last_bit(own):
    quick = answers_of(own)
    assert quick is not None
    for rows in FORMS:
        for method, found in (quick(rows) or {}).items():
            assert found.tolist() == getattr(own, method)(rows).tolist()
    assert quick(ROWS[:1]) is not None


def test_naive_bayes_answers_in_blocks_and_far_away_to_the_last_bit():
    own = GaussianNB().fit(ROWS, THREE)
    quick = answers_of(own)
    many = np.resize(ROWS, (12_001, 6)) * RNG.normal(size=(12_001, 1))
    for rows in (many, np.asfortranarray(many), many[::2], many * 1e200):
        for method, found in quick(rows).items():
            np.testing.assert_array_equal(found, getattr(own, method)(rows))


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 300), st.integers(-12, 12))
def test_any_rows_are_answered_as_it_answers_them(seed, count, power):
    own = fitted(LogisticRegression, labels_of(3), StandardScaler())
    quick = answers_of(own)
    rows = np.random.default_rng(seed).normal(size=(count, 6)) * 10.0**power
    for method, found in quick(rows).items():
        np.testing.assert_array_equal(found, getattr(own, method)(rows))


def test_scikit_learn_is_not_asked(tmp_path):
    skops.io.dump(fitted(LogisticRegression, labels_of(2)), tmp_path / "m")
    with martlet.load(tmp_path / "m") as model:
        model._servable._estimator = None
        assert set(model.predict({"X": ROWS})) == {"predict", "predict_proba"}
        assert model.predict({"X": ROWS[:0]})["predict_proba"].shape == (0, 2)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_scikit_learns_to_refuse(value, tmp_path):
    skops.io.dump(fitted(LogisticRegression, labels_of(2)), tmp_path / "m")
    rows = ROWS[:2].copy()
    rows[1, 2] = value
    with (
        martlet.load(tmp_path / "m") as model,
        pytest.raises(InvalidInput, match=r"NaN|infinity"),
    ):
        model.predict({"X": rows})


@pytest.mark.parametrize(
    "own",
    [
        fitted(LogisticRegression, labels_of(2), Normalizer()),
        SGDClassifier(loss="modified_huber", random_state=0).fit(ROWS, labels_of(2)),
        MLPClassifier((3,), max_iter=3).fit(ROWS, np.eye(2, dtype=int)[[0, 1] * 100]),
        fitted(StandardScaler, None),
        make_pipeline("passthrough", LogisticRegression()).fit(ROWS, labels_of(2)),
    ],
)
def test_other_pipelines_stay_with_scikit_learn(own):
    assert answers_of(own) is None


def test_a_model_that_computes_in_another_way_stays_with_scikit_learn(monkeypatch):
    own = fitted(LogisticRegression, labels_of(2))
    chances = LogisticRegression.predict_proba
    monkeypatch.setattr(
        LogisticRegression, "predict_proba", lambda self, rows: chances(self, rows) + 1e-16
    )
    assert answers_of(own) is None
