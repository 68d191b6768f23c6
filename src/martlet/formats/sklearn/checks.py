"""scikit-learn's checks of a call, at once where all is plain: most of what a small model costs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from types import MappingProxyType
from typing import Any

import numpy as np

from martlet.tensors import Tensor

_Check = Callable[..., Any]


@contextmanager
def quick() -> Iterator[None]:
    """
    Have scikit-learn's checks pass plain arrays at once, and judge everything else as ever.

    Plain are arrays of finite numbers, with as many columns as the fitted estimator takes. The
    checks are replaced in every module of scikit-learn in this process, so it has to be one that
    is ours alone, such as a pickle's; and parameters that its functions give each other are
    believed.
    """
    import sklearn

    validation = import_module("sklearn.utils.validation")
    pairs = [
        (original, quickened(original))
        for name, quickened in _QUICKENED.items()
        if (original := getattr(validation, name, None)) is not None  # of another version
    ]
    _replace({id(before): after for before, after in pairs})
    try:
        with sklearn.config_context(skip_parameter_validation=True):
            yield
    finally:
        _replace({id(after): before for before, after in pairs})


def _replace(instead: Mapping[int, _Check]) -> None:
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "sklearn":
            for called, value in list(vars(module).items()):
                if id(value) in instead:
                    setattr(module, called, instead[id(value)])


def _validate_data(original: _Check) -> _Check:
    def validate_data(estimator: Any, /, *rows: Any, **asked: Any) -> Any:
        table = rows[0] if len(rows) == 1 else asked.get("X")
        found = None
        if asked.get("reset") is False and _fits(table, estimator):
            found = _passed(table, asked)
        return original(estimator, *rows, **asked) if found is None else found

    return validate_data


def _fits(rows: Any, estimator: Any) -> bool:
    kept = vars(estimator)
    return (
        type(rows) is np.ndarray
        and rows.ndim == 2
        and kept.get("n_features_in_") == rows.shape[1]
        and "feature_names_in_" not in kept
    )


def _check_array(original: _Check) -> _Check:
    def check_array(array: Any, accept_sparse: Any = False, **asked: Any) -> Any:
        found = _passed(array, asked)
        return original(array, accept_sparse, **asked) if found is None else found

    return check_array


_DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {
        "copy": False,
        "dtype": "numeric",
        "ensure_2d": True,
        "ensure_all_finite": True,
        "ensure_min_features": 1,
        "ensure_min_samples": 1,
        "force_writeable": False,
        "order": None,
    }
)
_OF_OTHERS = frozenset(
    {"X", "accept_sparse", "accept_large_sparse", "allow_nd", "estimator", "input_name", "reset"}
)
"""What is asked of other arrays than plain ones, or said of them in an error."""


def _passed(array: Any, asked: Mapping[str, Any]) -> Tensor | None:
    """
    Return what ``check_array`` makes of a plain array; None where it has to look itself.

    Source:
        scikit-learn 1.9, ``sklearn/utils/validation.py``.
    """
    if type(array) is not np.ndarray or array.dtype.char not in "dfl":
        return None
    wants = {**_DEFAULTS, **asked}
    if len(wants) > len(_DEFAULTS) and not _OF_OTHERS.issuperset(wants.keys() - _DEFAULTS.keys()):
        return None
    wide = array.ndim == 2
    if not wide and (array.ndim != 1 or wants["ensure_2d"]):
        return None
    if len(array) < wants["ensure_min_samples"]:
        return None
    if wide and array.shape[1] < wants["ensure_min_features"]:
        return None
    dtype, order = wants["dtype"], wants["order"]
    if isinstance(dtype, list | tuple):
        dtype = None if array.dtype in dtype else dtype[0]
    elif isinstance(dtype, str) and dtype == "numeric":
        dtype = None
    if dtype is not None and np.dtype(dtype).char not in "df":
        return None
    found = np.asarray(array, dtype, order)
    if wants["ensure_all_finite"] and not _is_finite(found):
        return None
    if wants["copy"] and np.may_share_memory(found, array):
        found = np.array(found, dtype, order=order, copy=True)
    if wants["force_writeable"] and not found.flags.writeable:
        return None
    return found


def _is_finite(array: Tensor) -> bool:
    """Return whether all is finite; maybe no where the sum is not."""
    with np.errstate(over="ignore"):
        return bool(np.isfinite(np.add.reduce(array, axis=None)))


def _check_is_fitted(original: _Check) -> _Check:
    def check_is_fitted(estimator: Any, *args: Any, **asked: Any) -> None:
        if args or asked or not _is_fitted(estimator):
            original(estimator, *args, **asked)

    return check_is_fitted


def _is_fitted(estimator: Any) -> bool:
    if hasattr(estimator, "__sklearn_is_fitted__"):
        return bool(estimator.__sklearn_is_fitted__())
    return any(name[-1] == "_" and name[:2] != "__" for name in vars(estimator))


def _check_feature_names(original: _Check) -> _Check:
    def check_feature_names(estimator: Any, rows: Any, *, reset: bool) -> None:
        # Arrays have no names, and ask for none where none were kept.
        if reset or type(rows) is not np.ndarray or "feature_names_in_" in vars(estimator):
            original(estimator, rows, reset=reset)

    return check_feature_names


def _get_feature_names(original: _Check) -> _Check:
    def get_feature_names(table: Any) -> Any:
        if type(table) is not _frame():
            return original(table)
        names = table.columns.tolist()
        plain = set(map(type, names)) == {str} and len(set(names)) == len(names)
        return np.asarray(names, dtype=object) if plain else original(table)

    return get_feature_names


def _is_table(original: _Check) -> _Check:
    def is_table(x: Any) -> bool:
        kind = type(x)
        return kind is not np.ndarray and (kind is _frame() or bool(original(x)))

    return is_table


def _frame() -> Any:
    """Return the class of data frames, if anybody has pandas."""
    pandas = sys.modules.get("pandas")
    return None if pandas is None else getattr(pandas, "DataFrame", None)


_QUICKENED: Mapping[str, Callable[[_Check], _Check]] = {
    "_check_feature_names": _check_feature_names,
    "_get_feature_names": _get_feature_names,
    "_nw_into_df_or_series": _is_table,
    "check_array": _check_array,
    "check_is_fitted": _check_is_fitted,
    "validate_data": _validate_data,
}
