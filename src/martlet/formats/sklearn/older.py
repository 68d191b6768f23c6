"""Pickles of an older scikit-learn: what has moved is found, what has changed is mended."""

from __future__ import annotations

import importlib.util
import re
import warnings
from collections import UserList
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from martlet.errors import UnsupportedModel
from martlet.formats.sklearn.columns import parts
from martlet.formats.sklearn.mends import Gone, mend_of

# Losses went away, or took another form: those that are not found are made anew when the model is
# mended, or are of training alone, as scorers are.
GONE = (
    *("sklearn.ensemble._gb_losses", "sklearn._loss._loss"),
    *("sklearn.linear_model.sgd_fast", "sklearn.linear_model._sgd_fast"),
    *("sklearn.metrics.scorer", "sklearn.metrics._scorer"),
)
_MOVED = {
    "sklearn.externals.joblib": "joblib",
    "sklearn.ensemble.gradient_boosting": "sklearn.ensemble._gb",
    "sklearn.preprocessing.data": "sklearn.preprocessing._data",
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
        mend_of(version, part)
    return model


_LATEST: tuple[int, ...] = (1 << 31,)  # of a file of the version that is installed, which says none


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)[:3]))


def _elsewhere(find: Any, module: str, name: str) -> Any:
    """Return what a newer scikit-learn calls *name* of *module*."""
    if module == "__main__":
        raise UnsupportedModel(
            f"holds {name!r}, which the program that wrote it defined itself: define it in a "
            "module that can be imported here too, and write the file again"
        )
    if module == "_loss" and not name.startswith("__pyx_unpickle_"):  # of 1.4 and 1.5
        return find("sklearn._loss._loss", name)
    if name.startswith("__pyx_unpickle_"):
        return lambda *_: Gone()  # a compiled loss, which training alone asks
    if name == "_RemainderColsList":
        return UserList
    if module in GONE:
        return type(name, (Gone,), {})
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
