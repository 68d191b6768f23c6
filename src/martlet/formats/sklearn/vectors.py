"""scikit-learn's support vector machines: two methods of one at the cost of one."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from itertools import combinations
from typing import Any

import numpy as np

from martlet.formats.sklearn.trials import equal, outcomes
from martlet.native import find
from martlet.tensors import Tensor

Both = Callable[[Any], "tuple[Any, Any]"]

KINDS = frozenset({"NuSVC", "OneClassSVM", "SVC"})

_TRIED = 64


def both_of(model: Any, scores: str) -> Both | None:
    """
    Return what gives ``predict`` and *scores* of rows that are checked once.

    libsvm's decisions between the classes tell both, where that is the model's own answer on rows
    between its support vectors; else libsvm is asked for each. None for kernels that are functions,
    and for models fitted on sparse rows.

    Raises:
        AttributeError, ImportError: it is of another version, or not fitted.

    Source:
        scikit-learn, ``svm/_base.py``; libsvm 3, ``svm_predict_values`` and
        ``svm_predict_probability``.
    """
    if callable(model.kernel) or model._sparse:
        return None
    decide = _libsvm(model, "decision_function")
    if model._impl == "one_class":
        return lambda rows: _of_one(decide(model._validate_for_predict(rows)).ravel())
    if model.break_ties and model.decision_function_shape == "ovo":
        return None  # which it refuses
    score = _scored(model, scores)
    if score is not None:
        both = _decided(model, decide, score)
        if _is_proved(model, scores, both):
            return both
    return _with_chances(model) if scores == "predict_proba" and not model.break_ties else None


def _libsvm(model: Any, name: str) -> Callable[[Tensor], Tensor]:
    """Return libsvm's function of rows that were checked."""
    base = import_module("sklearn.svm._base")
    kept = ("support_", "support_vectors_", "_n_support", "_dual_coef_", "_intercept_")
    arguments = [getattr(model, each) for each in (*kept, "_probA", "_probB")]
    settings = {each: getattr(model, each) for each in ("kernel", "degree", "coef0", "cache_size")}
    settings |= {"svm_type": base.LIBSVM_IMPL.index(model._impl), "gamma": model._gamma}
    function = getattr(base.libsvm, name)
    return lambda rows: function(rows, *arguments, **settings)


def _of_one(found: Tensor) -> tuple[Tensor, Tensor]:
    return np.where(found > 0, 1, -1), found


def _with_chances(model: Any) -> Both:
    choose, chances = _libsvm(model, "predict"), _libsvm(model, "predict_proba")

    def both(rows: Any) -> tuple[Tensor, Tensor]:
        checked = model._validate_for_predict(rows)
        return model.classes_.take(choose(checked).astype(np.intp)), chances(checked)

    return both


def _is_proved(model: Any, scores: str, both: Both) -> bool:
    dice = np.random.default_rng(0)
    rows = dice.normal(size=(_TRIED, model.shape_fit_[1]))
    known = np.asarray(model.support_vectors_)
    if len(known):  # of a kernel that is given there are none
        ends = known[dice.integers(0, len(known), size=(2, _TRIED))]
        rows = np.concatenate([rows, ends[0] + dice.random((_TRIED, 1)) * (ends[1] - ends[0])])
    (own, scored), (found,) = (
        outcomes(ways, [rows]) for ways in ((model.predict, getattr(model, scores)), (both,))
    )
    return equal(found, (own, scored))


# -- of the decisions between each pair of classes ----------------------------------------------


def _compiled() -> Any:
    return find("svm")


def _decided(
    model: Any, decide: Callable[[Tensor], Tensor], score: Callable[[Tensor], Tensor]
) -> Both:
    choose = _chooser(model)

    def both(rows: Any) -> tuple[Tensor, Tensor]:
        found = decide(model._validate_for_predict(rows))
        return model.classes_.take(choose(found)), score(found)

    return both


def _chooser(model: Any) -> Callable[[Tensor], Tensor]:
    """Return what makes of the decisions the class that wins the most pairs, or ranks first."""
    classes, compiled = len(model.classes_), _compiled()
    if model.break_ties and classes > 2:
        rank = _ranked(model)

        def first(found: Tensor) -> Tensor:
            chosen: Tensor = rank(found).argmax(axis=1)
            return chosen

        return first

    def choose(found: Tensor) -> Tensor:
        chosen = np.empty(len(found), np.int64)
        compiled.choose(found, classes, chosen)
        return chosen

    pairs = np.array(list(combinations(range(classes), 2)))

    def count(found: Tensor) -> Tensor:
        won = np.where(found > 0, *pairs.T) + classes * np.arange(len(found))[:, np.newaxis]
        votes = np.bincount(won.ravel(), minlength=classes * len(found))
        chosen: Tensor = votes.reshape(-1, classes).argmax(axis=1)
        return chosen

    return count if compiled is None else choose


def _scored(model: Any, scores: str) -> Callable[[Tensor], Tensor] | None:
    """Return what makes the scores of the decisions."""
    if scores == "predict_proba":
        return _chances(model)
    if len(model.classes_) == 2:
        return lambda found: -found.ravel()
    if model.decision_function_shape == "ovr":
        return _ranked(model)
    return lambda found: found


def _ranked(model: Any) -> Callable[[Tensor], Tensor]:
    """Return what makes scores one against the rest of the decisions."""
    classes, compiled = len(model.classes_), _compiled()

    def score(found: Tensor) -> Tensor:
        scores = np.empty((len(found), classes))
        compiled.score(found, classes, scores)
        return scores

    if compiled is not None:
        return score
    own = import_module("sklearn.utils.multiclass")._ovr_decision_function
    return lambda found: own(found < 0, -found, classes)


def _chances(model: Any) -> Callable[[Tensor], Tensor] | None:
    """Return what makes probabilities of the decisions; None: it is libsvm's alone."""
    classes, compiled = len(model.classes_), _compiled()
    if compiled is None:
        return None
    a, b = (np.ascontiguousarray(each, np.float64) for each in (model._probA, model._probB))

    def estimate(found: Tensor) -> Tensor:
        chances = np.empty((len(found), classes))
        compiled.estimate(found, classes, a, b, chances)
        return chances

    return estimate
