"""
RuleSetModel: rules that vote, or the first that fires. Source: PMML 4.4.1, RuleSet.

Of ``weightedMax`` the strongest rules of the labels compete by their confidence, as in the
reference engine; the standard's own words would have the strongest rule of all.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from martlet.formats.pmml.column import Column, Mask, Reasons, first, kept
from martlet.formats.pmml.context import Context
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.frame import Frame, Record
from martlet.formats.pmml.predicates import Predicate, predicate_of
from martlet.formats.pmml.prediction import Outcome, Prediction, label_column
from martlet.formats.pmml.values import STRING, Value


@dataclass(frozen=True, slots=True)
class Rule:
    """A score for the rows that all its conditions hold for."""

    id: str
    conditions: tuple[Predicate, ...]
    """Of the rules around it, then its own: each is asked where those before it hold."""
    score: Value
    confidence: float
    weight: float

    def holds(self, frame: Frame) -> tuple[Mask, Reasons | None]:
        """Return where it fires, and the rows of which that cannot be said."""
        yes: Mask = np.ones(frame.rows, dtype=bool)
        errors: Reasons | None = None
        for each in self.conditions:
            truth = each.truth(frame)
            if truth.errors is not None:
                errors = first(errors, kept(truth.errors, yes))
            yes = yes & truth.yes
        return yes, errors

    def single(self) -> Callable[[Record], bool]:
        """Return a closure that says whether it fires for a record."""
        holds = [each.single() for each in self.conditions]
        return lambda record: all(each(record) is True for each in holds)


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
        fired = np.zeros((frame.rows, len(self.rules)), dtype=bool)
        errors: Reasons | None = None
        for place, rule in enumerate(self.rules):
            fired[:, place], failed = rule.holds(frame)
            errors = first(errors, failed)
        codes, winner, confidence = self._decided(fired)
        none = codes < 0
        if self.default is not None:
            codes = np.where(none, self.labels.index(self.default), codes)
            confidence[none, codes[none]] = self.default_confidence
        value: Column = label_column(codes, self.labels, self.context.label)
        entity = label_column(winner, [rule.id for rule in self.rules], STRING)
        return Prediction(value.with_errors(errors), self.labels, confidence, confidence, entity)

    def _decided(self, fired: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """
        Return each row's label and deciding rule, -1 where none fired, and all labels' confidence.

        Args:
            fired: Which rules fired. Shape [rows, rules].
        """
        nothing, shape = len(self.rules), (len(fired), len(self.labels))
        earliest, strongest = np.full(shape, nothing), np.full(shape, nothing)
        heaviest, confidence = np.full(shape, -np.inf), np.zeros(shape)
        for place, rule in enumerate(self.rules):
            code, here = self.labels.index(rule.score), fired[:, place]
            is_first = here & (earliest[:, code] == nothing)
            earliest[is_first, code] = place
            better = is_first if self.criterion == "firstHit" else (
                here & (rule.weight > heaviest[:, code])
            )  # fmt: skip
            heaviest[better, code] = rule.weight
            strongest[better, code] = place
            if self.criterion == "weightedSum":
                confidence[here, code] += rule.weight
            else:
                confidence[better, code] = rule.confidence
        if self.criterion == "weightedSum":
            confidence /= np.maximum(fired.sum(axis=1), 1)[:, None]
        order = earliest
        if self.criterion != "firstHit":
            trusted = np.where(earliest < nothing, confidence, -np.inf)
            order = np.where(trusted == trusted.max(axis=1)[:, None], earliest, nothing)
        best = order.argmin(axis=1)
        winner = strongest[np.arange(len(fired)), best]
        none = winner == nothing
        return np.where(none, -1, best), np.where(none, -1, winner), confidence

    @property
    def outcome(self) -> Callable[[Record], Outcome]:
        """A closure that answers one record."""
        rules = [(rule, rule.single()) for rule in self.rules]
        labels, default, trust = self.labels, self.default, self.default_confidence
        decide = _ONE[self.criterion]

        def call(record: Record) -> Outcome:
            by_label: dict[Value, list[Rule]] = {}
            for rule, holds in rules:
                if holds(record):
                    by_label.setdefault(rule.score, []).append(rule)
            trusts = dict.fromkeys(labels, 0.0)
            identity, label = None, default
            if by_label:
                label, rule = decide(by_label, trusts)
                identity = rule.id
            elif default is not None:
                trusts[default] = trust
            shares = list(trusts.values())
            return Outcome(label, labels, shares, identity, {"confidence": shares})

        return call


Fired = dict[Value, list[Rule]]
"""The rules that fired for each label, the label of the first that fired first."""


def _first_hit(fired: Fired, trusts: dict[Value, float]) -> tuple[Value, Rule]:
    for label, rules in fired.items():
        trusts[label] = rules[0].confidence
    label = next(iter(fired))
    return label, fired[label][0]


def _weighted_sum(fired: Fired, trusts: dict[Value, float]) -> tuple[Value, Rule]:
    count = sum(map(len, fired.values()))
    for label, rules in fired.items():
        trusts[label] = sum(rule.weight for rule in rules) / count
    label = max(fired, key=trusts.__getitem__)
    return label, max(fired[label], key=_weight)


def _weighted_max(fired: Fired, trusts: dict[Value, float]) -> tuple[Value, Rule]:
    strongest = {label: max(rules, key=_weight) for label, rules in fired.items()}
    for label, rule in strongest.items():
        trusts[label] = rule.confidence
    label = max(fired, key=trusts.__getitem__)
    return label, strongest[label]


_ONE: dict[str, Callable[[Fired, dict[Value, float]], tuple[Value, Rule]]] = {
    "firstHit": _first_hit,
    "weightedSum": _weighted_sum,
    "weightedMax": _weighted_max,
}
"""What fills in the labels' confidence, and decides; by criterion."""


def _weight(rule: Rule) -> float:
    return rule.weight


def compile_model(context: Context) -> RuleSet:
    """Compile a RuleSetModel."""
    rule_set = context.element.need_child("RuleSet")
    methods = rule_set.all("RuleSelectionMethod")
    if not methods:
        raise rule_set.error("holds no RuleSelectionMethod")
    criterion = methods[0].choice("criterion", tuple(_ONE))
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
        rules.append(
            Rule(
                each.get("id") or str(len(rules) + 1),
                own,
                context.parse_label(each.need("score"), each),
                each.number("confidence", 1.0),
                each.number("weight", 1.0),
            )
        )
