"""Two methods of a scikit-learn model in one pass: what they share is computed once."""

from __future__ import annotations

import numpy as np
import pytest

import martlet
from martlet.formats.sklearn import shared
from martlet.formats.sklearn.estimator import EstimatorServable

pytest.importorskip("skops")
import joblib
import pandas as pd
import skops.io
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import make_column_transformer
from sklearn.covariance import EllipticEnvelope
from sklearn.discriminant_analysis import QuadraticDiscriminantAnalysis
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    IsolationForest,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier, LocalOutlierFactor
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler
from sklearn.svm import SVC, NuSVC, OneClassSVM
from sklearn.tree import DecisionTreeClassifier

pytestmark = pytest.mark.filterwarnings("ignore")

RNG = np.random.default_rng(11)
ROWS = RNG.normal(size=(90, 4)).round(1)
ROWS[45:] = ROWS[:45]  # equally far neighbours, of several classes
TWO = np.where(ROWS[:, 0] + RNG.normal(size=90) > 0, "yes", "no")
FOUR = (ROWS[:, 0] > 0) * 2 + (ROWS[:, 1] + RNG.normal(size=90) > 0)
PAIR = [("a", LogisticRegression()), ("b", GaussianNB())]

MODELS = [
    SVC(),
    SVC(kernel="poly", decision_function_shape="ovo"),
    SVC(kernel="sigmoid", probability=True, random_state=0),
    NuSVC(nu=0.1),
    OneClassSVM(nu=0.2),
    EllipticEnvelope(random_state=0),
    IsolationForest(n_estimators=5, random_state=0),
    LocalOutlierFactor(novelty=True),
    AdaBoostClassifier(n_estimators=5),
    BaggingClassifier(n_estimators=3, random_state=0),
    CalibratedClassifierCV(DecisionTreeClassifier(max_depth=2), cv=2),
    KNeighborsClassifier(4),
    KNeighborsClassifier(9, weights="distance"),
    QuadraticDiscriminantAnalysis(),
    VotingClassifier(PAIR, voting="soft"),
    StackingClassifier(PAIR, cv=2),
    make_pipeline(PolynomialFeatures(), LogisticRegression()),
    make_pipeline(PolynomialFeatures(), RidgeClassifier()),
    make_pipeline(StandardScaler(), make_pipeline(PolynomialFeatures(), SVC())),
    GridSearchCV(make_pipeline(StandardScaler(), SVC()), {"svc__C": [0.5, 1.0]}, cv=2),
]


@pytest.mark.parametrize("labels", [TWO, FOUR], ids=["two", "four"])
@pytest.mark.parametrize("own", MODELS, ids=str)
def test_both_are_the_models_own(own, labels):
    own.fit(ROWS, labels)
    scores = "predict_proba" if hasattr(own, "predict_proba") else "decision_function"
    both = shared.proved(own, scores, [ROWS[:3]])
    assert both is not None
    near = own.support_vectors_ if hasattr(own, "support_vectors_") else ROWS
    for rows in (ROWS, ROWS[:1], RNG.normal(size=(300, 4)).round(1), ROWS * 100, near):
        predicted, scored = both(rows)
        assert predicted.tolist() == own.predict(rows).tolist()
        assert scored.tolist() == getattr(own, scores)(rows).tolist()


SEVERAL = np.stack([ROWS[:, 0] > 0, ROWS[:, 1] > 0], axis=1).astype(int)


@pytest.mark.parametrize(
    "own",
    [
        MLPClassifier((3,), max_iter=3),
        make_pipeline(StandardScaler(), MLPClassifier((3,), max_iter=3)),
        RidgeClassifier(),
        make_pipeline(PolynomialFeatures(), RidgeClassifier()),
        KNeighborsClassifier(),
        DecisionTreeClassifier(max_depth=2),
    ],
    ids=str,
)
def test_several_labels_a_row_stay_several(own):
    own.fit(ROWS, SEVERAL)
    found = EstimatorServable(own).predict({"X": ROWS})
    assert found["predict"].tolist() == own.predict(ROWS).tolist()


class Counted(StandardScaler):
    """One that counts how often it transforms."""

    times = 0

    def transform(self, X, copy=None):
        type(self).times += 1
        return super().transform(X, copy)


def test_rows_are_transformed_once_for_both():
    own = make_pipeline(Counted(), KNeighborsClassifier()).fit(ROWS, TWO)
    servable = EstimatorServable(own)
    Counted.times = 0
    assert set(servable.predict({"X": ROWS})) == {"predict", "predict_proba"}
    assert Counted.times == 1


def test_rows_that_a_step_changes_are_changed_once():
    own = make_pipeline(StandardScaler(copy=False), PolynomialFeatures(), GaussianNB())
    own.fit(ROWS.copy(), TWO)
    found = EstimatorServable(own).predict({"X": ROWS.copy()})
    assert found["predict"].tolist() == own.predict(ROWS.copy()).tolist()
    assert found["predict_proba"].tolist() == own.predict_proba(ROWS.copy()).tolist()


def test_an_answer_that_differs_is_not_taken():
    class Odd(GaussianNB):
        __module__ = "sklearn.naive_bayes"

        def predict(self, X):
            return super().predict(X)[::-1]

    Odd.__name__ = "GaussianNB"
    own = Odd().fit(ROWS, TWO)
    assert shared.both_of(own, "predict_proba") is not None
    assert shared.proved(own, "predict_proba", [ROWS]) is None


FRAME = pd.DataFrame({"age": ROWS[:, 0], "city": TWO, "size": ROWS[:, 1]})


@pytest.mark.parametrize("last", [SVC(), GaussianNB()], ids=str)
@pytest.mark.parametrize("kind", ["joblib", "skops"])
def test_named_columns(kind, last, tmp_path):
    encoder = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    columns = make_column_transformer((StandardScaler(), ["age", "size"]), (encoder, ["city"]))
    own = make_pipeline(columns, last).fit(FRAME, FOUR)
    path = tmp_path / f"m.{kind}"
    {"joblib": joblib, "skops": skops.io}[kind].dump(own, path)
    rows = pd.concat([FRAME, FRAME[:1].assign(city="new")])
    with martlet.load(path, trusted=kind == "joblib") as model:
        given = {name: rows[name].to_numpy() for name in ("age", "size")}
        found = model.predict(given | {"city": rows["city"].to_numpy(object)})
        for name, value in found.items():
            assert value.tolist() == getattr(own, name)(rows).tolist()
