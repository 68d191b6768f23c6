"""The design of a general regression: what its parameters multiply, and what each counts.

Source: PMML 4.4.1, General Regression, "PPMatrix" and "ParamMatrix".
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from martlet.formats.pmml.arrays import array_numbers
from martlet.formats.pmml.column import Column, Reasons, all_errors, first, reasons
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.frame import Frame, Record, RowError, Single
from martlet.formats.pmml.scope import Field, Scope
from martlet.formats.pmml.values import DOUBLE, Value, convert, parse

LACKING = "field {!r} is missing, and the model needs it"


@dataclass(frozen=True, slots=True)
class Covariate:
    """A number to a power; a power that is itself a field is not PMML's."""

    field: Field
    exponent: float


@dataclass(frozen=True, slots=True)
class Factor:
    """What a parameter takes a factor's value for: 1 for one value, or a column of contrasts."""

    field: Field
    weights: dict[Value, float]
    closed: bool
    """Whether a value that has no weight is refused, rather than weighs nothing."""

    def refusal(self, value: Value) -> str:
        return f"field {self.field.name!r} cannot be {value!r}: its contrasts have no such value"


Cell = Covariate | Factor


@dataclass(frozen=True, slots=True)
class Design:
    """The design matrix: each parameter is a product of covariates and factors; () is 1."""

    parameters: dict[str, tuple[Cell, ...]]
    scope: Scope

    def columns(self, names: list[str], frame: Frame) -> tuple[np.ndarray, Reasons | None]:
        """Return the parameters *names* of the batch, [rows, names], NaN where one is missing."""
        cache: dict[int, np.ndarray] = {}
        used: dict[int, Column] = {}
        x = np.ones((frame.rows, len(names)))
        for place, name in enumerate(names):
            for cell in self.parameters.get(name, ()):
                key = id(cell)
                if key not in cache:
                    column: Column = frame[cell.field.slot]
                    used[cell.field.slot] = _allowed(cell, column)
                    cache[key] = _values(cell, column)
                x[:, place] *= cache[key]
        return x, all_errors(used.values())

    def single(self, name: str) -> Callable[[Record], float | None]:
        """Return a closure for one parameter of one record."""
        parts = [
            _one(cell, self.scope.reader(cell.field)) for cell in self.parameters.get(name, ())
        ]
        if not parts:
            return lambda _: 1.0
        if len(parts) == 1:
            return parts[0]

        def product(record: Record) -> float | None:
            found = 1.0
            for part in parts:
                x = part(record)
                if x is None:
                    return None
                found *= x
            return found

        return product


def _allowed(cell: Cell, column: Column) -> Column:
    if isinstance(cell, Covariate) or not cell.closed:
        return column
    strange = column.known() & ~column.is_in(cell.weights)
    shown = column.objects() if strange.any() else []
    return column.with_errors(reasons(strange, lambda row: cell.refusal(shown[row])))


def _values(cell: Cell, column: Column) -> np.ndarray:
    if isinstance(cell, Covariate):
        x = (column.cast(DOUBLE) if column.levels is not None else column).floats()
        return x if cell.exponent == 1 else np.power(x, cell.exponent)
    if column.levels is not None:
        return column.by_level(lambda level: cell.weights.get(level, 0.0), np.nan, np.float64)
    found = np.zeros(len(column))
    for value, weight in cell.weights.items():
        found[column.equals(value)] = weight
    found[~column.known()] = np.nan
    return found


def _one(cell: Cell, read: Single) -> Callable[[Record], float | None]:
    if isinstance(cell, Covariate):
        exponent, kind = cell.exponent, cell.field.type

        def covariate(record: Record) -> float | None:
            x = read(record)
            if x is None:
                return None
            x = float(convert(x, DOUBLE, kind))
            if exponent == 1:
                return x
            try:
                return math.pow(x, exponent)
            except (ValueError, OverflowError):
                return None

        return covariate
    weights, closed = cell.weights, cell.closed

    def factor(record: Record) -> float | None:
        x = read(record)
        if x is None:
            return None
        if closed and x not in weights:
            raise RowError(cell.refusal(x))
        return weights.get(x, 0.0)

    return factor


