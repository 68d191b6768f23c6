"""Pickles of an older scikit-learn: what has moved is found, what has changed is mended."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from martlet.errors import UnsupportedModel

# Losses went away, or took another form: those that are not found are made anew by `mend`.
_GONE = ("sklearn.ensemble._gb_losses", "sklearn._loss._loss")
_MOVED = {
    "sklearn.externals.joblib": "joblib",
    "sklearn.ensemble.gradient_boosting": "sklearn.ensemble._gb",
    "sklearn.preprocessing.data": "sklearn.preprocessing._data",
}
_LOSSES = {
    "deviance": "log_loss",
    "ls": "squared_error",
    "lad": "absolute_error",
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
        return joblib.load(path)


def _elsewhere(find: Any, module: str, name: str) -> Any:
    """Return what a newer scikit-learn calls *name* of *module*."""
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
            nodes, values = state["nodes"], state["values"]
            field = "missing_go_to_left"
            if field not in nodes.dtype.names:
                # The layout of this scikit-learn, from a tree of one leaf.
                wanted = known(1, np.array([1], np.intp), 1).__reduce__()[2]["nodes"].dtype
                mended = np.zeros(nodes.shape, wanted)
                for name in nodes.dtype.names:
                    mended[name] = nodes[name]
                if values.shape[2] > 1:  # of classes: weights then, shares of them now
                    total = values.sum(axis=2, keepdims=True)
                    values = np.divide(values, total, out=np.zeros_like(values), where=total != 0)
                state = {**state, "nodes": mended, "values": values}
            super().__setstate__(state)

        def __reduce__(self) -> Any:
            return (known, *super().__reduce__()[1:])

    return Tree


def mend(part: Any) -> None:
    """
    Give one estimator what later versions of its class keep after ``fit``.

    Raises:
        UnsupportedModel: this scikit-learn no longer has what it needs to answer as it did.
    """
    kind = type(part).__name__
    if not any(name.endswith("_") for name in vars(part)):
        return  # never fitted: what others made copies of
    if kind in ("GradientBoostingClassifier", "GradientBoostingRegressor"):
        part.loss = _LOSSES.get(part.loss, part.loss)
        if not hasattr(part, "_loss") or isinstance(part._loss, _Gone):
            part._loss = part._get_loss(sample_weight=None)
            if part._loss.is_multiclass:
                part._loss.link = _log_link()
    elif kind.startswith("HistGradientBoosting"):
        if isinstance(part._loss.closs, _Gone):
            part._loss = part._get_loss(sample_weight=None)
        if not hasattr(part, "_preprocessor") and part.is_categorical_ is None:
            part._preprocessor = None
    elif kind == "AdaBoostClassifier" and vars(part).get("algorithm") == "SAMME.R":
        raise UnsupportedModel(
            "an AdaBoostClassifier of the algorithm SAMME.R, which scikit-learn 1.6 left out, "
            "would answer otherwise: save it with ONNX under the version that wrote it"
        )
    elif kind == "OrdinalEncoder" and not hasattr(part, "_infrequent_enabled"):
        part._infrequent_enabled = False
    elif kind == "IsolationForest" and not hasattr(part, "_decision_path_lengths"):
        from sklearn.ensemble._iforest import _average_path_length

        trees = [each.tree_ for each in part.estimators_]
        part._average_path_length_per_tree = [_average_path_length(t.n_node_samples) for t in trees]
        part._decision_path_lengths = [each.compute_node_depths() for each in trees]
    elif kind == "SimpleImputer" and not hasattr(part, "_fill_dtype"):
        part._fill_dtype = getattr(part, "_fit_dtype", np.dtype(np.float64))


def _log_link() -> Any:
    """Return the logarithm that boosted classes began from, where they are centred now."""
    from sklearn._loss.link import MultinomialLogit

    class Log(MultinomialLogit):  # type: ignore[misc]  # scikit-learn has no types
        def link(self, y_pred: Any, out: Any = None) -> Any:
            return np.log(y_pred, out=out)

    return Log()
