"""Predicates: true, false or unknown of a row.

Source: PMML 4.4.1, TreeModel, "Predicates". Unknown comes of missing values and travels as
Kleene's third truth value.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from martlet.formats.pmml.arrays import array_texts
from martlet.formats.pmml.column import (
    Column,
    Mask,
    Reasons,
    Rows,
    first,
    kept,
)
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.frame import Frame, Record, Single
from martlet.formats.pmml.scope import Field, Scope
from martlet.formats.pmml.values import DOUBLE, Kind, Value, parse

TAGS = ("True", "False", "SimplePredicate", "SimpleSetPredicate", "CompoundPredicate")

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "equal": operator.eq,
    "notEqual": operator.ne,
    "lessThan": operator.lt,
    "lessOrEqual": operator.le,
    "greaterThan": operator.gt,
    "greaterOrEqual": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Truth:
    """Where a predicate is true, where unknown (None: nowhere), and which rows it failed for."""

    yes: Mask
    unknown: Mask | None = None
    errors: Reasons | None = None

    @property
    def no(self) -> Mask:
        """Where it is false."""
        return ~self.yes if self.unknown is None else ~(self.yes | self.unknown)


class Predicate(Protocol):
    """A test of a row."""

    def truth(self, frame: Frame, rows: Rows | None = None) -> Truth:
        """Return the truth of the batch, or of its *rows*."""
        ...

    def single(self) -> Single:
        """Return a closure that says True, False or None (unknown) of a record."""
        ...


@dataclass(frozen=True, slots=True)
class Always:
    """True, or False, of every row."""

    value: bool

    def truth(self, frame: Frame, rows: Rows | None = None) -> Truth:
        return Truth(np.full(frame.rows if rows is None else len(rows), self.value))

    def single(self) -> Single:
        value = self.value
        return lambda _: value


def _column(field: Field, frame: Frame, rows: Rows | None) -> Column:
    found: Column = frame[field.slot]
    return found if rows is None else found.take(rows)


@dataclass(frozen=True, slots=True)
class Compare:
    """A field compared with a value."""

    field: Field
    scope: Scope
    operator: str
    value: Value

    def truth(self, frame: Frame, rows: Rows | None = None) -> Truth:
        column = _column(self.field, frame, rows)
        if self.operator == "equal":
            yes = column.equals(self.value)
        elif self.operator == "notEqual":
            yes = ~column.equals(self.value)
        else:
            yes = self._ordered(column)
        if column.missing is not None:
            yes = yes & ~column.missing
        return Truth(yes, column.missing, column.errors)

    def _ordered(self, column: Column) -> Mask:
        compare = _COMPARE[self.operator]
        rank = _ranks(self.field)
        if rank is not None:
            wanted = rank[self.value]
            if column.levels is not None:
                return column.by_level(
                    lambda level: level in rank and compare(rank[level], wanted), False, np.bool_
                )
            places = np.array([rank.get(v, -1) for v in column.values.tolist()])
            return np.asarray(compare(places, wanted) & (places >= 0))
        if column.levels is not None:
            return column.by_level(lambda level: compare(level, self.value), False, np.bool_)
        return np.asarray(compare(column.values, self.value))

    def single(self) -> Single:
        read, compare, value = self.scope.reader(self.field), _COMPARE[self.operator], self.value
        rank = _ranks(self.field) if self.operator not in ("equal", "notEqual") else None
        if rank is not None:
            wanted = rank[value]

            def ordinal(record: Record) -> Value:
                x = read(record)
                return None if x is None else x in rank and compare(rank[x], wanted)

            return ordinal

        def call(record: Record) -> Value:
            x = read(record)
            return None if x is None else compare(x, value)

        return call


def _ranks(field: Field) -> dict[Value, int] | None:
    if field.optype != "ordinal" or not field.values:
        return None
    return {value: place for place, value in enumerate(field.values)}


@dataclass(frozen=True, slots=True)
class Missing:
    """Whether a field is missing (or, negated, is not); never unknown."""

    field: Field
    scope: Scope
    negated: bool

    def truth(self, frame: Frame, rows: Rows | None = None) -> Truth:
        column = _column(self.field, frame, rows)
        gone = np.zeros(len(column), bool) if column.missing is None else column.missing
        return Truth(~gone if self.negated else gone, None, column.errors)

    def single(self) -> Single:
        read, negated = self.scope.reader(self.field), self.negated
        return lambda record: (read(record) is None) is not negated


@dataclass(frozen=True, slots=True)
class InSet:
    """Whether a field is (or, negated, is not) one of some values."""

    field: Field
    scope: Scope
    values: frozenset[Value]
    negated: bool

    def truth(self, frame: Frame, rows: Rows | None = None) -> Truth:
        column = _column(self.field, frame, rows)
        yes = column.is_in(self.values)
        if self.negated:
            yes = ~yes
            if column.missing is not None:
                yes &= ~column.missing
        return Truth(yes, column.missing, column.errors)

    def single(self) -> Single:
        read, values, negated = self.scope.reader(self.field), self.values, self.negated

        def call(record: Record) -> Value:
            x = read(record)
            return None if x is None else (x in values) is not negated

        return call


@dataclass(frozen=True, slots=True)
class Compound:
    """and, or, xor of predicates; or their surrogate: the first that is not unknown."""

    operator: str
    parts: tuple[Predicate, ...]

    def truth(self, frame: Frame, rows: Rows | None = None) -> Truth:
        found = self.parts[0].truth(frame, rows)
        for part in self.parts[1:]:
            found = _JOIN[self.operator](found, part.truth(frame, rows))
        return found

    def single(self) -> Single:
        calls = [part.single() for part in self.parts]
        return _SINGLES[self.operator](calls)


# Every part of an and, or, xor is asked for, whatever those before it have settled.


def _and(one: Truth, other: Truth) -> Truth:
    yes, errors = one.yes & other.yes, first(one.errors, other.errors)
    if one.unknown is None and other.unknown is None:
        return Truth(yes, None, errors)
    return Truth(yes, ~yes & ~one.no & ~other.no, errors)


def _or(one: Truth, other: Truth) -> Truth:
    yes, errors = one.yes | other.yes, first(one.errors, other.errors)
    if one.unknown is None and other.unknown is None:
        return Truth(yes, None, errors)
    return Truth(yes, ~yes & ~(one.no & other.no), errors)


def _xor(one: Truth, other: Truth) -> Truth:
    yes = one.yes ^ other.yes
    errors = first(one.errors, other.errors)
    unknown = one.unknown
    if other.unknown is not None:
        unknown = other.unknown if unknown is None else unknown | other.unknown
    return Truth(yes if unknown is None else yes & ~unknown, unknown, errors)


def _surrogate(one: Truth, other: Truth) -> Truth:
    if one.unknown is None:
        return one
    yes = np.where(one.unknown, other.yes, one.yes)
    unknown = None if other.unknown is None else one.unknown & other.unknown
    errors = None if other.errors is None else kept(other.errors, one.unknown)
    return Truth(yes, unknown, first(one.errors, errors))


_JOIN: dict[str, Callable[[Truth, Truth], Truth]] = {
    "and": _and,
    "or": _or,
    "xor": _xor,
    "surrogate": _surrogate,
}


def _and_single(calls: list[Single]) -> Single:
    def call(record: Record) -> Value:
        truths = [each(record) for each in calls]
        return False if False in truths else None if None in truths else True

    return call


def _or_single(calls: list[Single]) -> Single:
    def call(record: Record) -> Value:
        truths = [each(record) for each in calls]
        return True if True in truths else None if None in truths else False

    return call


def _xor_single(calls: list[Single]) -> Single:
    def call(record: Record) -> Value:
        truths = [each(record) for each in calls]
        return None if None in truths else sum(truths) % 2 == 1

    return call


def _surrogate_single(calls: list[Single]) -> Single:
    def call(record: Record) -> Value:
        for each in calls:
            truth = each(record)
            if truth is not None:
                return truth
        return None

    return call


_SINGLES: dict[str, Callable[[list[Single]], Single]] = {
    "and": _and_single,
    "or": _or_single,
    "xor": _xor_single,
    "surrogate": _surrogate_single,
}


def compile_predicate(element: Element, scope: Scope) -> Predicate:
    """
    Compile *element*, one of PMML's PREDICATE elements.

    Raises:
        UnsupportedModel: it is malformed, or compares with what its field cannot hold.
    """
    match element.tag:
        case "True":
            return Always(True)
        case "False":
            return Always(False)
        case "SimplePredicate":
            return _simple(element, scope)
        case "SimpleSetPredicate":
            return _set(element, scope)
        case "CompoundPredicate":
            return _compound(element, scope)
        case _:
            raise element.error("is not a predicate")


def predicate_of(element: Element, scope: Scope) -> Predicate:
    """
    Compile the predicate within *element* (a Node, a Segment, a rule, ...).

    Raises:
        UnsupportedModel: there is none.
    """
    return compile_predicate(element.need_child(*TAGS), scope)


def _simple(element: Element, scope: Scope) -> Predicate:
    field = scope.field(element.need("field"), element)
    test = element.choice("operator", (*_COMPARE, "isMissing", "isNotMissing"))
    if test in ("isMissing", "isNotMissing"):
        return Missing(field, scope, test == "isNotMissing")
    text = element.need("value")
    value = comparable(field, text, element)
    if value is None:
        # No value of the field's type is written so: none equals it.
        if test in ("equal", "notEqual"):
            return InSet(field, scope, frozenset(), test == "notEqual")
        raise element.error(f"compares {field.name!r} ({field.type}) with {text!r}")
    ranks = _ranks(field)
    if ranks is not None and test not in ("equal", "notEqual") and value not in ranks:
        raise element.error(f"compares {field.name!r} with {text!r}, which is not among its values")
    return Compare(field, scope, test, value)


def comparable(field: Field, text: str, element: Element) -> Value:
    """Return the value that *text* writes for *field*; None where its type holds none such."""
    try:
        return parse(text, field.type)
    except ValueError:
        if field.type.kind not in (Kind.INTEGER, Kind.BOOLEAN):
            return None
    try:
        # An integer field may be split between two integers, a boolean between 0 and 1.
        return parse(text, DOUBLE)
    except ValueError:
        return None


def _set(element: Element, scope: Scope) -> Predicate:
    field = scope.field(element.need("field"), element)
    negated = element.choice("booleanOperator", ("isIn", "isNotIn")) == "isNotIn"
    texts = array_texts(element.need_child("Array"))
    values = (comparable(field, text, element) for text in texts)
    return InSet(field, scope, frozenset(v for v in values if v is not None), negated)


def _compound(element: Element, scope: Scope) -> Predicate:
    test = element.choice("booleanOperator", tuple(_JOIN))
    parts = tuple(compile_predicate(each, scope) for each in element.all(*TAGS))
    if not parts:
        raise element.error("holds no predicate")
    return parts[0] if len(parts) == 1 else Compound(test, parts)
