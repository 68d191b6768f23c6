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
    likeliest,
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
            best = self.combination.winners(shares, found, active)
            return classified(classes, found, self.context.label, errors, best)
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
        weigh = [each.weight_reader(self.context.scope) for each in parts]
        regression, combination = self._is_regression, self.combination
        in_double = self.context.number.numpy is np.float64

        def call(record: Record) -> Any:
            found = [read(record) for read in reads]
            if not in_double or any(isinstance(each, Prediction) for each in found):
                return own(fallback(record))
            asked = [(o, of(record)) for o, of in zip(found, weigh, strict=True) if o is not None]
            outcomes, weights = [o for o, _ in asked], [weight for _, weight in asked]
            if any(weight != weight for weight in weights):
                return own(fallback(record))
            if not regression:
                return self._outcome(outcomes, weights)
            total = combination.number([o.value for o in outcomes], weights)
            return Outcome(None if total is None or total != total else float(total))

        return call

    def _outcome(self, given: list[Outcome], weights: list[float]) -> Outcome:
        """Return the label that the outcomes of the active segments make."""
        labels = dict.fromkeys(label for each in given for label in each.classes)
        labels = labels or dict.fromkeys(self.context.labels)
        labels |= dict.fromkeys(each.value for each in given if each.value is not None)
        classes, combination = tuple(labels), self.combination
        shares = [_share(each, classes, combination.method in VOTES) for each in given]
        if not classes or not shares:
            return Outcome(None, classes)
        if combination.method in ("max", "median"):
            nothing = [math.nan] * len(classes)
            table = np.array([[nothing if each is None else each for each in shares]])
            active = np.ones(table.shape[:2], dtype=bool)
            whole = combination.shares(table, np.array([weights]), active)
            return outcome_of(classified(classes, whole, self.context.label))
        found = combination.share(shares, weights, len(classes))
        if found is None:
            return Outcome(None, classes)
        if combination.method in VOTES and found.count(max(found)) > 1:
            tied = {label for label, x in zip(classes, found, strict=True) if x == max(found)}
            label = next(each.value for each in given if each.value in tied)
            return Outcome(label, classes, found)
        return likeliest(classes, found)

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
            _votes(each, classes) if votes else _probabilities(each, classes)
            for each in predictions
        ]
        return classes, np.stack(shares, axis=1)


def _votes(prediction: Prediction, classes: tuple[Value, ...]) -> Floats:
    found = np.stack([prediction.value.equals(label) for label in classes], axis=1).astype(float)
    found[~prediction.value.known()] = np.nan
    return found


def _probabilities(prediction: Prediction, classes: tuple[Value, ...]) -> Floats:
    """Return each class's probability; the label alone is one vote, as in a record."""
    found = _votes(prediction, classes)
    if prediction.probability is None:
        return found
    given = aligned(prediction, prediction.probability, classes, len(prediction.value))
    # Of a tree whose leaves say no more than a label, only rows without one have their priors.
    told = ~np.isnan(given).all(axis=1)
    found[told] = given[told]
    return found


def _share(outcome: Outcome, classes: tuple[Value, ...], votes: bool) -> list[float] | None:
    """Return what one segment says of each class; None: nothing."""
    if votes or outcome.probability is None:
        if outcome.value is None:
            return None
        return [float(label == outcome.value) for label in classes]
    if all(p != p for p in outcome.probability):
        return None
    if outcome.classes == classes:
        return list(outcome.probability)
    own = dict(zip(outcome.classes, outcome.probability, strict=True))
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
