"""scikit-learn's linear models as a product and a sum: its checks of a call cost far more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from martlet.tensors import Tensor

_CLASSIFIERS = frozenset(
    {
        *("LogisticRegression", "LogisticRegressionCV", "LinearDiscriminantAnalysis"),
        *("LinearSVC", "RidgeClassifier", "RidgeClassifierCV"),
        *("PassiveAggressiveClassifier", "Perceptron", "SGDClassifier"),
    }
)
_REGRESSORS = frozenset(
    {
        *("LinearRegression", "Ridge", "RidgeCV", "BayesianRidge", "ARDRegression"),
        *("Lasso", "LassoCV", "ElasticNet", "ElasticNetCV"),
        *("MultiTaskLasso", "MultiTaskElasticNet", "OrthogonalMatchingPursuit"),
        *("Lars", "LarsCV", "LassoLars", "LassoLarsCV", "LassoLarsIC"),
        *("HuberRegressor", "LinearSVR", "PassiveAggressiveRegressor", "SGDRegressor"),
        "TheilSenRegressor",
    }
)


def answers_of(model: Any) -> Callable[[Tensor], dict[str, Tensor]] | None:
    """
    Return what makes ``predict`` and its scores of finite rows; None where it is not linear.

    Raises:
        AttributeError: it is of another version, or not fitted.
    """
    if not type(model).__module__.startswith("sklearn."):
        return None
    if type(model).__name__ in _CLASSIFIERS:
        return _classified(model)
    return _fitted(model) if type(model).__name__ in _REGRESSORS else None


def _scores(model: Any) -> Callable[[Tensor], Tensor]:
    weights, bias = model.coef_.T, model.intercept_

    def scores(rows: Tensor) -> Tensor:
        found: Tensor = rows @ weights + bias
        return found

    return scores


def _fitted(model: Any) -> Callable[[Tensor], dict[str, Tensor]]:
    scores = _scores(model)
    return lambda rows: {"predict": scores(rows)}


def _classified(model: Any) -> Callable[[Tensor], dict[str, Tensor]]:
    from scipy.special import expit

    scores, classes = _scores(model), model.classes_
    has_chances = hasattr(model, "predict_proba")

    def answers(rows: Tensor) -> dict[str, Tensor]:
        found = scores(rows)
        if found.ndim == 1 or found.shape[1] == 1:
            found = found.reshape(-1)
            chosen = (found > 0).astype(np.intp)
        else:
            chosen = found.argmax(axis=1)
        told = {"predict": classes.take(chosen), "decision_function": found}
        if has_chances and found.ndim == 1:
            chance = expit(found)
            told["predict_proba"] = np.stack([1 - chance, chance], axis=1)
        elif has_chances:
            raised = np.exp(found - found.max(axis=1, keepdims=True))
            told["predict_proba"] = raised / raised.sum(axis=1, keepdims=True)
        return told

    return answers
