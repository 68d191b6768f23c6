"""AssociationModel: the rules that a basket of items fires. Source: PMML 4.4.1, Association."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from martlet.formats.pmml.column import Column, Rows, all_errors, of_levels
from martlet.formats.pmml.context import Context
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.frame import Frame, Record
from martlet.formats.pmml.prediction import Outcome, Prediction
from martlet.formats.pmml.scope import Field
from martlet.formats.pmml.values import Kind, Value, text_of

_BASES = ("support", "confidence", "lift", "leverage", "affinity")
_PREDICTED = ("consequent", "exclusiveRecommendation", "confidence", False, 1, False)
"""What the model itself predicts: the strongest rule's consequent, of items that are new."""


@dataclass(frozen=True, slots=True)
class Rule:
    """If all of *antecedent*, then *consequent*."""

    id: str
    antecedent: frozenset[str]
    consequent: frozenset[str]
    sides: dict[str, tuple[str, ...]]
    text: str
    numbers: dict[str, float]


@dataclass(frozen=True, slots=True)
class Rules:
    """All rules, found by the items that their antecedents name."""

    rules: tuple[Rule, ...]
    by_item: dict[str, list[int]]

    @classmethod
    def of(cls, rules: tuple[Rule, ...]) -> Rules:
        by_item: dict[str, list[int]] = {}
        for place, rule in enumerate(rules):
            for item in rule.antecedent:
                by_item.setdefault(item, []).append(place)
        return cls(rules, by_item)

    def within(self, items: frozenset[str]) -> list[int]:
        """Return the places of the rules whose antecedents *items* hold, in order."""
        met: Counter[int] = Counter(p for item in items for p in self.by_item.get(item, ()))
        return [p for p, rule in enumerate(self.rules) if met[p] == len(rule.antecedent)]


@dataclass(frozen=True, slots=True)
class Basket:
    """The items of one row; asked for the rules that they fire."""

    rules: Rules
    items: frozenset[str]
    _fired: dict[str, list[Rule]] = field(default_factory=dict)

    def fired(self, algorithm: str) -> list[Rule]:
        """Return the rules that *algorithm* takes, in the file's order."""
        if algorithm not in self._fired:
            held = [self.rules.rules[place] for place in self.rules.within(self.items)]
            if algorithm != "recommendation":
                is_held = algorithm == "ruleAssociation"
                held = [rule for rule in held if (rule.consequent <= self.items) is is_held]
            self._fired[algorithm] = held
        return self._fired[algorithm]

    def shown(
        self, feature: str, algorithm: str, basis: str, ascending: bool, rank: int, many: bool
    ) -> str | None:
        """
        Return *feature* of the rule that ranks *rank*-th by *basis*.

        Args:
            many: Whether those of all rules up to *rank* are wanted (0: of all there are), a list.
        """
        sign = 1 if ascending else -1
        ranked = sorted(self.fired(algorithm), key=lambda rule: rule.numbers.get(basis, 0.0) * sign)
        values = [_feature(rule, feature) for rule in ranked]
        if many:
            return json.dumps(values[: rank or None])
        place = rank - 1
        value = values[place] if place < len(values) else None
        if isinstance(value, list):
            return json.dumps(value)
        return None if value is None else str(value)


def _feature(rule: Rule, feature: str) -> str | float | list[str] | None:
    if feature in _BASES:
        return rule.numbers.get(feature)
    if feature in rule.sides:
        return list(rule.sides[feature])
    return rule.id if feature == "ruleId" else rule.text


@dataclass(frozen=True, slots=True)
class Fired:
    """A batch's baskets, the distinct ones, and which of them each row has."""

    baskets: tuple[Basket | None, ...]
    codes: np.ndarray

    def take(self, rows: Rows) -> Fired:
        return Fired(self.baskets, self.codes[rows])

    def spread(self, rows: Rows, size: int) -> Fired:
        codes = np.full(size, len(self.baskets), dtype=np.int64)
        codes[rows] = self.codes
        return Fired((*self.baskets, None), codes)

    def column(self, *asked: Any) -> Column:
        """Return what each row's basket shows; the arguments are those of :meth:`Basket.shown`."""
        shown = [None if each is None else each.shown(*asked) for each in self.baskets]
        return of_levels(self.codes, shown)


