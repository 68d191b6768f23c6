"""Reads the expressions of a ``SELECT`` as functions of columns."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from martlet.errors import UnsupportedModel
from martlet.formats.stages.sql_functions import (
    ARITHMETIC,
    COMPARE,
    FUNCTIONS,
    WHOLE,
    Value,
    both_true,
    by_value,
    concat,
    is_null,
    not_true,
    one_true,
    to_number,
    to_single,
    to_text,
    to_whole,
    truth_of,
)
from martlet.formats.stages.stage import Kind, Port

# fmt: off
REFUSED = frozenset((
    "join", "group", "having", "union", "intersect", "except", "window", "over", "lateral",
    "order", "limit", "distinct", "with", "pivot", "cluster", "distribute", "exists",
))
_RESERVED = REFUSED | frozenset((
    "select", "from", "where", "as", "and", "or", "not", "case", "when", "then", "else", "end",
    "in", "between", "like", "rlike", "is", "null", "true", "false", "cast", "if",
))
# fmt: on
_MAX_DEPTH = 100

Frame = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Expression:
    """What computes a value from the columns it names, and whether that is text."""

    run: Callable[[Frame], Value]
    text: bool = False
    column: str = ""


@dataclass(slots=True)
class Parser:
    """
    A recursive descent over the tokens of one statement.

    ``asked`` are the columns that the expression read last names, and what each must hold.
    """

    where: str
    tokens: list[tuple[str, str]]
    port: Callable[[str], Port]
    at: int = 0
    depth: int = 0
    asked: dict[str, Kind] = field(default_factory=dict)

    def refuse(self, what: str) -> UnsupportedModel:
        return UnsupportedModel(
            f"{self.where}: SQL with {what} is not supported; compute that column beforehand"
        )

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def word(self) -> str:
        kind, text = self.peek()
        return text.lower() if kind == "name" else ""

    def take(self, *texts: str) -> str | None:
        kind, text = self.peek()
        folded = text.lower() if kind in ("name", "sign") else None
        if folded in texts:
            self.at += 1
            return folded
        return None

    def need(self, text: str) -> None:
        if self.take(text) is None:
            raise self.refuse(f"{self.peek()[1] or 'an end'!r} where {text!r} is wanted")

    def name(self) -> str:
        kind, text = self.peek()
        if kind not in ("name", "quoted") or (kind == "name" and text.lower() in _RESERVED):
            raise self.refuse(f"{text or 'an end'!r} where a name is wanted")
        self.at += 1
        return text

    # Loosest first: OR, AND, NOT, comparison, sum, product, sign, atom.

    def expression(self) -> Expression:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise self.refuse(f"more than {_MAX_DEPTH} levels")
        left = self.conjunction()
        while self.take("or"):
            left = _both(left, self.conjunction(), one_true)
        self.depth -= 1
        return left

    def conjunction(self) -> Expression:
        left = self.negation()
        while self.take("and"):
            left = _both(left, self.negation(), both_true)
        return left

    def negation(self) -> Expression:
        count = 0
        while self.take("not", "!"):
            count += 1
        inner = self.comparison()
        if count == 0:
            return inner
        # Twice NOT is once the truth value.
        return _one(inner, not_true) if count % 2 else _one(inner, lambda v: not_true(not_true(v)))

    def comparison(self) -> Expression:
        left = self.sum()
        while True:
            sign = self.take("=", "==", "!=", "<>", "<", "<=", ">", ">=", "<=>")
            if sign:
                right = self.sum()
                self.settle(left, right)
                left = _both(left, right, COMPARE[sign])
                continue
            if self.take("is"):
                negated = self.take("not") is not None
                self.need("null")
                left = _one(left, (lambda v: 1.0 - is_null(v)) if negated else is_null)
                continue
            negated = self.word() == "not"
            if negated:
                self.at += 1
            if self.take("in"):
                left = self.membership(left)
            elif self.take("between"):
                low = self.sum()
                self.need("and")
                high = self.sum()
                left = _both(
                    _both(left, low, COMPARE[">="]), _both(left, high, COMPARE["<="]), both_true
                )
            elif self.take("like"):
                left = self.like(left)
            elif negated:
                raise self.refuse("NOT here")
            else:
                return left
            if negated:
                left = _one(left, not_true)

    def membership(self, left: Expression) -> Expression:
        self.need("(")
        found: Expression | None = None
        while True:
            item = self.expression()
            self.settle(left, item)
            equal = _both(left, item, COMPARE["="])
            found = equal if found is None else _both(found, equal, one_true)
            if not self.take(","):
                break
        self.need(")")
        return found

    def like(self, left: Expression) -> Expression:
        kind, text = self.peek()
        if kind != "text":
            raise self.refuse("LIKE of anything but a literal")
        self.at += 1
        self.ask(left, Kind.TEXT)
        pattern = re.compile(
            "".join({"%": ".*", "_": "."}.get(c, re.escape(c)) for c in _literal(text)), re.DOTALL
        )
        return _one(
            left,
            lambda v: by_value(
                v, lambda s: np.nan if s is None else float(bool(pattern.fullmatch(s)))
            ),
        )

    def sum(self) -> Expression:
        left = self.product()
        while True:
            sign = self.take("+", "-", "||")
            if sign is None:
                return left
            right = self.product()
            left = (
                _call(concat, [left, right], text=True)
                if sign == "||"
                else _both(left, right, ARITHMETIC[sign])
            )

    def product(self) -> Expression:
        left = self.signed()
        while True:
            sign = self.take("*", "/", "%")
            if sign is None:
                return left
            left = _both(left, self.signed(), ARITHMETIC[sign])

    def signed(self) -> Expression:
        negative = False
        while sign := self.take("-", "+"):
            negative ^= sign == "-"
        inner = self.atom()
        return _one(inner, np.negative) if negative else inner

    def atom(self) -> Expression:
        kind, text = self.peek()
        if kind == "number":
            self.at += 1
            value = float(text)
            return Expression(lambda frame: value)
        if kind == "text":
            self.at += 1
            literal = _literal(text)
            return Expression(lambda frame: literal, text=True)
        if self.take("("):
            if self.word() == "select":
                raise self.refuse("a subquery")
            inner = self.expression()
            self.need(")")
            return inner
        if self.take("true", "false"):
            truth = float(text.lower() == "true")
            return Expression(lambda frame: truth)
        if self.take("null"):
            return Expression(lambda frame: np.nan)
        if self.take("case"):
            return self.case()
        if self.take("cast"):
            return self.cast()
        if kind == "name" and self.at + 1 < len(self.tokens):
            if self.tokens[self.at + 1] == ("sign", "("):
                return self.function()
            if self.tokens[self.at + 1] == ("sign", ".") and text == "__THIS__":
                self.at += 2
        return self.column(self.name())

    def column(self, name: str) -> Expression:
        known = self.port(name)
        if known.kind in (Kind.VECTOR, Kind.WORDS):
            return Expression(lambda frame: frame[name], column=name)
        self.asked.setdefault(name, Kind.TEXT if known.kind is Kind.TEXT else Kind.NUMBER)
        text = known.kind is Kind.TEXT
        return Expression(lambda frame: frame[name], text=text, column=name)

    def ask(self, expression: Expression, kind: Kind) -> None:
        if expression.column and self.port(expression.column).kind is Kind.ANY:
            self.asked[expression.column] = kind

    def settle(self, left: Expression, right: Expression) -> None:
        """A raw column that is compared with text is text."""
        if left.text:
            self.ask(right, Kind.TEXT)
        if right.text:
            self.ask(left, Kind.TEXT)

    def case(self) -> Expression:
        subject = None if self.word() == "when" else self.expression()
        branches: list[tuple[Expression, Expression]] = []
        while self.take("when"):
            condition = self.expression()
            if subject is not None:
                self.settle(subject, condition)
                condition = _both(subject, condition, COMPARE["="])
            self.need("then")
            branches.append((condition, self.expression()))
        other = self.expression() if self.take("else") else None
        self.need("end")
        if not branches:
            raise self.refuse("a CASE without WHEN")
        return _choice(branches, other)

    def cast(self) -> Expression:
        self.need("(")
        inner = self.expression()
        self.need("as")
        kind = self.name().lower()
        if self.take("("):
            raise self.refuse(f"a cast to {kind} of a precision")
        self.need(")")
        if kind == "double":
            return _call(to_number, [inner])
        if kind in ("float", "real"):
            return _call(to_single, [inner])
        if kind in WHOLE:
            return _call(lambda v: to_whole(v, WHOLE[kind]), [inner])
        if kind == "boolean":
            return _call(lambda v: truth_of(to_number(v)), [inner])
        if kind == "string":
            self.ask(inner, Kind.CATEGORY)
            return _call(to_text, [inner], text=True)
        raise self.refuse(f"a cast to {kind}")

    def function(self) -> Expression:
        name = self.name().lower() if self.word() != "if" else "if"
        if name == "if":
            self.take("if")
        self.need("(")
        arguments: list[Expression] = []
        if not self.take(")"):
            while True:
                arguments.append(self.expression())
                if not self.take(","):
                    break
            self.need(")")
        if self.word() == "over":
            raise self.refuse("a window")
        if name == "if" and len(arguments) == 3:
            return _choice([(arguments[0], arguments[1])], arguments[2])
        if name not in FUNCTIONS or name == "if":
            raise self.refuse(f"the function {name}")
        function, least, most, takes_text, gives_text = FUNCTIONS[name]
        if not least <= len(arguments) <= most:
            raise self.refuse(f"{len(arguments)} arguments of {name}")
        if takes_text:
            self.ask(arguments[0], Kind.TEXT)
        text = gives_text if gives_text is not None else any(each.text for each in arguments)
        if name in ("coalesce", "ifnull", "nvl", "nullif"):
            for each in arguments[1:]:
                self.settle(arguments[0], each)
        return _call(function, arguments, text)


def _one(inner: Expression, function: Callable[[Value], Value]) -> Expression:
    return Expression(lambda frame: function(inner.run(frame)))


def _both(
    left: Expression, right: Expression, function: Callable[[Value, Value], Value]
) -> Expression:
    return Expression(lambda frame: function(left.run(frame), right.run(frame)))


def _call(
    function: Callable[..., Value], arguments: Iterable[Expression], text: bool = False
) -> Expression:
    given = list(arguments)
    return Expression(lambda frame: function(*(each.run(frame) for each in given)), text)


def _choice(branches: list[tuple[Expression, Expression]], other: Expression | None) -> Expression:
    text = any(value.text for _, value in branches) or (other is not None and other.text)
    nothing: Any = None if text else np.nan

    def run(frame: Frame) -> Value:
        found = nothing if other is None else other.run(frame)
        for condition, value in reversed(branches):
            found = np.where(np.equal(condition.run(frame), 1.0), value.run(frame), found)
        return found

    return Expression(run, text)


def _literal(text: str) -> str:
    inner = text[1:-1].replace("''", "'")
    return re.sub(r"\\(.)", r"\1", inner)
