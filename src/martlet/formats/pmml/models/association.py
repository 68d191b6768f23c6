"""AssociationModel: the rules that a basket of items fires. Source: PMML 4.4.1, Association."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

import numpy as np

from martlet.formats.pmml.column import Column, Rows, all_errors, of_levels
from martlet.formats.pmml.context import Context
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.frame import Frame
from martlet.formats.pmml.prediction import Prediction
from martlet.formats.pmml.scope import Field
from martlet.formats.pmml.values import DOUBLE, Kind, text_of

_BASES = ("support", "confidence", "lift", "leverage", "affinity")
_ALGORITHMS = ("recommendation", "exclusiveRecommendation", "ruleAssociation")


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
class Fired:
    """What a batch's baskets hold; asked for the rules that they fire."""

    rules: tuple[Rule, ...]
    baskets: tuple[frozenset[str] | None, ...]
    codes: np.ndarray
    _cache: dict[str, list[list[int]]] = field(default_factory=dict)

    def take(self, rows: Rows) -> Fired:
        return Fired(self.rules, self.baskets, self.codes[rows], self._cache)

    def spread(self, rows: Rows, size: int) -> Fired:
        codes = np.full(size, len(self.baskets), dtype=np.int64)
        codes[rows] = self.codes
        return Fired(self.rules, (*self.baskets, None), codes)

    def of(self, algorithm: str) -> list[list[int]]:
        """Return the rules that each distinct basket fires."""
        if algorithm not in self._cache:
            self._cache[algorithm] = [self._fires(each, algorithm) for each in self.baskets]
        return self._cache[algorithm]

    def _fires(self, basket: frozenset[str] | None, algorithm: str) -> list[int]:
        if basket is None:
            return []
        found = []
        for place, rule in enumerate(self.rules):
            if not rule.antecedent <= basket:
                continue
            held = rule.consequent <= basket
            if algorithm == "exclusiveRecommendation" and held:
                continue
            if algorithm == "ruleAssociation" and not held:
                continue
            found.append(place)
        return found

    def column(
        self, feature: str, algorithm: str, basis: str, ascending: bool, rank: int, many: bool
    ) -> Column:
        """Return *feature* of the rule that ranks *rank*-th by *basis*; or of all, as a list."""
        shown: list[str | None] = []
        for places in self.of(algorithm):
            ranked = sorted(
                places,
                key=lambda p: self.rules[p].numbers.get(basis, 0.0) * (1 if ascending else -1),
            )
            values = [self._feature(self.rules[place], feature) for place in ranked]
            if many and rank == 0:
                shown.append(json.dumps(values))
                continue
            place = max(rank, 1) - 1
            value = values[place] if place < len(values) else None
            is_list = isinstance(value, list)
            shown.append(json.dumps(value) if is_list else None if value is None else str(value))
        return of_levels(self.codes, shown)

    @staticmethod
    def _feature(rule: Rule, feature: str) -> str | float | list[str]:
        if feature in rule.numbers:
            return rule.numbers[feature]
        if feature in rule.sides:
            return list(rule.sides[feature])
        return rule.id if feature == "ruleId" else rule.text


@dataclass(frozen=True, slots=True)
class Association:
    """Rules over the items of a collection, or over fields that are items themselves."""

    context: Context
    rules: tuple[Rule, ...]
    items: tuple[str, ...]
    groups: tuple[Field, ...]
    flags: tuple[tuple[Field, str | None], ...]

    def predict(self, frame: Frame) -> Prediction:
        columns: list[Column] = [frame[each.slot] for each in self.groups]
        columns += [frame[each.slot] for each, _ in self.flags]
        listed = [each.objects() for each in columns]
        index: dict[frozenset[str] | None, int] = {}
        codes = np.empty(frame.rows, dtype=np.int64)
        known = frozenset(self.items)
        for row in range(frame.rows):
            basket: set[str] = set()
            for place in range(len(self.groups)):
                value = listed[place][row]
                basket.update(_opened(value))
            for place, (each, item) in enumerate(self.flags, len(self.groups)):
                value = listed[place][row]
                if item is not None:
                    if value in (True, "true", "T", "1", 1):
                        basket.add(item)
                elif value is not None:
                    text = text_of(value, each.type)
                    basket.update((f"{each.name}={text}", text))
            codes[row] = index.setdefault(frozenset(basket & known), len(index))
        fired = Fired(self.rules, tuple(index), codes)
        value = fired.column("consequent", "exclusiveRecommendation", "confidence", False, 1, False)
        return Prediction(value.with_errors(all_errors(columns)), features={"rules": fired})


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
    return Association(context, rules, tuple(names.values()), groups, flags)


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


__all__ = ["DOUBLE", "compile_model"]
