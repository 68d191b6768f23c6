"""RegressionModel: sums of coefficients, one table a class. Source: PMML 4.4.1, Regression."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from martlet.formats.pmml import links
from martlet.formats.pmml.column import Column, Reasons, all_errors
from martlet.formats.pmml.context import Context
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.frame import FLOATS, Frame, Record, RowError, Single
from martlet.formats.pmml.prediction import Outcome, Prediction, classified, numbers, winners
from martlet.formats.pmml.scope import Field, Scope
from martlet.formats.pmml.values import DOUBLE, FLOAT, DataType, Value, convert, parse, round32

_METHODS = (
    "none",
    "simplemax",
    "softmax",
    "logit",
    "probit",
    "cloglog",
    "exp",
    "loglog",
    "cauchit",
)


@dataclass(frozen=True, slots=True)
class Numeric:
    """coefficient * field ** exponent."""

    field: Field
    coefficient: float
    exponent: int


@dataclass(frozen=True, slots=True)
class Categorical:
    """The coefficient of the field's value; nothing for a value that has none, or is missing."""

    field: Field
    coefficients: dict[Value, float]


@dataclass(frozen=True, slots=True)
class Product:
    """coefficient * the product of fields."""

    fields: tuple[Field, ...]
    coefficient: float


Term = Numeric | Categorical | Product


@dataclass(frozen=True, slots=True)
class Table:
    """
    One RegressionTable: an intercept and terms, summed in the file's order.

    Sums are float32 where the model computes so.
    """

    intercept: float
    terms: tuple[Term, ...]
    kind: DataType
    scope: Scope

    def column(self, frame: Frame) -> tuple[np.ndarray, Reasons | None]:
        """Return the sum of each row, NaN where a number is missing, and the rows in error."""
        real = self.kind.numpy
        total = np.full(frame.rows, real(self.intercept))
        used: list[Column] = []
        for term in self.terms:
            match term:
                case Numeric(field, coefficient, exponent):
                    column: Column = frame[field.slot]
                    used.append(column)
                    x = _floats(column, real)
                    if exponent != 1:
                        x = x**exponent
                    total += real(coefficient) * x
                case Categorical(field, coefficients):
                    column = frame[field.slot]
                    used.append(column)
                    total += _coefficients(column, coefficients, real)
                case Product(fields, coefficient):
                    x = np.full(frame.rows, real(coefficient))
                    for field in fields:
                        column = frame[field.slot]
                        used.append(column)
                        x = x * _floats(column, real)
                    total += x
        errors = all_errors(used) if any(c.errors is not None for c in used) else None
        return total, errors

    def single(self, alone: bool = False) -> Callable[[Record], float | None]:
        """
        Return a closure that sums one record: None where a number is missing.

        Args:
            alone: Whether no other table is likely to ask for the same fields: they are computed
                where they are read, and not kept.
        """
        plain: list[tuple[Single, float]] = []
        parts: list[Callable[[Record], float | None]] = []
        singles, kept = self.scope.world.program.singles, self.scope.reader

        def reader(field: Field) -> Single:
            return singles[field.slot] if alone else kept(field)

        if self.kind is FLOAT:
            return self._single32()
        for term in self.terms:
            match term:
                case Numeric(field, coefficient, 1) if field.type.is_number:
                    plain.append((reader(field), coefficient))
                case Numeric(field, coefficient, exponent):
                    parts.append(_power(reader(field), field.type, coefficient, exponent))
                case Categorical(field, coefficients):
                    parts.append(_lookup(reader(field), coefficients))
                case Product(fields, coefficient):
                    parts.append(_product([reader(f) for f in fields], coefficient))
        intercept = self.intercept

        def total(record: Record) -> float | None:
            found = intercept
            for read, coefficient in plain:
                x = read(record)
                if x is None:
                    return None
                found += coefficient * x
            for part in parts:
                x = part(record)
                if x is None:
                    return None
                found += x
            return found

        given, factors = self._given(), [coefficient for _, coefficient in plain]
        if given is None:
            return total

        def at_once(record: Record) -> float | None:
            values = given(record)
            if not FLOATS.issuperset(map(type, values)):
                return total(record)
            found = intercept
            for x, factor in zip(values, factors, strict=True):
                found += factor * x
            # NaN: a number is missing, or infinities met.
            return total(record) if found != found else found

        return at_once

    def _given(self) -> Callable[[Record], tuple[float, ...]] | None:
        """Return what reads all terms' fields at once, where they are doubles as given."""
        slots = []
        for term in self.terms:
            match term:
                case Numeric(field, _, 1) if field.type is DOUBLE:
                    slots.append(field.slot)
                case _:
                    return None
        return self.scope.world.program.given(slots)

    def _single32(self) -> Callable[[Record], float | None]:
        reader = self.scope.reader
        parts: list[Callable[[Record], float | None]] = []
        for term in self.terms:
            match term:
                case Numeric(field, coefficient, exponent):
                    parts.append(_power(reader(field), field.type, round32(coefficient), exponent))
                case Categorical(field, coefficients):
                    parts.append(_lookup(reader(field), coefficients))
                case Product(fields, coefficient):
                    parts.append(_product([reader(f) for f in fields], coefficient))
        intercept = np.float32(self.intercept)

        def total(record: Record) -> float | None:
            found = intercept
            for part in parts:
                x = part(record)
                if x is None:
                    return None
                found = found + np.float32(x)
            return float(found)

        return total


