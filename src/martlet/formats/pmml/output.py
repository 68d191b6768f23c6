"""Output: the fields that a model gives, each a feature of its prediction or an expression.

Source: PMML 4.4.1, Output.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from martlet.formats.pmml.column import (
    Column,
    absent,
    choose,
    constant,
    first,
    reasons,
)
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.expressions import (
    Expression,
    cast,
    compile_expression,
    is_expression,
)
from martlet.formats.pmml.frame import Frame, Record, RowError, Single
from martlet.formats.pmml.prediction import Outcome, Prediction, label_column
from martlet.formats.pmml.scope import Field, Scope, type_of
from martlet.formats.pmml.targets import Target
from martlet.formats.pmml.values import DOUBLE, STRING, DataType, Value, parse, text_of

Batch = Callable[[Prediction], Column]
One = Callable[[Outcome], Value]


@dataclass(frozen=True, slots=True)
class Feature:
    """An expression that asks a prediction for one of its features."""

    type: DataType
    slot: int
    scope: Scope
    batch: Batch
    one: One

    def column(self, frame: Frame) -> Column:
        prediction: Prediction = frame[self.slot]
        errors = prediction.value.errors
        found = self.batch(prediction)
        return found if errors is None else found.with_errors(errors)

    def single(self) -> Single:
        read, one, batch = self.scope.world.program.reader(self.slot), self.one, self.batch

        def call(record: Record) -> Value:
            found = read(record)
            if isinstance(found, Outcome):
                return one(found)
            # A segment that is not active says nothing.
            return None if found is None else batch(found).objects()[0]

        return call


def compile_output(
    element: Element,
    scope: Scope,
    prediction: int,
    fields: dict[str, Field],
    targets: tuple[Target, ...],
    segments: dict[str, int],
) -> Expression:
    """
    Compile an OutputField of the model whose Prediction is in the slot *prediction*.

    Args:
        scope: Sees the model's fields, its target and the outputs above this one.
        fields: The target fields, the main one first; none of a model without one.
        targets: Its Targets, for what labels show as.
        segments: The slots of the segments' predictions, by segment id.

    Raises:
        UnsupportedModel: the feature is unknown, or asks for what this file has not.
    """
    inner = next((each for each in element.children if is_expression(each)), None)
    feature = element.get("feature") or ("transformedValue" if inner is not None else None)
    feature = feature or "predictedValue"
    if feature in ("transformedValue", "decision"):
        if inner is None:
            raise element.error("holds no expression")
        found = compile_expression(inner, scope)
        return cast(found, type_of(element, found.type))
    segment = element.get("segmentId")
    if segment is not None:
        if segment not in segments:
            raise element.error(f"asks for the segment {segment!r}, which there is not")
        prediction = segments[segment]
    make = _FEATURES.get(feature)
    if make is None:
        raise element.error(f"asks for the feature {feature!r}, which is not supported")
    wanted = element.get("targetField")
    main = next(iter(fields.values()), None)
    kind, batch, one = make(element, fields.get(wanted or "", main), targets)
    if wanted is not None and (main is None or wanted != main.name):
        batch, one = _of_target(wanted, batch)
    found = Feature(kind, prediction, scope, batch, one)
    declared = type_of(element, kind)
    return cast(found, declared)


def _of_target(name: str, batch: Batch) -> tuple[Batch, One]:
    def of_other(prediction: Prediction) -> Column:
        return batch(prediction.others.get(name, prediction))

    def one(_: Outcome) -> Value:
        raise AssertionError("a model of several targets has no outcome of its own")

    return of_other, one


Made = tuple[DataType, Batch, One]


def _predicted(element: Element, target: Field | None, targets: tuple[Target, ...]) -> Made:
    kind = target.type if target is not None else type_of(element, DOUBLE)
    return kind, lambda p: p.value.cast(kind), lambda o: o.value


def _display(element: Element, target: Field | None, targets: tuple[Target, ...]) -> Made:
    display = {key: text for each in targets for key, text in each.display.items()}

    def shown(value: Value, kind: DataType | None = None) -> Value:
        return None if value is None else display.get(value, text_of(value, kind))

    def batch(p: Prediction) -> Column:
        own: Column | None = p.features.get("display")
        if own is not None:
            return own
        labels = list(dict.fromkeys(p.value.objects()))
        codes = {label: code for code, label in enumerate(labels)}
        found = np.array([codes[value] for value in p.value.objects()], dtype=np.int64)
        return label_column(found, [shown(each, p.value.type) for each in labels], STRING)

    kind = target.type if target is not None else None
    return STRING, batch, lambda o: shown(o.value, kind)


def _label(element: Element, target: Field | None) -> Value:
    text = element.get("value")
    if text is None or target is None:
        return text
    try:
        return parse(text, target.type)
    except ValueError:
        return text


def _probability(element: Element, target: Field | None, targets: tuple[Target, ...]) -> Made:
    return _of_class(element, target, "probability")


def _confidence(element: Element, target: Field | None, targets: tuple[Target, ...]) -> Made:
    if element.get("ruleFeature") or element.get("algorithm"):
        return _rule(element, target, targets)
    return _of_class(element, target, "confidence")


def _of_class(element: Element, target: Field | None, feature: str) -> Made:
    label = _label(element, target)
    rank = element.integer("rank", 1)

    def batch(p: Prediction) -> Column:
        matrix = p.probability if feature == "probability" else p.confidence
        if matrix is None:
            matrix = p.features.get(feature)
        rows = len(p.value)
        if matrix is None:
            return absent(DOUBLE, rows)
        if label is not None:
            # A label that the model never gives has no chance.
            found = (
                matrix[:, p.classes.index(label)]
                if label in p.classes
                else np.where(np.isnan(matrix).all(axis=1), np.nan, 0.0)
            )
        elif rank > 1:
            found = _ranked(matrix, rank)
        else:
            found = _own(p, matrix)
        gone = np.isnan(found)
        return Column(DOUBLE, found.astype(np.float64), gone if gone.any() else None)

    def one(o: Outcome) -> Value:
        row = o.probability if feature == "probability" else (o.features or {}).get(feature)
        if row is None:
            return None
        if label is None:
            wanted = o.value
            if rank > 1:
                return sorted(row, reverse=True)[rank - 1] if rank <= len(row) else None
        else:
            wanted = label
        if wanted not in o.classes:
            return None if wanted is None or o.value is None else 0.0
        found = row[o.classes.index(wanted)]
        return None if found != found else found

    return DOUBLE, batch, one


def _ranked(matrix: np.ndarray, rank: int) -> np.ndarray:
    if rank > matrix.shape[1]:
        return np.full(len(matrix), np.nan)
    return -np.sort(-matrix, axis=1)[:, rank - 1]


def _own(p: Prediction, matrix: np.ndarray) -> np.ndarray:
    """Return the entry of each row's own predicted label."""
    found = np.full(len(matrix), np.nan, dtype=matrix.dtype)
    for code, label in enumerate(p.classes):
        here = p.value.equals(label)
        found[here] = matrix[here, code]
    return found


