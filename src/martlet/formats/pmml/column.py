"""A column: one field's values for a batch of rows, which are missing, and which cannot be had."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.formats.pmml.values import (
    DOUBLE,
    FLOAT,
    STRING,
    DataType,
    Kind,
    Value,
    convert,
)

Mask = NDArray[np.bool_]
Rows = NDArray[np.intp]
Reasons = NDArray[np.object_]
"""Why a row has no value: a sentence, or None where it has one."""


@dataclass(frozen=True, slots=True)
class Column:
    """
    Values of one type. What *missing* or *errors* mark is undefined in *values*.

    Args:
        type: Of the values.
        values: Shape [rows]; text is codes into *levels*, -1 where missing.
        missing: Where there is no value; None: nowhere.
        errors: Where the value could not be computed, and why; None: nowhere.
        levels: The distinct texts (or collections) that *values* are codes of.
    """

    type: DataType
    values: NDArray[Any]
    missing: Mask | None = None
    errors: Reasons | None = None
    levels: tuple[Any, ...] | None = None

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: Rows) -> Column:
        """Return the column of *rows*."""
        return Column(
            self.type,
            self.values[rows],
            None if self.missing is None else self.missing[rows],
            None if self.errors is None else self.errors[rows],
            self.levels,
        )

    def by_level(self, of: Callable[[Any], Any], absent: Any, dtype: Any) -> NDArray[Any]:
        """Return ``of(level)`` for every row of a text column: computed once a level."""
        assert self.levels is not None
        table = np.empty(len(self.levels) + 1, dtype=dtype)
        for code, level in enumerate(self.levels):
            table[code] = of(level)
        table[-1] = absent
        return np.asarray(table[self.values])

    def floats(self) -> NDArray[np.float64]:
        """Return the values as float64, NaN where missing or in error. Text is refused."""
        assert self.levels is None, "text has no floats"
        if self.missing is None and self.errors is None:
            return self.values.astype(np.float64, copy=False)
        values = self.values.astype(np.float64)
        if self.missing is not None:
            values[self.missing] = np.nan
        if self.errors is not None:
            values[failed(self.errors)] = np.nan
        return values

    def objects(self) -> list[Value]:
        """Return the values as Python objects, None where missing or in error."""
        if self.levels is not None:
            levels = (*self.levels, None)
            found: list[Value] = [levels[code] for code in self.values.tolist()]
        else:
            found = self.values.tolist()
        for mask in (self.missing, None if self.errors is None else failed(self.errors)):
            if mask is not None:
                for row in np.flatnonzero(mask).tolist():
                    found[row] = None
        return found

    def known(self) -> Mask:
        """Return where there is a value."""
        found = np.ones(len(self.values), dtype=bool)
        if self.missing is not None:
            found &= ~self.missing
        if self.errors is not None:
            found &= ~failed(self.errors)
        return found

    def equals(self, value: Value) -> Mask:
        """Return where the value equals *value*, of this column's type; false where missing."""
        if self.levels is not None:
            return self.by_level(lambda level: level == value, False, np.bool_)
        found: Mask = np.equal(self.values, value)
        return found if self.missing is None else found & ~self.missing

    def is_in(self, values: Iterable[Value]) -> Mask:
        """Return where the value is one of *values*, of this column's type; false where missing."""
        wanted = list(values)
        if self.levels is not None:
            texts = set(wanted)
            return self.by_level(texts.__contains__, False, np.bool_)
        found = np.isin(self.values, np.asarray(wanted, dtype=self.values.dtype))
        return found if self.missing is None else found & ~self.missing

    def with_errors(self, errors: Reasons | None) -> Column:
        """Return the column with these *errors* too; its own come first."""
        return self if errors is None else replace(self, errors=first(self.errors, errors))

    def cast(self, kind: DataType) -> Column:
        """Return the column as *kind*; a value that it cannot hold becomes an error."""
        if self.type == kind:
            return self
        source = self.type
        if source.is_number and not source.is_moment and kind in (DOUBLE, FLOAT):
            return replace(self, type=kind, values=self.values.astype(kind.numpy))
        if source.kind is Kind.BOOLEAN and kind.is_number and not kind.is_moment:
            return replace(self, type=kind, values=self.values.astype(kind.numpy))
        if source.kind in (Kind.DOUBLE, Kind.FLOAT) and kind.name == "integer":
            return self._whole(kind)
        return self._converted(kind)

    def _whole(self, kind: DataType) -> Column:
        with np.errstate(invalid="ignore"):
            whole = self.values.astype(np.int64)
            bad = whole != self.values
        if self.missing is not None:
            bad &= ~self.missing
        result = replace(self, type=kind, values=whole)
        if not bad.any():
            return result
        return result.with_errors(
            reasons(bad, lambda row: f"{self.values[row]!s} is not an {kind.name}")
        )

    def _converted(self, kind: DataType) -> Column:
        """Convert the distinct values, once each."""
        source = self.type
        if self.levels is not None:
            distinct: Sequence[Value] = self.levels
            codes = self.values
        else:
            found, codes = np.unique(self.values, return_inverse=True)
            distinct = found.tolist()
        converted: list[Value] = []
        refused: dict[int, str] = {}
        for code, value in enumerate(distinct):
            try:
                converted.append(convert(value, kind, source))
            except (ValueError, OverflowError) as exc:
                converted.append(None)
                refused[code] = f"{value!r} is not of type {kind.name}: {exc}"
        errors = self.errors
        if refused:
            bad = np.isin(codes, list(refused))
            if self.missing is not None:
                bad &= ~self.missing
            errors = first(errors, reasons(bad, lambda row: refused[int(codes[row])]))
        if kind.is_text:
            column = of_levels(codes, converted)
            values = column.values if self.missing is None else column.values.copy()
            if self.missing is not None:
                values[self.missing] = -1
            return Column(kind, values, self.missing, errors, column.levels)
        table = np.zeros(len(converted) + 1, dtype=kind.numpy)
        for code, value in enumerate(converted):
            if value is not None:
                table[code] = value
        return Column(kind, table[codes], self.missing, errors)


