"""
The part of SQL that a feature stage needs: ``SELECT`` of expressions over one row at a time.

Arithmetic, comparison, ``AND OR NOT``, ``CASE``, ``IF``, ``IN``, ``BETWEEN``, ``LIKE``,
``IS NULL``, ``CAST`` and the functions in ``sql_functions``, with a ``WHERE``. Joins, grouping,
windows and subqueries are refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from martlet.errors import UnsupportedModel
from martlet.formats.stages.sql_parser import REFUSED, Expression, Parser
from martlet.formats.stages.stage import Kind, Port, Stage

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)[dDfFlL]?"
    r"|(?P<text>'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.)*\")"
    r"|`(?P<quoted>[^`]+)`"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<sign><=>|<=|>=|<>|!=|==|\|\||[-+*/%=<>(),.!]))"
)
_MAX_TEXT = 100_000


def select(name: str, statement: str, port: Callable[[str], Port]) -> list[Stage]:
    """
    Return the stages that a ``SELECT ... FROM __THIS__`` makes: one an expression, and its WHERE.

    Args:
        port: What is known of a column.

    Raises:
        UnsupportedModel: it is other SQL; names the part that is not supported.
    """
    parser = Parser(name, _tokens(name, statement), port)
    parser.need("select")
    items: list[tuple[str, Expression, dict[str, Kind]]] = []
    while True:
        if parser.take("*"):
            pass
        else:
            if parser.word() in REFUSED:
                raise parser.refuse(parser.word().upper())
            parser.asked = {}
            found = parser.expression()
            if parser.take("as") or parser.peek()[0] in ("quoted", "name"):
                named = parser.name() if parser.word() != "from" else found.column
            else:
                named = found.column
            if not named:
                raise parser.refuse("an expression without AS")
            items.append((named, found, parser.asked))
        if not parser.take(","):
            break
    parser.need("from")
    if parser.name() != "__THIS__":
        raise parser.refuse("another table than __THIS__")
    stages: list[Stage] = []
    if parser.take("where"):
        parser.asked = {}
        condition = parser.expression()
        stages.append(_where(name, condition, parser.asked))
    if parser.peek()[0] != "end":
        raise parser.refuse(parser.peek()[1].upper())
    stages.extend(
        _item(name, named, expression, asked)
        for named, expression, asked in items
        # A column that is passed on is there already.
        if expression.column != named
    )
    return stages


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
    if not columns:
        raise UnsupportedModel(f"{name}: {named!r} is the same for every row")
    dtype = object if expression.text else np.float64

    def run(*values: Any) -> Any:
        frame = dict(zip(columns, values, strict=True))
        with np.errstate(all="ignore"):
            found = expression.run(frame)
        out = np.empty(len(values[0]), dtype=dtype)
        out[:] = found
        return out

    kind = Kind.TEXT if expression.text else Kind.NUMBER
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