def read_design(element: Element, scope: Scope) -> Design:
    covariates = {e.need("name") for e in _predictors(element, "CovariateList")}
    factors = {e.need("name"): e for e in _predictors(element, "FactorList")}
    parameters: dict[str, tuple[Cell, ...]] = {}
    shared: dict[tuple[str, str], Cell] = {}
    matrix = element.child("PPMatrix")
    for cell in matrix.all("PPCell") if matrix is not None else ():
        name, text = cell.need("predictorName"), cell.need("value")
        key = (name, text)
        if key not in shared:
            field = scope.field(name, cell)
            if name in factors and name not in covariates:
                closed = factors[name].child("Matrix") is not None
                shared[key] = Factor(field, _weights(factors[name], text, field, cell), closed)
            else:
                shared[key] = Covariate(field, cell.number("value"))
        parameter = cell.need("parameterName")
        parameters[parameter] = (*parameters.get(parameter, ()), shared[key])
    return Design(parameters, scope)


def _predictors(element: Element, tag: str) -> list[Element]:
    found = element.child(tag)
    return found.all("Predictor") if found is not None else []


def _weights(factor: Element, text: str, field: Field, cell: Element) -> dict[Value, float]:
    """Return what a PPCell gives each value of a factor: 1 for its own, or a contrast column."""
    matrix = factor.child("Matrix")
    try:
        wanted = parse(text, field.type)
    except ValueError as exc:
        raise cell.error(f"names a value that its factor has not: {exc}") from None
    if matrix is None:
        return {wanted: 1.0}
    listed = factor.child("Categories")
    values: tuple[Value, ...] = field.values
    if listed is not None:
        values = tuple(parse(e.need("value"), field.type) for e in listed.all("Category"))
    rows = [array_numbers(each) for each in matrix.all("Array", "REAL-SparseArray")]
    if wanted not in values or len(rows) != len(values):
        raise cell.error(f"has no column for {text!r} in the contrast matrix of {field.name!r}")
    place = values.index(wanted)
    if any(place >= len(row) for row in rows):
        raise cell.error(f"has no column for {text!r} in the contrast matrix of {field.name!r}")
    return {value: row[place] for value, row in zip(values, rows, strict=True)}


@dataclass(frozen=True, slots=True)
class Coefficients:
    """One ParamMatrix row set: the parameters and what each counts, for one class or all."""

    names: tuple[str, ...]
    betas: np.ndarray

    @classmethod
    def of(cls, cells: list[Element]) -> Coefficients:
        names = tuple(each.need("parameterName") for each in cells)
        return cls(names, np.array([each.number("beta") for each in cells]))

    def column(self, design: Design, frame: Frame) -> tuple[np.ndarray, Reasons | None]:
        x, errors = design.columns(list(self.names), frame)
        return x @ self.betas, errors

    def single(self, design: Design) -> Callable[[Record], float | None]:
        terms = [
            (design.single(name), beta)
            for name, beta in zip(self.names, self.betas.tolist(), strict=True)
            if design.parameters.get(name)
        ]
        pairs = zip(self.names, self.betas.tolist(), strict=True)
        intercept = sum(beta for name, beta in pairs if not design.parameters.get(name))

        def total(record: Record) -> float | None:
            found: float = intercept
            for term, beta in terms:
                x = term(record)
                if x is None:
                    return None
                found += beta * x
            return found

        return total


@dataclass(frozen=True, slots=True)
class Extra:
    """A field or a constant that joins the linear predictor or the mean: offset, trials."""

    field: Field | None
    value: float
    scope: Scope

    @classmethod
    def of(cls, element: Element, name: str, default: float, scope: Scope) -> Extra:
        variable = element.get(f"{name}Variable")
        found = scope.field(variable, element) if variable is not None else None
        return cls(found, element.number(f"{name}Value", default), scope)

    def column(self, frame: Frame) -> tuple[np.ndarray | float, Reasons | None]:
        if self.field is None:
            return self.value, None
        column: Column = frame[self.field.slot]
        errors = first(column.errors, required(self.field, column))
        return column.cast(DOUBLE).floats(), errors

    def single(self) -> Callable[[Record], float | None]:
        value = self.value
        if self.field is None:
            return lambda _: value
        return self.scope.reader(self.field)


def required(field: Field, column: Column) -> Reasons | None:
    if column.missing is None:
        return None
    return reasons(column.missing, LACKING.format(field.name))
