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

from martlet.formats import trees
from martlet.formats.forest import Forest, TreeSum
from martlet.formats.pmml.column import Reasons, failed, first
from martlet.formats.pmml.context import Context
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.frame import Frame, Record, RowError
from martlet.formats.pmml.grove import Grove
from martlet.formats.pmml.models.tree import Answer, Planting, Tables
from martlet.formats.pmml.prediction import Model, Outcome, Prediction, classified, numbers
from martlet.formats.pmml.values import Value

_TREATMENTS = ("continue", "skipSegment", "returnMissing")
_SUMS = ("sum", "average", "weightedSum", "weightedAverage")
_SHARED = ("average", "weightedAverage", "majorityVote", "weightedMajorityVote")
_VOTES = ("majorityVote", "weightedMajorityVote")


@dataclass(frozen=True, slots=True)
class Missing:
    """
    What a segment without an answer does to the whole.

    Args:
        treatment: ``continue`` carries the lack into the result, ``skipSegment`` goes on
            without it, ``returnMissing`` gives no result.
        threshold: The share of weight that may lack before there is no result.
    """

    treatment: str
    threshold: float

    @classmethod
    def of(cls, segmentation: Element) -> Missing:
        """Read a Segmentation's attributes, plain or with the prefix of before 4.4."""
        name = "missingPredictionTreatment"
        name = name if segmentation.get(name) is not None else f"x-{name}"
        limit = "missingThreshold"
        limit = limit if segmentation.get(limit) is not None else f"x-{limit}"
        return cls(
            segmentation.choice(name, _TREATMENTS, "continue"), segmentation.number(limit, 1.0)
        )


def combine(values: np.ndarray, weights: np.ndarray, method: str, missing: Missing) -> np.ndarray:
    """
    Return one number a row.

    Args:
        values: Shape [rows, segments]; NaN where a segment has no answer.
        weights: Shape [rows, segments]; 0 where a segment is not active.
    """
    active = weights != 0 if method.startswith("weighted") else ~np.isinf(weights)
    lacking = np.isnan(values) & active
    if missing.treatment == "skipSegment":
        share = np.where(lacking, weights, 0).sum(axis=1) / np.maximum(weights.sum(axis=1), 1e-300)
        kept = active & ~lacking
    else:
        share = np.zeros(len(values))
        kept = active
    found = _combined(np.where(kept, values, np.nan), np.where(kept, weights, 0.0), kept, method)
    if missing.treatment == "skipSegment":
        found[share > missing.threshold] = np.nan
    else:
        found[lacking.any(axis=1)] = np.nan
    return found


