"""ClusteringModel: the nearest centre. Source: PMML 4.4.1, Clustering."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from martlet.formats.pmml.column import Column, Mask, Reasons, all_errors, first, reasons
from martlet.formats.pmml.context import Context
from martlet.formats.pmml.frame import Frame
from martlet.formats.pmml.measures import Compared, Measure
from martlet.formats.pmml.predicates import array_numbers
from martlet.formats.pmml.prediction import Prediction, label_column
from martlet.formats.pmml.scope import Field
from martlet.formats.pmml.values import DOUBLE, STRING, parse


@dataclass(frozen=True, slots=True)
class Clusters:
    """Centres, and how rows are compared with them."""

    context: Context
    fields: tuple[Field, ...]
    compared: tuple[Compared, ...]
    measure: Measure
    centres: np.ndarray
    ids: tuple[str, ...]
    names: tuple[str | None, ...]
    missing_weights: np.ndarray | None

    def predict(self, frame: Frame) -> Prediction:
        columns: list[Column] = [frame[each.slot] for each in self.fields]
        x = np.stack([_floats(each) for each in columns], axis=1)
        errors = self._refused(x, all_errors(columns))
        affinity = self.measure(x, self.centres, self.compared, self._adjust(x))
        gone = np.isnan(x).all(axis=1)
        affinity[gone] = np.nan
        key = affinity if self.measure.nearest_first else -affinity
        best = np.where(gone, -1, np.where(np.isnan(key), np.inf, key).argmin(axis=1))
        entity = label_column(best, self.ids, STRING)
        value = label_column(best, self.ids, self.context.label)
        features = {"display": label_column(best, self.names, STRING)}
        return Prediction(
            value.with_errors(errors),
            entity=entity,
            entities=self.ids,
            affinity=affinity,
            nearest_first=self.measure.nearest_first,
            features=features,
        )

    def _refused(self, x: np.ndarray, errors: Reasons | None) -> Reasons | None:
        """Zeros and ones cannot be counted where one is missing."""
        if not self.measure.is_binary:
            return errors
        lacking: Mask = np.asarray(np.isnan(x).any(axis=1))
        return first(errors, reasons(lacking, f"{self.measure.name} needs every field's value"))

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
        tuple(measure.compared(each) for each in listed),
        measure,
        np.array(centres),
        tuple(ids),
        tuple(names),
        None if weights is None else np.array(array_numbers(weights.need_child("Array"))),
    )


__all__ = ["compile_model", "parse"]