def _floats(column: Column, real: Any) -> np.ndarray:
    if column.levels is not None:
        column = column.cast(DOUBLE)
    return column.floats().astype(real, copy=False)


def _coefficients(column: Column, coefficients: dict[Value, float], real: Any) -> np.ndarray:
    if column.levels is not None:
        return column.by_level(lambda level: coefficients.get(level, 0.0), 0.0, real)
    found = np.zeros(len(column), dtype=real)
    for value, coefficient in coefficients.items():
        found[column.equals(value)] = coefficient
    return found


def _power(
    read: Single, kind: DataType, coefficient: float, exponent: int
) -> Callable[[Record], float | None]:
    def part(record: Record) -> float | None:
        x = read(record)
        if x is None:
            return None
        number: float = convert(x, DOUBLE, kind)
        return coefficient * number**exponent if exponent != 1 else coefficient * number

    return part


def _lookup(read: Single, coefficients: dict[Value, float]) -> Callable[[Record], float | None]:
    return lambda record: coefficients.get(read(record), 0.0)


def _product(reads: list[Single], coefficient: float) -> Callable[[Record], float | None]:
    def part(record: Record) -> float | None:
        found = coefficient
        for read in reads:
            x = read(record)
            if x is None:
                return None
            found *= x
        return found

    return part


def read_table(element: Element, scope: Scope, kind: DataType) -> Table:
    """Read a RegressionTable whose fields *scope* knows."""
    terms: list[Term] = []
    groups: dict[str, dict[Value, float]] = {}
    for each in element.children:
        match each.tag:
            case "NumericPredictor":
                field = scope.field(each.need("name"), each)
                exponent = each.integer("exponent", 1)
                terms.append(Numeric(field, each.number("coefficient"), exponent))
            case "CategoricalPredictor":
                field = scope.field(each.need("name"), each)
                if field.name not in groups:
                    groups[field.name] = {}
                    terms.append(Categorical(field, groups[field.name]))
                try:
                    value = parse(each.need("value"), field.type)
                except ValueError:
                    continue  # a value that the field cannot hold never comes
                groups[field.name].setdefault(value, each.number("coefficient"))
            case "PredictorTerm":
                fields = tuple(scope.field(f.need("field"), f) for f in each.all("FieldRef"))
                terms.append(Product(fields, each.number("coefficient")))
            case _:
                pass
    return Table(element.number("intercept", 0.0), tuple(terms), kind, scope)


@dataclass(frozen=True, slots=True)
class Regression:
    """One table, through an inverse link."""

    table: Table
    method: str

    def predict(self, frame: Frame) -> Prediction:
        total, errors = self.table.column(frame)
        return numbers(links.INVERSE[self.method][0](total), self.table.kind, errors)

    @property
    def outcome(self) -> Callable[[Record], Outcome]:
        """A closure that answers one record."""
        total, inverse = self.table.single(alone=True), links.INVERSE[self.method][1]
        held: Callable[[float], float] = float
        if self.table.kind is FLOAT:
            inverse, held = links.single32(self.method), round32

        def call(record: Record) -> Outcome:
            x = total(record)
            return Outcome(None if x is None else held(inverse(x)))

        return call


