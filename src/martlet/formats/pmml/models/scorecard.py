"""Scorecard: points by attribute, and the reasons for them. Source: PMML 4.4.1, Scorecard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from martlet.formats.pmml.column import Column, Reasons, first, kept, reasons
from martlet.formats.pmml.context import Context
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.expressions import Expression, cast, compile_expression, expression_of
from martlet.formats.pmml.frame import Frame, Record, RowError
from martlet.formats.pmml.predicates import Predicate, predicate_of
from martlet.formats.pmml.prediction import Outcome, Prediction, label_column
from martlet.formats.pmml.values import DOUBLE, STRING


@dataclass(frozen=True, slots=True)
class Attribute:
    """The points, fixed or computed, of the rows that a predicate holds for."""

    predicate: Predicate
    score: float | None
    expression: Expression | None
    code: str | None


@dataclass(frozen=True, slots=True)
class Characteristic:
    """Attributes, of which the first that holds counts."""

    name: str
    attributes: tuple[Attribute, ...]
    baseline: float

    @property
    def undecided(self) -> str:
        """Why a row has no points."""
        return f"characteristic {self.name!r} gives no points: no attribute holds, or it has none"

    def points(self, frame: Frame) -> tuple[np.ndarray, np.ndarray, Reasons | None]:
        """Return each row's points, its attribute, and the rows without: NaN, -1, and why."""
        points = np.full(frame.rows, np.nan)
        place = np.full(frame.rows, -1)
        left = np.ones(frame.rows, dtype=bool)
        errors: Reasons | None = None
        for number, each in enumerate(self.attributes):
            truth = each.predicate.truth(frame)
            if truth.errors is not None:
                errors = first(errors, kept(truth.errors, left))
            here = left & truth.yes
            left &= ~here
            place[here] = number
            if each.score is not None:
                points[here] = each.score
            elif here.any():
                assert each.expression is not None
                column = each.expression.column(frame)
                points[here] = column.floats()[here]
                if column.errors is not None:
                    errors = first(errors, kept(column.errors, here))
        return points, place, first(errors, reasons(np.isnan(points), self.undecided))


@dataclass(frozen=True, slots=True)
class Scorecard:
    """Characteristics, added up."""

    initial: float
    characteristics: tuple[Characteristic, ...]
    below: bool
    with_reasons: bool

    def predict(self, frame: Frame) -> Prediction:
        total = np.full(frame.rows, self.initial)
        partial, places = [], []
        errors: Reasons | None = None
        for each in self.characteristics:
            points, place, failed = each.points(frame)
            errors = first(errors, failed)
            total = total + points
            partial.append(points)
            places.append(place)
        gone = np.isnan(total)
        value = Column(DOUBLE, total, gone if gone.any() else None, errors)
        features = {}
        if self.with_reasons:
            features["reasonCode"] = self._reasons(partial, places, gone)
        return Prediction(value, features=features)

    def _reasons(
        self, partial: list[np.ndarray], places: list[np.ndarray], gone: np.ndarray
    ) -> list[Column]:
        """Return the codes by rank: of the greatest loss against the baseline first."""
        codes = list(
            dict.fromkeys(
                each.code for c in self.characteristics for each in c.attributes if each.code
            )
        )
        index = {code: number for number, code in enumerate(codes)}
        worst = np.full((len(gone), max(1, len(codes))), -np.inf)
        for c, points, place in zip(self.characteristics, partial, places, strict=True):
            loss = c.baseline - points if self.below else points - c.baseline
            for number, each in enumerate(c.attributes):
                if each.code is None:
                    continue
                here = np.flatnonzero(place == number)
                column = index[each.code]
                # A code of several characteristics counts by its sum.
                known = np.maximum(worst[here, column], -1e300)
                known = np.where(known <= -1e300, 0.0, known)
                worst[here, column] = known + loss[here]
        order = np.argsort(-worst, axis=1, kind="stable")
        ranked = np.take_along_axis(worst, order, axis=1)
        # What gained points is no reason.
        order = np.where((ranked >= 0) & ~gone[:, None], order, -1)
        return [label_column(order[:, rank], codes, STRING) for rank in range(len(codes))]

    @property
    def outcome(self) -> Callable[[Record], Outcome]:
        """A closure that answers one record."""
        parts = [
            (
                c.undecided,
                c.baseline,
                [
                    (
                        a.predicate.single(),
                        a.score,
                        None if a.expression is None else a.expression.single(),
                        a.code,
                    )
                    for a in c.attributes
                ],
            )
            for c in self.characteristics
        ]
        initial, below, with_reasons = self.initial, self.below, self.with_reasons
        codes = dict.fromkeys(a.code for c in self.characteristics for a in c.attributes if a.code)
        rank = {code: number for number, code in enumerate(codes)}

        def call(record: Record) -> Outcome:
            total = initial
            losses: dict[str, float] = {}
            for undecided, baseline, attributes in parts:
                taken = next((each for each in attributes if each[0](record) is True), None)
                if taken is None:
                    raise RowError(undecided)
                _, score, compute, code = taken
                points = score if compute is None else compute(record)
                if points is None:
                    raise RowError(undecided)
                total += points
                if with_reasons and code:
                    loss = baseline - points if below else points - baseline
                    losses[code] = losses.get(code, 0.0) + loss
            worst = sorted(
                (c for c in losses if losses[c] >= 0), key=lambda c: (-losses[c], rank[c])
            )
            return Outcome(total, features={"reasonCode": worst})

        return call


def compile_model(context: Context) -> Scorecard:
    """Compile a Scorecard."""
    element = context.element
    algorithm = element.choice("reasonCodeAlgorithm", ("pointsAbove", "pointsBelow"), "pointsBelow")
    with_reasons = element.flag("useReasonCodes", True)
    overall = element.number("baselineScore", 0.0)
    found = []
    for each in element.need_child("Characteristics").all("Characteristic"):
        attributes = tuple(_attribute(a, each, context) for a in each.all("Attribute"))
        baseline = each.number("baselineScore", overall)
        found.append(Characteristic(each.get("name") or "", attributes, baseline))
    initial = element.number("initialScore", 0.0)
    return Scorecard(initial, tuple(found), algorithm == "pointsBelow", with_reasons)


def _attribute(element: Element, characteristic: Element, context: Context) -> Attribute:
    score = element.number("partialScore") if element.get("partialScore") is not None else None
    complex_score = element.child("ComplexPartialScore")
    expression: Expression | None = None
    if complex_score is not None:
        inner = compile_expression(expression_of(complex_score), context.scope)
        expression, score = cast(inner, DOUBLE), None
    elif score is None:
        raise element.error("has no partialScore")
    code = element.get("reasonCode") or characteristic.get("reasonCode")
    return Attribute(predicate_of(element, context.scope), score, expression, code)
