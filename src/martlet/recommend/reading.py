"""Reads a recommender's declaration (TOML), and checks it in full."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping

from martlet.errors import InvalidInput
from martlet.names import ModelRef
from martlet.recommend.declaration import (
    ByDot,
    ByModel,
    Candidates,
    Cap,
    Column,
    Declaration,
    Dedupe,
    Diversity,
    Dot,
    DropSeen,
    DropUnknown,
    Feature,
    Filter,
    Given,
    KeepWhere,
    Key,
    Neighbours,
    Popular,
    ReRank,
    Scalar,
    Similar,
    Step,
    Stored,
    Vector,
)
from martlet.recommend.part import Part


def parse(text: str | bytes, where: str) -> Declaration:
    """
    Read the declaration *text*.

    Args:
        text: TOML, in UTF-8 where it comes as bytes.
        where: The file's name, for messages.

    Raises:
        InvalidInput: it is not TOML, or a key is missing, unknown or of the wrong type; says
            which, in which part.
    """
    try:
        document = tomllib.loads(text.decode() if isinstance(text, bytes) else text)
    except UnicodeDecodeError as exc:
        raise InvalidInput(f"{where} is not UTF-8: {exc}") from None
    except tomllib.TOMLDecodeError as exc:
        raise InvalidInput(f"{where} is not TOML: {exc}") from None
    root = Part(document, where)
    head = root.part("recommender")
    references = root.part("tables")
    tables = {name: references.text(name) for name in references.names()}
    known = _Tables(tables)
    items = known(head.text("items", ""), head) if "items" in head else ""
    ranking = tuple(_step(each, known) for each in root.parts("ranking"))
    declaration = Declaration(
        unit=head.text("unit", "user"),
        size=head.number("size", 10, 1),
        max_size=head.number("max_size", 100, 1),
        cold=head.choice("cold", ("popular", "refuse")),
        items=items,
        reply=tuple(head.texts("reply")),
        tables=tables,
        candidates=tuple(_candidates(each, known) for each in root.parts("candidates")),
        filters=tuple(_filter(each, known, items) for each in root.parts("filters")),
        ranking=ranking,
        rerank=tuple(_rerank(each, known) for each in root.parts("rerank")),
        models=tuple(step.model for step in ranking if isinstance(step, ByModel)),
    )
    for part in (head, root):
        part.finish()
    _check_head(declaration, where)
    if not declaration.candidates:
        raise InvalidInput(f"{where} has no [[candidates]]: say where items come from")
    if (declaration.reply or declaration.rerank) and not items:
        raise InvalidInput(f"{where}: 'reply' and [[rerank]] need 'items' in [recommender]")
    return declaration


def _check_head(declared: Declaration, where: str) -> None:
    if declared.size > declared.max_size:
        raise InvalidInput(
            f"{where} [recommender]: 'size' is {declared.size} and 'max_size' {declared.max_size}; "
            "a size of at most max_size is wanted"
        )
    for name in declared.reply:
        if name in RESERVED:
            raise InvalidInput(
                f"{where} [recommender]: 'reply' names {name!r}, which every reply has of its own; "
                "call the column something else"
            )


RESERVED = ("item", "score", "source")
"""What a reply says of each item, whatever else it brings."""


class _Tables:
    """Checks that a table which a part names is declared."""

    def __init__(self, declared: Mapping[str, str]) -> None:
        self._declared = declared

    def __call__(self, name: str, part: Part) -> str:
        if name not in self._declared:
            known = ", ".join(self._declared) or "none"
            raise InvalidInput(f"{part.where} names the table {name!r}; [tables] has: {known}")
        return name


def _candidates(part: Part, table: _Tables) -> Candidates:
    source = part.choice("from", ("", "neighbours", "similar", "stored", "popular"))
    if not source:
        raise InvalidInput(f"{part.where} lacks 'from': neighbours, similar, stored or popular")
    name = part.text("name", source)
    count = part.number("count", 100, 1)
    found: Candidates
    if source == "neighbours":
        found = Neighbours(
            name, table(part.text("query"), part), table(part.text("items"), part), count
        )
    elif source == "similar":
        lists, history = table(part.text("lists"), part), table(part.text("history"), part)
        found = Similar(name, lists, history, part.number("recent", 10, 1), count)
    elif source == "stored":
        found = Stored(name, table(part.text("lists"), part), count)
    else:
        found = Popular(name, table(part.text("lists"), part), part.scalar("key", "all"), count)
    part.finish()
    return found


_RULE = re.compile(r"\s*([A-Za-z_][\w.\-]*)\s*(>=|<=|==|!=|>|<)\s*(.+?)\s*")


def _filter(part: Part, table: _Tables, items: str) -> Filter:
    found: Filter
    if "keep" in part:
        rule = part.text("keep")
        match = _RULE.fullmatch(rule)
        if match is None:
            raise InvalidInput(
                f"{part.where}: {rule!r} is not a rule; write a feature, one of >= <= > < == != "
                'and a value, as in "year >= 1990" or "genres != \'Horror\'"'
            )
        feature, operator, literal = match.groups()
        default = items if items else None
        found = KeepWhere(
            table(part.text("items", default), part), feature, operator, _literal(part, literal)
        )
    elif part.choice("drop", ("", "seen", "unknown")) == "seen":
        found = DropSeen(table(part.text("history"), part))
    elif "drop" in part:
        found = DropUnknown(table(part.text("items", items or None), part))
    else:
        raise InvalidInput(f"{part.where} lacks 'drop' (seen, unknown) or 'keep' (a rule)")
    part.finish()
    return found


def _literal(part: Part, text: str) -> Scalar:
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = None
    if not isinstance(value, Scalar):
        raise InvalidInput(
            f"{part.where}: {text!r} is not a value; write a number, true, false or 'text'"
        )
    return value


def _step(part: Part, table: _Tables) -> Step:
    found: Step
    if "model" in part:
        features = part.part("features")
        units, items = part.text("units", ""), part.text("items", "")
        sides = {"unit": units, "item": items}
        found = ByModel(
            model=_model(part),
            output=part.text("output", ""),
            units=table(units, part) if units else "",
            items=table(items, part) if items else "",
            features={key: _feature(features, key, table, sides) for key in features.names()},
            timeout_s=part.number("timeout_ms", 2000, 1) / 1000,
        )
    elif "dot" in part:
        found = ByDot(*_pair(part, table))
    else:
        raise InvalidInput(f"{part.where} lacks 'model' (a registered one) or 'dot' (two tables)")
    part.finish()
    return found


def _model(part: Part) -> ModelRef:
    try:
        return ModelRef.parse(part.text("model"))
    except InvalidInput as exc:
        raise InvalidInput(f"{part.where}: {exc}") from None


def _feature(features: Part, key: str, table: _Tables, sides: Mapping[str, str]) -> Feature:
    value = features.raw(key)
    where = f"{features.where} {key!r}"
    if isinstance(value, str):
        if value in ("unit", "item"):
            return Key(value)
        name, dot, column = value.partition(".")
        if dot and name == "request":
            return Given(column)
        side = next((each for each, declared in sides.items() if dot and declared == name), None)
        if side is None:
            raise InvalidInput(
                f"{where} is {value!r}; write 'unit', 'item', 'request.field', or a column of "
                f"this step's 'units' or 'items' table, as in 'users.age'"
            )
        return Column(side, column)
    part = Part(value, where)
    found: Feature
    if "dot" in part:
        found = Dot(*_pair(part, table))
    elif "unit" in part or "item" in part:
        of = "unit" if "unit" in part else "item"
        found = Vector(of, table(part.text(of), part))
    else:
        found = Given(part.text("request"), part.scalar("default"))
    part.finish()
    return found


def _pair(part: Part, table: _Tables) -> tuple[str, str]:
    names = part.texts("dot")
    if len(names) != 2:
        raise InvalidInput(f"{part.where}: 'dot' is {names}; two tables of vectors are wanted")
    return table(names[0], part), table(names[1], part)


def _rerank(part: Part, table: _Tables) -> ReRank:
    by = part.choice("by", ("", "dedupe", "cap", "diversity"))
    found: ReRank
    if by == "dedupe":
        found = Dedupe(part.text("feature"))
    elif by == "cap":
        found = Cap(part.text("feature"), part.number("most", None, 1))
    elif by == "diversity":
        found = Diversity(table(part.text("vectors"), part), part.share("weight"))
    else:
        raise InvalidInput(f"{part.where} lacks 'by': dedupe, cap or diversity")
    part.finish()
    return found
