"""Pickles of an older scikit-learn: what has moved is found, what has changed is mended."""

from __future__ import annotations

import importlib.util
import re
import warnings
from collections import UserList
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from martlet.formats import sklearn_before
from martlet.formats.sklearn_columns import parts

# Losses went away, or took another form: those that are not found are made anew by `mend`, or are
# of training alone, as scorers are.
_GONE = (
    *("sklearn.ensemble._gb_losses", "sklearn._loss._loss"),
    *("sklearn.linear_model.sgd_fast", "sklearn.linear_model._sgd_fast"),
    *("sklearn.metrics.scorer", "sklearn.metrics._scorer"),
)
_MOVED = {
    "sklearn.externals.joblib": "joblib",
    "sklearn.ensemble.gradient_boosting": "sklearn.ensemble._gb",
    "sklearn.preprocessing.data": "sklearn.preprocessing._data",
}
_LOSSES = {
    "deviance": "log_loss",
    "ls": "squared_error",
    "lad": "absolute_error",
    "log": "log_loss",
    "squared_loss": "squared_error",
}


def load(path: Path) -> Any:
    """
    Unpickle the model at *path* as joblib does: in an isolated process alone.

    Raises:
        Exception: of any kind, as unpickling does.
    """
    import joblib
    from joblib import numpy_pickle

    class Unpickler(numpy_pickle.NumpyUnpickler):  # type: ignore[misc]  # joblib has no types
        def find_class(self, module: str, name: str) -> Any:
            try:
                found = super().find_class(module, name)
            except (ModuleNotFoundError, AttributeError):
                return _elsewhere(super().find_class, module, name)
            return _tree(found) if (module, name) == ("sklearn.tree._tree", "Tree") else found

    # joblib has no other place for it; the process is the model's own.
    with mock.patch.object(numpy_pickle, "NumpyUnpickler", Unpickler):
        return as_written(lambda: joblib.load(path))


def as_written(read: Callable[[], Any]) -> Any:
    """Return the model that *read* gives, mended where its version alone says what has changed."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        model = read()
    versions = [getattr(each.message, "original_sklearn_version", None) for each in told]
    version = next((_numbers(each) for each in versions if each), _LATEST)
    for part in parts(model) if version < _LATEST else ():
        kind = type(part).__name__
        if kind == "AdaBoostClassifier" and version < (1, 3, 1):
            sklearn_before.boosted(part)
        elif kind in ("PLSRegression", "PLSCanonical", "CCA") and version < (1, 5):
            # Rows were divided by their deviation; since then the coefficients are.
            part.coef_ = vars(part).get("_coef_", vars(part).get("coef_")) / part._x_std
    return model


_LATEST: tuple[int, ...] = (1 << 31,)  # of a file of the version that is installed, which says none


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


def _elsewhere(find: Any, module: str, name: str) -> Any:
    """Return what a newer scikit-learn calls *name* of *module*."""
    if module == "_loss" and not name.startswith("__pyx_unpickle_"):  # of 1.4 and 1.5
        return find("sklearn._loss._loss", name)
    if name.startswith("__pyx_unpickle_"):
        return lambda *_: _Gone()  # a compiled loss, which training alone asks
    if name == "_RemainderColsList":
        return UserList
    if module in _GONE:
        return type(name, (_Gone,), {})
    for old, new in _MOVED.items():
        if module.startswith(old):
            return find(new + module[len(old) :], name)
    # Modules became private in 0.22 (sklearn.svm.classes: sklearn.svm._classes), and distances
    # and trees of neighbours have said their width since 1.3.
    package, _, last = module.rpartition(".")
    if importlib.util.find_spec(module) is not None:
        return find(module, f"{name}64")
    private = f"_{last.strip('_')}"
    return find(f"{package}.{private}" if package != "sklearn" else module, name)


class _Gone:
    """An object whose class is gone: it takes any state, and answers nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def _tree(known: Any) -> Any:
    """Return the compiled tree's class, taking the nodes that scikit-learn before 1.3 wrote."""

    class Tree(known):  # type: ignore[misc]  # a compiled class
        def __setstate__(self, state: dict[str, Any]) -> None:
            nodes = state["nodes"]
            field = "missing_go_to_left"
            if field not in nodes.dtype.names:
                # The layout of this scikit-learn, from a tree of one leaf.
                wanted = known(1, np.array([1], np.intp), 1).__reduce__()[2]["nodes"].dtype
                mended = np.zeros(nodes.shape, wanted)
                for name in nodes.dtype.names:
                    mended[name] = nodes[name]
                state = {**state, "nodes": mended}
            super().__setstate__(state)

        def __reduce__(self) -> Any:
            return (known, *super().__reduce__()[1:])

    return Tree


