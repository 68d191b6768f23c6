"""Predicates of every kind, over the fields of a document."""

from __future__ import annotations

from pmml_random.dice import Dice, array, element
from pmml_random.fields import Field

_ORDERED = ("lessThan", "lessOrEqual", "greaterThan", "greaterOrEqual")
CONTRARY = {
    "lessThan": "greaterOrEqual",
    "lessOrEqual": "greaterThan",
    "greaterThan": "lessOrEqual",
    "greaterOrEqual": "lessThan",
    "equal": "notEqual",
    "notEqual": "equal",
    "isMissing": "isNotMissing",
    "isNotMissing": "isMissing",
}


def testable(fields: list[Field]) -> list[Field]:
    """Return the fields that predicates may test."""
    return [each for each in fields if each.is_number or each.is_text or each.type == "boolean"]


def simple(dice: Dice, fields: list[Field]) -> tuple[str, str]:
    """Return a SimplePredicate, and its opposite."""
    chosen = dice.choice(testable(fields))
    tests = ["equal", "notEqual", "isMissing", "isNotMissing"]
    if chosen.is_number and chosen.optype == "continuous":
        tests = [*_ORDERED, *_ORDERED, *tests]
    elif chosen.optype == "ordinal" and chosen.values:
        tests = [*_ORDERED, *tests]
    test = dice.choice(tests)
    value = None if test.endswith("issing") else chosen.literal(dice)
    pair = [
        element("SimplePredicate", field=chosen.name, operator=each, value=value)
        for each in (test, CONTRARY[test])
    ]
    return pair[0], pair[1]


def in_set(dice: Dice, fields: list[Field]) -> tuple[str, str]:
    chosen = dice.choice([each for each in testable(fields) if each.type != "boolean"])
    listed = list(dict.fromkeys(chosen.literal(dice) for _ in range(dice.randint(1, 6))))
    kind = "string" if chosen.is_text else {"integer": "int"}.get(chosen.type, "real")
    pair = [
        element("SimpleSetPredicate", array(listed, kind), field=chosen.name, booleanOperator=each)
        for each in ("isIn", "isNotIn")
    ]
    return (pair[0], pair[1]) if dice.chance(0.6) else (pair[1], pair[0])


def compound(dice: Dice, fields: list[Field], depth: int) -> str:
    operator = dice.one("and", "or", "xor", "surrogate")
    parts = [predicate(dice, fields, depth - 1) for _ in range(dice.randint(2, 3))]
    return element("CompoundPredicate", *parts, booleanOperator=operator)


def predicate(dice: Dice, fields: list[Field], depth: int = 1) -> str:
    match dice.randint(0, 9):
        case 0:
            return element(dice.one("True", "True", "False"))
        case 1 | 2 | 3:
            return in_set(dice, fields)[0]
        case 4 | 5 if depth > 0:
            return compound(dice, fields, depth)
        case _:
            return simple(dice, fields)[0]


def pair(dice: Dice, fields: list[Field]) -> tuple[str, str]:
    """Return two predicates, of which the second is mostly the first's opposite."""
    if dice.chance(0.2):
        return predicate(dice, fields), predicate(dice, fields)
    return in_set(dice, fields) if dice.chance(0.3) else simple(dice, fields)
