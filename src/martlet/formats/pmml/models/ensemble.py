"""Ensembles: many models' answers averaged, summed or voted on.

Where every segment is a tree that answers for every row, all trees are one forest. Otherwise
the segments answer one by one, and their answers are combined the same way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from martlet.formats.pmml.column import Mask, Reasons, first
from martlet.formats.pmml.context import Context
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.frame import Frame, Record
from martlet.formats.pmml.models.combination import VOTES, Combination
from martlet.formats.pmml.models.segments import Segment, aligned, read_segments
from martlet.formats.pmml.models.tree_ensemble import compile_forest, is_plain_tree
from martlet.formats.pmml.prediction import (
    Floats,
    Model,
    Outcome,
    Prediction,
    classified,
    numbers,
    outcome_of,
)
from martlet.formats.pmml.values import Value


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Segments of any kind, answered one by one."""

    context: Context
    parts: tuple[Segment, ...]
    combination: Combination

    @property
    def segments(self) -> dict[str, int]:
        return {each.id: each.slot for each in self.parts}

    def _weights(self, frame: Frame) -> tuple[Floats, Mask]:
        """Return each segment's weight and whether it is active. Shapes [rows, segments]."""
        weights = np.empty((frame.rows, len(self.parts)))
        active = np.ones(weights.shape, dtype=bool)
        for place, each in enumerate(self.parts):
            weights[:, place] = each.weights(frame)
            if each.active is not None:
                active[:, place] = frame[each.active].values
        return weights, active

    @property
    def _is_regression(self) -> bool:
        return self.context.element.get("functionName") == "regression"

    def predict(self, frame: Frame) -> Prediction:
        predictions: list[Prediction] = [frame[each.slot] for each in self.parts]
        errors: Reasons | None = None
        for each in predictions:
            errors = first(errors, each.value.errors)
        weights, active = self._weights(frame)
        if not self._is_regression:
            classes, shares = self._shares(predictions)
            found = self.combination.shares(shares, weights, active)
            return classified(classes, found, self.context.label, errors)
        values = np.stack([each.value.floats() for each in predictions], axis=1)
        if self.context.number.numpy is np.float32:
            values = values.astype(np.float32)
        found = self.combination.numbers(values, weights, active)
        return numbers(found, self.context.number, errors)

    @property
    def outcome(self) -> Callable[[Record], Any]:
        """A closure that answers one record."""
        program, parts = self.context.scope.world.program, self.parts
        reads = [program.reader(each.slot) for each in parts]
        fallback, own = program.reader(0), self.predict
        varies = any(each.variable is not None for each in parts)
        fixed = np.array([[each.weight for each in parts]])
        weigh = [each.weight_reader(self.context.scope) for each in parts]
        regression, real = self._is_regression, self.context.number.numpy

        def call(record: Record) -> Any:
            found = [read(record) for read in reads]
            if any(isinstance(each, Prediction) for each in found):
                return own(fallback(record))
            weights = np.array([[each(record) for each in weigh]]) if varies else fixed
            active = np.array([[each is not None for each in found]])
            if not regression:
                return self._outcome(found, weights, active)
            values = [math.nan if o is None or o.value is None else o.value for o in found]
            total = self.combination.numbers(np.array([values], real), weights, active)
            number = float(total[0])
            return Outcome(None if number != number else number)

        return call

    def _outcome(self, found: list[Outcome | None], weights: Floats, active: Mask) -> Outcome:
        """Return the label that the segments' outcomes make; None: a segment is not active."""
        given = [each for each in found if each is not None]
        labels = dict.fromkeys(label for each in given for label in each.classes)
        labels = labels or dict.fromkeys(self.context.labels)
        labels |= dict.fromkeys(each.value for each in given if each.value is not None)
        classes, votes = tuple(labels), self.combination.method in VOTES
        if not classes:
            return Outcome(None)
        shares = [_share(each, classes, votes) for each in found]
        whole = self.combination.shares(np.array([shares]), weights, active)
        return outcome_of(classified(classes, whole, self.context.label))

    def _shares(self, predictions: list[Prediction]) -> tuple[tuple[Value, ...], Floats]:
        """Return the classes, and what each segment says of each: [rows, segments, classes]."""
        labels = list(dict.fromkeys(label for each in predictions for label in each.classes))
        if not labels:
            labels = list(self.context.labels)
        for each in predictions:
            labels += [v for v in dict.fromkeys(each.value.objects()) if v not in labels]
        classes = tuple(label for label in labels if label is not None)
        votes = self.combination.method in VOTES
        shares = [
            _votes(each, classes)
            if votes or each.probability is None
            else aligned(each, each.probability, classes, len(each.value))
            for each in predictions
        ]
        return classes, np.stack(shares, axis=1)


def _votes(prediction: Prediction, classes: tuple[Value, ...]) -> Floats:
    found = np.stack([prediction.value.equals(label) for label in classes], axis=1).astype(float)
    found[~prediction.value.known()] = np.nan
    return found


def _share(outcome: Outcome | None, classes: tuple[Value, ...], votes: bool) -> list[float]:
    """Return what one segment says of each class: NaN where it says nothing."""
    if outcome is None:
        return [math.nan] * len(classes)
    if votes or outcome.probability is None:
        if outcome.value is None:
            return [math.nan] * len(classes)
        return [float(label == outcome.value) for label in classes]
    own = dict(zip(outcome.classes, outcome.probability, strict=True))
    if all(p != p for p in own.values()):
        return [math.nan] * len(classes)
    return [own.get(label, 0.0) for label in classes]


def compile_ensemble(context: Context, segmentation: Element, method: str) -> Model:
    """Compile a Segmentation whose answers are combined."""
    combination = Combination.of(segmentation, method)
    if method in VOTES and context.element.get("functionName") == "regression":
        raise segmentation.error(f"lets a regression vote ({method}); numbers have no majority")
    segments = segmentation.all("Segment")
    if segments and all(is_plain_tree(each) for each in segments):
        return compile_forest(context, segments, combination)
    return Ensemble(context, read_segments(context), combination)
