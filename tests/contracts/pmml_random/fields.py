"""A document's fields: what the DataDictionary and the MiningSchema say of them, and their rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from pmml_random.dice import Dice, element

LETTERS = ("a", "b", "c", "d e", "é")
NUMBERS = ("double", "float", "integer")
MOMENTS = ("date", "dateTime", "time", "dateDaysSince[1960]", "dateTimeSecondsSince[1970]")


@dataclass
class Field:
    """
    One DataField and its MiningField.

    Args:
        values: The values that are valid, as text; () where any is.
        cells: What rows may hold: mostly values that the field takes.
        odd: What they may hold now and then: invalid, of another type, declared missing.
    """

    name: str
    type: str
    optype: str
    values: tuple[str, ...] = ()
    cells: list[Any] = field(default_factory=list)
    odd: list[Any] = field(default_factory=list)
    inside: str = ""
    schema: dict[str, object] = field(default_factory=dict)

    @property
    def is_number(self) -> bool:
        return self.type in NUMBERS

    @property
    def is_text(self) -> bool:
        return self.type == "string"

    def data_field(self) -> str:
        return element(
            "DataField",
            *filter(None, [self.inside]),
            name=self.name,
            optype=self.optype,
            dataType=self.type,
        )

    def mining_field(self, **more: object) -> str:
        return element("MiningField", name=self.name, **{**self.schema, **more})

    def literal(self, dice: Dice) -> str:
        """Return a value that a predicate may compare the field with, as text."""
        if self.values and dice.chance(0.9):
            return dice.choice(self.values)
        cell = dice.choice(self.cells)
        return {True: "true", False: "false"}.get(cell, "") if isinstance(cell, bool) else str(cell)

    def cell(self, dice: Dice) -> Any:
        if dice.chance(0.1):
            return None
        return dice.choice(self.odd if self.odd and dice.chance(0.12) else self.cells)


def numeric(dice: Dice, name: str, plain: bool = False) -> Field:
    """Return a field of numbers: with intervals, values or missing values declared, or none."""
    kind = dice.one(*NUMBERS, "double")
    cells: list[Any] = [dice.number() for _ in range(8)]
    if kind == "integer":
        cells = [int(each) for each in cells]
    found = Field(name, kind, "continuous", cells=cells)
    if plain:
        return found
    inside = ""
    if kind == "float":
        pass  # the reference compares a float32 with margins and values that it has not rounded
    elif dice.chance(0.25):
        low, high = sorted((dice.number(), dice.number() + 2))
        closure = dice.one("openOpen", "openClosed", "closedOpen", "closedClosed")
        inside += element(
            "Interval",
            closure=closure,
            leftMargin=low,
            rightMargin=dice.maybe(0.8, high),
        )
        found.cells += [low, high, (low + high) / 2] if kind != "integer" else []
    elif dice.chance(0.15):
        found.values = tuple(dict.fromkeys(str(each) for each in cells[:5]))
        inside += "".join(element("Value", value=each) for each in found.values)
        found.optype = dice.one("continuous", "categorical", "ordinal")
    if dice.chance(0.2):
        inside += element("Value", value=-99, property="missing")
        found.odd.append(-99 if kind == "integer" else -99.0)
    if dice.chance(0.1):
        inside += element("Value", value=cells[-1], property="invalid")
    found.inside = inside
    found.odd += ["soup", "2", 1.5, 1e9, "-1.0"]
    _treat(dice, found)
    return found


def categorical(dice: Dice, name: str) -> Field:
    """Return a field of text: with its values declared, or not."""
    cells = list(LETTERS[: dice.randint(2, 5)])
    found = Field(name, "string", dice.one("categorical", "categorical", "ordinal"), cells=cells)
    if dice.chance(0.7) or found.optype == "ordinal":
        found.values = tuple(cells)
        found.inside = "".join(element("Value", value=each) for each in cells)
    if dice.chance(0.15):
        found.inside += element("Value", value="?", property="missing")
    if dice.chance(0.1):
        found.inside += element("Value", value="zz", property="invalid")
    found.odd = ["?", "zz", "A", "", 1.0, " a"]
    _treat(dice, found)
    return found


def boolean(dice: Dice, name: str) -> Field:
    found = Field(name, "boolean", "categorical", cells=[True, False])
    found.odd = ["true", "false", "x", 1.0, 0.0, 2.0]
    _treat(dice, found)
    return found


def moment(dice: Dice, name: str) -> Field:
    kind = dice.choice(MOMENTS)
    cells = {
        "date": ["2020-01-31", "1969-12-31", "1960-01-01", "2000-02-29"],
        "dateTime": ["2020-01-31T12:00:01", "1969-12-31T23:59:59", "1999-12-31T00:00:00"],
        "time": ["00:00:00", "23:59:59", "12:30:05"],
        "dateDaysSince[1960]": [0, 1, 14610, -5],
        "dateTimeSecondsSince[1970]": [0, 1, 86399, 951782400],
    }[kind]
    return Field(name, kind, "continuous", cells=list(cells))


def _treat(dice: Dice, found: Field) -> None:
    """Draw what the MiningSchema does with what is odd."""
    schema = found.schema
    replacement = str(found.literal(dice))
    if dice.chance(0.35):
        schema["invalidValueTreatment"] = treatment = dice.one(
            "returnInvalid", "asIs", "asMissing", "asValue"
        )
        if treatment == "asValue" or dice.chance(0.05):
            schema["invalidValueReplacement"] = replacement
    if dice.chance(0.2):
        schema["missingValueReplacement"] = replacement
    if dice.chance(0.15):
        schema["missingValueTreatment"] = dice.one(
            "asIs", "asMean", "asMode", "asMedian", "asValue", "returnInvalid"
        )
    if found.is_number and found.optype == "continuous" and dice.chance(0.2):
        low, high = sorted((dice.number(), dice.number() + 1))
        if found.type == "integer":
            low, high = int(low), int(high)
        schema |= {
            "outliers": dice.one("asIs", "asMissingValues", "asExtremeValues"),
            "lowValue": low,
            "highValue": high,
        }


def some_fields(dice: Dice, *, plain: bool = False) -> list[Field]:
    """Return the active fields of a document: numbers first, then text, truths and moments."""
    found = [numeric(dice, f"x{place}", plain) for place in range(dice.randint(1, 3))]
    found += [categorical(dice, f"k{place}") for place in range(dice.randint(1, 2))]
    if dice.chance(0.3):
        found.append(boolean(dice, "b"))
    if dice.chance(0.2) and not plain:
        found.append(moment(dice, "d"))
    return found


def rows_of(dice: Dice, fields: list[Field], count: int = 12) -> list[dict[str, Any]]:
    return [{each.name: each.cell(dice) for each in fields} for _ in range(count)]
