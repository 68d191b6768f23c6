"""Models with parameters and rows drawn at random, beside their published formulas.

What is expected is computed by scikit-learn, by SciPy, or value by value in plain Python.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("pyarrow", reason="the extra martlet[spark] is not installed")

from spark_draws import COLUMNS, NUMBERS, ask, close, lists, matrices
from spark_files import matrix, sparse, vector

few = settings(max_examples=15, deadline=None)
REGRESSOR = {"featuresCol": "x", "predictionCol": "prediction"}
SMALL = st.floats(-2, 2, allow_subnormal=False)


class TestLinearModels:
    @few
    @given(matrices(3), matrices(3, least=3), st.booleans())
    def test_several_classes_share_a_softmax(
        self, x: np.ndarray, weights: np.ndarray, transposed: bool
    ) -> None:
        special = pytest.importorskip("scipy.special")
        bias = weights[:, 0] / 2
        row = {
            "numClasses": len(bias),
            "numFeatures": 3,
            "isMultinomial": True,
            "interceptVector": vector(bias),
            "coefficientMatrix": matrix(weights, transposed),
        }
        found = ask("classification.LogisticRegressionModel", COLUMNS, [row], {"x": x})
        close(found["probability"], special.softmax(x @ weights.T + bias, axis=1))  # fmt: skip

    @pytest.mark.parametrize(
        ("family", "params", "mean"),
        [
            ("gaussian", {}, lambda eta: eta),
            ("gaussian", {"link": "inverse"}, lambda eta: 1 / eta),
            ("binomial", {}, lambda eta: 1 / (1 + math.exp(-eta))),
            ("binomial", {"link": "cloglog"}, lambda eta: 1 - math.exp(-math.exp(eta))),
            ("binomial", {"link": "probit"}, lambda eta: (1 + math.erf(eta / math.sqrt(2))) / 2),
            ("poisson", {}, math.exp),
            ("poisson", {"link": "sqrt"}, lambda eta: eta * eta),
            ("gamma", {}, lambda eta: 1 / eta),
            ("tweedie", {"variancePower": 1.5, "linkPower": 0.0}, math.exp),
            ("tweedie", {"variancePower": 1.5}, lambda eta: abs(eta) ** -2.0),
        ],
        ids=lambda told: "" if callable(told) else str(told),
    )
    @few
    @given(matrices(2, st.floats(0.1, 2)), lists(st.floats(0.1, 1), 2))
    def test_a_link_gives_the_mean(
        self, family: str, params: dict[str, Any], mean: Any, x: np.ndarray, weights: list[float]
    ) -> None:
        row = {"intercept": 0.1, "coefficients": vector(weights)}
        asked = {**REGRESSOR, "family": family, "linkPredictionCol": "eta", **params}
        found = ask("regression.GeneralizedLinearRegressionModel", asked, [row], {"x": x})
        eta = x @ weights + 0.1
        close(found["eta"], eta)
        close(found["prediction"], [mean(each) for each in eta])

    @few
    @given(matrices(2, SMALL), lists(SMALL, 2), st.floats(0.1, 2))
    def test_survival_has_quantiles_of_weibulls_law(
        self, x: np.ndarray, weights: list[float], scale: float
    ) -> None:
        stats = pytest.importorskip("scipy.stats")
        params = {**REGRESSOR, "quantileProbabilities": [0.1, 0.9], "quantilesCol": "q"}
        row = {"coefficients": vector(weights), "intercept": 0.5, "scale": scale}
        found = ask("regression.AFTSurvivalRegressionModel", params, [row], {"x": x})
        typical = np.exp(x @ weights + 0.5)
        close(found["prediction"], typical)
        law = stats.weibull_min(1 / scale, scale=typical[:, None])
        close(found["q"], law.ppf([[0.1, 0.9]]))

    def test_sparse_weights_make_nothing_of_what_is_missing(self) -> None:
        """Spark's sparse product passes over the weights that are 0; its dense one multiplies."""
        x = np.array([[1.0, np.nan, 2.0], [np.nan, 1.0, 1.0], [1.0, np.inf, 1.0]])
        for cell, wanted in (
            (sparse(3, {0: 2.0, 2: 1.0}), [4.5, np.nan, 3.5]),
            (vector([2.0, 0.0, 1.0]), [np.nan, np.nan, np.nan]),
        ):
            row = {"coefficients": cell, "intercept": 0.5, "scale": 1.0}
            found = ask("regression.LinearRegressionModel", REGRESSOR, [row], {"x": x})
            np.testing.assert_array_equal(found["prediction"], wanted)


