"""Cox regression: cumulative hazards. Source: PMML 4.4.1, General Regression, "CoxRegression"."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from martlet.formats.pmml.asked import Asked
from martlet.formats.pmml.column import Column, first
from martlet.formats.pmml.context import Context
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.frame import Frame, Record, RowError
from martlet.formats.pmml.models.design import LACKING, Coefficients, Design, required
from martlet.formats.pmml.prediction import Outcome, Prediction, numbers
from martlet.formats.pmml.scope import Field, number_reader
from martlet.formats.pmml.values import DOUBLE, Value


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

    def single(self) -> Callable[[float], float]:
        """Return :meth:`at` for one time."""
        times, hazards, latest = self.times.tolist(), self.hazards.tolist(), self.latest

        def at(time: float) -> float:
            if time > latest:
                return math.nan
            place = bisect_right(times, time) - 1
            return 0.0 if place < 0 else hazards[place]

        return at


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
        asked = Asked()
        total = self.coefficients.column(self.design, frame, asked)
        time: Column = frame[self.end.slot]
        errors = first(asked.errors, first(time.errors, required(self.end, time)))
        at = time.cast(DOUBLE).floats()
        if self.stratum is None:
            hazard = self.baselines[None].at(at)
        else:
            column: Column = frame[self.stratum.slot]
            errors = first(errors, first(column.errors, required(self.stratum, column)))
            hazard = np.full(frame.rows, np.nan)
            for value, baseline in self.baselines.items():
                rows = column.equals(value)
                hazard[rows] = baseline.at(at[rows])
        with np.errstate(all="ignore"):
            found = hazard * np.exp(total - self.centre)
        # Before the first event nobody is at risk, whoever they are.
        return numbers(np.where(hazard == 0, 0.0, found), DOUBLE, errors)

    @property
    def outcome(self) -> Callable[[Record], Outcome]:
        """A closure that answers one record."""
        total, scope, centre = self.coefficients.single(self.design), self.design.scope, self.centre
        read_time = number_reader(scope, self.end)
        read_stratum = None if self.stratum is None else scope.reader(self.stratum)
        tables = {value: baseline.single() for value, baseline in self.baselines.items()}
        end, stratum = self.end.name, self.stratum.name if self.stratum is not None else ""

        def call(record: Record) -> Outcome:
            x, time = total(record), read_time(record)
            if time != time:
                raise RowError(LACKING.format(end))
            value = None
            if read_stratum is not None:
                value = read_stratum(record)
                if value is None:
                    raise RowError(LACKING.format(stratum))
            table = tables.get(value)
            hazard = math.nan if table is None else table(time)
            if hazard == 0:
                return Outcome(0.0)
            if x is None or hazard != hazard:
                return Outcome(None)
            try:
                return Outcome(hazard * math.exp(x - centre))
            except OverflowError:
                return Outcome(math.inf)

        return call


def read_cox(context: Context, design: Design, coefficients: Coefficients) -> Cox:
    """Read a CoxRegression: its baseline hazards, one a stratum. Raises UnsupportedModel."""
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
