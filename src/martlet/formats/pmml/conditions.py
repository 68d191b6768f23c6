"""Built-in functions of truth: comparisons, membership, presence, logic, and the choice by it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from martlet.formats.pmml.calls import LACKING, lacking
from martlet.formats.pmml.column import (
    Column,
    all_errors,
    any_missing,
    blank,
    choose,
    first,
    kept,
    reasons,
)
from martlet.formats.pmml.expressions import (
    ConstantValue,
    Expression,
    distinct,
)
from martlet.formats.pmml.frame import Frame, Record, RowError, Single
from martlet.formats.pmml.scope import Domain
from martlet.formats.pmml.values import (
    BOOLEAN,
    DataType,
    Value,
)

COMPARISONS: dict[str, tuple[Callable[..., np.ndarray], Callable[[Value, Value], bool]]] = {
    "equal": (np.equal, lambda a, b: a == b),
    "notEqual": (np.not_equal, lambda a, b: a != b),
    "lessThan": (np.less, lambda a, b: a < b),
    "lessOrEqual": (np.less_equal, lambda a, b: a <= b),
    "greaterThan": (np.greater, lambda a, b: a > b),
    "greaterOrEqual": (np.greater_equal, lambda a, b: a >= b),
}


@dataclass(frozen=True, slots=True)
class Comparison:
    """
    Two values of one type compared. Text compares by code point.

    Where a value is missing there is no answer.
    """

    name: str
    one: Expression
    other: Expression
    type: DataType = BOOLEAN

    def column(self, frame: Frame) -> Column:
        sources = [self.one.column(frame), self.other.column(frame)]
        vector, scalar = COMPARISONS[self.name]
        left, right = sources
        if left.levels is None and right.levels is None:
            values = vector(left.values, right.values)
        elif isinstance(self.other, ConstantValue) and left.levels is not None:
            wanted = self.other.value
            values = left.by_level(lambda text: scalar(text, wanted), False, np.bool_)
        else:
            keys, codes = distinct(sources)
            table = [None not in key and scalar(*key) for key in keys]
            values = np.array(table, dtype=bool)[codes]
        missing = any_missing(sources)
        errors = first(all_errors(sources), lacking(self.name, missing))
        return Column(BOOLEAN, values, missing, errors)

    def single(self) -> Single:
        one, other = self.one.single(), self.other.single()
        name, compare = self.name, COMPARISONS[self.name][1]

        def call(record: Record) -> Value:
            a, b = one(record), other(record)
            if a is None or b is None:
                raise RowError(LACKING.format(name))
            return compare(a, b)

        return call


@dataclass(frozen=True, slots=True)
class Ranked:
    """Two values of an ordinal field compared, by the order in which the field declares them."""

    name: str
    one: Expression
    other: Expression
    values: tuple[Value, ...]
    type: DataType = BOOLEAN

    def column(self, frame: Frame) -> Column:
        sources = [self.one.column(frame), self.other.column(frame)]
        keys, codes = distinct(sources)
        rank, compare = self._ranks(), COMPARISONS[self.name][1]
        table = [
            key[0] in rank and key[1] in rank and compare(rank[key[0]], rank[key[1]])
            for key in keys
        ]
        strange = np.array([None not in key and not rank.keys() >= set(key) for key in keys])[codes]
        missing = any_missing(sources)
        errors = first(all_errors(sources), lacking(self.name, missing))
        errors = first(errors, reasons(strange, lambda row: self._unordered(*keys[codes[row]])))
        return Column(BOOLEAN, np.array(table, dtype=bool)[codes], missing, errors)

    def single(self) -> Single:
        one, other, rank = self.one.single(), self.other.single(), self._ranks()
        name, compare = self.name, COMPARISONS[self.name][1]

        def call(record: Record) -> Value:
            a, b = one(record), other(record)
            if a is None or b is None:
                raise RowError(LACKING.format(name))
            if a not in rank or b not in rank:
                raise RowError(self._unordered(a, b))
            return compare(rank[a], rank[b])

        return call

    def _ranks(self) -> dict[Value, int]:
        return {value: place for place, value in enumerate(self.values)}

    def _unordered(self, a: Value, b: Value) -> str:
        return f"{self.name} cannot order {a!r} and {b!r}"


@dataclass(frozen=True, slots=True)
class Membership:
    """Whether a value is (or is not) among others; missing is a value like others here."""

    one: Expression
    others: tuple[Expression, ...]
    negated: bool
    type: DataType = BOOLEAN

    def column(self, frame: Frame) -> Column:
        source = self.one.column(frame)
        wanted = [each.value for each in self.others if isinstance(each, ConstantValue)]
        found = source.is_in([value for value in wanted if value is not None])
        if None in wanted and source.missing is not None:
            found = found | source.missing
        errors = source.errors
        for each in self.others:
            if not isinstance(each, ConstantValue):
                other = each.column(frame)
                keys, codes = distinct([source, other])
                same = np.array([a == b for a, b in keys], dtype=bool)[codes]
                gone = [np.zeros(len(same), bool) if m is None else m
                        for m in (source.missing, other.missing)]  # fmt: skip
                # Two that are missing are alike.
                found = found | np.where(gone[0] | gone[1], gone[0] & gone[1], same)
                errors = first(errors, other.errors)
        return Column(BOOLEAN, ~found if self.negated else found, None, errors)

    def single(self) -> Single:
        read, others = self.one.single(), [each.single() for each in self.others]
        negated = self.negated
        if all(isinstance(each, ConstantValue) for each in self.others):
            wanted = {each.value for each in self.others if isinstance(each, ConstantValue)}
            return lambda record: (read(record) in wanted) is not negated

        def call(record: Record) -> Value:
            value = read(record)
            return any(value == other(record) for other in others) is not negated

        return call


@dataclass(frozen=True, slots=True)
class Presence:
    """isMissing, isNotMissing: whether there is a value."""

    argument: Expression
    negated: bool
    type: DataType = BOOLEAN

    def column(self, frame: Frame) -> Column:
        source = self.argument.column(frame)
        gone = np.zeros(frame.rows, bool) if source.missing is None else source.missing
        return Column(BOOLEAN, ~gone if self.negated else gone, None, source.errors)

    def single(self) -> Single:
        read, negated = self.argument.single(), self.negated
        return lambda record: (read(record) is None) is not negated


@dataclass(frozen=True, slots=True)
class Validity:
    """isValid, isNotValid: whether there is a value, of the domain or not. Missing is neither."""

    argument: Expression
    domain: Domain | None
    negated: bool
    type: DataType = BOOLEAN

    def column(self, frame: Frame) -> Column:
        source = self.argument.column(frame)
        bad = None if self.domain is None else self.domain.where_invalid(source)
        if bad is None:
            bad = np.zeros(frame.rows, bool)
        known = source.known()
        return Column(BOOLEAN, known & (bad if self.negated else ~bad), None, source.errors)

    def single(self) -> Single:
        read, negated = self.argument.single(), self.negated
        domain = self.domain

        def call(record: Record) -> Value:
            value = read(record)
            if value is None:
                return False
            return (domain is None or domain.is_valid(value)) is not negated

        return call


@dataclass(frozen=True, slots=True)
class Logic:
    """and, or: every argument is asked for, and a row that lacks one has no answer."""

    decisive: bool
    """The value of one argument that settles the answer: True for or, False for and."""
    arguments: tuple[Expression, ...]
    type: DataType = BOOLEAN

    @property
    def _name(self) -> str:
        return "or" if self.decisive else "and"

    def column(self, frame: Frame) -> Column:
        sources = [each.column(frame) for each in self.arguments]
        settled = np.zeros(frame.rows, dtype=bool)
        for each in sources:
            settled |= each.equals(self.decisive)
        missing = any_missing(sources)
        errors = first(all_errors(sources), lacking(self._name, missing))
        return Column(BOOLEAN, settled if self.decisive else ~settled, missing, errors)

    def single(self) -> Single:
        reads, decisive, name = [e.single() for e in self.arguments], self.decisive, self._name

        def call(record: Record) -> Value:
            values = [read(record) for read in reads]
            if None in values:
                raise RowError(LACKING.format(name))
            return decisive if decisive in values else not decisive

        return call


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite truth; a row that lacks it has no answer."""

    argument: Expression
    type: DataType = BOOLEAN

    def column(self, frame: Frame) -> Column:
        source = self.argument.column(frame)
        errors = first(source.errors, lacking("not", source.missing))
        return replace(source, values=~source.values, errors=errors)

    def single(self) -> Single:
        read = self.argument.single()

        def call(record: Record) -> Value:
            value = read(record)
            if value is None:
                raise RowError(LACKING.format("not"))
            return not value

        return call


@dataclass(frozen=True, slots=True)
class If:
    """One of two values. What the branch not taken would have failed with does not count."""

    condition: Expression
    yes: Expression
    no: Expression
    type: DataType

    def column(self, frame: Frame) -> Column:
        condition = self.condition.column(frame)
        taken = choose(condition.values, self.yes.column(frame), self.no.column(frame))
        if condition.missing is not None:
            if taken.errors is not None:
                taken = replace(taken, errors=kept(taken.errors, ~condition.missing))
            taken = blank(taken, condition.missing)
        errors = first(condition.errors, lacking("if", condition.missing))
        return taken.with_errors(errors)

    def single(self) -> Single:
        condition, yes, no = self.condition.single(), self.yes.single(), self.no.single()

        def call(record: Record) -> Value:
            truth = condition(record)
            if truth is None:
                raise RowError(LACKING.format("if"))
            return yes(record) if truth else no(record)

        return call