class TestBayes:
    @pytest.mark.parametrize("kind", ["multinomial", "bernoulli", "gaussian"])
    @few
    @given(data=st.data())
    def test_classes_have_scikit_learns_likelihoods(self, kind: str, data: st.DataObject) -> None:
        bayes = pytest.importorskip("sklearn.naive_bayes")
        values = st.integers(0, 1) if kind == "bernoulli" else st.integers(0, 9)
        x = data.draw(matrices(3, values, least=4)).astype(float)
        y = np.arange(len(x)) % 2
        model = {"multinomial": bayes.MultinomialNB, "bernoulli": bayes.BernoulliNB,
                 "gaussian": lambda: bayes.GaussianNB(var_smoothing=0.1)}[kind]()  # fmt: skip
        if kind == "gaussian":
            x[0] += 1
        model.fit(x, y)
        theta = model.theta_ if kind == "gaussian" else model.feature_log_prob_
        prior = np.log(model.class_prior_) if kind == "gaussian" else model.class_log_prior_
        sigma = model.var_ if kind == "gaussian" else np.zeros((0, 0))
        row = {"pi": vector(prior), "theta": matrix(theta), "sigma": matrix(sigma)}
        asked = {**COLUMNS, "modelType": kind}
        found = ask("classification.NaiveBayesModel", asked, [row], {"x": x})
        close(found["probability"], model.predict_proba(x))


class TestMachines:
    @few
    @given(matrices(3), lists(NUMBERS, 3), matrices(2, least=3), NUMBERS)
    def test_a_factorisation_machine_adds_every_pair(
        self, x: np.ndarray, linear: list[float], factors: np.ndarray, bias: float
    ) -> None:
        factors = factors[:3]
        row = {"intercept": bias, "linear": vector(linear), "factors": matrix(factors)}
        found = ask("regression.FMRegressionModel", REGRESSOR, [row], {"x": x})["prediction"]
        for got, each in zip(found, x, strict=True):
            pairs = itertools.combinations(range(3), 2)
            wanted = bias + sum(w * v for w, v in zip(linear, each, strict=True))
            wanted += sum(factors[i] @ factors[j] * each[i] * each[j] for i, j in pairs)
            np.testing.assert_allclose(got, wanted, rtol=1e-9, atol=1e-9)

    @pytest.mark.parametrize("large", [1e6, 2e9])
    def test_a_factorisation_machine_keeps_the_digits_of_pairs_with_a_large_number(
        self, large: float
    ) -> None:
        """The square of a sum loses them: what is left of it is added up in Spark's own order."""
        factors = np.array([[0.25, -0.5], [0.3, 0.7], [-0.1, 0.2]])
        x = np.array([[0.0, large, 0.0], [1.0, 0.5, 2.0], [0.0, 0.0, 0.0]])
        row = {"intercept": 1.5, "linear": vector([0.0, 0.0, 0.0]), "factors": matrix(factors)}
        found = ask("regression.FMRegressionModel", REGRESSOR, [row], {"x": x})["prediction"]
        pairs = factors[0] @ factors[1] * 0.5 + factors[0] @ factors[2] * 2
        close(found, [1.5, 1.5 + pairs + factors[1] @ factors[2], 1.5])

    def test_a_factorisation_machine_adds_large_numbers_one_after_the_other(self) -> None:
        """As Spark's loop does, since nearly all digits of each sum cancel."""
        dice = np.random.default_rng(4)
        factors, x = dice.normal(size=(40, 2)), dice.normal(size=(5, 40)) * 2e9
        row = {"intercept": 0.0, "linear": vector([0.0] * 40), "factors": matrix(factors)}
        found = ask("regression.FMRegressionModel", REGRESSOR, [row], {"x": x})["prediction"]
        wanted = []
        for each in x.tolist():
            score = 0.0
            for factor in factors.T.tolist():
                sum_, squares = 0.0, 0.0
                for value, weight in zip(each, factor, strict=True):
                    sum_ += weight * value
                    squares += (weight * value) ** 2
                score += 0.5 * (sum_ * sum_ - squares)
            wanted.append(score)
        assert found.tolist() == wanted

    @few
    @given(matrices(2, SMALL), matrices(2, SMALL, least=2), st.floats(0.2, 3))
    def test_a_mixture_has_shares_of_normal_densities(
        self, x: np.ndarray, means: np.ndarray, spread: float
    ) -> None:
        stats = pytest.importorskip("scipy.stats")
        count = len(means)
        covariance = np.array([[spread, 0.1], [0.1, spread]])
        row = {"weights": [1 / count] * count, "mus": [vector(each) for each in means],
               "sigmas": [matrix(covariance)] * count}  # fmt: skip
        asked = {k: v for k, v in COLUMNS.items() if not k.startswith("raw")}
        found = ask("clustering.GaussianMixtureModel", asked, [row], {"x": x})["probability"]
        shares = np.stack([stats.multivariate_normal(m, covariance).pdf(x) for m in means], -1)
        shares = shares.reshape(len(x), count) / count + np.finfo(float).eps
        close(found, shares / shares.sum(axis=1, keepdims=True))


