"""MiningModel: several models, combined. Source: PMML 4.4.1, MultipleModels.

Segments answer for the rows that their predicate holds for. An ensemble of trees that all
answer for every row is one forest, walked natively.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from martlet.formats.pmml.column import (
    Column,
    Mask,
    absent,
    all_errors,
    choose,
    first,
    of_objects,
)
from martlet.formats.pmml.context import Context
from martlet.formats.pmml.frame import Frame, Record
from martlet.formats.pmml.models.combination import Combination
from martlet.formats.pmml.models.ensemble import compile_ensemble
from martlet.formats.pmml.models.segments import Segment, aligned, read_segments
from martlet.formats.pmml.prediction import (
    Model,
    Outcome,
    Prediction,
    answered,
    is_nothing,
    label_column,
)
from martlet.formats.pmml.values import STRING, Value

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
class Chain:
    """
    modelChain, selectFirst: the answer of one segment, the last or the first active one.

    Args:
        skips: Whether a segment that has no answer is passed over, as one that is not active.
    """

    context: Context
    parts: tuple[Segment, ...]
    last: bool
    skips: bool

    @property
    def published(self) -> list[str]:
        """The outputs of the segments: they are the whole model's too."""
        return list(dict.fromkeys(n for each in self.parts for n in each.model.outputs))

    @property
    def segments(self) -> dict[str, int]:
        return {each.id: each.slot for each in self.parts}

    @property
    def _order(self) -> tuple[Segment, ...]:
        return self.parts[::-1] if self.last else self.parts

    def predict(self, frame: Frame) -> Prediction:
        order = self._order
        if len(self.context.targets) > 1:
            others = by_target(self.parts, frame)
            last: Prediction = frame[order[0].slot]
            return replace(others.get(self.context.target or "", last), others=others)
        # Each link of a chain is asked whether it runs; of a selection, those up to the one chosen.
        asked = [each.active for each in self.parts if self.last and each.active]
        errors = all_errors([frame[slot] for slot in asked])
        if order[0].active is None and not self.skips:
            found: Prediction = frame[order[0].slot]
            return self._named(found, order[0], frame.rows).failing(errors)
        left = np.ones(frame.rows, dtype=bool)
        merged: Prediction | None = None
        for each in order:
            where = left
            if each.active is not None:
                active: Column = frame[each.active]
                where = left & active.values
                if active.errors is not None and not self.last:
                    refused = active.errors.copy()
                    refused[~left] = None
                    errors = first(errors, refused)
            if where.any():
                own = self._named(frame[each.slot], each, frame.rows)
                if self.skips:
                    where = where & answered(own.value)
                merged = own if merged is None else merge(where, own, merged)
                left = left & ~where
            if not left.any():
                break
        if merged is None:
            merged = frame[order[0].slot]
        assert merged is not None, "a segment that ran has left what it says"
        if left.any():
            # Rows that no segment answers for have nothing, whatever the first merged one said.
            rows = np.flatnonzero(~left)
            merged = merged.take(rows).spread(rows, frame.rows)
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
    def outcome(self) -> Callable[[Record], Any]:
        """A closure that answers one record."""
        if len(self.context.targets) > 1:
            return by_target_alone(self.context, self.parts, self.predict)
        program, named, skips = self.context.scope.world.program, not self.last, self.skips
        reads = [(each, each.active, program.reader(each.slot)) for each in self._order]
        asked = [program.reader(each.active) for each in self.parts if self.last and each.active]
        if reads[0][1] is None and not asked and not named and not skips:
            return reads[0][2]

        def call(record: Record) -> Any:
            for runs in asked:
                runs(record)
            for segment, active, read in reads:
                found = read(record)
                if (active is not None and found is None) or (skips and is_nothing(found)):
                    continue
                if not named:
                    return found
                if isinstance(found, Prediction):
                    return self._named(found, segment, 1)
                return Outcome(
                    found.value, found.classes, found.probability, segment.id, found.features
                )
            return Outcome(None)

        return call


