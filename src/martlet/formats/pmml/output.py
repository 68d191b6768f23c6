"""Output: the fields that a model gives, each a feature of its prediction or an expression.

Source: PMML 4.4.1, Output.
"""

from __future__ import annotations

from dataclasses import dataclass

from martlet.formats.pmml.column import Column, reasons
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.expressions import (
    Expression,
    cast,
    compile_expression,
    expression_of,
    is_expression,
)
from martlet.formats.pmml.features import FEATURES, Batch, One
from martlet.formats.pmml.frame import Frame, Record, RowError, Single
from martlet.formats.pmml.prediction import Outcome, Prediction, answered, is_nothing
from martlet.formats.pmml.scope import Field, Scope, type_of
from martlet.formats.pmml.targets import Target
from martlet.formats.pmml.values import DataType, Value

COMPUTED = ("transformedValue", "decision")
"""Features that are expressions; all others ask the prediction."""


def feature_of(element: Element) -> str:
    """Return the feature that an OutputField asks for; older versions need not say which."""
    is_computed = any(is_expression(each) for each in element.children)
    return element.get("feature") or ("transformedValue" if is_computed else "predictedValue")


@dataclass(frozen=True, slots=True)
class Feature:
    """An expression that asks a prediction for one of its features."""

    type: DataType
    slot: int
    scope: Scope
    batch: Batch
    one: One
    element: Element

    def column(self, frame: Frame) -> Column:
        prediction: Prediction = frame[self.slot]
        errors = prediction.value.errors
        found = self.batch(prediction)
        return found if errors is None else found.with_errors(errors)

    def single(self) -> Single:
        read, one, batch = self.scope.world.program.reader(self.slot), self.one, self.batch

        def call(record: Record) -> Value:
            found = read(record)
            if isinstance(found, Outcome):
                return one(found)
            # A segment that is not active says nothing.
            return None if found is None else batch(found).objects()[0]

        return call


@dataclass(frozen=True, slots=True)
class Requiring:
    """An expression of what a prediction tells: a row without the prediction fails."""

    inner: Expression
    prediction: int
    """The slot of the prediction."""
    name: str
    scope: Scope

    @property
    def type(self) -> DataType:
        return self.inner.type

    @property
    def _lacking(self) -> str:
        return f"output {self.name!r} needs a prediction, and its model has none"

    def column(self, frame: Frame) -> Column:
        there = answered(frame[self.prediction].value)
        return self.inner.column(frame).with_errors(reasons(~there, self._lacking))

    def single(self) -> Single:
        inner, lacking = self.inner.single(), self._lacking
        ask = self.scope.world.program.reader(self.prediction)

        def call(record: Record) -> Value:
            if is_nothing(ask(record)):
                raise RowError(lacking)
            return inner(record)

        return call


def compile_output(
    element: Element,
    scope: Scope,
    prediction: int,
    fields: dict[str, Field],
    predicts: DataType,
    targets: tuple[Target, ...],
    segments: dict[str, int],
) -> Expression:
    """
    Compile an OutputField of the model whose Prediction is in the slot *prediction*.

    Args:
        scope: Sees the model's fields, its target and the outputs above this one.
        fields: The target fields, the main one first; none of a model without one.
        predicts: The type of what the model predicts.
        targets: Its Targets, for what labels show as.
        segments: The slots of the segments' predictions, by segment id.

    Raises:
        UnsupportedModel: the feature is unknown, or asks for what this file has not.
    """
    feature = feature_of(element)
    if feature in COMPUTED:
        found = compile_expression(expression_of(element), scope)
        return cast(found, type_of(element, found.type))
    segment = element.get("segmentId")
    if segment is not None:
        if segment not in segments:
            raise element.error(f"asks for the segment {segment!r}, which there is not")
        prediction = segments[segment]
    make = FEATURES.get(feature)
    if make is None:
        raise element.error(f"asks for the feature {feature!r}, which is not supported")
    wanted = element.get("targetField")
    main = next(iter(fields.values()), Field("", prediction, predicts, "categorical"))
    kind, batch, one = make(element, fields.get(wanted or "", main), targets)
    if wanted is not None and wanted != main.name:
        batch, one = _of_target(wanted, batch, one)
    found = Feature(kind, prediction, scope, batch, one, element)
    declared = type_of(element, kind)
    return cast(found, declared)


def _of_target(name: str, batch: Batch, one: One) -> tuple[Batch, One]:
    def of_other(prediction: Prediction) -> Column:
        return batch(prediction.others.get(name, prediction))

    return of_other, lambda outcome: one(outcome.of(name))