def mend(part: Any) -> None:
    """Give one estimator what later versions of its class keep after ``fit``."""
    kind = type(part).__name__
    if not any(name.endswith("_") for name in vars(part)) and kind != "FunctionTransformer":
        return  # never fitted: what others made copies of
    if kind in ("GradientBoostingClassifier", "GradientBoostingRegressor"):
        part.loss = _LOSSES.get(part.loss, part.loss)
        if not hasattr(part, "n_trees_per_iteration_"):
            part.n_trees_per_iteration_ = part.estimators_.shape[1]
        if not hasattr(part, "_loss") or isinstance(part._loss, _Gone):
            part._loss = part._get_loss(sample_weight=None)
            if part._loss.is_multiclass:
                part._loss.link = _log_link()
    elif kind.startswith("HistGradientBoosting"):
        if isinstance(part._loss.closs, _Gone):
            part._loss = part._get_loss(sample_weight=None)
        if not hasattr(part, "_preprocessor"):
            part._preprocessor = None  # categories were their codes
    elif kind == "AdaBoostClassifier" and vars(part).get("algorithm") == "SAMME.R":
        sklearn_before.boosted(part)
    elif kind in ("LogisticRegression", "LogisticRegressionCV"):
        sklearn_before.logistic(part)
    elif kind.startswith("SGD"):
        part.loss = _LOSSES.get(part.loss, part.loss)
    elif kind == "RidgeClassifier" and not hasattr(part, "classes_"):
        part.classes_ = part._label_binarizer.classes_
    elif kind == "TfidfTransformer" and not hasattr(part, "idf_") and hasattr(part, "_idf_diag"):
        part.idf_ = part._idf_diag.diagonal()  # without it, frequencies would not be weighed
    elif kind == "ColumnTransformer":
        part.transformers_ = [
            (name, _passed(each), list(where) if isinstance(where, UserList) else where)
            for name, each, where in part.transformers_
        ]
    elif kind == "FunctionTransformer" and isinstance(part.func, partial):
        told = dict(part.func.keywords)
        if "force_all_finite" in told:  # of a check of rows: renamed in 1.6
            told["ensure_all_finite"] = told.pop("force_all_finite")
            part.func = partial(part.func.func, *part.func.args, **told)
    elif kind == "KernelPCA" and not hasattr(part, "gamma_"):
        part.gamma_ = 1 / part.n_features_in_ if part.gamma is None else part.gamma
    elif kind in ("ClassifierChain", "RegressorChain", "SelfTrainingClassifier"):
        if getattr(part, "estimator", None) is None:
            part.estimator = part.base_estimator
        if not hasattr(part, "estimator_") and hasattr(part, "base_estimator_"):
            part.estimator_ = part.base_estimator_
    elif kind in ("PLSRegression", "PLSCanonical", "CCA") and not hasattr(part, "_predict_1d"):
        part._predict_1d = False
    elif kind in ("DecisionTreeClassifier", "ExtraTreeClassifier"):
        _share(part.tree_.value)
    elif kind == "OrdinalEncoder" and not hasattr(part, "_infrequent_enabled"):
        part._infrequent_enabled = False
    elif kind == "IsolationForest" and not hasattr(part, "_decision_path_lengths"):
        from sklearn.ensemble._iforest import _average_path_length

        trees = [each.tree_ for each in part.estimators_]
        part._average_path_length_per_tree = [_average_path_length(t.n_node_samples) for t in trees]
        part._decision_path_lengths = [each.compute_node_depths() for each in trees]
    elif kind == "SimpleImputer" and not hasattr(part, "_fill_dtype"):
        part._fill_dtype = getattr(part, "_fit_dtype", np.dtype(np.float64))


def _share(values: Any) -> None:
    """Make shares of the weights of classes that nodes held until 1.3."""
    total = values.sum(axis=2, keepdims=True)
    weights = (np.abs(total - 1) > 1e-6) & (total > 0)
    np.divide(values, total, out=values, where=weights)


def _passed(transformer: Any) -> Any:
    """Return what scikit-learn since 1.4 has instead of the word "passthrough"."""
    if not isinstance(transformer, str) or transformer != "passthrough":
        return transformer
    from sklearn.preprocessing import FunctionTransformer

    return FunctionTransformer(accept_sparse=True, check_inverse=False)


def _log_link() -> Any:
    """Return the logarithm that boosted classes began from, where they are centred now."""
    from sklearn._loss.link import MultinomialLogit

    class Log(MultinomialLogit):  # type: ignore[misc]  # scikit-learn has no types
        def link(self, y_pred: Any, out: Any = None) -> Any:
            return np.log(y_pred, out=out)

    return Log()
