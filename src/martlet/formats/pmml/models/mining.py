"""MiningModel: several models, combined. Source: PMML 4.4.1, MultipleModels.

Segments answer for the rows that their predicate holds for. An ensemble of trees that all
answer for every row is one forest, walked natively.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from martlet.formats.pmml.column import Column, Mask, all_errors, choose, failed, first, scatter
from martlet.formats.pmml.context import Context, NestedModel
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.frame import Frame, Record
from martlet.formats.pmml.models import ensemble
from martlet.formats.pmml.predicates import TAGS, Always, Predicate, predicate_of
from martlet.formats.pmml.prediction import Model, Outcome, Prediction, label_column
from martlet.formats.pmml.scope import Field
from martlet.formats.pmml.values import BOOLEAN, STRING, Value

METHODS = (
    "majorityVote",
    "weightedMajorityVote",
    "average",
    "weightedAverage",
    "median",
    "weightedMedian",
    "max",
    "sum",
    "weightedSum",
    "selectFirst",
    "selectAll",
    "modelChain",
    "multiModelChain",
)


@dataclass(frozen=True, slots=True)
class Segment:
    """
    One model among several.

    Args:
        active: The slot of the column that says for which rows it answers; None: for all.
        slot: Of its prediction, nothing where it is not active.
    """

    id: str
    weight: float
    predicate: Predicate
    active: int | None
    slot: int
    model: NestedModel


def read_segments(context: Context, chained: bool) -> tuple[Segment, ...]:
    """Compile the segments in order; of a chain, each sees the outputs of those before it."""
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
        if element.child("VariableWeight") is not None:
            raise element.error("has a VariableWeight, which is not supported")
        model = context.nested(inner)
        segment = _segment(element, place, predicate, model, context)
        found.append(segment)
        _publish(segment, context, chained)
    if not found:
        raise context.element.error("holds no Segment that can be active")
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
        if segment.active is None:
            context.scope.declare(field)
            continue
        before = context.scope.find(name) if context.scope.own(name) else None
        batch, single = _conditional(segment.active, field, before, context)
        context.scope.declare(replace(field, slot=program.slot(batch, single)))


def _conditional(
    mask: int, field: Field, before: Field | None, context: Context
) -> tuple[Callable[[Frame], Column], Callable[[Record], Value]]:
    """Return a segment's output where it is active, else what an earlier one says, if any."""
    program = context.scope.world.program
    is_active, read = program.reader(mask), program.reader(field.slot)
    otherwise = program.reader(before.slot) if before is not None else None

    def batch(frame: Frame) -> Column:
        where: Mask = frame[mask].values
        rows = np.flatnonzero(where)
        if len(rows) == frame.rows:
            return frame[field.slot]  # type: ignore[no-any-return] # a field's slot has columns
        own = scatter(frame.take(rows)[field.slot], rows, frame.rows)
        if before is None:
            return own
        return choose(where, own, frame[before.slot].cast(field.type))

    def single(record: Record) -> Value:
        if is_active(record):
            return read(record)
        return otherwise(record) if otherwise is not None else None

    return batch, single


@dataclass(frozen=True, slots=True)
class Chain:
    """modelChain, selectFirst: the answer of one segment, the last or the first active one."""

    context: Context
    parts: tuple[Segment, ...]
    last: bool

    @property
    def published(self) -> list[str]:
        """The outputs of the segments: they are the whole model's too."""
        return list(dict.fromkeys(n for each in self.parts for n in each.model.outputs))

    @property
    def segments(self) -> dict[str, int]:
        return {each.id: each.slot for each in self.parts}

    def predict(self, frame: Frame) -> Prediction:
        order = self.parts[::-1] if self.last else self.parts
        if len(self.context.targets) > 1:
            others = by_target(self.parts, frame)
            last: Prediction = frame[order[0].slot]
            return replace(others.get(self.context.target or "", last), others=others)
        if order[0].active is None:
            found: Prediction = frame[order[0].slot]
            return self._named(found, order[0], frame.rows)
        left = np.ones(frame.rows, dtype=bool)
        merged: Prediction | None = None
        errors = None
        for each in order:
            where = left if each.active is None else left & frame[each.active].values
            if each.active is not None:
                errors = first(errors, frame[each.active].errors)
            rows = np.flatnonzero(where)
            if len(rows):
                own: Prediction = frame[each.slot]
                own = self._named(own, each, frame.rows)
                merged = own if merged is None else merge(where, own, merged)
            left &= ~where
            if not left.any():
                break
        if merged is None:
            merged = frame[order[0].slot]
        assert merged is not None
        # Rows that no segment answers for have nothing, whatever the first merged one said.
        if left.any() and merged.value.missing is None:
            merged = replace(merged, value=replace(merged.value, missing=left))
        return merged.failing(errors)

    def _named(self, prediction: Prediction, segment: Segment, rows: int) -> Prediction:
        """Of selectFirst, the entity is the segment."""
        if self.last:
            return prediction
        codes = np.zeros(rows, dtype=np.int64)
        return replace(
            prediction, entity=label_column(codes, (segment.id,), STRING), entities=(),
            affinity=None,
        )  # fmt: skip

    @property
    def outcome(self) -> Callable[[Record], Any] | None:
        """A closure that answers one record; None: a model of several targets has none."""
        if len(self.context.targets) > 1:
            return None
        program = self.context.scope.world.program
        order = self.parts[::-1] if self.last else self.parts
        reads = [(each.id, each.active, program.reader(each.slot)) for each in order]
        named = not self.last
        if order[0].active is None and not named:
            return reads[0][2]

        def call(record: Record) -> Any:
            for identity, active, read in reads:
                found = read(record)
                if active is None or found is not None:
                    if named and isinstance(found, Outcome):
                        return Outcome(
                            found.value, found.classes, found.probability, identity,
                            found.features,
                        )  # fmt: skip
                    return found
            return Outcome(None)

        return call


