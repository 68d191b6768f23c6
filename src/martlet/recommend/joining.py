"""A ranking model's inputs, joined from the tables, the vectors and the request."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.errors import InvalidInput, UnsupportedModel
from martlet.recommend.declaration import ByModel, Column, Dot, Feature, Given, Key, Vector
from martlet.recommend.stages import Floats, Keys
from martlet.recommend.subject import Subject
from martlet.recommend.tables import Tables
from martlet.stores import Features
from martlet.tensors import DType, Signature, Spec, Tensor, repeated


@dataclass(slots=True)
class Rows:
    """The subject and the items of one request; a table's rows are looked up once."""

    subject: Subject
    items: Keys
    _rows: dict[int, NDArray[np.int64]] = field(default_factory=dict)

    def of(self, table: Any) -> NDArray[np.int64]:
        """Return the items' rows in *table*, -1 where it has none. Shape [n]."""
        found = self._rows.get(id(table))
        if found is None:
            found = self._rows[id(table)] = table.rows_of(self.items)
        return found


class Unfit(InvalidInput):
    """Values from our own tables do not fit the model: the client cannot mend that."""


Fill = Callable[[Rows], Tensor]
"""The values of one input: [n] or [n, width], or one row that all items share."""


class Join:
    """
    Fills a signature's inputs for one subject and many items.

    Made once for each version of a model. Where each input comes from is settled here.

    Args:
        step: What the declaration says about the model.
        name: The model's name, for messages.
        signature: Its inputs.
        tables: The declaration's.

    Raises:
        UnsupportedModel: an input's source is missing, or cannot fill it.
    """

    def __init__(self, step: ByModel, name: str, signature: Signature, tables: Tables) -> None:
        self._name = name
        self._units = tables.features(step.units) if step.units else None
        self._items = tables.features(step.items) if step.items else None
        self._tables = tables
        unused = set(step.features) - set(signature.inputs)
        if unused:
            known = ", ".join(signature.inputs)
            raise UnsupportedModel(
                f"model {name!r} has no input {sorted(unused)[0]!r}; its inputs are: {known}"
            )
        self._fills = [
            (spec, self._fill(spec, step.features.get(spec.name) or self._by_name(spec.name)))
            for spec in signature.inputs.values()
        ]

    def __call__(self, rows: Rows) -> dict[str, Tensor]:
        """
        Return every input for the items of *rows*, each with a first dimension of that many.

        Raises:
            InvalidInput: the request lacks a value, or gives one that does not fit.
        """
        n = len(rows.items)
        return {spec.name: _shaped(spec, fill(rows), n) for spec, fill in self._fills}

    def _by_name(self, name: str) -> Feature:
        """Return where an input that the declaration does not mention comes from."""
        if self._items is not None and name in self._items.columns:
            return Column("item", name)
        if self._units is not None and name in self._units.columns:
            return Column("unit", name)
        return Given(name)

    def _fill(self, spec: Spec, feature: Feature) -> Fill:
        match feature:
            case Column("item", column):
                return self._item_column(spec, column)
            case Column(_, column):
                return self._unit_column(spec, column)
            case Vector("item", table):
                vectors = self._tables.embeddings(table)
                self._check_width(spec, vectors.dim)
                return lambda rows: vectors.take(rows.of(vectors))
            case Vector(_, table):
                units = self._tables.embeddings(table)
                self._check_width(spec, units.dim)
                return lambda rows: units.take(np.array([rows.subject.row(units)]))
            case Dot(query, items):
                return inner(self._tables, query, items)
            case Key("item"):
                return lambda rows: rows.items
            case Key(_):
                return self._unit_key(spec)
            case Given(field, default):
                return self._given(spec, field, default)

    def _item_column(self, spec: Spec, name: str) -> Fill:
        table = self._column(self._items, spec, name)
        return lambda rows: table.take(rows.of(table), (name,))[name]

    def _unit_column(self, spec: Spec, name: str) -> Fill:
        table = self._column(self._units, spec, name)

        def fill(rows: Rows) -> Tensor:
            # What the request says about the unit is newer than the table.
            if name in rows.subject.context:
                return _one(spec, rows.subject.context[name])
            return table.take(np.array([rows.subject.row(table)]), (name,))[name]

        return fill

    def _column(self, table: Features | None, spec: Spec, name: str) -> Features:
        if table is None or name not in table.columns:
            raise UnsupportedModel(
                f"model {self._name!r}, input {spec.name!r}: no table has a column {name!r}"
            )
        column = table.columns[name].dtype
        if (column is DType.STRING) != (spec.dtype is DType.STRING):
            raise UnsupportedModel(
                f"model {self._name!r}, input {spec.name!r} is {spec.dtype.value}; "
                f"the column {name!r} is {column.value}"
            )
        self._check_width(spec, table.columns[name].width)
        return table

    def _check_width(self, spec: Spec, width: int) -> None:
        wanted = _width(spec)
        if wanted != -1 and max(width, 1) != wanted:
            raise UnsupportedModel(
                f"model {self._name!r}, input {spec.name!r} takes {wanted} values an item; "
                f"what fills it has {max(width, 1)}"
            )

    def _unit_key(self, spec: Spec) -> Fill:
        def fill(rows: Rows) -> Tensor:
            if rows.subject.unit is None:
                raise InvalidInput(
                    f"the model's input {spec.name!r} is the unit, and none is given"
                )
            return _one(spec, rows.subject.unit)

        return fill

    def _given(self, spec: Spec, field: str, default: object) -> Fill:
        def fill(rows: Rows) -> Tensor:
            value = rows.subject.context.get(field, default)
            if value is None:
                raise InvalidInput(
                    f"the model's input {spec.name!r} comes from the request: "
                    f"give {field!r} in 'context'"
                )
            return _one(spec, value)

        return fill


