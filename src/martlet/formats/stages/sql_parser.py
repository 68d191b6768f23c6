"""Reads the expressions of a ``SELECT`` as functions of columns."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from martlet.errors import UnsupportedModel
from martlet.formats.stages import sql_calls, sql_text
from martlet.formats.stages.sql_catalogue import FUNCTIONS
from martlet.formats.stages.sql_expressions import (
    Columns,
    Expression,
    called,
    choice,
    common,
    constant,
    refused,
)
from martlet.formats.stages.sql_functions import (
    ARITHMETIC,
    COMPARE,
    Type,
    both_true,
    concat,
    is_null,
    not_true,
    one_true,
    rows_of,
)
from martlet.formats.stages.stage import Kind, Port

# fmt: off
REFUSED = frozenset((
    "join", "group", "having", "union", "intersect", "except", "window", "over", "lateral",
    "order", "limit", "distinct", "with", "pivot", "cluster", "distribute", "exists",
))
_RESERVED = REFUSED | frozenset((
    "select", "from", "where", "as", "and", "or", "not", "case", "when", "then", "else", "end",
    "in", "between", "like", "rlike", "regexp", "ilike", "is", "null", "true", "false", "cast",
    "if", "div", "interval",
))
# fmt: on
_MAX_DEPTH = 100
_TYPES = {
    Kind.TEXT: Type.TEXT, Kind.CATEGORY: Type.TEXT, Kind.WORDS: Type.WORDS, Kind.ANY: Type.OPEN,
    Kind.INTEGER: Type.WHOLE, Kind.LONG: Type.WHOLE, Kind.WHOLE: Type.WHOLE,
    Kind.TRUTH: Type.TRUTH, Kind.EITHER: Type.EITHER,
}  # fmt: skip


@dataclass(slots=True)
class Parser:
    """
    A recursive descent over the tokens of one statement.

    Args:
        port: What is known of a column, and how it is spelled.
        table: What the statement calls its table.

    ``columns`` are those that the expression read last names, and what each must hold.
    """

    where: str
    tokens: list[tuple[str, str]]
    port: Callable[[str], Port]
    at: int = 0
    depth: int = 0
    table: str = "__this__"
    columns: Columns = field(init=False)

    def __post_init__(self) -> None:
        self.columns = Columns(self.where)

    def refuse(self, what: str) -> UnsupportedModel:
        return refused(self.where, what)

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

    # Loosest first: OR, AND, NOT, comparison, sum, product, sign, what follows an atom, atom.

    def expression(self) -> Expression:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise self.refuse(f"more than {_MAX_DEPTH} levels")
        left = self.conjunction()
        while self.take("or"):
            left = self.truths(one_true, left, self.conjunction())
        self.depth -= 1
        return left

    def conjunction(self) -> Expression:
        left = self.negation()
        while self.take("and"):
            left = self.truths(both_true, left, self.negation())
        return left

    def truths(self, function: Callable[..., Any], *parts: Expression) -> Expression:
        given = [self.columns.brought(each, Type.TRUTH) for each in parts]
        return called(function, given, Type.TRUTH)

    def negation(self) -> Expression:
        count = 0
        while self.take("not", "!"):
            count += 1
        inner = self.comparison()
        if count == 0:
            return inner
        # Twice NOT is once the truth value.
        inner = self.truths(not_true, inner)
        return inner if count % 2 else self.truths(not_true, inner)

    def comparison(self) -> Expression:
        left = self.sum()
        while True:
            sign = self.take("=", "==", "!=", "<>", "<", "<=", ">", ">=", "<=>")
            if sign:
                left = self.compared(sign, left, self.sum())
                continue
            if self.take("is"):
                left = self.nature(left)
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
                left = self.truths(
                    both_true, self.compared(">=", left, low), self.compared("<=", left, high)
                )
            elif sign := self.take("like", "ilike"):
                left = self.like(left, re.IGNORECASE if sign == "ilike" else re.NOFLAG)
            elif self.take("rlike", "regexp"):
                pattern = self.literal("RLIKE of anything but a literal")
                left = self.columns.matched(left, pattern)
            elif negated:
                raise self.refuse("NOT here")
            else:
                return left
            if negated:
                left = self.truths(not_true, left)

    def compared(self, sign: str, left: Expression, right: Expression) -> Expression:
        given, _ = self.columns.alike([left, right], Type.OPEN)
        return called(COMPARE[sign], given, Type.TRUTH)

    def nature(self, left: Expression) -> Expression:
        """``IS [NOT] NULL``, ``TRUE`` or ``FALSE``."""
        negated = self.take("not") is not None
        truth = self.take("true", "false")
        if truth:
            found = called(
                lambda v: np.asarray(np.equal(v, truth == "true"), np.float64),
                [self.columns.brought(left, Type.TRUTH)], Type.TRUTH,
            )  # fmt: skip
        else:
            self.need("null")
            found = called(is_null, [left], Type.TRUTH)
        return self.truths(not_true, found) if negated else found

    def membership(self, left: Expression) -> Expression:
        self.need("(")
        found: Expression | None = None
        while True:
            equal = self.compared("=", left, self.expression())
            found = equal if found is None else self.truths(one_true, found, equal)
            if not self.take(","):
                break
        self.need(")")
        return found

    def literal(self, otherwise: str) -> str:
        """Return the text that must stand here."""
        kind, text = self.peek()
        if kind != "text":
            raise self.refuse(otherwise)
        self.at += 1
        return sql_text.unquoted(text)

    def like(self, left: Expression, flags: re.RegexFlag) -> Expression:
        wanted, escape = self.literal("LIKE of anything but a literal"), "\\"
        if self.take("escape"):
            escape = self.literal("ESCAPE of anything but a literal")
        pieces = re.findall(re.escape(escape) + "?.", wanted, re.DOTALL) if escape else [*wanted]
        signs = {"%": ".*", "_": "."}
        pattern = re.compile(
            "".join(signs.get(each, re.escape(each[-1])) for each in pieces), re.DOTALL | flags
        )
        return self.columns.textual(lambda s: float(bool(pattern.fullmatch(s))), Type.TRUTH, left)

    def sum(self) -> Expression:
        left = self.product()
        while True:
            sign = self.take("+", "-", "||")
            if sign is None:
                return left
            right = self.product()
            if sign == "||":
                given = [self.columns.brought(each, Type.TEXT) for each in (left, right)]
                left = called(concat, given, Type.TEXT)
            else:
                left = self.arithmetic(sign, left, right)

    def product(self) -> Expression:
        left = self.signed()
        while True:
            sign = self.take("*", "/", "%", "div")
            if sign is None:
                return left
            left = self.arithmetic(sign, left, self.signed())

    def arithmetic(self, sign: str, left: Expression, right: Expression) -> Expression:
        kinds = {left.type, right.type}
        if kinds & {Type.DATE, Type.TIME}:
            raise self.refuse(f"{sign!r} of dates; use date_add or datediff")
        given = [self.columns.brought(each, Type.NUMBER) for each in (left, right)]
        gives = Type.NUMBER if sign == "/" or Type.TEXT in kinds else common(kinds)
        gives = Type.WHOLE if sign == "div" or gives is Type.TRUTH else gives
        return called(ARITHMETIC[sign], given, gives)

    def signed(self) -> Expression:
        negative = False
        while sign := self.take("-", "+"):
            negative ^= sign == "-"
        inner = self.followed(self.atom())
        if not negative:
            return inner
        gives = Type.NUMBER if inner.type is Type.TEXT else common({inner.type})
        found = called(np.negative, [self.columns.brought(inner, Type.NUMBER)], gives)
        literal = -inner.literal if isinstance(inner.literal, float) else None
        return Expression(found.run, gives, literal=literal)

    def followed(self, inner: Expression) -> Expression:
        """``words[0]`` and ``value::type``."""
        while True:
            if self.take("["):
                place = self.columns.brought(self.expression(), Type.NUMBER)
                self.need("]")
                words = self.columns.brought(inner, Type.WORDS)
                inner = called(rows_of(sql_text.element), [words, place], Type.TEXT)
            elif self.take("::"):
                inner = self.cast_to(inner, self.name().lower())
            else:
                return inner

    def atom(self) -> Expression:
        kind, text = self.peek()
        if kind == "number":
            self.at += 1
            return constant(float(text), Type.WHOLE if text.isdigit() else Type.NUMBER)
        if kind == "text":
            return constant(self.literal("text"), Type.TEXT)
        if self.take("("):
            if self.word() == "select":
                raise self.refuse("a subquery")
            inner = self.expression()
            self.need(")")
            return inner
        if self.take("true", "false"):
            return constant(float(text.lower() == "true"), Type.TRUTH)
        if self.take("null"):
            return constant(None, Type.OPEN)
        if self.take("case"):
            return self.case()
        if self.take("cast"):
            self.need("(")
            inner = self.expression()
            self.need("as")
            found = self.cast_to(inner, self.name().lower())
            self.need(")")
            return found
        if kind == "name" and self.at + 1 < len(self.tokens):
            following, folded = self.tokens[self.at + 1], text.lower()
            if following == ("sign", "("):
                return self.function()
            if following[0] == "text" and folded in ("date", "timestamp"):
                self.at += 1
                return self.cast_to(constant(self.literal("text"), Type.TEXT), folded)
            if following == ("sign", ".") and folded == self.table:
                self.at += 2
        return self.column(self.name())

    def column(self, name: str) -> Expression:
        port = self.port(name)
        name, kind = port.name, port.kind
        found = _TYPES.get(kind, Type.NUMBER)
        if kind in (Kind.VECTOR, Kind.HASHES):
            if self.peek() not in (("sign", ","), ("end", "")) and self.word() not in (
                "as", "from",
            ):  # fmt: skip
                raise self.refuse(f"a computation with the vector {name}")
        else:
            asked = Kind.CATEGORY if found is Type.OPEN else kind
            self.columns.asked.setdefault(name, asked)
        return Expression(lambda frame: frame[name], found, column=name)

    def case(self) -> Expression:
        subject = None if self.word() == "when" else self.expression()
        conditions: list[Expression] = []
        values: list[Expression] = []
        while self.take("when"):
            condition = self.expression()
            if subject is not None:
                condition = self.compared("=", subject, condition)
            self.need("then")
            conditions.append(self.columns.brought(condition, Type.TRUTH))
            values.append(self.expression())
        if not conditions:
            raise self.refuse("a CASE without WHEN")
        other = self.expression() if self.take("else") else None
        self.need("end")
        return self.chosen(conditions, values, other)

    def chosen(
        self, conditions: list[Expression], values: list[Expression], other: Expression | None
    ) -> Expression:
        given, kind = self.columns.alike(
            [*values, *([] if other is None else [other])], Type.NUMBER
        )
        last = given.pop() if other is not None else None
        return choice(list(zip(conditions, given, strict=True)), last, kind)

    def cast_to(self, inner: Expression, kind: str) -> Expression:
        """Return *inner* as a value of the SQL type *kind*, whose precision may follow."""
        precision = self.precision() if self.take("(") else []
        return sql_calls.cast(self.where, self.columns, inner, kind, precision)

    def precision(self) -> list[int]:
        found: list[int] = []
        while True:
            kind, text = self.peek()
            if kind != "number" or not text.isdigit():
                raise self.refuse("a precision that is no number")
            self.at += 1
            found.append(int(text))
            if not self.take(","):
                self.need(")")
                return found

    def function(self) -> Expression:
        name = self.peek()[1].lower()
        self.at += 1
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
        count = len(arguments)
        if name in ("if", "iff", "nvl2") and count == 3:
            test, first, second = arguments
            if name == "nvl2":
                test = self.truths(not_true, called(is_null, [test], Type.TRUTH))
            return self.chosen([self.columns.brought(test, Type.TRUTH)], [first], second)
        if name in sql_calls.TYPES and count == 1:
            return self.cast_to(arguments[0], name)
        if found := sql_calls.by_pattern(self.where, self.columns, name, arguments):
            return found
        if name not in FUNCTIONS:
            raise self.refuse(f"the function {name}")
        function = FUNCTIONS[name]
        if not function.least <= count <= function.most:
            raise self.refuse(f"{count} arguments of {name}")
        return self.columns.call(name, arguments)