class TestPlaces:
    @few
    @given(matrices(2), matrices(2, least=2), st.booleans())
    def test_a_row_belongs_to_the_nearest_centre(
        self, x: np.ndarray, centres: np.ndarray, cosine: bool
    ) -> None:
        x, centres = x + 20.0, centres + 20.0  # no vector of zeros, whose cosine is not defined
        asked = {**REGRESSOR, "distanceMeasure": "cosine" if cosine else "euclidean"}
        rows = [{"clusterIdx": i, "clusterCenter": vector(c)} for i, c in enumerate(centres)]
        found = ask("clustering.KMeansModel", asked, rows, {"x": x})["prediction"]
        for got, each in zip(found, x, strict=True):
            if cosine:
                size = np.linalg.norm(each) * np.linalg.norm(centres, axis=1)
                away = 1 - centres @ each / size
            else:
                away = np.linalg.norm(centres - each, axis=1)
            assert away[got] <= away.min() + 1e-12

    def test_a_row_without_a_distance_belongs_to_the_first_centre(self) -> None:
        """As in Spark, to which no distance that is no number is below another."""
        rows = [{"clusterIdx": i, "clusterCenter": vector([i, 1.0])} for i in range(3)]
        x = np.array([[np.inf, 1.0], [np.inf, -np.inf], [1e200, 1.0], [9.0, 1.0]])
        asked = {**REGRESSOR, "distanceMeasure": "cosine"}
        found = ask("clustering.KMeansModel", asked, rows, {"x": x})["prediction"]
        assert found.tolist() == [0, 0, 0, 2]

    @few
    @given(lists(NUMBERS, 2, 6), lists(NUMBERS, 1, 5))
    def test_a_curve_is_linear_between_its_points_and_flat_outside(
        self, points: list[float], rows: list[float]
    ) -> None:
        at = sorted(set(points))
        rising = [float(i * i) for i in range(len(at))]
        row = {"boundaries": at, "predictions": rising, "isotonic": True}
        found = ask("regression.IsotonicRegressionModel", REGRESSOR, [row], {"x": rows})
        for got, x in zip(found["prediction"], rows, strict=True):
            if x <= at[0] or x >= at[-1]:
                assert got == (rising[0] if x <= at[0] else rising[-1])
                continue
            i = max(i for i, each in enumerate(at) if each <= x)
            share = (x - at[i]) / (at[i + 1] - at[i])
            close(got, rising[i] + share * (rising[i + 1] - rising[i]))

    @few
    @given(matrices(2), matrices(2, least=2), st.floats(0.3, 3))
    def test_a_projection_falls_in_a_bucket(
        self, x: np.ndarray, directions: np.ndarray, length: float
    ) -> None:
        params = {"inputCol": "x", "outputCol": "h", "bucketLength": length}
        rows = [{"randUnitVectors": matrix(directions)}]
        found = ask("feature.BucketedRandomProjectionLSHModel", params, rows, {"x": x})["h"]
        exact = x @ directions.T / length
        # On the edge of two buckets the last bit decides.
        assert (np.abs(found[:, :, 0] + 0.5 - exact) <= 0.5 + 1e-9).all()
