"""A fitted scikit-learn estimator as a servable: columns by name, every method that answers."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np

from martlet.errors import InvalidInput, ServableFailed, UnsupportedModel
from martlet.formats.sklearn import boosters, checks, mends, quick, shared, trials, walk
from martlet.formats.sklearn.boosters import categories_of, forget_names
from martlet.formats.sklearn.columns import (
    all_text,
    by_name,
    columns_with_none,
    known_values,
    parts,
    takes_text,
    text_columns,
    unused_columns,
)
from martlet.formats.tabular import MATRIX, Categories, Rows
from martlet.servable import DEFAULT_SIGNATURE
from martlet.tensors import DType, Signature, Spec, Tensor, Tensors

METHODS = ("predict", "predict_proba", "decision_function", "transform")
# Each under its own name, where it works.
_MORE = ("predict_log_proba", "score_samples", "apply")

# What trees, linear models and networks answer without scikit-learn.
_QUICK = frozenset({"predict", "predict_proba", "decision_function"})


class EstimatorServable:
    """
    One estimator or pipeline, run by scikit-learn in this process.

    Rows come as `Rows` says; a model fitted on a data frame takes its columns by name, numbers
    as float64 and text as strings. ``serving_default`` gives ``predict``, and ``predict_proba``
    or else ``decision_function``; every method has a signature of its own name too.

    Args:
        alone: Whether this process is the model's alone, so that scikit-learn may be changed in it.

    Raises:
        UnsupportedModel: it has no method that answers, or fails on a row of zeros.
    """

    def __init__(self, estimator: Any, alone: bool = False) -> None:
        mend(estimator)
        self._estimator = estimator
        self._methods = [name for name in (*METHODS, *_MORE) if hasattr(estimator, name)]
        if not self._methods and hasattr(estimator, "kneighbors"):
            self._methods = ["kneighbors"]  # of who has no label to tell
        if not self._methods:
            raise UnsupportedModel(f"a {type(estimator).__name__} has no predict or transform")
        self._read_inputs()
        self._probe()
        # Plain rows alone: where the columns are named, other transformers stand before.
        self._quick = None
        if not (self._text or self._frame):
            self._quick = quick.answers_of(estimator)
        tables = [self._sample()]
        if not (self._text or self._frame):
            tables += trials.drawn(len(self._rows.names))
        methods = self._ways.get(DEFAULT_SIGNATURE, [])
        self._both = None
        if len(methods) == 2:
            self._both = shared.proved(estimator, methods[1], tables)
        self._walk = None
        if self._frame and self._named:
            self._walk = walk.proved(
                estimator, self._methods, self._rows.names, frozenset(self._texts), self._framed
            )
        self._checks = ExitStack()
        if alone:
            self._hasten(tables)

    def _hasten(self, tables: list[Any]) -> None:
        """Have scikit-learn's checks be quick in this process, if that changes no answer."""
        ways = [partial(self._call, method) for method in self._methods]
        before = trials.outcomes(ways, tables)
        with ExitStack() as quick:
            quick.enter_context(checks.quick())
            if trials.equal(before, trials.outcomes(ways, tables)):
                self._checks = quick.pop_all()

    def _read_inputs(self) -> None:
        names = getattr(self._estimator, "feature_names_in_", None)
        count = getattr(self._estimator, "n_features_in_", None)
        if not count and hasattr(self._estimator, "feature_names_"):  # CatBoost's own word
            count = len(self._estimator.feature_names_)
            chosen = not all(str(name).isdigit() for name in self._estimator.feature_names_)
            names = self._estimator.feature_names_ if chosen else None
        self._text = names is None and count is None and takes_text(self._estimator)
        if self._text:  # a pipeline that begins with a vectorizer: one column of documents
            self._rows = Rows([MATRIX], named=True, texts=[MATRIX])
            self._frame = False
            return
        # What keeps no number of features (isotonic regression) takes one.
        found = list(map(str, range(count or 1) if names is None else names))
        text = sorted(text_columns(self._estimator, len(found), found))
        unused = unused_columns(self._estimator, found) if names is not None else set()
        self._texts = {found[i] for i in text} - unused
        self._with_none = self._texts & columns_with_none(self._estimator, found)
        coded = categories_of(self._estimator, found) if names is not None else {}
        self._rows = Rows(
            found,
            named=names is not None,
            categories={name: Categories(values) for name, values in coded.items()},
            texts=sorted(self._texts),
            unused=sorted(unused),
        )
        self._frame = bool(text) or (
            names is not None and any(by_name(each) for each in parts(self._estimator))
        )
        self._named = names is not None
        if not self._frame and names is not None:
            # Rows of plain numbers go in as an array: without names nothing warns of that.
            for each in parts(self._estimator):
                each.__dict__.pop("feature_names_in_", None)
            forget_names(self._estimator)

    def _probe(self) -> None:
        ways = {DEFAULT_SIGNATURE: self._default()} | {name: [name] for name in self._methods}
        specs: dict[str, list[Spec]] = {}
        for name in self._methods.copy():
            try:
                found = self._call(name, self._sample())
                specs[name] = [_spec(n, v) for n, v in _named(name, found)]
            except Exception as exc:
                if name in _MORE:
                    self._methods.remove(name)
                    continue
                raise UnsupportedModel(
                    f"{type(self._estimator).__name__}.{name} fails on a plain row: {exc}"
                ) from exc
        if not specs:
            raise UnsupportedModel(f"{type(self._estimator).__name__} answers no plain row")
        ways = {way: names for way, names in ways.items() if specs.keys() >= set(names)}
        outputs = {way: [s for n in names for s in specs[n]] for way, names in ways.items()}
        if not self._text:
            self._rows.may_miss = [name for name in self._texts if self._takes_none(name)]
        self.signatures: Mapping[str, Signature] = self._rows.signatures(outputs)
        self._ways = {
            called: ways[way]
            for way in ways
            for called in self.signatures
            if called == way
            or (called.startswith(f"{way}_") and called[len(way) + 1 :] in ("matrix", "columns"))
            or (way == DEFAULT_SIGNATURE and called in ("matrix", "columns"))
        }

    def _takes_none(self, name: str) -> bool:
        try:
            for method in self._methods:
                self._call(method, self._sample(missing=name))
        except Exception:
            return False
        return True

    def _default(self) -> list[str]:
        if "predict" not in self._methods:
            return self._methods[:1]
        scores = [n for n in ("predict_proba", "decision_function") if n in self._methods]
        return ["predict", *scores[:1]]

    def _sample(self, missing: str | None = None) -> Any:
        if self._text:
            return ["a", "a"]
        known = known_values(self._estimator, self._rows.names)
        columns: dict[str, Tensor] = {}
        for name in self._rows.names:
            value = known.get(name, "" if name in self._texts else 0.0)
            value = None if name == missing else value
            dtype = object if name in self._texts else np.float64
            columns[name] = np.array([value, value], dtype=dtype)  # two: some squeeze one
        return self._table(columns, "columns")

    def _table(self, inputs: Tensors, signature_name: str) -> Any:
        if self._text:
            return [v.decode() if isinstance(v, bytes) else v for v in inputs[MATRIX]]
        if not self._frame:
            return self._rows.matrix(inputs, signature_name)
        return self._framed(self._columns(inputs, signature_name))

    def _columns(self, inputs: Tensors, signature_name: str) -> dict[str, Tensor]:
        columns = self._rows.columns(inputs, signature_name)
        return {
            name: _decoded(column, name in self._with_none) if name in self._texts else column
            for name, column in zip(self._rows.names, columns, strict=True)
        }

    def _framed(self, named: Mapping[str, Tensor]) -> Any:
        if not self._named:
            columns = list(named.values())
            found = np.empty((len(columns[0]), len(columns)), object)
            for at, column in enumerate(columns):
                found[:, at] = column
            return found
        import pandas

        # pandas makes NaN of None in a column of text, unless it is told not to see text there.
        kept = {name: pandas.Series(named[name], dtype=object) for name in self._with_none}
        return pandas.DataFrame({**named, **kept}, copy=False)

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        """Call the signature's methods on the rows."""
        methods = self._ways[signature_name]
        try:
            if self._walk is not None:
                columns = self._columns(inputs, signature_name)
                told = self._walk(columns, methods) if _any_rows(columns) else None
                if told is not None:
                    return _told(methods, told)
                table = self._framed(columns)
            else:
                table = self._table(inputs, signature_name)
        except UnicodeDecodeError as exc:
            raise InvalidInput(f"the rows hold bytes that are not UTF-8: {exc}") from exc
        if not len(table):
            outputs = self.signatures[signature_name].outputs.values()
            return {
                s.name: np.empty((0, *(max(d, 0) for d in (s.shape or ())[1:])), s.dtype.numpy)
                for s in outputs
            }
        try:
            return self._answers(table, methods)
        except ValueError as exc:
            raise InvalidInput(f"the model refuses these values: {exc}") from exc
        except Exception as exc:
            raise ServableFailed(f"scikit-learn failed: {exc}") from exc

    def _answers(self, table: Any, methods: list[str]) -> dict[str, Tensor]:
        if self._quick is not None and _QUICK.issuperset(methods):
            quick = self._quick(table)
            if quick is not None and quick.keys() >= set(methods):
                return {name: _plain(quick[name]) for name in methods}
        if len(methods) == 2 and self._both is not None:
            values = self._both(table)
        else:
            values = tuple(self._call(method, table) for method in methods)
        return _told(methods, values)

    def _call(self, method: str, table: Any) -> Any:
        found = getattr(self._estimator, method)(table)
        # A sparse decomposition squeezes the one row that it transforms.
        squeezed = method == "transform" and len(table) == 1 and getattr(found, "ndim", 2) == 1
        return found[np.newaxis] if squeezed else found

    def close(self) -> None:
        """Free the estimator, and leave scikit-learn as it was."""
        self._checks.close()
        del self._estimator, self._both, self._quick, self._walk


def _any_rows(columns: Mapping[str, Tensor]) -> bool:
    return len(next(iter(columns.values()))) > 0


def _told(methods: Sequence[str], values: Sequence[Any]) -> dict[str, Tensor]:
    return {
        name: _plain(value)
        for method, found in zip(methods, values, strict=True)
        for name, value in _named(method, found)
    }


def _named(method: str, value: Any) -> list[tuple[str, Any]]:
    if method == "kneighbors":
        return list(zip(("distances", "indices"), value, strict=True))
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


def _decoded(column: Tensor, with_none: bool) -> Tensor:
    if not all_text(column):
        missing = None if with_none else np.nan
        told = [v.decode() if isinstance(v, bytes) else missing if v is None else v for v in column]
        column = np.empty(len(told), object)
        column[:] = told
    return column


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
        mends.mend(each)
    boosters.mend(estimator)