def merge(where: Mask, yes: Prediction, no: Prediction) -> Prediction:
    """Return *yes* where the mask is, else *no*; classes are joined."""
    classes = tuple(dict.fromkeys((*no.classes, *yes.classes)))

    def matrix(name: str) -> np.ndarray | None:
        if getattr(yes, name) is None and getattr(no, name) is None:
            return None
        parts = [aligned(each, getattr(each, name), classes, len(where)) for each in (yes, no)]
        return np.where(where[:, None], parts[0], parts[1])

    entity = yes.entity
    if yes.entity is not None and no.entity is not None:
        entity = choose(where, yes.entity, no.entity)
    value = yes.value if yes.value.type == no.value.type else yes.value.cast(no.value.type)
    return Prediction(
        choose(where, value, no.value), classes, matrix("probability"), matrix("confidence"), entity
    )


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


def by_target(parts: tuple[Segment, ...], frame: Frame) -> dict[str, Prediction]:
    """Return the predictions of all segments, by the targets that they name."""
    found: dict[str, Prediction] = {}
    for each in parts:
        own: Prediction = frame[each.slot]
        if own.others:
            found.update(own.others)
        elif each.model.targets:
            found[each.model.targets[0][0]] = own
    return found


@dataclass(frozen=True, slots=True)
class MultiChain:
    """multiModelChain: every segment answers for its own targets."""

    context: Context
    parts: tuple[Segment, ...]

    @property
    def published(self) -> list[str]:
        """The outputs of the segments: they are the whole model's too."""
        return list(dict.fromkeys(n for each in self.parts for n in each.model.outputs))

    @property
    def segments(self) -> dict[str, int]:
        return {each.id: each.slot for each in self.parts}

    def predict(self, frame: Frame) -> Prediction:
        last: Prediction = frame[self.parts[-1].slot]
        others = by_target(self.parts, frame)
        return replace(others.get(self.context.target or "", last), others=others)


@dataclass(frozen=True, slots=True)
class SelectAll:
    """selectAll: the answers of every active segment, as a collection."""

    context: Context
    parts: tuple[Segment, ...]

    @property
    def segments(self) -> dict[str, int]:
        return {each.id: each.slot for each in self.parts}

    def predict(self, frame: Frame) -> Prediction:
        columns = [frame[each.slot].value for each in self.parts]
        masks = [
            np.ones(frame.rows, bool) if each.active is None else frame[each.active].values
            for each in self.parts
        ]
        lists = [each.objects() for each in columns]
        rows = [
            tuple(values[row] for values, mask in zip(lists, masks, strict=True) if mask[row])
            for row in range(frame.rows)
        ]
        index: dict[tuple[Value, ...], int] = {}
        codes = np.array([index.setdefault(row, len(index)) for row in rows], dtype=np.int64)
        value = Column(STRING, codes, None, all_errors(columns), tuple(index))
        return Prediction(value)


def compile_model(context: Context) -> Model:
    """Compile a MiningModel."""
    element = context.element
    segmentation = element.child("Segmentation")
    if segmentation is None:
        raise element.error("holds no Segmentation; embedded models of PMML 3 are not supported")
    method = segmentation.need("multipleModelMethod").removeprefix("x-")
    if method not in METHODS:
        raise segmentation.error(f"multipleModelMethod={method!r} is not supported")
    match method:
        case "modelChain" | "selectFirst":
            return Chain(
                context, read_segments(context, method == "modelChain"), method == "modelChain"
            )
        case "multiModelChain":
            return MultiChain(context, read_segments(context, chained=True))
        case "selectAll":
            return SelectAll(context, read_segments(context, chained=False))
        case _:
            return ensemble.compile_ensemble(context, segmentation, method)


__all__ = ["compile_model", "failed"]