def of_levels(codes: NDArray[Any], texts: Sequence[Value]) -> Column:
    """Return the text column of *codes* into *texts*, which may repeat; a None is missing."""
    index: dict[Any, int] = {}
    table = np.empty(len(texts) + 1, dtype=np.int64)
    for code, text in enumerate(texts):
        table[code] = -1 if text is None else index.setdefault(text, len(index))
    table[-1] = -1
    values = table[codes]
    missing = values < 0
    return Column(STRING, values, missing if missing.any() else None, None, tuple(index))


def of_objects(values: Sequence[Value], kind: DataType) -> Column:
    """Return the column of *values*, of *kind*; None is missing."""
    if kind.is_text:
        index: dict[Any, int] = {None: -1}
        # A dict's insertion order numbers the texts: None takes -1, the first text 0.
        codes = np.fromiter(
            (index.setdefault(value, len(index) - 1) for value in values), np.int64, len(values)
        )
        missing = codes < 0
        del index[None]
        return Column(kind, codes, missing if missing.any() else None, None, tuple(index))
    absent = np.fromiter((value is None for value in values), np.bool_, len(values))
    if absent.any():
        filled = [0 if value is None else value for value in values]
        return Column(kind, np.asarray(filled, dtype=kind.numpy), absent)
    return Column(kind, np.asarray(values, dtype=kind.numpy))


def constant(value: Value, kind: DataType, rows: int) -> Column:
    """Return *value* repeated *rows* times."""
    if value is None:
        return absent(kind, rows)
    if kind.is_text:
        return Column(kind, np.zeros(rows, np.int64), None, None, (value,))
    return Column(kind, np.full(rows, value, dtype=kind.numpy))


def absent(kind: DataType, rows: int) -> Column:
    """Return a column of nothing but missing values."""
    code = -1 if kind.is_text else 0
    levels = () if kind.is_text else None
    return Column(
        kind, np.full(rows, code, dtype=kind.numpy), np.ones(rows, dtype=bool), None, levels
    )