@dataclass(frozen=True, slots=True)
class Classification:
    """A table a class, and what makes probabilities of their sums."""

    classes: tuple[Value, ...]
    tables: tuple[Table, ...]
    method: str
    ordinal: bool
    label: DataType

    def predict(self, frame: Frame) -> Prediction:
        sums, errors = [], None
        for table in self.tables:
            total, failed = table.column(frame)
            sums.append(total)
            if errors is None:
                errors = failed
        scores = np.stack(sums, axis=1)
        # A row that lacks a number in any table has no distribution.
        scores[np.isnan(scores).any(axis=1)] = np.nan
        with np.errstate(invalid="ignore"):
            found = probabilities(scores, self.method, self.ordinal)
        return classified(self.classes, found, self.label, errors)

    @property
    def outcome(self) -> Callable[[Record], Outcome]:
        """A closure that answers one record."""
        alone = sum(bool(table.terms) for table in self.tables) == 1
        totals = [table.single(alone) for table in self.tables]
        classes, method, ordinal = self.classes, self.method, self.ordinal
        binary = len(classes) == 2 and not ordinal
        inverse = links.INVERSE[method][1] if binary and method in links.INVERSE else None
        if inverse is not None and self.tables[0].kind is FLOAT:
            inverse = links.single32(method)
        if binary and inverse is not None and method != "softmax":
            first, one_class, other_class = totals[0], classes[0], classes[1]
            rest = totals[1]
            single = self.tables[0].kind is FLOAT
            constant_rest, clipped = not self.tables[1].terms, method == "none"

            def two(record: Record) -> Outcome:
                x = first(record)
                if x is None or (not constant_rest and rest(record) is None):
                    return Outcome(None, classes)
                p = inverse(x)
                if clipped:
                    p = min(max(p, 0.0), 1.0)
                q = 1 - p
                if single:
                    p = round32(p)
                    q = round32(1 - p)
                return Outcome(one_class if p >= q else other_class, classes, (p, q))

            return two

        def many(record: Record) -> Outcome:
            sums = [total(record) for total in totals]
            if None in sums:
                return Outcome(None, classes)
            try:
                if method == "softmax" and not ordinal:
                    found = links.softmax_one(sums)  # type: ignore[arg-type] # no None left
                else:
                    found = probabilities(np.array([sums]), method, ordinal)[0].tolist()
            except (OverflowError, ValueError) as exc:
                raise RowError(f"the scores {sums} have no probabilities: {exc}") from None
            best = max(range(len(found)), key=found.__getitem__)
            return Outcome(classes[best], classes, found)

        return many


def probabilities(scores: np.ndarray, method: str, ordinal: bool) -> np.ndarray:
    """
    Return the classes' probabilities from the sums of their tables. Shape [rows, classes].

    Two classes: the first by the link, the second is the rest. Ordinal: the links are
    cumulative. More: softmax and simplemax share out; ``none`` leaves the rest to the last.
    """
    classes = scores.shape[1]
    if ordinal:
        return _cumulative(scores, method)
    if method == "softmax":
        return links.softmax(scores)
    if method == "simplemax":
        return links.simplemax(scores)
    inverse = links.INVERSE[method][0]
    if classes == 2:
        first = inverse(scores[:, 0])
        if method == "none":
            first = np.clip(first, 0.0, 1.0)
        return np.stack([first, 1 - first], axis=1)
    found = np.array(inverse(scores))
    if method == "none":
        found[:, -1] = 1 - found[:, :-1].sum(axis=1)
        return found
    return links.simplemax(found)


def _cumulative(scores: np.ndarray, method: str) -> np.ndarray:
    if method in ("softmax", "simplemax"):
        return links.softmax(scores) if method == "softmax" else links.simplemax(scores)
    total = np.array(links.INVERSE[method][0](scores))
    if method == "none":
        total = np.clip(total, 0.0, 1.0)
    total[:, -1] = 1.0
    found = total.copy()
    found[:, 1:] -= total[:, :-1]
    return found


def compile_model(context: Context) -> Regression | Classification:
    """Compile a RegressionModel."""
    element = context.element
    method = element.choice("normalizationMethod", _METHODS, "none")
    tables = element.all("RegressionTable")
    if not tables:
        raise element.error("holds no RegressionTable")
    read = tuple(read_table(each, context.scope, context.number) for each in tables)
    if not context.is_classification:
        if len(read) != 1:
            raise element.error(f"holds {len(read)} RegressionTable; a regression has one")
        if method == "simplemax":
            raise element.error("normalizes a single number by simplemax")
        return Regression(read[0], method)
    classes = tuple(context.parse_label(e.need("targetCategory"), e) for e in tables)
    ordinal = any(n == context.target and o == "ordinal" for n, _, o in context.targets)
    if len(read) == 1:
        # The 3.x way: one table, whose class has a twin among the target's values.
        rest = [each for each in context.labels if each not in classes]
        if len(rest) != 1:
            raise element.error("classifies by one RegressionTable, for no two known classes")
        classes, read = (*classes, rest[0]), (*read, Table(0.0, (), context.number, context.scope))
    return Classification(classes, read, method, ordinal, context.label)


__all__ = ["compile_model", "math", "read_table", "winners"]