def _residual(element: Element, target: Field | None, targets: tuple[Target, ...]) -> Made:
    raise element.error("asks for a residual of a model that has no target field")


def residual(
    prediction: int,
    actual: Field,
    raw: int,
    scope: Scope,
    label: Value,
    classification: bool,
) -> Expression:
    """
    Return the expression of what came minus what is predicted.

    Args:
        raw: The slot of what the caller gave for *actual*.

    Of a class: 1 (0 where another came) minus the probability of *label*, or of the predicted.
    """
    read, frame_of = scope.reader(actual), scope.world.program.reader(0)
    lacking = f"field {actual.name!r} is missing, and the residual needs it"

    def column(frame: Frame) -> Column:
        p: Prediction = frame[prediction]
        came: Column = frame[actual.slot]
        errors = first(came.errors, p.value.errors)
        # An actual value that is not sent leaves the residual empty; one sent empty is refused.
        if came.missing is not None and frame[raw].dtype != object:
            errors = first(errors, reasons(came.missing, lacking))
        if not classification:
            values = came.cast(DOUBLE).floats() - p.value.cast(DOUBLE).floats()
        else:
            assert p.probability is not None
            if label is None:
                values = _came_equal(came, p.value) - _own(p, p.probability)
            else:
                values = came.equals(label) - p.probability[:, p.classes.index(label)]
            values = np.where(came.known(), values, np.nan)
        gone = np.isnan(values)
        return Column(DOUBLE, values, gone if gone.any() else None, errors)

    def single(record: Record) -> Value:
        came = read(record)
        found = scope.world.program.reader(prediction)(record)
        if isinstance(found, Prediction):
            return column(frame_of(record)).objects()[0]
        if came is None and record[raw] is not None:
            raise RowError(lacking)
        if came is None or found.value is None:
            return None
        if not classification:
            return came - found.value
        wanted = found.value if label is None else label
        assert found.probability is not None
        return float(came == wanted) - found.probability[found.classes.index(wanted)]

    return _Direct(DOUBLE, column, single)