def fill(column: Column, mask: Mask, value: Value) -> Column:
    """Return *column* with *value* (of its type) where *mask* is, and nothing missing there."""
    missing = None if column.missing is None else column.missing & ~mask
    if missing is not None and not missing.any():
        missing = None
    values = column.values.copy()
    levels = column.levels
    if levels is None:
        values[mask] = value
    else:
        if value not in levels:
            levels = (*levels, value)
        values[mask] = levels.index(value)
    return Column(column.type, values, missing, column.errors, levels)


def blank(column: Column, mask: Mask) -> Column:
    """Return *column* with missing values where *mask* is."""
    if not mask.any():
        return column
    missing = mask if column.missing is None else column.missing | mask
    values = column.values
    if column.levels is not None:
        values = np.where(mask, -1, values)
    return replace(column, values=values, missing=missing)


def choose(mask: Mask, yes: Column, no: Column) -> Column:
    """Return *yes* where *mask* is, else *no*; both have one type."""
    missing = _pick(mask, yes.missing, no.missing, False)
    errors = _pick(mask, yes.errors, no.errors, None)
    if errors is not None and not failed(errors).any():
        errors = None
    if yes.levels is None or no.levels is None:
        return Column(yes.type, np.where(mask, yes.values, no.values), missing, errors)
    if yes.levels == no.levels:
        return Column(yes.type, np.where(mask, yes.values, no.values), missing, errors, yes.levels)
    shifted = np.where(no.values < 0, -1, no.values + len(yes.levels))
    merged = of_levels(np.where(mask, yes.values, shifted), (*yes.levels, *no.levels))
    return Column(yes.type, merged.values, missing, errors, merged.levels)


def _pick(mask: Mask, yes: Any, no: Any, nothing: Any) -> Any:
    if yes is None and no is None:
        return None
    dtype = np.bool_ if nothing is False else np.object_
    empty = np.full(len(mask), nothing, dtype=dtype)
    return np.where(mask, empty if yes is None else yes, empty if no is None else no)


def scatter(column: Column, rows: Rows, size: int) -> Column:
    """Return a column of *size* rows: *column* at *rows*, missing elsewhere."""
    values = np.full(size, -1 if column.levels is not None else 0, dtype=column.values.dtype)
    values[rows] = column.values
    missing = np.ones(size, dtype=bool)
    missing[rows] = False if column.missing is None else column.missing
    errors = None
    if column.errors is not None:
        errors = np.full(size, None, dtype=object)
        errors[rows] = column.errors
    return Column(column.type, values, missing, errors, column.levels)


def failed(errors: Reasons) -> Mask:
    """Return where there is a reason."""
    return np.asarray(errors != None, dtype=bool)  # noqa: E711 - elementwise


def kept(errors: Reasons, mask: Mask) -> Reasons:
    """Return the reasons of the rows of *mask*, and none for the others."""
    found = errors.copy()
    found[~mask] = None
    return found


def first(one: Reasons | None, other: Reasons | None) -> Reasons | None:
    """Return the reasons of *one*, and where it has none those of *other*."""
    if one is None:
        return other
    if other is None:
        return one
    return np.where(failed(one), one, other)


def reasons(mask: Mask, why: Callable[[int], str] | str) -> Reasons | None:
    """Return *why* for each row of *mask*, or None where the mask is empty."""
    rows = np.flatnonzero(mask)
    if not len(rows):
        return None
    found = np.full(len(mask), None, dtype=object)
    if isinstance(why, str):
        found[rows] = why
    else:
        for row in rows.tolist():
            found[row] = why(row)
    return found


def any_missing(columns: Iterable[Column]) -> Mask | None:
    """Return where one of *columns* is missing, or None: nowhere."""
    found: Mask | None = None
    for each in columns:
        if each.missing is not None:
            found = each.missing if found is None else found | each.missing
    return found


def all_errors(columns: Iterable[Column]) -> Reasons | None:
    """Return the first reason of *columns* for each row, or None: nowhere."""
    found: Reasons | None = None
    for each in columns:
        found = first(found, each.errors)
    return found
