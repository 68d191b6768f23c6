"""scikit-learn's support vector machines: two methods of one at the cost of one."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from itertools import combinations
from typing import Any

import numpy as np

from martlet.tensors import Tensor

Both = Callable[[Any], "tuple[Any, Any]"]

KINDS = frozenset({"NuSVC", "OneClassSVM", "SVC"})


def both_of(model: Any, scores: str) -> Both | None:
    """
    Return what gives ``predict`` and *scores* of rows that are checked once.

    None for kernels that are functions, and for models fitted on sparse rows.

    Raises:
        AttributeError, ImportError: it is of another version, or not fitted.

    Source:
        scikit-learn, ``svm/_base.py``; libsvm 3, ``svm_predict_values``.
    """
    if callable(model.kernel) or model._sparse:
        return None
    if scores == "predict_proba":
        return None if model.break_ties else _with_chances(model)
    decide = _libsvm(model, "decision_function")
    if model._impl == "one_class":
        return lambda rows: _of_one(decide(model._validate_for_predict(rows)).ravel())
    return None if model.break_ties else _decided(model, decide)


def _libsvm(model: Any, name: str) -> Callable[[Tensor], Tensor]:
    """Return libsvm's function of rows that were checked."""
    base = import_module("sklearn.svm._base")
    kept = ("support_", "support_vectors_", "_n_support", "_dual_coef_", "_intercept_")
    arguments = [getattr(model, each) for each in (*kept, "_probA", "_probB")]
    settings = {each: getattr(model, each) for each in ("kernel", "degree", "coef0", "cache_size")}
    settings |= {"svm_type": base.LIBSVM_IMPL.index(model._impl), "gamma": model._gamma}
    function = getattr(base.libsvm, name)
    return lambda rows: function(rows, *arguments, **settings)


def _with_chances(model: Any) -> Both:
    choose, chances = _libsvm(model, "predict"), _libsvm(model, "predict_proba")

    def both(rows: Any) -> tuple[Tensor, Tensor]:
        checked = model._validate_for_predict(rows)
        return model.classes_.take(choose(checked).astype(np.intp)), chances(checked)

    return both


def _of_one(found: Tensor) -> tuple[Tensor, Tensor]:
    return np.where(found > 0, 1, -1), found


def _decided(model: Any, decide: Callable[[Tensor], Tensor]) -> Both:
    from sklearn.utils.multiclass import _ovr_decision_function

    classes = len(model.classes_)
    pairs = np.array(list(combinations(range(classes), 2)))
    by_class = model.decision_function_shape == "ovr"

    def both(rows: Any) -> tuple[Tensor, Tensor]:
        found = decide(model._validate_for_predict(rows))
        if classes == 2:
            chosen = (found[:, 0] <= 0).astype(np.intp)
            return model.classes_.take(chosen), -found.ravel()
        votes = np.where(found > 0, *pairs.T)
        chosen = np.array([np.bincount(each, minlength=classes).argmax() for each in votes])
        if by_class:
            found = _ovr_decision_function(found < 0, -found, classes)
        return model.classes_.take(chosen), found

    return both
