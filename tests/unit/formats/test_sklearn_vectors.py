"""Support vector machines of several classes: votes and probabilities of one pass of libsvm."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from martlet.formats.sklearn import vectors
from martlet.native import find

pytest.importorskip("sklearn")
from sklearn.svm import SVC, NuSVC, _libsvm

pytestmark = pytest.mark.filterwarnings("ignore")

RNG = np.random.default_rng(11)
ROWS = RNG.normal(size=(90, 4)).round(1)
TWO = np.where(ROWS[:, 0] + RNG.normal(size=90) > 0, "yes", "no")
FOUR = (ROWS[:, 0] > 0) * 2 + (ROWS[:, 1] + RNG.normal(size=90) > 0)
MANY = np.arange(90) % 9
SPLIT = [
    SVC(probability=True, random_state=0),
    SVC(probability=True, break_ties=True, random_state=0),
    NuSVC(nu=0.1, probability=True, random_state=0),
    SVC(break_ties=True),
    SVC(kernel="poly", coef0=1.0, probability=True, random_state=0),
]


@pytest.fixture(params=["0", "1"], ids=["pure", "compiled"])
def native(request, monkeypatch):
    monkeypatch.setenv("MARTLET_NATIVE", request.param)


@pytest.mark.parametrize("labels", [TWO, FOUR, MANY], ids=["two", "four", "nine"])
@pytest.mark.parametrize("own", SPLIT, ids=str)
def test_votes_and_probabilities_of_one_decision(own, labels, native):
    own.fit(ROWS, labels)
    scores = "predict_proba" if hasattr(own, "predict_proba") else "decision_function"
    both = vectors.both_of(own, scores)
    if both is None:  # nothing is shared where libsvm alone makes probabilities
        assert own.break_ties and scores == "predict_proba" and find("svm") is None
        return
    for rows in (ROWS, ROWS[:1], RNG.normal(size=(300, 4)), ROWS * 1e3, own.support_vectors_):
        predicted, scored = both(rows)
        assert predicted.tolist() == own.predict(rows).tolist()
        assert scored.tolist() == getattr(own, scores)(rows).tolist()


@pytest.mark.skipif(find("svm") is None, reason="the compiled part is not built")
def test_libsvm_decides_once_for_both(monkeypatch):
    own = SVC(probability=True, random_state=0).fit(ROWS, FOUR)
    asked = []

    def counted(name):
        def call(*rows, **settings):
            asked.append(name)
            return getattr(_libsvm, name)(*rows, **settings)

        return call

    names = ("decision_function", "predict", "predict_proba")
    libsvm = SimpleNamespace(**{name: counted(name) for name in names})
    monkeypatch.setattr("sklearn.svm._base.libsvm", libsvm)
    both = vectors.both_of(own, "predict_proba")
    asked.clear()
    both(ROWS)
    assert asked == ["decision_function"]


GRID = np.array([[x, y] for x in (-2.0, -1, 1, 2) for y in (-2.0, -1, 1, 2)])
QUARTERS = (GRID[:, 0] > 0) * 2 + (GRID[:, 1] > 0)


@given(
    rows=arrays.arrays(
        np.float64,
        st.tuples(st.integers(1, 6), st.just(2)),
        elements=st.integers(-3, 3).map(float) | st.floats(-1e6, 1e6),
    ),
    kernel=st.sampled_from(["linear", "poly", "rbf", "sigmoid"]),
    shape=st.sampled_from(["ovr", "ovo"]),
    ties=st.booleans(),
    classes=st.sampled_from([2, 3, 4]),
)
@settings(max_examples=60, deadline=None)
def test_ties_are_broken_as_libsvm_breaks_them(rows, kernel, shape, ties, classes):
    ties = ties and shape == "ovr"
    own = SVC(kernel=kernel, gamma=0.5, decision_function_shape=shape, break_ties=ties)
    own.fit(GRID, np.minimum(QUARTERS, classes - 1))
    predicted, scored = vectors.both_of(own, "decision_function")(rows)
    assert predicted.tolist() == own.predict(rows).tolist()
    assert scored.tolist() == own.decision_function(rows).tolist()


@pytest.mark.parametrize("scores", ["decision_function", "predict_proba"])
def test_a_kernel_that_is_given_as_numbers(scores, native):
    own = SVC(kernel="precomputed", probability=True, random_state=0).fit(ROWS @ ROWS.T, FOUR)
    rows = RNG.normal(size=(50, 4)) @ ROWS.T
    predicted, scored = vectors.both_of(own, scores)(rows)
    assert predicted.tolist() == own.predict(rows).tolist()
    assert scored.tolist() == getattr(own, scores)(rows).tolist()