def _came_equal(came: Column, predicted: Column) -> np.ndarray:
    pairs = zip(came.objects(), predicted.objects(), strict=True)
    return np.array([float(a == b) for a, b in pairs])


@dataclass(frozen=True, slots=True)
class _Direct:
    type: DataType
    _column: Callable[[Frame], Column]
    _single: Single

    def column(self, frame: Frame) -> Column:
        return self._column(frame)

    def single(self) -> Single:
        return self._single


def _entity(element: Element, target: Field | None, targets: tuple[Target, ...]) -> Made:
    rank = element.integer("rank", 1)
    of_rule = _rule(element, target, targets)[1]

    def batch(p: Prediction) -> Column:
        if "rules" in p.features:
            return of_rule(p)
        if p.affinity is not None and p.entities:
            order = _order(p)
            if rank > order.shape[1]:
                return absent(STRING, len(p.value))
            return label_column(order[:, rank - 1], p.entities, STRING)
        if rank > 1 or p.entity is None:
            return absent(STRING, len(p.value))
        return p.entity.cast(STRING)

    return STRING, batch, lambda o: o.entity if rank == 1 else None


def _order(p: Prediction) -> np.ndarray:
    assert p.affinity is not None
    keys = p.affinity if p.nearest_first else -p.affinity
    order = np.argsort(keys, axis=1, kind="stable")
    return np.where(np.isnan(np.take_along_axis(keys, order, axis=1)), -1, order)


def _affinity(element: Element, target: Field | None, targets: tuple[Target, ...]) -> Made:
    wanted, rank = element.get("value"), element.integer("rank", 1)

    def batch(p: Prediction) -> Column:
        if p.affinity is None:
            return absent(DOUBLE, len(p.value))
        if wanted is not None:
            if wanted not in p.entities:
                return absent(DOUBLE, len(p.value))
            found = p.affinity[:, p.entities.index(wanted)]
        elif rank == 1 and "unranked" in p.features:
            return constant(p.features["unranked"], DOUBLE, len(p.value))
        else:
            order = _order(p)
            if rank > order.shape[1]:
                return absent(DOUBLE, len(p.value))
            place = order[:, [rank - 1]]
            found = np.take_along_axis(p.affinity, np.maximum(place, 0), axis=1)[:, 0]
        gone = np.isnan(found)
        return Column(DOUBLE, found, gone if gone.any() else None)

    return DOUBLE, batch, _only_batch


def _only_batch(_: Outcome) -> Value:
    return None


def _reason_code(element: Element, target: Field | None, targets: tuple[Target, ...]) -> Made:
    rank = element.integer("rank", 1)

    def batch(p: Prediction) -> Column:
        codes = p.features.get("reasonCode")
        if not codes or rank > len(codes):
            return absent(STRING, len(p.value))
        found: Column = codes[rank - 1]
        return found

    def one(o: Outcome) -> Value:
        codes = (o.features or {}).get("reasonCode", ())
        return codes[rank - 1] if rank <= len(codes) else None

    return STRING, batch, one


def _rule(element: Element, target: Field | None, targets: tuple[Target, ...]) -> Made:
    """Of association and rule set models: the features of the rules that fired, ranked."""
    feature = element.need("feature")
    if feature == "ruleValue":
        feature = element.get("ruleFeature") or "consequent"
    elif feature == "entityId":
        feature = "ruleId"
    algorithm = element.get("algorithm") or "exclusiveRecommendation"
    basis, order = element.get("rankBasis") or "confidence", element.get("rankOrder")
    rank = element.integer("rank", 1)
    many = element.flag("isMultiValued") or rank == 0

    def batch(p: Prediction) -> Column:
        ask = p.features.get("rules")
        if ask is None:
            return absent(STRING, len(p.value))
        found: Column = ask.column(feature, algorithm, basis, order == "ascending", rank, many)
        return found

    return STRING, batch, _only_batch


_FEATURES: dict[str, Callable[[Element, Field | None, tuple[Target, ...]], Made]] = {
    "predictedValue": _predicted,
    "predictedDisplayValue": _display,
    "probability": _probability,
    "confidence": _confidence,
    "residual": _residual,
    "entityId": _entity,
    "clusterId": _entity,
    "affinity": _affinity,
    "entityAffinity": _affinity,
    "clusterAffinity": _affinity,
    "reasonCode": _reason_code,
    "ruleValue": _rule,
    "antecedent": _rule,
    "consequent": _rule,
    "rule": _rule,
    "ruleId": _rule,
    "support": _rule,
    "lift": _rule,
    "leverage": _rule,
}

__all__ = ["Any", "choose", "compile_output", "constant", "residual"]