def inner(tables: Tables, query: str, items: str) -> Callable[[Rows], Floats]:
    """
    Return a function from rows to the inner products of the subject's and each item's vector, [n].

    For an unknown subject or item they are 0.

    Raises:
        UnsupportedModel: the two tables have vectors of different lengths.
    """
    units, vectors = tables.embeddings(query), tables.embeddings(items)
    if units.dim != vectors.dim:
        raise UnsupportedModel(
            f"the dot of {query!r} and {items!r}: their vectors have {units.dim} and "
            f"{vectors.dim} dimensions"
        )

    def dot(rows: Rows) -> Floats:
        unit = units.take(np.array([rows.subject.row(units)]))[0].astype(np.float64)
        # In float64: the order of a float32 sum differs among machines, and a tree splits on it.
        products: Floats = vectors.take(rows.of(vectors)).astype(np.float64) @ unit
        return products

    return dot


def _width(spec: Spec) -> int:
    """Return how many values of *spec* belong to one item; -1 for any number."""
    shape = (-1,) if spec.shape is None else spec.shape
    return -1 if -1 in shape[1:] or spec.shape is None else math.prod(shape[1:])


def _one(spec: Spec, value: object) -> Tensor:
    """
    Return *value*, which all items share, as one row of the input's dtype: [1] or [1, width].

    Raises:
        InvalidInput: it is of another type, or of another length.
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    values = value if isinstance(value, list) else [value]
    wanted = _width(spec)
    fits = all(_fits(spec.dtype, each) for each in values)
    if not fits or not values or (wanted != -1 and len(values) != wanted):
        raise _unfit(spec, value)
    try:
        with np.errstate(over="ignore"):
            array = np.asarray(values, dtype=spec.dtype.numpy)
    except OverflowError:
        raise _unfit(spec, value) from None
    if spec.dtype.is_float and np.any(np.isinf(array) & np.isfinite(np.array(values, float))):
        raise _unfit(spec, value)
    return array if len(values) == 1 else array.reshape(1, -1)


def _fits(dtype: DType, value: object) -> bool:
    if dtype is DType.STRING:
        return isinstance(value, str)
    if dtype is DType.BOOL:
        return isinstance(value, bool)
    if dtype.is_float and value is None:
        return True
    kinds = int if dtype.is_integer else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool)


def _unfit(spec: Spec, value: object) -> InvalidInput:
    text = repr(value)
    text = text if len(text) <= 60 else text[:57] + "..."
    return InvalidInput(f"{text} is given for the model's input {spec.name!r}; {spec} is wanted")


def _shaped(spec: Spec, values: Tensor, n: int) -> Tensor:
    """Return *values* with *n* rows, in the dtype and rank of the input."""
    wanted = spec.dtype.numpy
    if values.dtype != wanted:
        values = _cast(spec, values)
    if len(values) != n:
        values = repeated(values, n)
    shape = spec.shape
    if shape is None or len(shape) == values.ndim:
        return values
    if len(shape) == 2 and values.ndim == 1:
        return values.reshape(n, 1)
    return values.reshape(n) if values.size == n and len(shape) == 1 else values


def _cast(spec: Spec, values: Tensor) -> Tensor:
    wanted = spec.dtype
    text = values.dtype == object
    if text != (wanted is DType.STRING) and not (wanted is DType.STRING and spec.takes_numbers):
        found = "text" if text else str(values.dtype)
        raise Unfit(f"the model's input {spec.name!r} is {wanted.value}; it is filled with {found}")
    if not wanted.is_integer:
        return values.astype(wanted.numpy)
    with np.errstate(invalid="ignore"):
        cast = values.astype(wanted.numpy)
    if not np.array_equal(cast, values):
        why = "a value is missing" if np.isnan(values).any() else "a value does not fit in it"
        raise Unfit(f"the model's input {spec.name!r} is {wanted.value}, and {why}")
    return cast
