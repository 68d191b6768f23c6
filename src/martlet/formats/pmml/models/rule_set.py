"""RuleSetModel: rules that vote, or the first that fires. Source: PMML 4.4.1, RuleSet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from martlet.formats.pmml.column import Column, Reasons, first, kept
from martlet.formats.pmml.context import Context
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.frame import Frame, Record
from martlet.formats.pmml.predicates import Compound, Predicate, predicate_of
from martlet.formats.pmml.prediction import Outcome, Prediction, label_column
from martlet.formats.pmml.values import STRING, Value

_CRITERIA = ("firstHit", "weightedSum", "weightedMax")


@dataclass(frozen=True, slots=True)
class Rule:
    """A score for the rows that a predicate holds for."""

    id: str
    predicate: Predicate
    score: Value
    confidence: float
    weight: float


@dataclass(frozen=True, slots=True)
class RuleSet:
    """Rules in order, and what answers when none fires."""

    context: Context
    rules: tuple[Rule, ...]
    criterion: str
    default: Value
    default_confidence: float
    labels: tuple[Value, ...]

    def predict(self, frame: Frame) -> Prediction:
        rows, count = frame.rows, len(self.labels)
        index = {label: code for code, label in enumerate(self.labels)}
        fired = np.zeros((rows, len(self.rules)), dtype=bool)
        errors: Reasons | None = None
        settled = np.zeros(rows, dtype=bool)
        for place, rule in enumerate(self.rules):
            truth = rule.predicate.truth(frame)
            fired[:, place] = truth.yes
            if truth.errors is not None:
                errors = first(errors, kept(truth.errors, ~settled))
            if self.criterion == "firstHit":
                settled |= truth.yes
        winner = np.where(fired.any(axis=1), fired.argmax(axis=1), -1)
        sums = np.zeros((rows, count))
        confidence = np.zeros((rows, count))
        if self.criterion == "firstHit":
            for place, rule in enumerate(self.rules):
                here = winner == place
                confidence[here, index[rule.score]] = rule.confidence
                sums[here, index[rule.score]] = 1.0
        else:
            winner = self._weighted(fired, index, sums, confidence)
        none = winner < 0
        if self.default is not None:
            confidence[none, index[self.default]] = self.default_confidence
            sums[none, index[self.default]] = 1.0
        codes = sums.argmax(axis=1)
        if self.default is None:
            codes = np.where(none, -1, codes)
        value: Column = label_column(codes, self.labels, self.context.label)
        entity = label_column(winner, [rule.id for rule in self.rules], STRING)
        return Prediction(value.with_errors(errors), self.labels, confidence, confidence, entity)

    def _weighted(
        self,
        fired: np.ndarray,
        index: dict[Value, int],
        sums: np.ndarray,
        confidence: np.ndarray,
    ) -> np.ndarray:
        """Fill in *sums* and *confidence*; return each row's heaviest rule that fired, or -1."""
        weights = np.array([rule.weight for rule in self.rules])
        heaviest = np.where(fired, weights, -np.inf).argmax(axis=1)
        for place, rule in enumerate(self.rules):
            code = index[rule.score]
            here = fired[:, place]
            if self.criterion == "weightedSum":
                sums[here, code] += rule.weight
            else:
                sums[here & (heaviest == place), code] = rule.weight
        if self.criterion == "weightedSum":
            count = np.maximum(fired.sum(axis=1), 1)
            confidence[:] = sums / count[:, None]
        else:
            for place, rule in enumerate(self.rules):
                confidence[(heaviest == place) & fired[:, place], index[rule.score]] = (
                    rule.confidence
                )
        any_fired = fired.any(axis=1)
        best = sums.argmax(axis=1)
        scores = np.array([index[rule.score] for rule in self.rules])
        of_winner = np.where(fired & (scores == best[:, None]), weights, -np.inf).argmax(axis=1)
        return np.where(any_fired, of_winner, -1)

    @property
    def outcome(self) -> Callable[[Record], Outcome] | None:
        """A closure that answers one record, where the first rule that fires decides."""
        if self.criterion != "firstHit":
            return None
        rules = [(r.predicate.single(), r.score, r.confidence, r.id) for r in self.rules]
        labels, default, trust = self.labels, self.default, self.default_confidence

        def answer(score: Value, confidence: float, identity: str | None) -> Outcome:
            row = [confidence if each == score else 0.0 for each in labels]
            features: dict[str, Any] = {"confidence": row}
            return Outcome(score, labels, row, identity, features)

        def call(record: Record) -> Outcome:
            for holds, score, confidence, identity in rules:
                if holds(record) is True:
                    return answer(score, confidence, identity)
            return answer(default, trust, None)

        return call


def compile_model(context: Context) -> RuleSet:
    """Compile a RuleSetModel."""
    rule_set = context.element.need_child("RuleSet")
    methods = rule_set.all("RuleSelectionMethod")
    if not methods:
        raise rule_set.error("holds no RuleSelectionMethod")
    criterion = methods[0].choice("criterion", _CRITERIA)
    rules: list[Rule] = []
    _collect(rule_set, (), context, rules)
    score = rule_set.get("defaultScore")
    default = None if score is None else context.parse_label(score, rule_set)
    labels = dict.fromkeys((*context.labels, *(rule.score for rule in rules)))
    if default is not None:
        labels[default] = None
    confidence = rule_set.number("defaultConfidence", 0.0)
    return RuleSet(context, tuple(rules), criterion, default, confidence, tuple(labels))


def _collect(
    element: Element, conditions: tuple[Predicate, ...], context: Context, rules: list[Rule]
) -> None:
    """Add the simple rules of *element*, each under the *conditions* of those around it."""
    for each in element.all("SimpleRule", "CompoundRule"):
        own = (*conditions, predicate_of(each, context.scope))
        if each.tag == "CompoundRule":
            _collect(each, own, context, rules)
            continue
        predicate = own[0] if len(own) == 1 else Compound("and", own)
        rules.append(
            Rule(
                each.get("id") or str(len(rules) + 1),
                predicate,
                context.parse_label(each.need("score"), each),
                each.number("confidence", 1.0),
                each.number("weight", 1.0),
            )
        )