@dataclass(frozen=True, slots=True)
class Association:
    """Rules over the items of a collection, or over fields that are items themselves."""

    context: Context
    rules: Rules
    items: frozenset[str]
    groups: tuple[Field, ...]
    flags: tuple[tuple[Field, str | None], ...]

    def predict(self, frame: Frame) -> Prediction:
        columns: list[Column] = [frame[each.slot] for each in self.groups]
        columns += [frame[each.slot] for each, _ in self.flags]
        listed = [each.objects() for each in columns]
        index: dict[frozenset[str], int] = {}
        codes = np.empty(frame.rows, dtype=np.int64)
        for row in range(frame.rows):
            basket = self._items([values[row] for values in listed])
            codes[row] = index.setdefault(basket, len(index))
        fired = Fired(tuple(Basket(self.rules, each) for each in index), codes)
        value = fired.column(*_PREDICTED)
        return Prediction(value.with_errors(all_errors(columns)), features={"rules": fired})

    @property
    def outcome(self) -> Callable[[Record], Outcome]:
        """A closure that answers one record."""
        scope = self.context.scope
        reads = [scope.reader(each) for each in self.groups]
        reads += [scope.reader(each) for each, _ in self.flags]

        def call(record: Record) -> Outcome:
            basket = Basket(self.rules, self._items([read(record) for read in reads]))
            return Outcome(basket.shown(*_PREDICTED), features={"rules": basket})

        return call

    def _items(self, values: list[Value]) -> frozenset[str]:
        """Return the items of one row, from the *values* of its groups, then of its flags."""
        found: set[str] = set()
        for value in values[: len(self.groups)]:
            found.update(_opened(value))
        for (each, item), value in zip(self.flags, values[len(self.groups) :], strict=True):
            if item is not None:
                if value in (True, "true", "T", "1", 1):
                    found.add(item)
            elif value is not None:
                text = text_of(value, each.type)
                found.update((f"{each.name}={text}", text))
        return self.items.intersection(found)


def _opened(value: object) -> tuple[str, ...]:
    """Return the items of one cell: a collection, its JSON, or one item."""
    if value is None:
        return ()
    if isinstance(value, tuple):
        return tuple(str(each) for each in value if each is not None)
    text = str(value)
    if text.startswith("["):
        try:
            return tuple(str(each) for each in json.loads(text))
        except ValueError:
            pass
    return (text,)


def compile_model(context: Context) -> Association:
    """Compile an AssociationModel."""
    element = context.element
    items = {each.need("id"): each for each in element.all("Item")}
    names = {key: _item(each) for key, each in items.items()}
    sets: dict[str, tuple[str, ...]] = {}
    for each in element.all("Itemset"):
        refs = [ref.need("itemRef") for ref in each.all("ItemRef")]
        unknown = next((ref for ref in refs if ref not in names), None)
        if unknown is not None:
            raise each.error(f"refers to the item {unknown!r}, which there is not")
        sets[each.need("id")] = tuple(names[ref] for ref in refs)
    rules = tuple(
        _rule(each, str(place), sets)
        for place, each in enumerate(element.all("AssociationRule"), 1)
    )
    groups, flags = _fields(context, set(names.values()))
    return Association(context, Rules.of(rules), frozenset(names.values()), groups, flags)


def _item(element: Element) -> str:
    return element.need("value")


def _rule(element: Element, place: str, sets: dict[str, tuple[str, ...]]) -> Rule:
    sides = {}
    for name in ("antecedent", "consequent"):
        key = element.need(name)
        if key not in sets:
            raise element.error(f"refers to the itemset {key!r}, which there is not")
        sides[name] = sets[key]
    text = "->".join("{" + ",".join(side) + "}" for side in sides.values())
    numbers = {name: element.number(name) for name in _BASES if element.get(name) is not None}
    before, after = (frozenset(side) for side in sides.values())
    return Rule(element.get("id") or place, before, after, sides, text, numbers)


def _fields(
    context: Context, items: set[str]
) -> tuple[tuple[Field, ...], tuple[tuple[Field, str | None], ...]]:
    """Return the fields that hold items, and those that are one each (with its name)."""
    groups: list[Field] = []
    flags: list[tuple[Field, str | None]] = []
    schema = context.element.need_child("MiningSchema").all("MiningField")
    grouped = any(each.get("usageType") == "group" for each in schema)
    for each in schema:
        if each.get("usageType", "active") != "active":
            continue
        found = context.scope.field(each.need("name"), each)
        if grouped:
            groups.append(found)
        elif found.name in items and found.type.kind is not Kind.DOUBLE:
            flags.append((found, found.name))
        else:
            flags.append((found, None))
    return tuple(groups), tuple(flags)
