"""NearestNeighborModel: what the k nearest training instances say. Source: PMML 4.4.1, KNN."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from statistics import median
from typing import Any

import numpy as np

from martlet.formats.pmml.column import (
    Column,
    Mask,
    Reasons,
    all_errors,
    first,
    reasons,
)
from martlet.formats.pmml.context import Context
from martlet.formats.pmml.frame import Frame, Record, RowError
from martlet.formats.pmml.measures import Measure, Points
from martlet.formats.pmml.models.training import read_instances, training_scope, training_values
from martlet.formats.pmml.prediction import (
    Outcome,
    Prediction,
    Ranking,
    classified,
    label_column,
    numbers,
)
from martlet.formats.pmml.scope import Field, Scope, number_reader
from martlet.formats.pmml.values import DOUBLE, STRING, DataType, Value, parse, text_of

_LACKING = "the fields to compare neighbours by are missing"
_CONTINUOUS = ("average", "median", "weightedAverage")
_CATEGORICAL = ("majorityVote", "weightedMajorityVote")


@dataclass(frozen=True, slots=True)
class Input:
    """One dimension: numbers as they are, text by a code of its own."""

    field: Field
    codes: dict[Value, int]

    def floats(self, column: Column) -> np.ndarray:
        if column.levels is None:
            return column.floats()
        return column.by_level(lambda level: self.codes.get(level, -1), np.nan, np.float64)

    def single(self, scope: Scope) -> Callable[[Record], float]:
        if not self.field.type.is_text:
            return number_reader(scope, self.field)
        read, codes = scope.reader(self.field), self.codes

        def code(record: Record) -> float:
            value = read(record)
            return math.nan if value is None else float(codes.get(value, -1))

        return code


@dataclass(frozen=True, slots=True)
class Target:
    """What the training instances say of one target."""

    name: str | None
    values: tuple[Value, ...]
    continuous: bool
    kind: DataType
    method: str
    labels: tuple[Value, ...] = ()
    codes: np.ndarray | None = None
    """Of the values: places in *labels*."""
    preferred: list[int] = dataclass_field(default_factory=list)
    """The labels' places, the one that wins a tie first."""

    @classmethod
    def of(
        cls, name: str | None, values: tuple[Value, ...], continuous: bool, kind: DataType,
        method: str,
    ) -> Target:  # fmt: skip
        """Make a target, its labels and their order found once."""
        if continuous:
            return cls(name, values, continuous, kind, method)
        common = Counter(values)
        labels = tuple(common)
        index = {label: code for code, label in enumerate(labels)}
        # A tie goes to the class with most training instances, then to the first by its text.
        preferred = sorted(labels, key=lambda label: (-common[label], text_of(label, kind)))
        return cls(
            name,
            values,
            continuous,
            kind,
            method,
            labels,
            np.array([index[value] for value in values]),
            [index[label] for label in preferred],
        )

    def single(self) -> Callable[[list[int], list[float]], Outcome]:
        """Return a closure that answers one row: its neighbours, and how much each counts."""
        values, labels, method = self.values, self.labels, self.method
        if self.continuous:

            def number(order: list[int], weights: list[float]) -> Outcome:
                near = [values[place] for place in order]
                if method == "median":
                    return Outcome(median(near))
                total = sum(weights)
                found = sum(x * w for x, w in zip(near, weights, strict=True))
                if not total or math.isinf(total):
                    return Outcome(None)
                return Outcome(found / total)

            return number
        preferred = [labels[code] for code in self.preferred]

        def label(order: list[int], weights: list[float]) -> Outcome:
            votes = dict.fromkeys(labels, 0.0)
            for place, weight in zip(order, weights, strict=True):
                votes[values[place]] += weight
            total = sum(votes.values())
            shares = [vote / total if total else math.nan for vote in votes.values()]
            return Outcome(max(preferred, key=votes.__getitem__), labels, shares)

        return label


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The training instances, and how rows are compared with them."""

    context: Context
    k: int
    inputs: tuple[Input, ...]
    instances: Points
    targets: tuple[Target, ...]
    ids: tuple[str, ...] | None
    threshold: float

    @property
    def _measure(self) -> Measure:
        return self.instances.measure

    def predict(self, frame: Frame) -> Prediction:
        columns: list[Column] = [frame[each.field.slot] for each in self.inputs]
        pairs = zip(self.inputs, columns, strict=True)
        x = np.stack([each.floats(column) for each, column in pairs], axis=1)
        errors = self._refused(x, all_errors(columns))
        known = ~np.isnan(x)
        adjust = None
        if not known.all():
            with np.errstate(divide="ignore"):
                adjust = x.shape[1] / known.sum(axis=1)
        distance = self._distances(x, adjust)
        errors = first(errors, reasons(self._measure.uncounted(distance), self._measure.undefined))
        key = distance if self._measure.nearest_first else -distance
        order = np.argsort(key, axis=1, kind="stable")[:, : self.k]
        near = np.take_along_axis(distance, order, axis=1)
        found = {each.name: self._answer(each, order, near, errors) for each in self.targets}
        ranked = self._ranked(distance)
        if not found:
            return Prediction(label_column(np.full(frame.rows, -1), (), STRING).with_errors(errors),
                              **ranked)  # fmt: skip
        main = next(iter(found.values()))
        others: dict[str, Prediction] = {}
        if len(found) > 1:
            for name, each in found.items():
                others[name or ""] = _with(each, ranked, {})
        return _with(main, ranked, others)

    def _refused(self, x: np.ndarray, errors: Reasons | None) -> Reasons | None:
        lacking = np.isnan(x)
        gone: Mask = np.asarray(
            lacking.any(axis=1) if self._measure.is_binary else lacking.all(axis=1)
        )
        return first(errors, reasons(gone, _LACKING))

    def _distances(self, x: np.ndarray, adjust: np.ndarray | None) -> np.ndarray:
        size = max(1, (1 << 22) // max(1, len(self.instances.points)))
        blocks = [
            self.instances(x[at : at + size], None if adjust is None else adjust[at : at + size])
            for at in range(0, len(x), size)
        ]
        return np.concatenate(blocks) if blocks else np.zeros((0, len(self.instances.points)))

    def _ranked(self, distance: np.ndarray) -> dict[str, Any]:
        """Return what ranks the instances: all of them, not only the nearest that answer."""
        return {
            "entities": self._names,
            "affinity": distance,
            "nearest_first": self._measure.nearest_first,
            "features": {"unranked": self._unranked},
        }

    @property
    def _names(self) -> tuple[str, ...]:
        return self.ids or tuple(str(place + 1) for place in range(len(self.instances.points)))

    @property
    def _unranked(self) -> float:
        """
        The affinity that is asked for without saying of which neighbour: the measure's worst.

        So the reference engine; see the decision record on the reference's answers.
        """
        return math.inf if self._measure.nearest_first else 0.0

    def _weights(self, near: np.ndarray) -> np.ndarray:
        if self._measure.nearest_first:
            with np.errstate(divide="ignore"):
                return np.asarray(1 / (near + self.threshold))
        return near

    @property
    def outcome(self) -> Callable[[Record], Outcome]:
        """A closure that answers one record."""
        reads = [each.single(self.context.scope) for each in self.inputs]
        measure, is_binary = self.instances.single(), self._measure.is_binary
        own, near_first = self._measure, self._measure.nearest_first
        k, threshold = self.k, self.threshold
        answers = [(each.name, each.method, each.single()) for each in self.targets]
        ids, unranked = self._names, self._unranked

        def weight(distance: float) -> float:
            gap = distance + threshold
            return 1 / gap if gap else math.inf

        def call(record: Record) -> Outcome:
            values = [read(record) for read in reads]
            known = sum(x == x for x in values)
            adjust = None
            if known < len(values):
                if is_binary or not known:
                    raise RowError(_LACKING)
                adjust = len(values) / known
            affinity = measure(values, adjust)
            if is_binary and own.uncounted(affinity[None]).any():
                raise RowError(own.undefined)
            ranking = Ranking.of(ids, affinity, near_first)
            places, near = ranking.places[:k].tolist(), ranking.affinity[:k].tolist()
            weighed = [weight(x) for x in near] if near_first else near
            ones = [1.0] * len(near)
            features = {"unranked": unranked, "ranking": ranking}
            found = {
                name: answer(places, weighed if method.startswith("weighted") else ones)
                for name, method, answer in answers
            }
            if not found:
                return Outcome(None, features=features)
            for each in found.values():
                each.features = features
            main = next(iter(found.values()))
            if len(found) > 1:
                others = {name or "": each for name, each in found.items()}
                return Outcome(
                    main.value, main.classes, main.probability, None, features, others
                )  # fmt: skip
            return main

        return call

    def _answer(
        self, target: Target, order: np.ndarray, near: np.ndarray, errors: Reasons | None
    ) -> Prediction:
        weighted = target.method.startswith("weighted")
        weights = self._weights(near) if weighted else np.ones_like(near)
        if target.continuous:
            values = np.array(target.values, dtype=np.float64)[order]
            if target.method == "median":
                found = np.median(values, axis=1)
            else:
                with np.errstate(invalid="ignore"):
                    found = (values * weights).sum(axis=1) / weights.sum(axis=1)
            return numbers(found, DOUBLE, errors)
        labels = target.labels
        assert target.codes is not None, "labels have codes"
        codes = target.codes[order]
        votes = np.zeros((len(order), len(labels)))
        rows = np.arange(len(order))
        for rank in range(codes.shape[1]):
            votes[rows, codes[:, rank]] += weights[:, rank]
        with np.errstate(invalid="ignore"):
            shares = votes / votes.sum(axis=1, keepdims=True)
        # The first of those that tie wins.
        preferred = target.preferred
        best = np.array(preferred)[votes[:, preferred].argmax(axis=1)]
        value = label_column(best, labels, target.kind)
        found_labels = classified(labels, shares, target.kind, errors)
        return Prediction(value.with_errors(errors), labels, found_labels.probability)


def _with(
    prediction: Prediction, ranked: dict[str, Any], others: dict[str, Prediction]
) -> Prediction:
    return Prediction(
        prediction.value, prediction.classes, prediction.probability, others=others, **ranked
    )


def compile_model(context: Context) -> Neighbours:
    """Compile a NearestNeighborModel."""
    element = context.element
    measure = Measure.of(element.need_child("ComparisonMeasure"))
    instances = element.need_child("TrainingInstances")
    table = read_instances(instances, context)
    listed = element.need_child("KNNInputs").all("KNNInput")
    inputs, points = [], []
    transformed = instances.flag("isTransformed")
    raw = None if transformed else training_scope(table, context)
    for each in listed:
        name = each.need("field")
        field = context.scope.field(name, each)
        values = training_values(name, field, table, raw, context, each)
        codes: dict[Value, int] = {}
        if field.type.is_text:
            for value in values:
                codes.setdefault(value, len(codes))
            points.append([float(codes[value]) for value in values])
        else:
            points.append([float("nan") if value is None else float(value) for value in values])
        inputs.append(Input(field, codes))
    variable = element.get("instanceIdVariable")
    ids = None
    if variable is not None:
        ids = tuple(table.get(variable, ()))
    return Neighbours(
        context,
        element.integer("numberOfNeighbors"),
        tuple(inputs),
        Points(measure, tuple(measure.compared(each) for each in listed), np.array(points).T),
        _targets(context, table),
        ids or None,
        element.number("threshold", 0.001),
    )


def _targets(context: Context, table: dict[str, list[str]]) -> tuple[Target, ...]:
    element = context.element
    found = []
    for name, kind, optype in context.targets:
        if name not in table:
            raise element.error(f"has no training values of its target {name!r}")
        continuous = optype == "continuous"
        method = (
            element.choice("continuousScoringMethod", _CONTINUOUS, "average")
            if continuous
            else element.choice("categoricalScoringMethod", _CATEGORICAL, "majorityVote")
        )
        try:
            values = tuple(parse(text, DOUBLE if continuous else kind) for text in table[name])
        except ValueError as exc:
            raise element.error(
                f"has a training value of {name!r} that is no value: {exc}"
            ) from None
        found.append(Target.of(name, values, continuous, kind, method))
    return tuple(found)
