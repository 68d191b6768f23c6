"""Expressions of SQL as functions of columns, and how one type becomes another."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from martlet.errors import UnsupportedModel
from martlet.formats.stages.patterns import regex
from martlet.formats.stages.sql_catalogue import FUNCTIONS
from martlet.formats.stages.sql_functions import (
    NUMBERS,
    Type,
    Value,
    rows_of,
    to_date,
    to_number,
    to_text,
    to_time,
)
from martlet.formats.stages.stage import Kind

Frame = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Expression:
    """
    What computes a value of *type* from the columns it names.

    Args:
        column: The column that it is, "" where it is anything else.
        literal: The text or number that it is, None where it is anything else.
    """

    run: Callable[[Frame], Value]
    type: Type = Type.NUMBER
    column: str = ""
    literal: str | float | None = None


def refused(where: str, what: str) -> UnsupportedModel:
    """Return the error that says what a statement uses that is not read."""
    return UnsupportedModel(
        f"{where}: SQL with {what} is not supported; compute that column beforehand"
    )


class Columns:
    """
    The columns that an expression names, and what each must hold.

    Of a raw column that is first decided by who takes it as a number or as text; one that
    nobody does may hold either.
    """

    def __init__(self, where: str) -> None:
        self._where = where
        self.asked: dict[str, Kind] = {}

    def ask(self, expression: Expression, kind: Kind) -> None:
        """Decide what a raw column holds, unless that is decided."""
        column = expression.column
        if expression.type is Type.OPEN and self.asked.get(column) is Kind.CATEGORY:
            self.asked[column] = kind

    def brought(self, inner: Expression, wanted: Type) -> Expression:
        """Return *inner* as a value of the type *wanted*."""
        kind, run = inner.type, inner.run
        if kind is wanted:
            return inner
        if wanted in NUMBERS:
            self.ask(inner, Kind.NUMBER)
            if kind in NUMBERS or self.asked.get(inner.column) is Kind.NUMBER:
                return replace(inner, type=wanted)
            if kind in (Type.DATE, Type.TIME):
                unit = 1e6 if kind is Type.TIME else 1.0
                return Expression(lambda frame: run(frame) / unit, wanted)
            return Expression(lambda frame: to_number(run(frame)), wanted)
        if wanted is Type.TEXT:
            self.ask(inner, Kind.TEXT)
            if kind is Type.WORDS:
                return inner
            if kind is Type.EITHER:
                raise refused(self._where, "text of a number that may be whole; cast it first")
            return Expression(lambda frame: to_text(run(frame), kind), Type.TEXT)
        if wanted in (Type.DATE, Type.TIME):
            self.ask(inner, Kind.TEXT)
            to = to_date if wanted is Type.DATE else to_time
            return Expression(lambda frame: to(run(frame), kind), wanted)
        self.ask(inner, Kind.WORDS)
        return replace(inner, type=wanted)

    def alike(self, parts: Sequence[Expression], otherwise: Type) -> tuple[list[Expression], Type]:
        """
        Return *parts* brought to one type, and that: text gives way to dates and numbers.

        Args:
            otherwise: Where all are raw columns, which may hold either.
        """
        kinds = {part.type for part in parts if not _null(part)}
        wanted = next((t for t in _ORDER if t in kinds), otherwise)
        if wanted is Type.OPEN:
            return list(parts), wanted
        if wanted in NUMBERS:
            wanted = common(kinds)
        return [part if _null(part) else self.brought(part, wanted) for part in parts], wanted

    def textual(self, function: Callable[..., Any], gives: Type, inner: Expression) -> Expression:
        """Return *function* of each row's text."""
        dtype = object if gives in (Type.TEXT, Type.WORDS) else np.float64
        return called(rows_of(function, dtype), [self.brought(inner, Type.TEXT)], gives)

    def matched(self, inner: Expression, pattern: str) -> Expression:
        """Return whether each row's text holds a match of Java's *pattern*."""
        compiled = regex(self._where, pattern)
        return self.textual(lambda s: float(bool(compiled.search(s))), Type.TRUTH, inner)

    def call(self, name: str, arguments: Sequence[Expression]) -> Expression:
        """Return the call of a function, its arguments brought to the types that it takes."""
        function = FUNCTIONS[name]
        takes = function.takes
        given = list(arguments)
        kinds = {each.type for each in given}
        if None not in takes:
            wanted = [takes[min(i, len(takes) - 1)] for i in range(len(given))]
            given = [self.brought(each, to) for each, to in zip(given, wanted, strict=True) if to]
        elif takes == (None,):
            given, alike = self.alike(given, Type.NUMBER)
            kinds = {alike}
        else:  # concat_ws: text, and words as they are
            given = [
                each if each.type is Type.WORDS else self.brought(each, Type.TEXT) for each in given
            ]
        gives = function.gives
        if gives is None:
            gives = next(iter(kinds)) if takes == (None,) else common(kinds)
        return called(function.run, given, gives)


# Which type wins where several meet.
_ORDER = (
    Type.WORDS, Type.TIME, Type.DATE, Type.NUMBER, Type.EITHER, Type.WHOLE, Type.TRUTH, Type.TEXT,
)  # fmt: skip


def _null(part: Expression) -> bool:
    return part.literal == "NULL" and part.type is Type.OPEN


def common(kinds: set[Type]) -> Type:
    """Return the type of numbers of several types."""
    if Type.NUMBER in kinds:
        return Type.NUMBER
    if kinds & {Type.EITHER, Type.OPEN}:
        return Type.EITHER
    if kinds == {Type.TRUTH}:
        return Type.TRUTH
    return Type.WHOLE if kinds <= {Type.WHOLE, Type.TRUTH} else Type.NUMBER


def called(function: Callable[..., Value], given: Sequence[Expression], kind: Type) -> Expression:
    """Return *function* of the values of *given*."""
    runs = [each.run for each in given]
    if len(runs) == 1:
        (one,) = runs
        return Expression(lambda frame: function(one(frame)), kind)
    if len(runs) == 2:
        first, second = runs
        return Expression(lambda frame: function(first(frame), second(frame)), kind)
    return Expression(lambda frame: function(*(run(frame) for run in runs)), kind)


def constant(value: str | float | None, kind: Type) -> Expression:
    """Return a literal; None is NULL."""
    if value is None:
        return Expression(lambda frame: np.nan, kind, literal="NULL")
    return Expression(lambda frame: value, kind, literal=value)


def choice(
    branches: Sequence[tuple[Expression, Expression]], other: Expression | None, kind: Type
) -> Expression:
    """Return the value of the first branch whose condition holds, else *other*, else NULL."""
    text = kind in (Type.TEXT, Type.WORDS, Type.OPEN)
    nothing: Any = None if text else np.nan
    steps = [(condition.run, value.run) for condition, value in branches]
    last = None if other is None or _null(other) else other.run

    def run(frame: Frame) -> Value:
        found = nothing if last is None else last(frame)
        for condition, value in reversed(steps):
            holds = np.equal(condition(frame), 1.0)
            found = np.where(holds, _as_object(value(frame), text), _as_object(found, text))
        return found

    return Expression(run, kind)


def _as_object(value: Value, text: bool) -> Value:
    if not text or not isinstance(value, float):
        return value
    return None if value != value else value
