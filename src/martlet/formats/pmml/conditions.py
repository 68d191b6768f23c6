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
    failed,
    first,
    kept,
)
from martlet.formats.pmml.expressions import (
    ConstantValue,
    Expression,
    distinct,
)
from martlet.formats.pmml.frame import Frame, Record, RowError, Single
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
class Membership:
    """Whether a value is (or is not) among others."""

    one: Expression
    others: tuple[Expression, ...]
    negated: bool
    type: DataType = BOOLEAN

    def column(self, frame: Frame) -> Column:
        source = self.one.column(frame)
        wanted = [each.value for each in self.others if isinstance(each, ConstantValue)]
        found = source.is_in([value for value in wanted if value is not None])
        errors = source.errors
        for each in self.others:
            if not isinstance(each, ConstantValue):
                same = Comparison("equal", self.one, each).column(frame)
                found = found | (same.values & same.known())
                errors = all_errors([source, same])
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
    """isMissing, isNotMissing, isValid, isNotValid: always true or false."""

    name: str
    argument: Expression
    type: DataType = BOOLEAN

    def column(self, frame: Frame) -> Column:
        source = self.argument.column(frame)
        gone = np.zeros(frame.rows, bool) if source.missing is None else source.missing
        if self.name in ("isMissing", "isNotMissing"):
            values = gone if self.name == "isMissing" else ~gone
            return Column(BOOLEAN, values, None, source.errors)
        # What cannot be had is invalid, and asking so is no error; the missing is neither.
        if self.name == "isValid":
            return Column(BOOLEAN, source.known())
        bad = np.zeros(frame.rows, bool) if source.errors is None else failed(source.errors)
        return Column(BOOLEAN, bad)

    def single(self) -> Single:
        read, name = self.argument.single(), self.name
        if name == "isMissing":
            return lambda record: read(record) is None
        if name == "isNotMissing":
            return lambda record: read(record) is not None

        def valid(record: Record) -> Value:
            try:
                found = read(record)
            except RowError:
                return name == "isNotValid"
            return found is not None and name == "isValid"

        return valid


@dataclass(frozen=True, slots=True)
class Logic:
    """and, or: Kleene's, so that a missing argument decides nothing by itself."""

    decisive: bool
    """The value of one argument that settles the answer: True for or, False for and."""
    arguments: tuple[Expression, ...]
    type: DataType = BOOLEAN

    def column(self, frame: Frame) -> Column:
        sources = [each.column(frame) for each in self.arguments]
        settled = np.zeros(frame.rows, dtype=bool)
        for each in sources:
            settled |= each.equals(self.decisive)
        values = settled if self.decisive else ~settled
        missing = any_missing(sources)
        if missing is not None:
            missing = missing & ~settled
        return Column(BOOLEAN, values, missing, all_errors(sources))

    def single(self) -> Single:
        reads, decisive = [each.single() for each in self.arguments], self.decisive

        def call(record: Record) -> Value:
            unknown = False
            for read in reads:
                value = read(record)
                if value is None:
                    unknown = True
                elif value is decisive:
                    return decisive
            return None if unknown else not decisive

        return call


@dataclass(frozen=True, slots=True)
class Not:
    """The opposite truth; missing stays missing."""

    argument: Expression
    type: DataType = BOOLEAN

    def column(self, frame: Frame) -> Column:
        source = self.argument.column(frame)
        return replace(source, values=~source.values)

    def single(self) -> Single:
        read = self.argument.single()

        def call(record: Record) -> Value:
            value = read(record)
            return None if value is None else not value

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
        return taken.with_errors(condition.errors)

    def single(self) -> Single:
        condition, yes, no = self.condition.single(), self.yes.single(), self.no.single()

        def call(record: Record) -> Value:
            truth = condition(record)
            if truth is None:
                return None
            return yes(record) if truth else no(record)

        return call
