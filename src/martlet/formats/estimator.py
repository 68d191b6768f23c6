"""A fitted scikit-learn estimator as a servable: columns by name, every method that answers."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from martlet.errors import InvalidInput, ServableFailed, UnsupportedModel
from martlet.formats import older_sklearn
from martlet.formats.sklearn_forest import answers_of
from martlet.formats.tabular import MATRIX, Rows
from martlet.servable import DEFAULT_SIGNATURE
from martlet.tensors import DType, Signature, Spec, Tensor, Tensors

METHODS = ("predict", "predict_proba", "decision_function", "transform")

# Their predict is the class of the highest probability, which need not be computed twice.
_BY_PROBABILITY = frozenset(
    {
        *("DecisionTreeClassifier", "ExtraTreeClassifier", "ExtraTreesClassifier"),
        *("RandomForestClassifier", "GradientBoostingClassifier"),
        *("HistGradientBoostingClassifier", "LogisticRegression", "LogisticRegressionCV"),
        *("BernoulliNB", "ComplementNB", "GaussianNB", "MultinomialNB"),
        *("KNeighborsClassifier", "MLPClassifier"),
    }
)


# What trees answer without scikit-learn.
_FAST = frozenset({"predict", "predict_proba"})


class EstimatorServable:
    """
    One estimator or pipeline, run by scikit-learn in this process.

    Rows come as `Rows` says; a model fitted on a data frame takes its columns by name, numbers
    as float64 and text as strings. ``serving_default`` gives ``predict``, and ``predict_proba``
    or else ``decision_function``; every method has a signature of its own name too.

    Raises:
        UnsupportedModel: it has no method that answers, or fails on a row of zeros.
    """

    def __init__(self, estimator: Any) -> None:
        mend(estimator)
        self._estimator = estimator
        self._last = estimator.steps[-1][1] if hasattr(estimator, "steps") else estimator
        self._methods = [name for name in METHODS if hasattr(estimator, name)]
        if not self._methods:
            raise UnsupportedModel(f"a {type(estimator).__name__} has no predict or transform")
        self._read_inputs()
        self._probe()
        # Plain rows alone: where the columns are named, transformers stand before the trees.
        self._trees = None if self._text or self._frame else answers_of(estimator)

    def _read_inputs(self) -> None:
        names = getattr(self._estimator, "feature_names_in_", None)
        count = getattr(self._estimator, "n_features_in_", None)
        self._text = names is None and count is None
        if self._text:  # a pipeline that begins with a vectorizer: one column of documents
            self._rows = Rows([MATRIX], named=True, texts=[MATRIX])
            self._frame = False
            return
        found = list(map(str, range(count or 0) if names is None else names))
        text = sorted(text_columns(self._estimator, len(found), found))
        self._texts = {found[i] for i in text}
        self._rows = Rows(found, named=names is not None, texts=[found[i] for i in text])
        self._frame = bool(text) or (
            names is not None and any(_by_name(each) for each in parts(self._estimator))
        )
        self._named = names is not None
        if not self._frame and names is not None:
            # Rows of plain numbers go in as an array: without names nothing warns of that.
            for each in parts(self._estimator):
                each.__dict__.pop("feature_names_in_", None)

    def _probe(self) -> None:
        ways = {DEFAULT_SIGNATURE: self._default()} | {name: [name] for name in self._methods}
        sample = self._sample()
        specs: dict[str, list[Spec]] = {}
        for name in self._methods:
            try:
                specs[name] = [_spec(n, v) for n, v in _named(name, self._call(name, sample))]
            except Exception as exc:
                raise UnsupportedModel(
                    f"{type(self._estimator).__name__}.{name} fails on a plain row: {exc}"
                ) from exc
        outputs = {way: [s for n in names for s in specs[n]] for way, names in ways.items()}
        self.signatures: Mapping[str, Signature] = self._rows.signatures(outputs)
        self._ways = {
            called: ways[way]
            for way in ways
            for called in self.signatures
            if called == way
            or (called.startswith(f"{way}_") and called[len(way) + 1 :] in ("matrix", "columns"))
            or (way == DEFAULT_SIGNATURE and called in ("matrix", "columns"))
        }

    def _default(self) -> list[str]:
        if "predict" not in self._methods:
            return self._methods[:1]
        scores = [n for n in ("predict_proba", "decision_function") if n in self._methods]
        return ["predict", *scores[:1]]

    def _sample(self) -> Any:
        if self._text:
            return ["a"]
        known = known_values(self._estimator, self._rows.names)
        columns: dict[str, Tensor] = {}
        for name in self._rows.names:
            value = known.get(name, "" if name in self._texts else 0.0)
            dtype = object if name in self._texts else np.float64
            columns[name] = np.array([value], dtype=dtype)
        return self._table(columns, "columns")

    def _table(self, inputs: Tensors, signature_name: str) -> Any:
        if self._text:
            return [v.decode() if isinstance(v, bytes) else v for v in inputs[MATRIX]]
        if not self._frame:
            return self._rows.matrix(inputs, signature_name)
        columns = self._rows.columns(inputs, signature_name)
        named = {
            name: _decoded(column) if name in self._texts else column
            for name, column in zip(self._rows.names, columns, strict=True)
        }
        if not self._named:
            found = np.empty((len(columns[0]), len(columns)), object)
            for at, column in enumerate(named.values()):
                found[:, at] = column
            return found
        import pandas

        return pandas.DataFrame(named, copy=False)

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        """Call the signature's methods on the rows."""
        table = self._table(inputs, signature_name)
        if not len(table):
            outputs = self.signatures[signature_name].outputs.values()
            return {
                s.name: np.empty((0, *(max(d, 0) for d in (s.shape or ())[1:])), s.dtype.numpy)
                for s in outputs
            }
        try:
            return self._answers(table, self._ways[signature_name])
        except ValueError as exc:
            raise InvalidInput(f"the model refuses these values: {exc}") from exc
        except Exception as exc:
            raise ServableFailed(f"scikit-learn failed: {exc}") from exc

    def _answers(self, table: Any, methods: list[str]) -> dict[str, Tensor]:
        if self._trees is not None and _FAST.issuperset(methods):
            quick = self._trees(table)
            if quick is not None:
                return {name: _plain(quick[name]) for name in methods}
        if len(methods) > 1 and type(self._last).__name__ in _BY_PROBABILITY:
            found = self._call("predict_proba", table)
            if not isinstance(found, list):
                chosen = _most_probable(found, self._estimator.classes_)
                predicted = self._call("predict", table) if chosen is None else chosen
                return {"predict": _plain(predicted), "predict_proba": found}
        return {
            name: _plain(value)
            for method in methods
            for name, value in _named(method, self._call(method, table))
        }

    def _call(self, method: str, table: Any) -> Any:
        return getattr(self._estimator, method)(table)

    def close(self) -> None:
        """Free the estimator."""
        del self._estimator, self._last, self._trees


