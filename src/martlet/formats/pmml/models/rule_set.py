"""RuleSetModel: rules that vote, or the first that fires. Source: PMML 4.4.1, RuleSet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from martlet.formats.pmml.column import Column, Reasons, first, kept
from martlet.formats.pmml.context import Context
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.frame import Frame, Record, RowError
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
        sums = np.zeros((rows, count))
        winner, confidence = self._decided(fired, index, sums)
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

    def _decided(
        self, fired: np.ndarray, index: dict[Value, int], sums: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Fill in *sums*; return each row's deciding rule, or -1, and the labels' confidence."""
        weights = np.array([rule.weight for rule in self.rules])
        codes = np.array([index[rule.score] for rule in self.rules], dtype=np.int64)
        nothing = ~fired.any(axis=1)
        confidence = np.zeros_like(sums)
        if self.criterion == "weightedSum":
            for place, code in enumerate(codes.tolist()):
                sums[fired[:, place], code] += weights[place]
            confidence[:] = sums / np.maximum(fired.sum(axis=1), 1)[:, None]
            fired = fired & (codes == sums.argmax(axis=1)[:, None])
        first_of = np.arange(len(self.rules), 0, -1.0)
        strength = first_of if self.criterion == "firstHit" else weights
        winner = np.where(fired, strength, -np.inf).argmax(axis=1)
        if self.criterion != "weightedSum":
            np.put_along_axis(sums, codes[winner][:, None], 1.0, axis=1)
            # The last that writes is the strongest rule of its label, the first among equals.
            for place in sorted(range(len(self.rules)), key=lambda i: (strength[i], -i)):
                confidence[fired[:, place], codes[place]] = self.rules[place].confidence
        sums[nothing] = 0.0
        return np.where(nothing, -1, winner), confidence

    @property
    def outcome(self) -> Callable[[Record], Outcome]:
        """A closure that answers one record."""
        if self.criterion != "firstHit":
            return self._weighed()
        rules = [(r.predicate.single(), r.score, r.confidence, r.id) for r in self.rules]
        labels, default, trust = self.labels, self.default, self.default_confidence

        def call(record: Record) -> Outcome:
            row = dict.fromkeys(labels, 0.0)
            decided: tuple[Value, str | None] | None = None
            for holds, score, confidence, identity in rules:
                try:
                    if holds(record) is not True:
                        continue
                except RowError:
                    if decided is None:
                        raise
                    continue
                decided = decided or (score, identity)
                row[score] = row[score] or confidence
            if decided is None:
                decided = (default, None)
                if default is not None:
                    row[default] = trust
            trusts = list(row.values())
            return Outcome(decided[0], labels, trusts, decided[1], {"confidence": trusts})

        return call

    def _weighed(self) -> Callable[[Record], Outcome]:
        rules = [(rule, rule.predicate.single()) for rule in self.rules]
        labels, default, trust = self.labels, self.default, self.default_confidence
        by_sum = self.criterion == "weightedSum"

        def call(record: Record) -> Outcome:
            fired = [rule for rule, holds in rules if holds(record) is True]
            trusts = dict.fromkeys(labels, 0.0)
            if not fired:
                if default is not None:
                    trusts[default] = trust
                shares = list(trusts.values())
                return Outcome(default, labels, shares, None, {"confidence": shares})
            if by_sum:
                for rule in fired:
                    trusts[rule.score] += rule.weight
                best = max(labels, key=trusts.__getitem__)
                decided = max((r for r in fired if r.score == best), key=_weight)
                shares = [total / len(fired) for total in trusts.values()]
            else:
                decided = max(fired, key=_weight)
                best = decided.score
                strongest: dict[Value, Rule] = {}
                for rule in fired:
                    if rule.score not in strongest or rule.weight > strongest[rule.score].weight:
                        strongest[rule.score] = rule
                for label, rule in strongest.items():
                    trusts[label] = rule.confidence
                shares = list(trusts.values())
            return Outcome(best, labels, shares, decided.id, {"confidence": shares})

        return call


def _weight(rule: Rule) -> float:
    return rule.weight


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
