"""scikit-learn's support vector machines: their decisions, and all that is told by them."""

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
_REGRESSORS = frozenset({"NuSVR", "SVR"})

_KERNELS = ("linear", "poly", "rbf", "sigmoid")  # as the compiled part numbers them
_ORDERS = 2
_TRIED = 64


def answers_of(model: Any) -> Callable[[Tensor], dict[str, Tensor]] | None:
    """
    Return what answers ``predict`` and its scores as *model* does, without libsvm.

    None for models of other kinds, for kernels that are functions or numbers, for models fitted on
    sparse rows, and where the decisions differ from libsvm's: it asks BLAS, which may add in an
    order that is not known here.
    """
    kind = type(model).__name__
    if kind not in KINDS | _REGRESSORS or model._sparse:
        return None
    decide = _own_decisions(model)
    if decide is None:
        return None
    if kind in _REGRESSORS:
        return lambda rows: {"predict": decide(rows).ravel()}
    scores = "predict_proba" if hasattr(model, "predict_proba") else "decision_function"
    told = _told(model, scores)
    if told is None or not _is_proved(model, scores, lambda rows: told(decide(rows))):
        return None

    def answer(rows: Tensor) -> dict[str, Tensor]:
        predicted, scored = told(decide(rows))
        return {"predict": predicted, scores: scored}

    return answer


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
    told = _told(model, scores)
    if told is not None:
        decide = _own_decisions(model) or _libsvm(model, "decision_function")
        both = _checked(model, decide, told)
        if model._impl == "one_class" or _is_proved(model, scores, both):
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


def _own_decisions(model: Any) -> Callable[[Tensor], Tensor] | None:
    """Return our own decisions of rows that were checked, if they are libsvm's to the last bit."""
    compiled = find("vectors")
    if compiled is None or model.kernel not in _KERNELS or not len(model.support_vectors_):
        return None
    counts = model._n_support if model._impl in ("c_svc", "nu_svc") else [len(model.support_)]
    arrays = [
        np.ascontiguousarray(each, np.float64)
        for each in (model.support_vectors_, model._dual_coef_, model._intercept_)
    ]
    settings = (_KERNELS.index(model.kernel), int(model.degree), model._gamma, model.coef0)
    rows = _tried(model)
    expected = _libsvm(model, "decision_function")(rows).reshape(len(rows), -1)
    pairs = expected.shape[1]
    for order in range(_ORDERS):
        try:
            machine = compiled.Machine(*arrays, np.array(counts, np.int32), *settings, order)
        except ValueError:  # of a processor without the instructions, or a degree beyond all use
            return None

        def decide(rows: Tensor, machine: Any = machine) -> Tensor:
            found = np.empty((len(rows), pairs))
            machine.decide(np.ascontiguousarray(rows, np.float64), found)
            return found

        if np.array_equal(decide(rows), expected):
            return decide
    return None


def _checked(
    model: Any, decide: Callable[[Tensor], Tensor], told: Callable[[Tensor], tuple[Tensor, Tensor]]
) -> Both:
    return lambda rows: told(decide(model._validate_for_predict(rows)))


def _with_chances(model: Any) -> Both:
    choose, chances = _libsvm(model, "predict"), _libsvm(model, "predict_proba")

    def both(rows: Any) -> tuple[Tensor, Tensor]:
        checked = model._validate_for_predict(rows)
        return model.classes_.take(choose(checked).astype(np.intp)), chances(checked)

    return both


def _is_proved(model: Any, scores: str, both: Both) -> bool:
    (own, scored), (found,) = (
        outcomes(ways, [_tried(model)])
        for ways in ((model.predict, getattr(model, scores)), (both,))
    )
    return equal(found, (own, scored))


def _tried(model: Any) -> Tensor:
    """Return rows of many sizes, and rows on lines between support vectors."""
    dice = np.random.default_rng(0)
    size = (_TRIED, model.shape_fit_[1])
    rows = dice.normal(size=size) * 10.0 ** dice.integers(-2, 2, size=size)
    known = np.asarray(model.support_vectors_)
    if not len(known):  # of a kernel that is given
        return rows
    ends = known[dice.integers(0, len(known), size=(2, _TRIED))]
    return np.concatenate([rows, ends[0] + dice.random((_TRIED, 1)) * (ends[1] - ends[0])])


# -- of the decisions between each pair of classes ----------------------------------------------


def _compiled() -> Any:
    return find("svm")


def _told(model: Any, scores: str) -> Callable[[Tensor], tuple[Tensor, Tensor]] | None:
    """Return what makes ``predict`` and *scores* of the decisions; None: it is libsvm's alone."""
    if model._impl == "one_class":
        return lambda found: (np.where(found[:, 0] > 0, 1, -1), found.ravel())
    if model.break_ties and model.decision_function_shape == "ovo":
        return None  # which it refuses
    score = _scored(model, scores)
    if score is None:
        return None
    choose = _chooser(model)
    return lambda found: (model.classes_.take(choose(found)), score(found))


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
