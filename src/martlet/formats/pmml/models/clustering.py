"""ClusteringModel: the nearest centre. Source: PMML 4.4.1, Clustering."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from martlet.formats.pmml.arrays import array_numbers
from martlet.formats.pmml.column import Column, Mask, Reasons, all_errors, first, reasons
from martlet.formats.pmml.context import Context
from martlet.formats.pmml.frame import Frame, Record, RowError
from martlet.formats.pmml.measures import Measure, Points
from martlet.formats.pmml.prediction import Outcome, Prediction, Ranking, label_column
from martlet.formats.pmml.scope import Field, number_reader
from martlet.formats.pmml.values import DOUBLE, STRING, convert


@dataclass(frozen=True, slots=True)
class Clusters:
    """Centres, and how rows are compared with them."""

    context: Context
    fields: tuple[Field, ...]
    centres: Points
    ids: tuple[str, ...]
    names: tuple[str | None, ...]
    missing_weights: np.ndarray | None

    @property
    def _measure(self) -> Measure:
        return self.centres.measure

    def predict(self, frame: Frame) -> Prediction:
        columns: list[Column] = [frame[each.slot] for each in self.fields]
        x = np.stack([_floats(each) for each in columns], axis=1)
        affinity = self.centres(x, self._adjust(x))
        errors = self._refused(x, all_errors(columns))
        errors = first(errors, reasons(self._measure.uncounted(affinity), self._measure.undefined))
        gone = np.isnan(x).all(axis=1)
        affinity[gone] = np.nan
        key = affinity if self._measure.nearest_first else -affinity
        best = np.where(gone, -1, np.where(np.isnan(key), np.inf, key).argmin(axis=1))
        entity = label_column(best, self.ids, STRING)
        value = label_column(best, self.ids, self.context.label)
        features = {"display": label_column(best, self.names, STRING)}
        return Prediction(
            value.with_errors(errors),
            entity=entity,
            entities=self.ids,
            affinity=affinity,
            nearest_first=self._measure.nearest_first,
            features=features,
        )

    def _refused(self, x: np.ndarray, errors: Reasons | None) -> Reasons | None:
        """Zeros and ones cannot be counted where one is missing, nor distances where all are."""
        gone = np.isnan(x)
        lacking: Mask = np.asarray(
            gone.any(axis=1) if self._measure.is_binary else gone.all(axis=1)
        )
        return first(errors, reasons(lacking, self._lacks))

    @property
    def _lacks(self) -> str:
        which = "every field's value" if self._measure.is_binary else "the value of some field"
        return f"{self._measure.name} needs {which}"

    def _adjust(self, x: np.ndarray) -> np.ndarray | None:
        """Return the sum of all weights by that of the weights that are not missing."""
        known = ~np.isnan(x)
        if known.all():
            return None
        weights = self.missing_weights
        if weights is None:
            weights = np.ones(x.shape[1])
        with np.errstate(divide="ignore"):
            return np.asarray(weights.sum() / (known * weights).sum(axis=1))

    @property
    def outcome(self) -> Callable[[Record], Outcome]:
        """A closure that answers one record."""
        reads = [number_reader(self.context.scope, each) for each in self.fields]
        measure, is_binary, lacks = self.centres.single(), self._measure.is_binary, self._lacks
        own, near_first = self._measure, self._measure.nearest_first
        weights = [1.0] * len(reads)
        if self.missing_weights is not None:
            weights = self.missing_weights.tolist()
        ids, names, label = self.ids, self.names, self.context.label

        def call(record: Record) -> Outcome:
            values = [read(record) for read in reads]
            known = [w for w, x in zip(weights, values, strict=True) if x == x]
            adjust = None
            if len(known) < len(values):
                if is_binary or not known:
                    raise RowError(lacks)
                adjust = sum(weights) / sum(known) if sum(known) else math.inf
            affinity = measure(values, adjust)
            if is_binary and own.uncounted(affinity[None]).any():
                raise RowError(own.undefined)
            ranking = Ranking.of(ids, affinity, near_first)
            best = int(ranking.places[0])
            features = {"display": names[best], "ranking": ranking}
            return Outcome(convert(ids[best], label), (), None, ids[best], features)

        return call


def _floats(column: Column) -> np.ndarray:
    return column.cast(DOUBLE).floats()


def compile_model(context: Context) -> Clusters:
    """Compile a ClusteringModel of centres."""
    element = context.element
    element.choice("modelClass", ("centerBased",))
    measure = Measure.of(element.need_child("ComparisonMeasure"))
    listed = [e for e in element.all("ClusteringField") if e.get("isCenterField") != "false"]
    fields = tuple(context.scope.field(each.need("field"), each) for each in listed)
    centres, ids, names = [], [], []
    for place, each in enumerate(element.all("Cluster"), 1):
        values = array_numbers(each.need_child("Array", "REAL-SparseArray"))
        if len(values) != len(fields):
            raise each.error(f"has {len(values)} coordinates for {len(fields)} fields")
        centres.append(values)
        ids.append(each.get("id") or str(place))
        names.append(each.get("name"))
    if not centres:
        raise element.error("holds no Cluster")
    weights = element.child("MissingValueWeights")
    return Clusters(
        context,
        fields,
        Points(measure, tuple(measure.compared(each) for each in listed), np.array(centres)),
        tuple(ids),
        tuple(names),
        None if weights is None else np.array(array_numbers(weights.need_child("Array"))),
    )
