"""scikit-learn's linear models as a product and a sum: its checks of a call cost far more."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np

from martlet.formats.sklearn_forest import Answers
from martlet.tensors import Tensor

_CLASSIFIERS = frozenset(
    {
        *("LogisticRegression", "LogisticRegressionCV"),
        *("LinearSVC", "RidgeClassifier", "RidgeClassifierCV", "Perceptron"),
    }
)
_REGRESSORS = frozenset(
    {
        *("LinearRegression", "Ridge", "RidgeCV"),
        *("Lasso", "LassoCV", "ElasticNet", "ElasticNetCV"),
    }
)


def answers_of(estimator: Any) -> Answers | None:
    """
    Return what answers ``predict`` and its scores as *estimator* does, to the last bit.

    A linear model, alone or behind standard scalers. None for others, and where the answers
    differ on rows drawn at random: another version may compute in another way.
    """
    *before, last = [s for _, s in estimator.steps] if hasattr(estimator, "steps") else [estimator]
    if not _is_one_of(last, _CLASSIFIERS | _REGRESSORS):
        return None
    if not all(_is_one_of(each, {"StandardScaler"}) for each in before):
        return None
    try:
        scaled = [_scaler(each) for each in before]
        answer = _answer(scaled, _classified(last) if hasattr(last, "classes_") else _fitted(last))
        return answer if _proved(estimator, answer) else None
    except (AttributeError, TypeError, ValueError, IndexError):
        return None  # of another version, or fitted in another way: scikit-learn answers


def _is_one_of(estimator: Any, names: Collection[str]) -> bool:
    kind = type(estimator)
    return kind.__name__ in names and kind.__module__.startswith("sklearn.")


def _answer(
    before: Sequence[Callable[[Tensor], Tensor]], last: Callable[[Tensor], dict[str, Tensor]]
) -> Answers:
    def answer(rows: Tensor) -> dict[str, Tensor] | None:
        # What is not finite is refused, or has rules of its own; float32 is computed as such.
        if rows.dtype != np.float64:
            return None
        with np.errstate(over="ignore", invalid="ignore"):
            total = rows.sum()  # costs less than asking each
        if not np.isfinite(total) and not np.isfinite(rows).all():
            return None
        for each in before:
            rows = each(rows)
        return last(rows)

    return answer


def _scaler(scaler: Any) -> Callable[[Tensor], Tensor]:
    mean = scaler.mean_ if scaler.with_mean else None
    scale = scaler.scale_ if scaler.with_std else None

    def scaled(rows: Tensor) -> Tensor:
        if mean is None:
            return rows if scale is None else rows / scale
        found: Tensor = rows - mean
        if scale is not None:
            found /= scale
        return found

    return scaled


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


def _proved(estimator: Any, answer: Answers) -> bool:
    dice = np.random.default_rng(0)
    for count in (1, 2, 7, 200):  # BLAS sums few rows in another order than many
        size = (count, estimator.n_features_in_)
        rows = dice.normal(size=size) * 10.0 ** dice.integers(-2, 2, size=size)
        found = answer(rows)
        if found is None or any(
            not np.array_equal(value, getattr(estimator, name)(rows))
            for name, value in found.items()
        ):
            return False
    return True