def _combined(values: np.ndarray, weights: np.ndarray, kept: np.ndarray, method: str) -> np.ndarray:
    counts = kept.sum(axis=1)
    none = counts == 0
    filled = np.where(kept, values, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        match method:
            case "sum":
                found = _add(filled)
            case "average":
                found = _add(filled) / counts.astype(values.dtype)
            case "weightedSum":
                found = _add(filled * weights.astype(values.dtype))
            case "weightedAverage":
                found = _add(filled * weights.astype(values.dtype)) / weights.sum(axis=1)
            case "max":
                found = np.where(kept, values, -np.inf).max(axis=1)
            case "median":
                found = _median(np.where(kept, values, np.nan), none)
            case "weightedMedian":
                found = _weighted_median(np.where(kept, values, np.nan), weights)
            case _:
                raise AssertionError(method)
    found = np.array(found, dtype=values.dtype)
    found[none] = np.nan
    return found


def _add(values: np.ndarray) -> np.ndarray:
    """Return each row's sum, added from left to right: float32 sums depend on the order."""
    total = np.zeros(len(values), dtype=values.dtype)
    for column in values.T:
        total += column
    return total


def _median(values: np.ndarray, none: np.ndarray) -> np.ndarray:
    found = np.full(len(values), np.nan)
    if not none.all():
        found[~none] = np.nanmedian(values[~none], axis=1)
    return found


def _weighted_median(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Return the first value whose weight, with that of all below it, is half of the total."""
    order = np.argsort(values, axis=1)  # NaN last
    ranked = np.take_along_axis(values, order, axis=1)
    heaped = np.take_along_axis(weights, order, axis=1).cumsum(axis=1)
    place = (heaped >= 0.5 * heaped[:, -1:]).argmax(axis=1)
    return np.asarray(ranked[np.arange(len(values)), place])


@dataclass(frozen=True, slots=True)
class TreesSummed:
    """Trees whose scores, distributions or votes are added up."""

    context: Context
    grove: Grove
    sum: TreeSum
    divisor: float
    classes: tuple[Value, ...]
    otherwise: TreesRanked | None = None
    """Answers the rows for which some tree has no answer; None: those have no result."""

    def predict(self, frame: Frame) -> Prediction:
        x, errors = self.grove.matrix(frame)
        total = self.sum(x)
        answers = None
        if errors is not None:
            rows = np.flatnonzero(failed(errors))
            answers = self.sum.forest.leaves(x)
            errors = self.grove.answers(self.sum.forest, frame, answers, errors)
            total[rows] = self.sum.add(answers[rows])
        if self.divisor != 1.0:
            total = _divided(total, self.divisor, self.sum.float32)
        if self.otherwise is not None:
            lacking = np.flatnonzero(np.isnan(total).any(axis=1))
            if lacking.size:
                ends = self.sum.forest.leaves(x[lacking]) if answers is None else answers[lacking]
                total[lacking] = self.otherwise.combined(ends).probability
        if self.classes:
            return classified(self.classes, total, self.context.label, errors)
        return numbers(total[:, 0], self.context.number, errors)

    @property
    def outcome(self) -> Callable[[Record], Outcome]:
        """A closure that answers one record."""
        row, of, divisor, classes = self.grove.row(), self.sum.of, self.divisor, self.classes
        lazily, total_of = self.grove.lazily(self.sum.forest), self.sum.add

        def add(record: Record) -> list[float]:
            try:
                return of(row(record))
            except RowError:
                totals: list[float] = total_of(np.array([lazily(record)]))[0].tolist()
                return totals

        def combine_of(record: Record) -> list[float]:
            assert otherwise is not None
            found = otherwise.combined(np.array([lazily(record)])).probability
            assert found is not None
            shares: list[float] = found[0].tolist()
            return shares

        single, otherwise = self.sum.float32, self.otherwise
        if not classes:

            def number(record: Record) -> Outcome:
                total = add(record)[0]
                if total != total:
                    return Outcome(None)
                if divisor != 1.0:
                    total = float(np.float32(total) / np.float32(divisor)) if single else (
                        total / divisor
                    )  # fmt: skip
                return Outcome(total)

            return number

        def label(record: Record) -> Outcome:
            shares = [total / divisor for total in add(record)]
            if otherwise is not None and shares[0] != shares[0]:
                shares = combine_of(record)
            best = max(range(len(shares)), key=shares.__getitem__)
            if shares[best] != shares[best]:
                return Outcome(None, classes)
            return Outcome(classes[best], classes, shares)

        return label


def _always(tables: Tables, forest: Forest) -> bool:
    """Whether no walk ends at nothing: every leaf says something."""
    ends = np.concatenate([forest.children.ravel(), forest.roots])
    return not (ends == -1).any() and not np.isnan(_shares(tables, "majorityVote")[:-1]).any()


def _divided(total: np.ndarray, divisor: float, single: bool) -> np.ndarray:
    if single:
        return (total.astype(np.float32) / np.float32(divisor)).astype(np.float64)
    return total / divisor


@dataclass(frozen=True, slots=True)
class TreesRanked:
    """Trees whose scores are combined otherwise than by a sum, or with some that may lack."""

    context: Context
    grove: Grove
    forest: Forest
    tables: Tables
    weights: np.ndarray
    method: str
    missing: Missing

    def predict(self, frame: Frame) -> Prediction:
        x, errors = self.grove.matrix(frame)
        answers = self.forest.leaves(x)
        if errors is not None:
            errors = self.grove.answers(self.forest, frame, answers, errors)
        if self.tables.refuses:
            for tree in answers.T:
                errors = first(errors, self.tables.refused[tree])
        return self.combined(answers, errors)

    def combined(self, answers: np.ndarray, errors: Reasons | None = None) -> Prediction:
        """Return what the trees' *answers*, [rows, trees], say together."""
        weights = np.broadcast_to(self.weights, answers.shape)
        if self.tables.numbers is not None:
            values = self.tables.numbers[answers]
            if self.context.number.numpy is np.float32:
                values = values.astype(np.float32)
            found = combine(values, weights, self.method, self.missing)
            return numbers(found, self.context.number, errors)
        shares = _shares(self.tables, self.method)[answers]
        return _classes(self.context, self.tables.labels, shares, weights, self.method,
                        self.missing, errors)  # fmt: skip

    @property
    def outcome(self) -> Callable[[Record], Outcome] | None:
        """A closure that answers one record; None for classes."""
        if self.tables.numbers is None:
            return None
        row, leaves, scores = self.grove.row(), self.forest.leaves_of, self.tables.numbers
        lazily, refused = self.grove.lazily(self.forest), self.tables.refused
        refuses, weights = self.tables.refuses, self.weights[None]
        real, method, missing = self.context.number.numpy, self.method, self.missing

        def call(record: Record) -> Outcome:
            try:
                answers = leaves(row(record))
            except RowError:
                answers = lazily(record)
            if refuses:
                why = next((w for w in refused[answers].tolist() if w is not None), None)
                if why is not None:
                    raise RowError(why)
            values = scores[answers].astype(real, copy=False)[None]
            total = float(combine(values, weights, method, missing)[0])
            return Outcome(None if total != total else total)

        return call


def _shares(tables: Tables, method: str) -> np.ndarray:
    """Return what each answer says of each class: its distribution, or one vote."""
    assert tables.codes is not None
    if method not in _VOTES and tables.probability is not None:
        return tables.probability
    found = np.zeros((len(tables.codes), len(tables.labels)))
    known = tables.codes >= 0
    found[np.flatnonzero(known), tables.codes[known]] = 1.0
    found[~known] = np.nan
    return found


def _classes(
    context: Context,
    labels: tuple[Value, ...],
    shares: np.ndarray,
    weights: np.ndarray,
    method: str,
    missing: Missing,
    errors: Reasons | None,
) -> Prediction:
    """Combine the *shares* of classes, [rows, segments, classes]."""
    if method in ("max", "median"):
        return classified(labels, _extreme(shares, method), context.label, errors)
    if method in _VOTES and missing.treatment == "continue":
        return classified(labels, _voted(shares, weights, method), context.label, errors)
    plain = "average" if method in ("majorityVote", "average") else "weightedAverage"
    if method == "sum":
        plain = "sum"
    found = np.stack(
        [combine(shares[:, :, code], weights, plain, missing) for code in range(len(labels))],
        axis=1,
    )
    return classified(labels, found, context.label, errors)


def _voted(shares: np.ndarray, weights: np.ndarray, method: str) -> np.ndarray:
    """Return the share of votes a class; nothing for rows where most votes are for nothing."""
    active = weights != 0 if method.startswith("weighted") else ~np.isinf(weights)
    weighed = np.where(active, weights, 0.0)
    silent = np.isnan(shares).any(axis=2)
    votes = (np.where(np.isnan(shares), 0.0, shares) * weighed[:, :, None]).sum(axis=1)
    with np.errstate(invalid="ignore"):
        found = votes / weighed.sum(axis=1, keepdims=True)
    found[(weighed * silent).sum(axis=1) > votes.max(axis=1)] = np.nan
    return np.asarray(found)


def _extreme(shares: np.ndarray, method: str) -> np.ndarray:
    """Return the shares of the surest segment; or of the one in the middle, class by class."""
    with np.errstate(invalid="ignore"):
        if method == "median":
            found = np.median(shares, axis=1)
        else:
            surest = np.where(np.isnan(shares), -np.inf, shares).max(axis=2).argmax(axis=1)
            found = shares[np.arange(len(shares)), surest]
    return np.asarray(found)


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Segments of any kind, answered one by one."""

    context: Context
    parts: tuple[Any, ...]
    method: str
    missing: Missing

    @property
    def segments(self) -> dict[str, int]:
        return {each.id: each.slot for each in self.parts}

    def _weights(self, frame: Frame) -> np.ndarray:
        """Return each segment's weight a row, 0 (or, unweighted, infinite) where not active."""
        weighted = self.method.startswith("weighted")
        found = np.ones((frame.rows, len(self.parts)))
        for place, each in enumerate(self.parts):
            found[:, place] = each.weight if weighted else 1.0
            if each.active is not None:
                found[~frame[each.active].values, place] = 0.0 if weighted else np.inf
        return found

    def predict(self, frame: Frame) -> Prediction:
        predictions: list[Prediction] = [frame[each.slot] for each in self.parts]
        errors: Reasons | None = None
        for each in predictions:
            errors = first(errors, each.value.errors)
        weights = self._weights(frame)
        if self.context.element.get("functionName") != "regression":
            return self._labels(predictions, weights, errors)
        values = np.stack([each.value.floats() for each in predictions], axis=1)
        if self.context.number.numpy is np.float32:
            values = values.astype(np.float32)
        finite = np.where(np.isinf(weights), 0.0, weights)
        active = ~np.isinf(weights)
        if self.method.startswith("weighted"):
            found = combine(values, weights, self.method, self.missing)
        else:
            found = _unweighted(values, active, finite, self.method, self.missing)
        return numbers(found, self.context.number, errors)

    @property
    def outcome(self) -> Callable[[Record], Any] | None:
        """A closure that answers one record; None where its segments are not all always active."""
        parts = self.parts
        if any(each.active is not None for each in parts):
            return None
        program = self.context.scope.world.program
        reads = [program.reader(each.slot) for each in parts]
        fallback, own = program.reader(0), self.predict
        weights = np.array([[each.weight for each in parts]])
        if not self.method.startswith("weighted"):
            weights = np.ones_like(weights)
        regression = self.context.element.get("functionName") == "regression"
        real, method, missing = self.context.number.numpy, self.method, self.missing

        def call(record: Record) -> Any:
            found = [read(record) for read in reads]
            if not regression or not all(isinstance(each, Outcome) for each in found):
                return own(fallback(record))
            values = np.array([[math.nan if o.value is None else o.value for o in found]], real)
            total = float(combine(values, weights, method, missing)[0])
            return Outcome(None if total != total else total)

        return call

    def _labels(
        self, predictions: list[Prediction], weights: np.ndarray, errors: Reasons | None
    ) -> Prediction:
        from martlet.formats.pmml.models.mining import aligned

        labels = list(dict.fromkeys(label for each in predictions for label in each.classes))
        if not labels:
            labels = list(self.context.labels)
        for each in predictions:
            labels += [v for v in dict.fromkeys(each.value.objects()) if v not in labels]
        classes = tuple(label for label in labels if label is not None)
        rows = len(weights)
        shares = np.stack(
            [
                _votes(each, classes)
                if self.method in _VOTES or each.probability is None
                else aligned(each, each.probability, classes, rows)
                for each in predictions
            ],
            axis=1,
        )
        return _classes(self.context, classes, shares, weights, self.method, self.missing, errors)


def _unweighted(
    values: np.ndarray, active: np.ndarray, weights: np.ndarray, method: str, missing: Missing
) -> np.ndarray:
    marked = np.where(active, weights, np.inf)
    return combine(values, marked, method, missing)


def _votes(prediction: Prediction, classes: tuple[Value, ...]) -> np.ndarray:
    found = np.stack([prediction.value.equals(label) for label in classes], axis=1).astype(float)
    found[~prediction.value.known()] = np.nan
    return found


def compile_ensemble(context: Context, segmentation: Element, method: str) -> Model:
    """Compile a Segmentation whose answers are combined."""
    missing = Missing.of(segmentation)
    if method in _VOTES and context.element.get("functionName") == "regression":
        raise segmentation.error(f"lets a regression vote ({method}); numbers have no majority")
    segments = segmentation.all("Segment")
    if segments and all(_is_plain_tree(each) for each in segments):
        return _forest(context, segments, method, missing)
    from martlet.formats.pmml.models.mining import read_segments

    return Ensemble(context, read_segments(context, chained=False), method, missing)


def _is_plain_tree(segment: Element) -> bool:
    """Whether a segment is a tree for all rows, that does nothing but answer."""
    tree = segment.child("TreeModel")
    return (
        tree is not None
        and segment.child("True") is not None
        and segment.child("VariableWeight") is None
        and tree.child("Targets") is None
    )


def _forest(context: Context, segments: list[Element], method: str, missing: Missing) -> Model:
    grove = Grove(context.scope)
    answers: list[Answer] = []
    plantings = []
    for segment in segments:
        tree = segment.need_child("TreeModel")
        tree.choice("functionName", (context.element.need("functionName"),))
        inner = context.open(tree)
        planting = Planting.of(inner, grove, answers)
        planting.scout()
        plantings.append(planting)
    builder = trees.Trees(grove.features, grove.arithmetic)
    for planting in plantings:
        planting.plant(builder)
    forest = builder.build()
    tables = Tables.of(plantings[0].context, answers)
    for planting in plantings:
        planting.release()
    weights = np.array([each.number("weight", 1.0) for each in segments])
    weighted = method.startswith("weighted")
    ranked = TreesRanked(context, grove, forest, tables, weights, method, missing)
    if missing.treatment == "skipSegment" or tables.refuses:
        return ranked
    factors = weights if weighted else None
    if context.is_classification and method in _SHARED and tables.labels:
        divisor = float(weights.sum()) if weighted else float(len(segments))
        table = _shares(tables, method)[: forest.answers]
        total = forest.sum(table, weights=factors, float32=False)
        otherwise = None if _always(tables, forest) else ranked
        return TreesSummed(context, grove, total, divisor, tables.labels, otherwise)
    if not context.is_classification and method in _SUMS:
        divisor = 1.0
        if method.endswith("verage"):
            divisor = float(weights.sum()) if weighted else float(len(segments))
        assert tables.numbers is not None
        table = tables.numbers.astype(np.float64)[: forest.answers, None]
        single = context.number.numpy is np.float32
        total = forest.sum(table, weights=factors, float32=single)
        return TreesSummed(context, grove, total, divisor, ())
    return ranked


__all__ = ["RowError", "combine", "compile_ensemble"]
