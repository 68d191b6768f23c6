"""The features of a prediction that an OutputField may ask for. Source: PMML 4.4.1, Output."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from martlet.formats.pmml.column import Column, absent, constant
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.prediction import Outcome, Prediction, Ranking, label_column
from martlet.formats.pmml.scope import Field
from martlet.formats.pmml.targets import Target
from martlet.formats.pmml.values import DOUBLE, STRING, DataType, Value, parse, text_of

Batch = Callable[[Prediction], Column]
One = Callable[[Outcome], Value]
Made = tuple[DataType, Batch, One]


def _predicted(element: Element, target: Field, targets: tuple[Target, ...]) -> Made:
    kind = target.type
    return kind, lambda p: p.value.cast(kind), lambda o: o.value


def _display(element: Element, target: Field, targets: tuple[Target, ...]) -> Made:
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

    kind = target.type

    def one(o: Outcome) -> Value:
        features = o.features or {}
        return features["display"] if "display" in features else shown(o.value, kind)

    return STRING, batch, one


def _label(element: Element, target: Field) -> Value:
    text = element.get("value")
    if text is None:
        return None
    try:
        return parse(text, target.type)
    except ValueError:
        return text


def _probability(element: Element, target: Field, targets: tuple[Target, ...]) -> Made:
    return _of_class(element, target, "probability")


def _confidence(element: Element, target: Field, targets: tuple[Target, ...]) -> Made:
    if element.get("ruleFeature") or element.get("algorithm"):
        return _rule(element, target, targets)
    return _of_class(element, target, "confidence")


def _of_class(element: Element, target: Field, feature: str) -> Made:
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
            found = own_share(p, matrix)
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


def own_share(p: Prediction, matrix: np.ndarray) -> np.ndarray:
    """Return the entry of each row's own predicted label."""
    found = np.full(len(matrix), np.nan, dtype=matrix.dtype)
    for code, label in enumerate(p.classes):
        here = p.value.equals(label)
        found[here] = matrix[here, code]
    return found


def _residual(element: Element, target: Field, targets: tuple[Target, ...]) -> Made:
    raise element.error("asks for a residual of a model that has no target field")


def _entity(element: Element, target: Field, targets: tuple[Target, ...]) -> Made:
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
        if p.entity is None:
            return absent(STRING, len(p.value))
        return p.entity.cast(STRING)

    of_rule_alone = _rule(element, target, targets)[2]

    def one(o: Outcome) -> Value:
        features = o.features or {}
        if "rules" in features:
            return of_rule_alone(o)
        ranking: Ranking | None = features.get("ranking")
        if ranking is not None:
            return ranking.entity(rank)
        return o.entity

    return STRING, batch, one


def _order(p: Prediction) -> np.ndarray:
    assert p.affinity is not None
    keys = p.affinity if p.nearest_first else -p.affinity
    order = np.argsort(keys, axis=1, kind="stable")
    return np.where(np.isnan(np.take_along_axis(keys, order, axis=1)), -1, order)


def _affinity(element: Element, target: Field, targets: tuple[Target, ...]) -> Made:
    wanted, rank = element.get("value"), element.integer("rank", 1)
    if element.get("feature") != "affinity":
        rank = 1  # clusterAffinity and entityAffinity are the winner's
    unranked = rank == 1 and element.get("feature") == "affinity"

    def batch(p: Prediction) -> Column:
        if p.affinity is None:
            return absent(DOUBLE, len(p.value))
        if wanted is not None:
            if wanted not in p.entities:
                return absent(DOUBLE, len(p.value))
            found = p.affinity[:, p.entities.index(wanted)]
        elif unranked and "unranked" in p.features:
            return constant(p.features["unranked"], DOUBLE, len(p.value))
        else:
            order = _order(p)
            if rank > order.shape[1]:
                return absent(DOUBLE, len(p.value))
            place = order[:, [rank - 1]]
            found = np.take_along_axis(p.affinity, np.maximum(place, 0), axis=1)[:, 0]
            found = np.where(place[:, 0] < 0, np.nan, found)
        gone = np.isnan(found)
        return Column(DOUBLE, found, gone if gone.any() else None)

    def one(o: Outcome) -> Value:
        features = o.features or {}
        ranking: Ranking | None = features.get("ranking")
        if ranking is None:
            return None
        if wanted is not None:
            return ranking.affinity_of(wanted)
        if unranked and "unranked" in features:
            return features["unranked"]
        return ranking.at(rank)

    return DOUBLE, batch, one


def _reason_code(element: Element, target: Field, targets: tuple[Target, ...]) -> Made:
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


def _rule(element: Element, target: Field, targets: tuple[Target, ...]) -> Made:
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

    def one(o: Outcome) -> Value:
        basket = (o.features or {}).get("rules")
        if basket is None:
            return None
        return basket.shown(feature, algorithm, basis, order == "ascending", rank, many)

    return STRING, batch, one


FEATURES: dict[str, Callable[[Element, Field, tuple[Target, ...]], Made]] = {
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
