"""Two methods of a scikit-learn model at once: what both begin with is computed once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from martlet.formats.sklearn import vectors
from martlet.formats.sklearn.trials import equal, outcomes
from martlet.tensors import Tensor

Both = Callable[[Any], "tuple[Any, Any]"]
"""From rows to ``predict`` and the scores that go with it."""

# Their predict is the class that scores highest.
_OF_THE_HIGHEST = frozenset(
    {
        *("AdaBoostClassifier", "BaggingClassifier", "CalibratedClassifierCV"),
        *("DecisionTreeClassifier", "ExtraTreeClassifier", "ExtraTreesClassifier"),
        *("RandomForestClassifier", "GradientBoostingClassifier"),
        *("HistGradientBoostingClassifier", "LogisticRegression", "LogisticRegressionCV"),
        *("BernoulliNB", "CategoricalNB", "ComplementNB", "GaussianNB", "MultinomialNB"),
        *("LinearDiscriminantAnalysis", "QuadraticDiscriminantAnalysis", "SGDClassifier"),
        *("KNeighborsClassifier", "LabelPropagation", "LabelSpreading", "MLPClassifier"),
        *("LinearSVC", "PassiveAggressiveClassifier", "Perceptron"),
        *("RidgeClassifier", "RidgeClassifierCV", "VotingClassifier"),
    }
)
# Theirs is 1 where the score is at least 0, else -1.
_OF_THE_SIGN = frozenset({"EllipticEnvelope", "IsolationForest", "LocalOutlierFactor"})

_NEAR = 1e-9
"""Probabilities as near as this may be equal to ``predict``, which adds in another order."""


def proved(model: Any, scores: str, tables: Sequence[Any]) -> Both | None:
    """
    Return what gives ``predict`` and *scores* as *model* does, in less than the two calls.

    None where they share nothing, and where the answers differ from the model's own on *tables*.

    Args:
        scores: ``predict_proba`` or ``decision_function``.
    """
    try:
        both = both_of(model, scores)
    except (AttributeError, ImportError, KeyError, TypeError, ValueError):
        return None  # of another version
    if both is None:
        return None
    # Each on rows of its own: some change the rows that they are given.
    predicted, scored, found = (
        outcomes([way], tables) for way in (model.predict, getattr(model, scores), both)
    )
    for told, own in zip(found, zip(predicted, scored, strict=True), strict=True):
        if not (_fails_as(told, own) if isinstance(told, str) else equal(told, own)):
            return None
    return both


def _fails_as(told: str, own: tuple[Any, Any]) -> bool:
    return any(isinstance(each, str) and each == told for each in own)


def both_of(model: Any, scores: str) -> Both | None:
    """Return what gives ``predict`` and *scores* as *model* does; None: they share nothing."""
    if not type(model).__module__.startswith("sklearn."):
        return None
    kind = type(model).__name__
    if kind in _OF_THE_HIGHEST:
        return _of_the_highest(model, scores)
    if kind in _OF_THE_SIGN and scores == "decision_function":
        return _of_the_sign(model)
    if kind in vectors.KINDS:
        return vectors.both_of(model, scores)
    if hasattr(model, "best_estimator_"):  # of a search
        return both_of(model.best_estimator_, scores)
    if kind == "Pipeline" and len(model.steps) > 1:
        return _after(model[:-1].transform, model.steps[-1][1], scores)
    if kind == "StackingClassifier" and not isinstance(model._label_encoder, list):
        return _stacked(model, scores)
    return None


def _of_the_highest(model: Any, scores: str) -> Both:
    def both(rows: Any) -> tuple[Any, Any]:
        found = getattr(model, scores)(rows)
        chosen = None if isinstance(found, list) else _highest(found, model.classes_)
        return (model.predict(rows) if chosen is None else chosen), found

    return both


def _highest(found: Tensor, classes: Tensor) -> Tensor | None:
    """Return each row's class of the highest score; None where two are about as high."""
    if found.ndim == 1:
        return classes.take((found > 0).astype(np.intp))
    near = found >= found.max(axis=1, keepdims=True) - _NEAR
    return classes.take(found.argmax(axis=1)) if np.count_nonzero(near) == len(found) else None


def _of_the_sign(model: Any) -> Both:
    def both(rows: Any) -> tuple[Any, Any]:
        found = model.decision_function(rows)
        return np.where(found < 0, -1, 1), found

    return both


def _after(before: Callable[[Any], Any], last: Any, scores: str) -> Both:
    last_both = both_of(last, scores) or (lambda x: (last.predict(x), getattr(last, scores)(x)))
    return lambda rows: last_both(before(rows))


def _stacked(model: Any, scores: str) -> Both:
    found = _after(model.transform, model.final_estimator_, scores)

    def both(rows: Any) -> tuple[Any, Any]:
        chosen, scored = found(rows)
        return model._label_encoder.inverse_transform(chosen), scored

    return both
