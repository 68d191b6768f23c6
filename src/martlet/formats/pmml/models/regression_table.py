"""RegressionTable: an intercept and terms, summed. Source: PMML 4.4.1, Regression."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from martlet.formats.pmml.asked import Asked
from martlet.formats.pmml.column import Column
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.frame import FLOATS, Frame, Record, Single
from martlet.formats.pmml.functions import power
from martlet.formats.pmml.scope import Field, Scope, number_reader
from martlet.formats.pmml.values import DOUBLE, FLOAT, DataType, Value, convert, parse, round32


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

    def column(self, frame: Frame, asked: Asked) -> np.ndarray:
        """
        Return the sum of each row, NaN where a number is missing.

        Args:
            asked: Told of the fields in the order in which they are asked for.
        """
        real = self.kind.numpy
        total = np.full(frame.rows, real(self.intercept))
        with np.errstate(over="ignore", invalid="ignore"):
            for term in self.terms:
                match term:
                    case Numeric(field, coefficient, exponent):
                        x = _floats(asked.needs(frame[field.slot]), real)
                        if exponent != 1:
                            x = x**exponent
                        total += real(coefficient) * x
                    case Categorical(field, coefficients):
                        column = asked.takes(frame[field.slot])
                        total += _coefficients(column, coefficients, real)
                    case Product(fields, coefficient):
                        x = np.full(frame.rows, real(coefficient))
                        for field in fields:
                            x = x * _floats(asked.needs(frame[field.slot]), real)
                        total += x
        return total

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
                case Numeric(field, coefficient, 1) if field.type.is_number and not parts:
                    plain.append((reader(field), coefficient))
                case Numeric(field, coefficient, exponent):
                    parts.append(_power(reader(field), field.type, coefficient, exponent))
                case Categorical(field, coefficients):
                    parts.append(_lookup(reader(field), coefficients))
                case Product(fields, coefficient):
                    parts.append(
                        _product([number_reader(self.scope, f) for f in fields], coefficient)
                    )
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
            return None if found != found else found

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
                    parts.append(
                        _product([number_reader(self.scope, f) for f in fields], coefficient)
                    )
        intercept = np.float32(self.intercept)

        def total(record: Record) -> float | None:
            found = intercept
            for part in parts:
                x = part(record)
                if x is None:
                    return None
                found = found + np.float32(x)
            return None if found != found else float(found)

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
        return coefficient * (number if exponent == 1 else power(number, exponent))

    return part


def _lookup(read: Single, coefficients: dict[Value, float]) -> Callable[[Record], float | None]:
    return lambda record: coefficients.get(read(record), 0.0)


def _product(
    reads: list[Callable[[Record], float]], coefficient: float
) -> Callable[[Record], float | None]:
    def part(record: Record) -> float | None:
        found = coefficient
        for read in reads:
            x = read(record)
            if x != x:
                return None
            found *= x
        return None if found != found else found

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
