"""What answers as a scikit-learn model does without it, where that was found equal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from martlet.formats.sklearn import bayes, forest, linear, networks, vectors
from martlet.formats.sklearn.forest import Answers
from martlet.formats.sklearn.scalers import step_of
from martlet.tensors import Tensor


def answers_of(estimator: Any) -> Answers | None:
    """
    Return what answers ``predict`` and its scores as *estimator* does, to the last bit.

    Trees, linear models, networks, naive Bayes and support vector machines, alone or behind
    scalers. None for others, and where the answers differ on rows drawn at random: another version
    may compute in another way.
    """
    *before, last = [s for _, s in estimator.steps] if hasattr(estimator, "steps") else [estimator]
    try:
        steps = [step_of(each) for each in before]
        if None in steps:
            return None
        of_trees = forest.answers_of(last)
        if of_trees is not None and not before:
            return of_trees  # which has proved itself, and takes rows that it knows
        of_last = (
            of_trees
            or linear.answers_of(last)
            or networks.answers_of(last)
            or bayes.answers_of(last)
            or vectors.answers_of(last)
        )
        if of_last is None:
            return None
        answer = _answer([each for each in steps if each is not None], of_last)
        return answer if _proved(estimator, answer) else None
    except (AttributeError, KeyError, TypeError, ValueError, IndexError):
        return None  # of another version, or fitted in another way: scikit-learn answers


def _answer(
    steps: list[Callable[[Tensor], Tensor]], of_last: Callable[[Tensor], dict[str, Tensor] | None]
) -> Answers:
    def answer(rows: Tensor) -> dict[str, Tensor] | None:
        # What is not finite is refused, or has rules of its own; float32 is computed as such.
        if rows.dtype != np.float64:
            return None
        with np.errstate(over="ignore", invalid="ignore"):
            total = rows.sum()  # costs less than asking each
        if not np.isfinite(total) and not np.isfinite(rows).all():
            return None
        for each in steps:
            rows = each(rows)
            if not np.isfinite(rows).all():
                return None  # scikit-learn looks again at each step
        return of_last(rows)

    return answer


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