def _most_probable(found: Tensor, classes: Tensor) -> Tensor | None:
    """Return each row's class of the highest probability; None where two share it."""
    best = found.max(axis=1, keepdims=True)
    if np.count_nonzero(found == best) != len(found):
        return None
    chosen: Tensor = classes[found.argmax(axis=1)]
    return chosen


def _named(method: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, list):  # a classifier of several outputs gives a list of them
        return [(f"{method}_{i}", each) for i, each in enumerate(value)]
    return [(method, value)]


def _plain(value: Any) -> Tensor:
    if hasattr(value, "toarray"):
        value = value.toarray()
    array = np.asarray(value)
    return array.astype(object) if array.dtype.kind in "SU" else array


def _spec(name: str, value: Any) -> Spec:
    array = _plain(value)
    return Spec(name, DType.of(array.dtype), (-1, *array.shape[1:]))


def _decoded(column: Tensor) -> Tensor:
    if any(isinstance(value, bytes) for value in column):
        column = np.array([v.decode() if isinstance(v, bytes) else v for v in column], object)
    return column


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


def mend(estimator: Any) -> None:
    """
    Give a model of an older scikit-learn the attributes that this one asks for.

    Parameters that came later take their default, which is how the older one behaved; fitted
    attributes that were renamed take their new name.
    """
    for each in parts(estimator):
        try:
            known = inspect.signature(type(each).__init__).parameters
        except (TypeError, ValueError):
            continue
        for name, parameter in known.items():
            came_later = parameter.default is not parameter.empty and not hasattr(each, name)
            if came_later and hasattr(type(each), "get_params"):
                setattr(each, name, parameter.default)
        older_sklearn.mend(each)


def _by_name(part: Any) -> bool:
    return type(part).__name__ in ("ColumnTransformer", "FunctionTransformer")


def _first(estimator: Any) -> Any:
    while hasattr(estimator, "steps"):
        steps = [s for _, s in estimator.steps if s is not None and not isinstance(s, str)]
        if not steps:
            return None
        estimator = steps[0]
    return estimator


def _columns_of(transformer: Any, names: list[str]) -> Iterator[tuple[Any, list[int]]]:
    """Yield each part of a ColumnTransformer with the positions of the columns it takes."""
    index = {name: i for i, name in enumerate(names)}
    for _, each, columns in transformer.transformers_:
        if isinstance(each, str):
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
    first = _first(estimator)
    if hasattr(first, "transformers_"):
        found: set[int] = set()
        for each, where in _columns_of(first, names):
            inner = text_columns(each, len(where), [names[i] for i in where])
            found |= {where[i] for i in inner}
        return found
    if hasattr(first, "transformer_list"):
        return {i for _, each in first.transformer_list for i in text_columns(each, count, names)}
    if hasattr(first, "vocabulary_"):
        return set(range(count))
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
        for inner, where in _columns_of(each, names):
            for part in parts(inner):
                values = getattr(part, "categories_", None)
                if values is not None and len(values) == len(where):
                    found |= {names[i]: v[0] for i, v in zip(where, values, strict=True) if len(v)}
        return found
    values = getattr(_first(estimator), "categories_", None)
    if values is not None and len(values) == len(names):
        return {n: v[0] for n, v in zip(names, values, strict=True) if len(v)}
    return {}


def _is_text(values: Any) -> bool:
    array = np.asarray(values)
    if array.dtype.kind in "SU":
        return True
    return array.dtype == object and any(isinstance(v, str) for v in array.ravel())
