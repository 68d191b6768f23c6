"""What columns a fitted scikit-learn model takes: which are text, which it never looks at."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from martlet.native import find
from martlet.tensors import Tensor

_WITHIN = ("best_estimator_", "estimator_", "regressor_", "estimators_", "calibrated_classifiers_")
"""Where a model keeps those that are given the rows that it is given."""

_TEXTS = find("texts")


def parts(estimator: Any, depth: int = 0) -> Iterator[Any]:
    """Yield *estimator* and every object of scikit-learn's within it."""
    if depth > 20:
        return
    if type(estimator).__module__.startswith("sklearn.") and hasattr(estimator, "__dict__"):
        yield estimator
        for value in list(vars(estimator).values()):
            yield from parts(value, depth + 1)
    elif isinstance(estimator, list | tuple):
        for value in estimator:
            yield from parts(value, depth + 1)
    elif isinstance(estimator, dict):
        for value in estimator.values():
            yield from parts(value, depth + 1)
    elif isinstance(estimator, np.ndarray) and estimator.dtype == object:
        for value in estimator.ravel():
            yield from parts(value, depth + 1)


def by_name(part: Any) -> bool:
    """Return whether *part* may ask for its columns by name."""
    return type(part).__name__ in ("ColumnTransformer", "FunctionTransformer")


def _first(estimator: Any) -> Any:
    while hasattr(estimator, "steps"):
        steps = [s for _, s in estimator.steps if s is not None and not isinstance(s, str)]
        if not steps:
            return None
        estimator = steps[0]
    return estimator


def _inner(estimator: Any) -> list[Any]:
    """Return the models within *estimator* that are given the rows that it is given."""
    found: list[Any] = []
    for name in _WITHIN:
        value = getattr(estimator, name, None)
        if isinstance(value, np.ndarray):
            found += value.ravel().tolist()
        else:  # not by numpy: a pipeline is a sequence too
            found += value if isinstance(value, list | tuple) else [value]
    return [getattr(each, "estimator", each) for each in found if each is not None]


def _transformer(estimator: Any) -> Any:
    """Return what splits the columns for *estimator*, if it begins with that."""
    first = _first(estimator)
    first = getattr(first, "_preprocessor", None) or first  # of gradient boosting by histograms
    return first if hasattr(first, "transformers_") else None


def unused_columns(estimator: Any, names: list[str]) -> set[str]:
    """Return the columns that the model was fitted with and never looks at."""
    transformer = _transformer(estimator)
    if transformer is not None:
        used = {names[i] for _, where in columns_of(transformer, names, True) for i in where}
        return set(names) - used
    inner = _inner(_first(estimator))
    return set.intersection(*(unused_columns(each, names) for each in inner)) if inner else set()


def all_text(column: Tensor) -> bool:
    """Return whether each value is a ``str``: none is missing, and none ``bytes``."""
    if _TEXTS is not None and column.flags.c_contiguous:
        return bool(_TEXTS.all_str(column))
    return all(isinstance(value, str) for value in column.tolist())


def takes_text(estimator: Any) -> bool:
    """Return whether the model begins with what makes words of documents."""
    return any(_of_documents(part) for part in parts(estimator))


def _of_documents(part: Any) -> bool:
    return type(part).__name__ == "HashingVectorizer" or hasattr(part, "vocabulary_")


def columns_of(
    transformer: Any, names: list[str], passed: bool = False
) -> Iterator[tuple[Any, list[int]]]:
    """
    Yield each part of a ColumnTransformer with the positions of the columns it takes.

    Args:
        passed: Those that are passed through as they are, too.
    """
    index = {name: i for i, name in enumerate(names)}
    for _, each, columns in transformer.transformers_:
        if isinstance(each, str) and not (passed and each == "passthrough"):
            continue
        if isinstance(columns, slice):
            where = list(range(len(names)))[columns]
        else:
            listed = np.atleast_1d(columns)
            if listed.dtype == bool:
                where = np.flatnonzero(listed).tolist()
            else:
                where = [index[c] if isinstance(c, str) else int(c) for c in listed.tolist()]
        yield each, where


def text_columns(estimator: Any, count: int, names: list[str]) -> set[int]:
    """Return the positions of the columns that hold text, as the fitted transformers know them."""
    first, transformer = _first(estimator), _transformer(estimator)
    if transformer is not None:
        found: set[int] = set()
        for each, where in columns_of(transformer, names):
            inner = text_columns(each, len(where), [names[i] for i in where])
            found |= {where[i] for i in inner}
        return found
    if hasattr(first, "transformer_list"):
        return {i for _, each in first.transformer_list for i in text_columns(each, count, names)}
    if _of_documents(first):
        return set(range(count))
    if hasattr(first, "get_cat_feature_indices"):  # CatBoost's
        return {*first.get_cat_feature_indices(), *first.get_text_feature_indices()}
    if within := [each for each in _inner(first) if hasattr(each, "fit")]:
        return {i for each in within for i in text_columns(each, count, names)}
    categories = getattr(first, "categories_", None)
    if categories is not None and not hasattr(first, "n_bins_"):
        return {i for i, values in enumerate(categories) if _is_text(values)}
    if type(first).__name__ == "SimpleImputer" and _is_text(first.statistics_):
        return {i for i, value in enumerate(first.statistics_) if isinstance(value, str)}
    return set()


def known_values(estimator: Any, names: list[str]) -> dict[str, Any]:
    """Return, for columns whose encoder lists its categories, one that it knows."""
    for each in (part for part in parts(estimator) if hasattr(part, "transformers_")):
        found: dict[str, Any] = {}
        for inner, where in columns_of(each, names):
            for part in parts(inner):
                values = getattr(part, "categories_", None)
                if values is not None and len(values) == len(where):
                    found |= {names[i]: v[0] for i, v in zip(where, values, strict=True) if len(v)}
        return found
    values = getattr(_first(estimator), "categories_", None)
    if values is not None and len(values) == len(names):
        return {n: v[0] for n, v in zip(names, values, strict=True) if len(v)}
    return {}


def columns_with_none(estimator: Any, names: list[str]) -> set[str]:
    """Return the columns where None is a category or what an imputer fills; elsewhere it is NaN."""
    found: set[str] = set()
    for each in (part for part in parts(estimator) if hasattr(part, "transformers_")):
        for inner, where in columns_of(each, names):
            found |= _with_none(inner, [names[i] for i in where])
    return found | _with_none(_first(estimator), names)


def _with_none(estimator: Any, names: list[str]) -> set[str]:
    found: set[str] = set()
    for part in parts(estimator):
        if getattr(part, "missing_values", "") is None:
            found |= set(names)
        values = getattr(part, "categories_", None)
        if values is not None and len(values) == len(names):
            found |= {name for name, known in zip(names, values, strict=True) if _holds_none(known)}
    return found


def _holds_none(values: Any) -> bool:
    return any(value is None for value in np.asarray(values, object).ravel())


def _is_text(values: Any) -> bool:
    array = np.asarray(values)
    if array.dtype.kind in "SU":
        return True
    return array.dtype == object and any(isinstance(v, str) for v in array.ravel())
