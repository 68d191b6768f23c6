"""A MiningModel's segments: models that answer for the rows that their predicate holds for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.formats.pmml.column import Column, choose, scatter
from martlet.formats.pmml.context import Context, NestedModel
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.expressions import FieldRef
from martlet.formats.pmml.frame import Frame, Record
from martlet.formats.pmml.output import Requiring
from martlet.formats.pmml.predicates import TAGS, Always, Predicate, predicate_of
from martlet.formats.pmml.prediction import Prediction
from martlet.formats.pmml.scope import Field, Scope, number_reader
from martlet.formats.pmml.values import BOOLEAN, DOUBLE, Value


@dataclass(frozen=True, slots=True)
class Segment:
    """
    One model among several.

    Args:
        active: The slot of the column that says for which rows it answers; None: for all.
        slot: Of its prediction, nothing where it is not active.
        variable: The field that says its weight in each row; None: *weight* does.
    """

    id: str
    weight: float
    predicate: Predicate
    active: int | None
    slot: int
    model: NestedModel
    variable: Field | None = None

    def weights(self, frame: Frame) -> float | NDArray[np.float64]:
        """Return the segment's weight: of every row, or one for each."""
        if self.variable is None:
            return self.weight
        column: Column = frame[self.variable.slot]
        return column.cast(DOUBLE).floats()

    def weight_reader(self, scope: Scope) -> Callable[[Record], float]:
        """Return what reads the weight of one record."""
        weight = self.weight
        return (lambda _: weight) if self.variable is None else number_reader(scope, self.variable)


def read_segments(context: Context, chained: bool = False) -> tuple[Segment, ...]:
    """
    Compile the segments in order; each sees the outputs of those before it.

    Args:
        chained: Whether their outputs are the whole model's too: a segment that has no prediction
            for them then fails the row.
    """
    found: list[Segment] = []
    for place, element in enumerate(context.element.need_child("Segmentation").all("Segment"), 1):
        predicate = predicate_of(element, context.scope)
        if predicate == Always(False):
            continue
        inner = next(
            (e for e in element.children if e.tag not in (*TAGS, "Extension", "VariableWeight")),
            None,
        )
        if inner is None:
            raise element.error("holds no model")
        model = context.nested(inner)
        segment = _segment(element, place, predicate, model, context)
        variable = element.child("VariableWeight")
        if variable is not None:
            field = context.scope.field(variable.need("field"), variable)
            segment = replace(segment, variable=field)
        found.append(segment)
        _publish(segment, context, chained)
    return tuple(found)


def _segment(
    element: Element, place: int, predicate: Predicate, model: NestedModel, context: Context
) -> Segment:
    identity = element.get("id") or str(place)
    weight = element.number("weight", 1.0)
    if predicate == Always(True):
        return Segment(identity, weight, predicate, None, model.slot, model)
    program = context.scope.world.program
    holds, ask = predicate.single(), program.reader(model.slot)

    def active(frame: Frame) -> Column:
        truth = predicate.truth(frame)
        return Column(BOOLEAN, truth.yes, None, truth.errors)

    mask = program.slot(active, lambda record: holds(record) is True)
    is_active = program.reader(mask)

    def batch(frame: Frame) -> Prediction:
        where: Column = frame[mask]
        rows = np.flatnonzero(where.values)
        if len(rows) == frame.rows:
            found: Prediction = frame[model.slot]
        else:
            found = frame.take(rows)[model.slot].spread(rows, frame.rows)
        return found.failing(where.errors)

    def single(record: Record) -> Any:
        return ask(record) if is_active(record) else None

    slot = program.slot(batch, single)
    return Segment(identity, weight, predicate, mask, slot, model)


def _publish(segment: Segment, context: Context, chained: bool) -> None:
    """Let the models after this one, and the outputs of all, see its output fields."""
    program = context.scope.world.program
    for name in segment.model.outputs:
        field = segment.model.scope.find(name)
        assert field is not None, f"{name} was just declared"
        if chained and name in segment.model.told:
            field = _required(field, segment.model.slot, context)
        if segment.active is None:
            context.scope.declare(field)
            continue
        before = context.scope.find(name) if context.scope.own(name) else None
        batch, single = _conditional(segment.active, field, before, context)
        context.scope.declare(replace(field, slot=program.slot(batch, single)))


def _required(field: Field, prediction: int, context: Context) -> Field:
    """Return an output that fails the rows for which its model has no *prediction* (a slot)."""
    program = context.scope.world.program
    found = Requiring(FieldRef(field, context.scope), prediction, field.name, context.scope)
    return replace(field, slot=program.slot(found.column, found.single()))


def _conditional(
    mask: int, field: Field, before: Field | None, context: Context
) -> tuple[Callable[[Frame], Column], Callable[[Record], Value]]:
    """Return a segment's output where it is active, else what an earlier one says, if any."""
    program = context.scope.world.program
    is_active, read = program.reader(mask), program.reader(field.slot)
    otherwise = program.reader(before.slot) if before is not None else None

    def batch(frame: Frame) -> Column:
        where: Column = frame[mask]
        rows = np.flatnonzero(where.values)
        if len(rows) == frame.rows:
            return frame[field.slot]  # type: ignore[no-any-return] # a field's slot has columns
        found = scatter(frame.take(rows)[field.slot], rows, frame.rows)
        if before is not None:
            found = choose(where.values, found, frame[before.slot].cast(field.type))
        return found.with_errors(where.errors)

    def single(record: Record) -> Value:
        if is_active(record):
            return read(record)
        return otherwise(record) if otherwise is not None else None

    return batch, single


def aligned(
    prediction: Prediction, matrix: np.ndarray | None, classes: tuple[Value, ...], rows: int
) -> np.ndarray:
    """Return *matrix* with a column for each of *classes*: 0 for one that it has not."""
    found = np.zeros((rows, len(classes)))
    if matrix is None:
        found[:] = np.nan
        return found
    for code, label in enumerate(classes):
        if label in prediction.classes:
            found[:, code] = matrix[:, prediction.classes.index(label)]
    found[np.isnan(matrix).all(axis=1)] = np.nan
    return found
