"""Support vector machines: their decisions, and the votes and probabilities that these tell."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from martlet.errors import InvalidInput
from martlet.formats.sklearn import vectors
from martlet.formats.sklearn.estimator import EstimatorServable
from martlet.native import find

pytest.importorskip("sklearn")
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR, NuSVC, NuSVR, OneClassSVM, _libsvm

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
    monkeypatch.setattr(vectors, "_own_decisions", lambda model: None)
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


# -- without libsvm -----------------------------------------------------------------------------

FITTED = SVR().fit(ROWS, ROWS[:, 0])
walked = pytest.mark.skipif(
    vectors.answers_of(FITTED) is None, reason="not built, or BLAS adds in an order not known here"
)
MACHINES = [
    SVC(),
    SVC(probability=True, random_state=0),
    SVC(decision_function_shape="ovo"),
    SVC(break_ties=True),
    NuSVC(nu=0.1),
    SVR(),
    NuSVR(),
    OneClassSVM(nu=0.2),
]


@walked
@pytest.mark.parametrize("kernel", ["linear", "poly", "rbf", "sigmoid"])
@pytest.mark.parametrize("own", MACHINES, ids=str)
def test_libsvms_own_numbers(own, kernel):
    own = own.set_params(kernel=kernel, coef0=0.3, max_iter=100)  # fitted well or not
    for features in (1, 2, 15, 16, 17, 31, 32, 33, 47, 48, 70):  # blocks of BLAS, and what is left
        rows = RNG.normal(size=(80, features)).round(2)
        labels = rows.sum(axis=1) if isinstance(own, SVR | NuSVR) else np.arange(80) % 4
        own.fit(rows, labels)
        answer = vectors.answers_of(own)
        assert answer is not None
        for asked in (
            rows,
            rows[:1],
            rows[:9],
            RNG.normal(size=(30, features)) * 1e3,
            rows * 1e200,
        ):
            for name, found in answer(np.asfortranarray(asked)).items():
                np.testing.assert_array_equal(found, getattr(own, name)(asked))


@walked
@given(
    rows=arrays.arrays(
        np.float64,
        st.tuples(st.integers(1, 20), st.just(4)),
        elements=st.floats(allow_nan=False, allow_infinity=False),
    ),
    kernel=st.sampled_from(["linear", "poly", "rbf", "sigmoid"]),
)
@settings(max_examples=60, deadline=None)
def test_any_numbers(rows, kernel):
    own = SVC(kernel=kernel, gamma=0.7, coef0=-1.0, degree=5, max_iter=100)
    own.fit(ROWS, FOUR)
    found = vectors.answers_of(own)(rows)
    assert found["predict"].tolist() == own.predict(rows).tolist()
    np.testing.assert_array_equal(found["decision_function"], own.decision_function(rows))


@walked
def test_behind_a_scaler_scikit_learn_is_not_asked(monkeypatch):
    own = make_pipeline(StandardScaler(), SVC()).fit(ROWS, TWO)
    servable = EstimatorServable(own)
    expected = [own.predict(ROWS).tolist(), own.decision_function(ROWS).tolist()]
    monkeypatch.setattr("sklearn.svm._base.libsvm", None)
    found = servable.predict({"X": ROWS})
    assert [each.tolist() for each in found.values()] == expected
    monkeypatch.undo()
    with pytest.raises(InvalidInput, match="NaN"):
        servable.predict({"X": np.full((2, 4), np.nan)})


@walked
@pytest.mark.parametrize(
    "own",
    [
        SVC(kernel=lambda a, b: a @ b.T),
        SVC(kernel="precomputed"),
        SVC(kernel="poly", degree=100, max_iter=10),
    ],
    ids=["a function", "numbers", "a degree beyond all use"],
)
def test_what_libsvm_alone_decides(own):
    rows = ROWS @ ROWS.T if own.kernel == "precomputed" else ROWS
    assert vectors.answers_of(own.fit(rows, TWO)) is None


def test_another_order_of_adding_is_noticed(monkeypatch):
    decide = vectors._libsvm(FITTED, "decision_function")
    monkeypatch.setattr(
        vectors, "_libsvm", lambda *_: lambda rows: np.nextafter(decide(rows), np.inf)
    )
    assert vectors.answers_of(FITTED) is None


@walked
def test_a_machine_is_checked_before_it_is_built():
    machine = find("vectors").Machine
    two, counts = np.ones((2, 3)), np.array([1, 1], np.int32)
    whole = (two, np.ones((1, 2)), np.ones(1), counts, 2, 3, 0.5, 0.0, 1)
    machine(*whole)
    for at, wrong in [
        (0, np.ones((0, 3))),
        (0, np.ones(3)),
        (1, np.ones((2, 2))),
        (2, np.ones(2)),
        (3, np.array([1, 2], np.int32)),
        (3, np.array([3, -1], np.int32)),
        (3, np.zeros(0, np.int32)),
        (4, 4),
        (8, 2),
    ]:
        with pytest.raises(ValueError, match=r"\w"):
            machine(*whole[:at], wrong, *whole[at + 1 :])
    for rows, out in [((2, 2), (2, 1)), ((2, 3), (1, 1)), ((3,), (1, 1))]:
        with pytest.raises(ValueError, match="numbers"):
            machine(*whole).decide(np.ones(rows), np.ones(out))
