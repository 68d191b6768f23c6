"""
The part of SQL that a feature stage needs: ``SELECT`` of expressions over one row at a time.

Arithmetic, comparison, ``AND OR NOT``, ``CASE``, ``IF``, ``IN``, ``BETWEEN``, ``LIKE``,
``RLIKE``, ``IS NULL``, ``CAST`` and the functions in ``sql_functions``, with a ``WHERE``. Joins,
grouping, windows and subqueries are refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from martlet.errors import UnsupportedModel
from martlet.formats.stages.sql_expressions import Columns, Expression
from martlet.formats.stages.sql_functions import Type, to_text
from martlet.formats.stages.sql_parser import REFUSED, Parser
from martlet.formats.stages.stage import Kind, Port, Stage

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)(?:[dDfFlLsSyY]|BD|bd)?(?![A-Za-z_])"
    r"|(?P<text>'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.)*\")"
    r"|`(?P<quoted>[^`]+)`"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<sign><=>|<=|>=|<>|!=|==|\|\||::|[-+*/%=<>(),.!\[\]]))"
)
_MAX_TEXT = 100_000


@dataclass(frozen=True, slots=True)
class Selected:
    """What a ``SELECT`` makes: the stages, and the new names of columns that it passes on."""

    stages: list[Stage]
    renamed: dict[str, str]


def select(name: str, statement: str, port: Callable[[str], Port]) -> Selected:
    """
    Return what a ``SELECT ... FROM __THIS__`` makes: a stage an expression, and its WHERE.

    Args:
        port: What is known of a column, and how it is spelled.

    Raises:
        UnsupportedModel: it is other SQL; names the part that is not supported.
    """
    tokens = _tokens(name, statement)
    parser = Parser(name, tokens, port, table=_table(tokens))
    parser.need("select")
    items: list[tuple[str, Expression, dict[str, Kind]]] = []
    while True:
        if not parser.take("*") and not _everything(parser):
            if parser.word() in REFUSED:
                raise parser.refuse(parser.word().upper())
            parser.columns = Columns(name)
            found = parser.expression()
            if parser.take("as") or parser.peek()[0] in ("quoted", "name"):
                named = parser.name() if parser.word() != "from" else found.column
            else:
                named = found.column
            if not named:
                raise parser.refuse("an expression without AS")
            items.append((named, found, parser.columns.asked))
        if not parser.take(","):
            break
    parser.need("from")
    if parser.name() != "__THIS__":
        raise parser.refuse("another table than __THIS__")
    if parser.take("as") or parser.word() == parser.table:
        parser.name()
    stages: list[Stage] = []
    if parser.take("where"):
        parser.columns = Columns(name)
        condition = parser.columns.brought(parser.expression(), Type.TRUTH)
        stages.append(_where(name, condition, parser.columns.asked))
    if parser.peek()[0] != "end":
        raise parser.refuse(parser.peek()[1].upper())
    renamed = {named: each.column for named, each, _ in items if each.column not in ("", named)}
    stages.extend(
        _item(name, named, expression, asked)
        for named, expression, asked in items
        # A column that is passed on is there already.
        if not expression.column
    )
    return Selected(stages, renamed)


def _table(tokens: list[tuple[str, str]]) -> str:
    """Return the name that the statement gives the table, in small letters."""
    for i, token in enumerate(tokens):
        if token == ("name", "__THIS__") and tokens[i - 1][1].lower() == "from":
            rest = [text.lower() for kind, text in tokens[i + 1 : i + 3] if kind == "name"]
            if rest[:1] == ["as"]:
                rest = rest[1:]
            if rest and rest[0] not in REFUSED and rest[0] != "where":
                return rest[0]
    return "__this__"


def _everything(parser: Parser) -> bool:
    """Take ``t.*``, where it stands here."""
    here = [text.lower() for _, text in parser.tokens[parser.at : parser.at + 3]]
    if here not in ([parser.table, ".", "*"], ["__this__", ".", "*"]):
        return False
    parser.at += 3
    return True


def _tokens(name: str, statement: str) -> list[tuple[str, str]]:
    text = statement.strip().rstrip(";").rstrip()
    if len(text) > _MAX_TEXT:
        raise UnsupportedModel(f"{name}: a statement of {len(text)} characters is too long")
    tokens: list[tuple[str, str]] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.lastgroup is None:
            raise UnsupportedModel(f"{name}: SQL with {text[at : at + 20]!r} is not supported")
        tokens.append((match.lastgroup, match[match.lastgroup]))
        at = match.end()
    return tokens


def _ports(asked: Mapping[str, Kind]) -> tuple[Port, ...]:
    return tuple(Port(column, kind) for column, kind in asked.items())


def _item(name: str, named: str, expression: Expression, asked: Mapping[str, Kind]) -> Stage:
    inputs = _ports(asked)
    columns = [port.name for port in inputs]
    text = expression.type in (Type.TEXT, Type.DATE, Type.TIME, Type.OPEN)
    words = expression.type is Type.WORDS
    dtype = object if text or words else np.float64

    def run(*values: Any) -> Any:
        with np.errstate(all="ignore"):
            found = expression.run(dict(zip(columns, values, strict=False)))
            found = to_text(found, expression.type) if text else found
        # What is the same for every row is asked with their number.
        out = np.empty(len(values[0]) if columns else values[0], dtype=dtype)
        out[:] = found
        return out

    kinds = {Type.WORDS: Kind.WORDS, Type.WHOLE: Kind.WHOLE, Type.TRUTH: Kind.TRUTH,
             Type.EITHER: Kind.EITHER}  # fmt: skip
    kind = Kind.TEXT if text else kinds.get(expression.type, Kind.NUMBER)
    return Stage(f"{name}, column {named!r}", inputs, (Port(named, kind),), run)


def _where(name: str, condition: Expression, asked: Mapping[str, Kind]) -> Stage:
    inputs = _ports(asked)
    columns = [port.name for port in inputs]
    if not columns:
        raise UnsupportedModel(f"{name}: its WHERE is the same for every row")

    def keep(*values: Any) -> Any:
        found = condition.run(dict(zip(columns, values, strict=True)))
        return np.equal(np.broadcast_to(found, len(values[0])), 1.0)

    def same(*given: Any) -> Any:
        return given[0] if len(given) == 1 else given

    return Stage(f"{name}, WHERE", inputs, inputs, same, keep)
