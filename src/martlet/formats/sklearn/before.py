"""Estimators whose class answers otherwise in this scikit-learn: they answer as theirs did."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


def logistic(model: Any) -> None:
    """
    Keep how a logistic regression made probabilities while it had the choice.

    Until 1.7 ``multi_class`` said whether several classes were one against the rest each, or
    shares of one whole; since then they are shares, and two classes are one against the other.
    """
    way = vars(model).get("multi_class")
    of_liblinear = way in ("auto", "deprecated") and model.solver == "liblinear"
    if len(model.classes_) > 2 and (way in ("ovr", "warn") or of_liblinear):
        _answers_by(model, predict_proba=_one_against_the_rest)
    elif len(model.classes_) == 2 and way == "multinomial":
        _answers_by(model, predict_proba=_shares_of_two)


def boosted(model: Any) -> None:
    """Keep how an AdaBoostClassifier of 1.3 or before, or of SAMME.R, weighed its estimators."""
    _answers_by(model, decision_function=_boosted)


def nearest_centroid(model: Any) -> None:
    """Take from a NearestCentroid of 1.5 or before what it has not kept the deviations for."""
    if not hasattr(model, "class_prior_"):
        model.class_prior_ = np.full(len(model.classes_), 1 / len(model.classes_))
        later = ("decision_function", "predict_proba", "predict_log_proba")
        _answers_by(model, **dict.fromkeys(later, property(_missing)))


def _missing(self: Any) -> Any:
    raise AttributeError(f"not of this {type(self).__name__}")


def _answers_by(model: Any, **methods: Callable[[Any, Any], Any] | property) -> None:
    kind = type(model)
    # Of the same name and module: what asks for these takes it for what it is.
    model.__class__ = type(kind.__name__, (kind,), {"__module__": kind.__module__, **methods})


def _one_against_the_rest(self: Any, rows: Any) -> Any:
    return self._predict_proba_lr(rows)


def _shares_of_two(self: Any, rows: Any) -> Any:
    from sklearn.utils.extmath import softmax

    scores = self.decision_function(rows)
    return softmax(np.stack([-scores, scores], axis=1), copy=False)


def _boosted(self: Any, rows: Any) -> Any:
    """Source: scikit-learn 1.3, ``sklearn/ensemble/_weight_boosting.py``."""
    rows = self._check_X(rows)
    classes = self.classes_[:, np.newaxis]
    if self.algorithm == "SAMME.R":
        found = sum(_log_shares(each, self.n_classes_, rows) for each in self.estimators_)
    else:
        found = sum(
            (each.predict(rows) == classes).T * weight
            for each, weight in zip(self.estimators_, self.estimator_weights_, strict=False)
        )
    found = found / self.estimator_weights_.sum()
    if self.n_classes_ == 2:
        found[:, 0] *= -1
        return found.sum(axis=1)
    return found


def _log_shares(estimator: Any, classes: int, rows: Any) -> Any:
    chances = estimator.predict_proba(rows)
    logs = np.log(np.clip(chances, np.finfo(chances.dtype).eps, None))
    return (classes - 1) * (logs - logs.sum(axis=1, keepdims=True) / classes)
