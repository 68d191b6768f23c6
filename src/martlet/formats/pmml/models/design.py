"""The design of a general regression: what its parameters multiply, and what each counts.

Source: PMML 4.4.1, General Regression, "PPMatrix" and "ParamMatrix".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from martlet.formats.pmml.arrays import array_numbers
from martlet.formats.pmml.asked import Asked
from martlet.formats.pmml.column import Column, Mask, Reasons, first, reasons
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.frame import Frame, Record, RowError, Single
from martlet.formats.pmml.functions import power
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
    """
    The design matrix: each parameter is a product of factors, then covariates; () is 1.

    Where its factors make it 0, its covariates are not asked for.
    """

    parameters: dict[str, tuple[Cell, ...]]
    scope: Scope

    def column(self, name: str, frame: Frame, asked: Asked) -> np.ndarray:
        """Return the parameter *name* of the batch, NaN where one of its fields is missing."""
        found = np.ones(frame.rows)
        is_open: Mask | None = None
        for cell in self.parameters.get(name, ()):
            if isinstance(cell, Covariate) and is_open is None:
                is_open = found != 0
            column = asked.needs(_allowed(cell, frame[cell.field.slot]), is_open)
            found = found * _values(cell, column)
            if is_open is not None:
                found[~is_open] = 0.0
        return found

    def single(self, name: str) -> Callable[[Record], float | None]:
        """Return a closure for one parameter of one record."""
        cells = self.parameters.get(name, ())
        parts = [
            (_one(cell, self.scope.reader(cell.field)), isinstance(cell, Factor)) for cell in cells
        ]
        if not parts:
            return lambda _: 1.0
        if len(parts) == 1:
            return parts[0][0]

        def product(record: Record) -> float | None:
            found, factors = 1.0, 1.0
            for part, is_factor in parts:
                if not is_factor and factors == 0:
                    return 0.0
                x = part(record)
                if x is None:
                    return None
                found *= x
                if is_factor:
                    factors = found
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
            try:
                return x if exponent == 1 else power(x, exponent)
            except ValueError:
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
    """Read how a GeneralRegressionModel makes its parameters of fields. Raises UnsupportedModel."""
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
    ordered = {
        name: tuple(sorted(cells, key=lambda cell: isinstance(cell, Covariate)))
        for name, cells in parameters.items()
    }
    return Design(ordered, scope)


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

    def _split(self, design: Design) -> tuple[float, list[tuple[str, float]]]:
        """Return what is the same for all rows, and the parameters that are not, with betas."""
        pairs = list(zip(self.names, self.betas.tolist(), strict=True))
        intercept = sum(beta for name, beta in pairs if not design.parameters.get(name))
        return intercept, [(name, beta) for name, beta in pairs if design.parameters.get(name)]

    def column(self, design: Design, frame: Frame, asked: Asked) -> np.ndarray:
        """Return the sum of each row, NaN where a field is missing that it needs."""
        intercept, terms = self._split(design)
        total = np.full(frame.rows, float(intercept))
        for name, beta in terms:  # one by one: in the order in which a record adds
            total += beta * design.column(name, frame, asked)
        return total

    def single(self, design: Design) -> Callable[[Record], float | None]:
        """Return :meth:`column` for one record: None where a field is missing."""
        intercept, named = self._split(design)
        terms = [(design.single(name), beta) for name, beta in named]

        def total(record: Record) -> float | None:
            found: float = intercept
            for term, beta in terms:
                x = term(record)
                if x is None:
                    return None
                found += beta * x
            return None if found != found else found

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
    """Return why each row that lacks *field* has no answer, [rows]; None where none lacks it."""
    if column.missing is None:
        return None
    return reasons(column.missing, LACKING.format(field.name))