@dataclass(frozen=True, slots=True)
class Nothing:
    """No segment can be active: no row has an answer."""

    context: Context

    def predict(self, frame: Frame) -> Prediction:
        kind = self.context.label if self.context.targets else self.context.number
        return Prediction(absent(kind, frame.rows))


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


def by_target(parts: tuple[Segment, ...], frame: Frame) -> dict[str, Prediction]:
    """Return the predictions of all segments, by the targets that they name."""
    found: dict[str, Prediction] = {}
    for each in parts:
        own: Prediction = frame[each.slot]
        named = own.others or ({each.model.targets[0][0]: own} if each.model.targets else {})
        for name, answer in named.items():
            before = found.get(name)
            if before is not None and each.active is not None:
                answer = merge(frame[each.active].values, answer, before)
            found[name] = answer
    return found


def by_target_alone(
    context: Context, parts: tuple[Segment, ...], batch: Callable[[Frame], Prediction]
) -> Callable[[Record], Any]:
    """Return a closure that answers one record of several targets; *batch*: where it cannot."""
    program = context.scope.world.program
    reads = [(each.model.targets, program.reader(each.slot)) for each in parts]
    fallback, target = program.reader(0), context.target or ""
    nothing = {name: Outcome(None) for name, _, _ in context.targets}

    def call(record: Record) -> Any:
        others = nothing.copy()
        last = Outcome(None)
        for targets, read in reads:
            found = read(record)
            if found is None:
                continue
            if not isinstance(found, Outcome):
                return batch(fallback(record))
            last = found
            others.update(found.others or ({targets[0][0]: found} if targets else {}))
        main = others.get(target, last)
        return Outcome(
            main.value, main.classes, main.probability, main.entity, main.features, others
        )

    return call


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

    @property
    def outcome(self) -> Callable[[Record], Any]:
        """A closure that answers one record."""
        return by_target_alone(self.context, self.parts, self.predict)


@dataclass(frozen=True, slots=True)
class SelectAll:
    """selectAll: the answers of every active segment, as a collection; none active: no answer."""

    context: Context
    parts: tuple[Segment, ...]

    collects: ClassVar[bool] = True

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
        rows: list[Value] = [
            tuple(values[row] for values, mask in zip(lists, masks, strict=True) if mask[row])
            or None
            for row in range(frame.rows)
        ]
        value = replace(of_objects(rows, STRING), errors=all_errors(columns))
        return Prediction(value)

    @property
    def outcome(self) -> Callable[[Record], Any]:
        """A closure that answers one record."""
        program = self.context.scope.world.program
        reads, fallback = [program.reader(each.slot) for each in self.parts], program.reader(0)

        def call(record: Record) -> Any:
            found = [each for each in (read(record) for read in reads) if each is not None]
            if not all(isinstance(each, Outcome) for each in found):
                return self.predict(fallback(record))
            return Outcome(tuple(each.value for each in found) or None)

        return call


def compile_model(context: Context) -> Model:
    """Compile a MiningModel."""
    element = context.element
    segmentation = element.child("Segmentation")
    if segmentation is None:
        raise element.error("holds no Segmentation; embedded models of PMML 3 are not supported")
    method = segmentation.need("multipleModelMethod").removeprefix("x-")
    if method not in METHODS:
        raise segmentation.error(f"multipleModelMethod={method!r} is not supported")
    if all(each.child("False") is not None for each in segmentation.all("Segment")):
        return Nothing(context)
    match method:
        case "modelChain" | "selectFirst":
            skips = method == "selectFirst" and Combination.of(segmentation, method).skips
            return Chain(
                context,
                read_segments(context, chained=method == "modelChain"),
                method == "modelChain",
                skips,
            )
        case "multiModelChain":
            return MultiChain(context, read_segments(context, chained=True))
        case "selectAll":
            return SelectAll(context, read_segments(context))
        case _:
            return compile_ensemble(context, segmentation, method)
