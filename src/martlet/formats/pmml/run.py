"""What a model's slot runs: the model element, then its Targets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from martlet.formats.pmml.context import Context
from martlet.formats.pmml.frame import Frame, Program, Record, RowError, Single
from martlet.formats.pmml.prediction import Model, Outcome, Prediction
from martlet.formats.pmml.targets import Target
from martlet.formats.pmml.values import DOUBLE, DataType, convert


@dataclass(frozen=True, slots=True)
class Run:
    """A model, then its targets."""

    context: Context
    model: Model
    targets: tuple[Target, ...]
    program: Program

    def batch(self, frame: Frame) -> Prediction:
        return self._all(self.model.predict(frame))

    def _all(self, prediction: Prediction) -> Prediction:
        found = self._treated(prediction, self.context.target)
        if not found.others:
            return found
        others = {name: self._treated(each, name) for name, each in found.others.items()}
        return replace(found, others=others)

    def _kind(self, name: str | None) -> DataType | None:
        for target, kind, _ in self.context.targets:
            if target == name:
                return kind
        return None

    def _target(self, name: str | None) -> Target | None:
        for each in self.targets:
            # One without a field is for a model whose schema names no target.
            if each.field == name:
                return each
        return None

    def _treated(self, prediction: Prediction, name: str | None) -> Prediction:
        target, kind = self._target(name), self._kind(name)
        value = prediction.value
        if value.type.is_number and not prediction.classes:
            if target is not None:
                value = target.numbers(value)
        elif target is not None:
            prediction = target.labels(prediction)
            value = prediction.value
        if kind is not None and value.type != kind:
            value = value.cast(kind)
        return prediction if value is prediction.value else replace(prediction, value=value)

    def single(self) -> Single:
        answer = getattr(self.model, "outcome", None)
        if answer is None:
            slot, one = len(self.program.makers), self.program.reader(0)
            return lambda record: one(record)[slot]
        name = self.context.target
        main = self._one(name)
        treat = {other: self._one(other) for other, _, _ in self.context.targets}
        if not any((main, *treat.values())):
            return answer  # type: ignore[no-any-return] # a SingleModel's outcome

        def call(record: Record) -> Outcome | Prediction:
            found = answer(record)
            if isinstance(found, Prediction):
                return self._all(found)
            assert isinstance(found, Outcome)
            if found.others is None:
                return found if main is None else main(found)
            others = {
                other: each if (of := treat.get(other)) is None else of(each)
                for other, each in found.others.items()
            }
            found = found if main is None else main(found)
            return Outcome(
                found.value, found.classes, found.probability, found.entity, found.features, others
            )

        return call

    def _one(self, name: str | None) -> Callable[[Outcome], Outcome] | None:
        """Return what treats one answer for the target *name*; None: it stays as it is."""
        target, kind = self._target(name), self._kind(name)
        if target is None and kind in (None, DOUBLE):
            return None

        labels = self.context.is_classification

        def one(found: Outcome) -> Outcome:
            value = found.value
            if not (labels or found.classes or isinstance(value, str | tuple)):
                if target is not None:
                    value = target.number(value)
            elif target is not None:
                found = target.label(found)
                value = found.value
            if kind is not None and value is not None:
                try:
                    value = convert(value, kind, DOUBLE)
                except (ValueError, OverflowError) as exc:
                    raise RowError(f"the predicted value is refused: {exc}") from None
            if value is found.value:
                return found
            # The segment that gave it may be asked again: what it said stays.
            return Outcome(
                value, found.classes, found.probability, found.entity, found.features, found.others
            )

        return one
