"""GeneralRegressionModel: linear predictors by a design matrix, through a link.

Source: PMML 4.4.1, General Regression.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from martlet.formats.pmml import links
from martlet.formats.pmml.column import Column, Reasons, all_errors, first, reasons
from martlet.formats.pmml.context import Context
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.frame import Frame, Record, RowError, Single
from martlet.formats.pmml.predicates import array_numbers, array_texts
from martlet.formats.pmml.prediction import Model, Outcome, Prediction, classified, numbers
from martlet.formats.pmml.scope import Field, Scope
from martlet.formats.pmml.values import DOUBLE, Value, convert, parse

_TYPES = (
    "regression",
    "generalLinear",
    "generalizedLinear",
    "multinomialLogistic",
    "ordinalMultinomial",
    "CoxRegression",
)


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
            x = convert(x, DOUBLE, kind)
            return float(x) if exponent == 1 else math.pow(x, exponent)

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


def _design(element: Element, scope: Scope) -> Design:
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
        errors = first(column.errors, _required(self.field, column))
        return column.cast(DOUBLE).floats(), errors

    def single(self) -> Callable[[Record], float | None]:
        value = self.value
        if self.field is None:
            return lambda _: value
        return self.scope.reader(self.field)


def _required(field: Field, column: Column) -> Reasons | None:
    if column.missing is None:
        return None
    return reasons(column.missing, f"field {field.name!r} is missing, and the model needs it")


def _link(element: Element, default: str) -> links.Link:
    name = element.get("linkFunction") or default
    if name in ("power", "oddspower"):
        exponent = element.number("linkParameter")
        return links.power(exponent) if name == "power" else links.oddspower(exponent)
    if name == "negbin":
        return links.negative_binomial(element.number("distParameter"))
    if name not in links.INVERSE:
        raise element.error(f"linkFunction={name!r} is not supported")
    return links.INVERSE[name]


@dataclass(frozen=True, slots=True)
class Regression:
    """A mean: the inverse link of predictor + offset, times the trials."""

    design: Design
    coefficients: Coefficients
    link: links.Link
    offset: Extra
    trials: Extra

    def predict(self, frame: Frame) -> Prediction:
        total, errors = self.coefficients.column(self.design, frame)
        offset, lacking = self.offset.column(frame)
        trials, none = self.trials.column(frame)
        with np.errstate(all="ignore"):
            mean = self.link[0](total + offset) * trials
        return numbers(mean, DOUBLE, first(errors, first(lacking, none)))

    @property
    def outcome(self) -> Callable[[Record], Outcome]:
        """A closure that answers one record."""
        total, inverse = self.coefficients.single(self.design), self.link[1]
        offset, trials = _checked(self.offset), _checked(self.trials)

        def call(record: Record) -> Outcome:
            shift, times = offset(record), trials(record)
            x = total(record)
            if x is None:
                return Outcome(None)
            try:
                return Outcome(inverse(x + shift) * times)
            except (ValueError, ZeroDivisionError, OverflowError):
                return Outcome(None)

        return call


@dataclass(frozen=True, slots=True)
class Classification:
    """A probability a class: by a link for two, by the softmax for more."""

    design: Design
    classes: tuple[Value, ...]
    coefficients: tuple[Coefficients, ...]
    """Of all classes but the last, the reference."""
    link: links.Link | None
    offset: Extra
    context: Context

    def predict(self, frame: Frame) -> Prediction:
        offset, errors = self.offset.column(frame)
        scores = []
        for each in self.coefficients:
            total, failed = each.column(self.design, frame)
            errors = first(errors, failed)
            scores.append(total + offset)
        with np.errstate(all="ignore"):
            found = self._probabilities(np.stack(scores, axis=1))
        return classified(self.classes, found, self.context.label, errors)

    def _probabilities(self, scores: np.ndarray) -> np.ndarray:
        if self.link is not None:
            p = self.link[0](scores[:, 0])
            return np.stack([p, 1 - p], axis=1)
        return links.softmax(np.concatenate([scores, np.zeros((len(scores), 1))], axis=1))

    @property
    def outcome(self) -> Callable[[Record], Outcome]:
        """A closure that answers one record."""
        totals = [each.single(self.design) for each in self.coefficients]
        offset, classes, link = _checked(self.offset), self.classes, self.link

        def call(record: Record) -> Outcome:
            shift = offset(record)
            sums = [total(record) for total in totals]
            if None in sums:
                return Outcome(None, classes)
            if link is not None:
                p = link[1](sums[0] + shift)  # type: ignore[operator] # no None left
                found = [p, 1 - p]
            else:
                found = links.softmax_one([x + shift for x in sums] + [0.0])  # type: ignore[operator]
            best = max(range(len(found)), key=found.__getitem__)
            return Outcome(classes[best], classes, found)

        return call


def _checked(extra: Extra) -> Callable[[Record], float]:
    read, field = extra.single(), extra.field

    def call(record: Record) -> float:
        x = read(record)
        if x is None:
            assert field is not None
            raise RowError(f"field {field.name!r} is missing, and the model needs it")
        return x

    return call


@dataclass(frozen=True, slots=True)
class Ordinal:
    """Cumulative probabilities of ordered classes: inverse link of threshold plus predictor."""

    design: Design
    classes: tuple[Value, ...]
    thresholds: tuple[float, ...]
    shared: Coefficients
    link: links.Link
    offset: Extra
    context: Context

    def predict(self, frame: Frame) -> Prediction:
        total, errors = self.shared.column(self.design, frame)
        offset, lacking = self.offset.column(frame)
        with np.errstate(all="ignore"):
            scores = (total + offset)[:, None] + np.array(self.thresholds)
            heaped = self.link[0](scores)
        heaped = np.concatenate([heaped, np.ones((frame.rows, 1))], axis=1)
        heaped[np.isnan(total)] = np.nan
        found = np.diff(heaped, axis=1, prepend=0.0)
        found[np.isnan(total)] = np.nan
        return classified(self.classes, found, self.context.label, first(errors, lacking))


@dataclass(frozen=True, slots=True)
class Baseline:
    """Cumulative hazards by time, of one stratum."""

    times: np.ndarray
    hazards: np.ndarray
    latest: float

    @classmethod
    def of(cls, element: Element, latest: float) -> Baseline:
        cells = sorted(
            (e.number("time"), e.number("cumHazard")) for e in element.all("BaselineCell")
        )
        if not cells:
            raise element.error("holds no BaselineCell")
        times, hazards = (np.array(axis) for axis in zip(*cells, strict=True))
        return cls(times, hazards, latest)

    def at(self, time: np.ndarray) -> np.ndarray:
        """Return the cumulative hazard at *time*: 0 before the first, NaN after the latest."""
        place = np.searchsorted(self.times, time, side="right") - 1
        found = np.where(place < 0, 0.0, self.hazards[np.maximum(place, 0)])
        return np.where(np.isnan(time) | (time > self.latest), np.nan, found)


@dataclass(frozen=True, slots=True)
class Cox:
    """The cumulative hazard of proportional hazards: baseline times exp(r - r0)."""

    design: Design
    coefficients: Coefficients
    centre: float
    end: Field
    stratum: Field | None
    baselines: dict[Value, Baseline]

    def predict(self, frame: Frame) -> Prediction:
        total, errors = self.coefficients.column(self.design, frame)
        time: Column = frame[self.end.slot]
        errors = first(errors, first(time.errors, _required(self.end, time)))
        at = time.cast(DOUBLE).floats()
        if self.stratum is None:
            hazard = self.baselines[None].at(at)
        else:
            column: Column = frame[self.stratum.slot]
            errors = first(errors, first(column.errors, _required(self.stratum, column)))
            hazard = np.full(frame.rows, np.nan)
            for value, baseline in self.baselines.items():
                rows = column.equals(value)
                hazard[rows] = baseline.at(at[rows])
        with np.errstate(all="ignore"):
            found = hazard * np.exp(total - self.centre)
        # Before the first event nobody is at risk, whoever they are.
        return numbers(np.where(hazard == 0, 0.0, found), DOUBLE, errors)


def _cox(context: Context, design: Design, coefficients: Coefficients) -> Cox:
    element, scope = context.element, context.scope
    end = scope.field(element.need("endTimeVariable"), element)
    tables = element.need_child("BaseCumHazardTables")
    variable = element.get("baselineStrataVariable")
    stratum = scope.field(variable, element) if variable is not None else None
    baselines: dict[Value, Baseline] = {}
    if stratum is None:
        baselines[None] = Baseline.of(tables, tables.number("maxTime", math.inf))
    else:
        for each in tables.all("BaselineStratum"):
            value = stratum.parse(each.need("value"), each)
            baselines[value] = Baseline.of(each, each.number("maxTime", math.inf))
    centre = 0.0
    points = {
        e.need("name"): e.number("referencePoint", 0.0)
        for e in element.need_child("ParameterList").all("Parameter")
    }
    for name, beta in zip(coefficients.names, coefficients.betas.tolist(), strict=True):
        centre += beta * points.get(name, 0.0)
    return Cox(design, coefficients, centre, end, stratum, baselines)


def compile_model(context: Context) -> Model:
    """Compile a GeneralRegressionModel."""
    element, scope = context.element, context.scope
    kind = element.choice("modelType", _TYPES)
    design = _design(element, scope)
    cells = element.need_child("ParamMatrix").all("PCell")
    offset = Extra.of(element, "offset", 0.0, scope)
    if kind == "CoxRegression":
        return _cox(context, design, Coefficients.of(cells))
    if kind == "ordinalMultinomial":
        return _ordinal(context, design, cells, offset)
    if kind == "multinomialLogistic" or context.is_classification:
        return _classification(context, design, cells, offset, kind)
    default = "logit" if kind == "generalizedLinear" and context.is_classification else "identity"
    if kind in ("regression", "generalLinear"):
        # The offset is of generalized linear models alone.
        link, offset = links.INVERSE["identity"], Extra(None, 0.0, scope)
    else:
        link = _link(element, default)
    trials = Extra.of(element, "trials", 1.0, scope)
    return Regression(design, Coefficients.of(cells), link, offset, trials)


def _classification(
    context: Context, design: Design, cells: list[Element], offset: Extra, kind: str
) -> Classification:
    element = context.element
    by_class: dict[str | None, list[Element]] = {}
    for each in cells:
        by_class.setdefault(each.get("targetCategory"), []).append(each)
    shared = by_class.pop(None, [])
    named = {context.parse_label(t, element): c for t, c in by_class.items() if t is not None}
    reference = element.get("targetReferenceCategory")
    rest = [each for each in context.labels if each not in named]
    if not named:
        # Coefficients of no class are of the one that is not the reference.
        last = context.parse_label(reference, element) if reference else None
        chosen = [each for each in context.labels if each != last]
        if last is None or len(chosen) != 1:
            chosen, last = list(context.labels[:1]), (*context.labels, None)[1]
        named = {chosen[0]: []} if chosen else {}
        rest = [last]
    if reference is not None:
        rest = [context.parse_label(reference, element)]
    if len(rest) != 1 or not named:
        raise element.error("does not say which class is the reference")
    coefficients = tuple(Coefficients.of([*cells, *shared]) for cells in named.values())
    classes = (*named, rest[0])
    link: links.Link | None = None
    if kind != "multinomialLogistic":
        if len(named) != 1:
            raise element.error(f"has {len(named) + 1} classes; {kind} has two")
        link = _link(element, "logit")
    return Classification(design, classes, coefficients, link, offset, context)


def _ordinal(context: Context, design: Design, cells: list[Element], offset: Extra) -> Ordinal:
    element = context.element
    thresholds: dict[Value, float] = {}
    shared: list[Element] = []
    for each in cells:
        text = each.get("targetCategory")
        if text is None:
            shared.append(each)
        else:
            label = context.parse_label(text, each)
            thresholds[label] = thresholds.get(label, 0.0) + each.number("beta")
    classes = context.labels or (*thresholds, None)
    order = [each for each in classes if each in thresholds]
    rest = [each for each in classes if each not in thresholds]
    if len(rest) != 1:
        raise element.error("needs a threshold for each class but the last")
    link = element.get("cumulativeLink") or "logit"
    if link not in ("logit", "probit", "cloglog", "loglog", "cauchit"):
        raise element.error(f"cumulativeLink={link!r} is not supported")
    return Ordinal(
        design,
        (*order, rest[0]),
        tuple(thresholds[each] for each in order),
        Coefficients.of(shared),
        links.INVERSE[link],
        offset,
        context,
    )


__all__ = ["array_texts", "compile_model"]
