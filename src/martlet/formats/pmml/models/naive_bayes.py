"""NaiveBayesModel: each input's evidence multiplied. Source: PMML 4.4.1, Naive Bayes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from martlet.formats.pmml import links
from martlet.formats.pmml.column import Column, all_errors
from martlet.formats.pmml.context import Context
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.expressions import compile_derived
from martlet.formats.pmml.frame import Frame, Record
from martlet.formats.pmml.predicates import comparable
from martlet.formats.pmml.prediction import Outcome, Prediction, classified, likeliest
from martlet.formats.pmml.scope import Field, Scope, number_reader
from martlet.formats.pmml.values import DOUBLE, Value

Array = np.ndarray
Density = tuple[Callable[[Array], Array], Callable[[float], float]]
"""Of a column, and of one number."""
Evidence = Callable[[Record], Sequence[float]]


@dataclass(frozen=True, slots=True)
class Counts:
    """An input of categories: log chances by value, [values, classes]."""

    field: Field
    index: dict[Value, int]
    logs: Array

    def evidence(self, frame: Frame) -> tuple[Array, Column]:
        """Return what each row says of each class, [rows, classes]: 0 where missing."""
        column: Column = frame[self.field.slot]
        nothing = len(self.logs) - 1
        if column.levels is not None:
            codes = column.by_level(lambda v: self.index.get(v, nothing), nothing, np.int64)
        else:
            codes = np.full(len(column), nothing)
            for value, code in self.index.items():
                codes[column.equals(value)] = code
        return self.logs[codes], column

    def single(self, scope: Scope) -> Evidence:
        read, index, nothing = scope.reader(self.field), self.index, self.logs[-1].tolist()
        logs: list[list[float]] = self.logs.tolist()

        def evidence(record: Record) -> Sequence[float]:
            code = index.get(read(record))
            return nothing if code is None else logs[code]

        return evidence


@dataclass(frozen=True, slots=True)
class Numbers:
    """An input that is a number: a distribution a class."""

    field: Field
    densities: tuple[Density, ...]
    threshold: float

    def evidence(self, frame: Frame) -> tuple[Array, Column]:
        column: Column = frame[self.field.slot]
        x = column.cast(DOUBLE).floats()
        with np.errstate(all="ignore"):
            found = np.stack([density(x) for density, _ in self.densities], axis=1)
            found = np.log(np.maximum(found, self.threshold))
        found[np.isnan(x)] = 0.0
        return found, column

    def single(self, scope: Scope) -> Evidence:
        read, threshold = number_reader(scope, self.field), self.threshold
        densities = [one for _, one in self.densities]
        nothing = [0.0] * len(densities)

        def evidence(record: Record) -> Sequence[float]:
            x = read(record)
            if x != x:
                return nothing
            found = [max(density(x), threshold) for density in densities]
            return [math.log(p) if p > 0 else -math.inf for p in found]

        return evidence


@dataclass(frozen=True, slots=True)
class NaiveBayes:
    """Prior counts, and inputs taken as independent."""

    context: Context
    classes: tuple[Value, ...]
    priors: Array
    inputs: tuple[Counts | Numbers, ...]

    def predict(self, frame: Frame) -> Prediction:
        with np.errstate(all="ignore"):
            scores = np.repeat(np.log(self.priors)[None], frame.rows, axis=0)
        used = []
        for each in self.inputs:
            evidence, column = each.evidence(frame)
            scores += evidence
            used.append(column)
        with np.errstate(invalid="ignore"):
            shares = links.softmax(scores)
        return classified(self.classes, shares, self.context.label, all_errors(used))

    @property
    def outcome(self) -> Callable[[Record], Outcome]:
        """A closure that answers one record."""
        parts = [each.single(self.context.scope) for each in self.inputs]
        with np.errstate(all="ignore"):
            start = np.log(self.priors).tolist()
        classes = self.classes

        def call(record: Record) -> Outcome:
            scores = start
            for part in parts:
                scores = [x + y for x, y in zip(scores, part(record), strict=True)]
            if max(scores) == -math.inf:
                return Outcome(None, classes)
            return likeliest(classes, links.softmax_one(scores))

        return call


def compile_model(context: Context) -> NaiveBayes:
    """Compile a NaiveBayesModel."""
    element = context.element
    threshold = element.number("threshold")
    output = element.need_child("BayesOutput").need_child("TargetValueCounts")
    counts = _counts(output, context)
    classes, totals = tuple(counts), np.array(list(counts.values()), dtype=np.float64)
    inputs: list[Counts | Numbers] = []
    for each in element.need_child("BayesInputs").all("BayesInput"):
        derived = each.child("DerivedField")
        field = (
            compile_derived(derived, context.scope, each.need("fieldName"))
            if derived is not None
            else context.scope.field(each.need("fieldName"), each)
        )
        stats = each.child("TargetValueStats")
        if stats is not None:
            inputs.append(_numbers(stats, field, classes, threshold, context))
        else:
            inputs.append(_categories(each, field, classes, threshold, context))
    with np.errstate(divide="ignore"):
        return NaiveBayes(context, classes, totals, tuple(inputs))


def _counts(element: Element, context: Context) -> dict[Value, float]:
    return {
        context.parse_label(e.need("value"), e): e.number("count")
        for e in element.all("TargetValueCount")
    }


def _categories(
    element: Element, field: Field, classes: tuple[Value, ...], threshold: float, context: Context
) -> Counts:
    index: dict[Value, int] = {}
    rows: list[list[float]] = []
    for pair in element.all("PairCounts"):
        value = comparable(field, pair.need("value"), pair)
        found = _counts(pair.need_child("TargetValueCounts"), context)
        index.setdefault(value, len(rows))
        rows.append([found.get(label, 0.0) for label in classes])
    table = np.array(rows).reshape(len(rows), len(classes))
    # A class's chances of the values are its counts' shares; none is below the threshold.
    with np.errstate(all="ignore"):
        shares = table / table.sum(axis=0)
    shares = np.where((table == 0) | np.isnan(shares), threshold, shares)
    with np.errstate(all="ignore"):
        logs = np.log(shares)
    # A value without counts, or none at all, says nothing.
    return Counts(field, index, np.concatenate([logs, np.zeros((1, len(classes)))]))


def _numbers(
    stats: Element, field: Field, classes: tuple[Value, ...], threshold: float, context: Context
) -> Numbers:
    found: dict[Value, Density] = {}
    for each in stats.all("TargetValueStat"):
        label = context.parse_label(each.need("value"), each)
        found[label] = _density(each)
    lacking = next((label for label in classes if label not in found), None)
    if lacking is not None:
        raise stats.error(f"has no distribution for the class {lacking!r}")
    return Numbers(field, tuple(found[label] for label in classes), threshold)


def _density(element: Element) -> Density:
    found = element.need_child(
        "GaussianDistribution", "PoissonDistribution", "UniformDistribution", "AnyDistribution"
    )
    match found.tag:
        case "GaussianDistribution":
            mean, variance = found.number("mean"), found.number("variance")
            if variance <= 0:
                raise found.error(f"has the variance {variance}, which no distribution has")
            scale = 1 / math.sqrt(2 * math.pi * variance)
            return (
                lambda x: scale * np.exp(-((x - mean) ** 2) / (2 * variance)),
                lambda x: scale * math.exp(-((x - mean) * (x - mean)) / (2 * variance)),
            )
        case "PoissonDistribution":
            mean = found.number("mean")

            def poisson(x: float) -> float:
                if x != x or x < 0:
                    return x if x != x else 0.0
                return math.exp(x * math.log(mean) - mean - math.lgamma(x + 1))

            return np.vectorize(poisson, otypes=[np.float64]), poisson
        case "UniformDistribution":
            low, high = found.number("lower"), found.number("upper")
            return (
                lambda x: np.where((x >= low) & (x <= high), 1 / (high - low), 0.0),
                lambda x: 1 / (high - low) if low <= x <= high else 0.0,
            )
        case _:
            raise found.error("is not supported; its density is not given")
