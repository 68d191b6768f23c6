"""
The part of SQL that a feature stage needs: ``SELECT`` of expressions over one row at a time.

Arithmetic, comparison, ``AND OR NOT``, ``CASE``, ``IF``, ``IN``, ``BETWEEN``, ``LIKE``,
``IS NULL``, ``CAST`` and the functions in ``_FUNCTIONS``, with a ``WHERE``. Joins, grouping,
windows and subqueries are refused by name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from martlet.errors import UnsupportedModel
from martlet.formats.stages.categories import number_text
from martlet.formats.stages.plan import Kind, Port, Stage

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)[dDfFlL]?"
    r"|(?P<text>'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.)*\")"
    r"|`(?P<quoted>[^`]+)`"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<sign><=>|<=|>=|<>|!=|==|\|\||[-+*/%=<>(),.!]))"
)
# fmt: off
_REFUSED = frozenset((
    "join", "group", "having", "union", "intersect", "except", "window", "over", "lateral",
    "order", "limit", "distinct", "with", "pivot", "cluster", "distribute", "exists",
))
_RESERVED = _REFUSED | frozenset((
    "select", "from", "where", "as", "and", "or", "not", "case", "when", "then", "else", "end",
    "in", "between", "like", "rlike", "is", "null", "true", "false", "cast", "if",
))
# fmt: on
_MAX_TEXT = 100_000
_MAX_DEPTH = 100

Frame = Mapping[str, Any]
Value = Any
"""Numbers or truth (float64, NaN is NULL), or text (object, None is NULL); one row long or all."""


@dataclass(frozen=True, slots=True)
class Expression:
    """What computes a value from the columns it names, and whether that is text."""

    run: Callable[[Frame], Value]
    text: bool = False
    column: str = ""


@dataclass(slots=True)
class _Parser:
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
            left = _both(left, self.conjunction(), _or)
        self.depth -= 1
        return left

    def conjunction(self) -> Expression:
        left = self.negation()
        while self.take("and"):
            left = _both(left, self.negation(), _and)
        return left

    def negation(self) -> Expression:
        count = 0
        while self.take("not", "!"):
            count += 1
        inner = self.comparison()
        if count == 0:
            return inner
        # Twice NOT is once the truth value.
        return _one(inner, _not) if count % 2 else _one(inner, lambda v: _not(_not(v)))

    def comparison(self) -> Expression:
        left = self.sum()
        while True:
            sign = self.take("=", "==", "!=", "<>", "<", "<=", ">", ">=", "<=>")
            if sign:
                right = self.sum()
                self.settle(left, right)
                left = _both(left, right, _COMPARE[sign])
                continue
            if self.take("is"):
                negated = self.take("not") is not None
                self.need("null")
                left = _one(left, (lambda v: 1.0 - _is_null(v)) if negated else _is_null)
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
                    _both(left, low, _COMPARE[">="]), _both(left, high, _COMPARE["<="]), _and
                )
            elif self.take("like"):
                left = self.like(left)
            elif negated:
                raise self.refuse("NOT here")
            else:
                return left
            if negated:
                left = _one(left, _not)

    def membership(self, left: Expression) -> Expression:
        self.need("(")
        found: Expression | None = None
        while True:
            item = self.expression()
            self.settle(left, item)
            equal = _both(left, item, _COMPARE["="])
            found = equal if found is None else _both(found, equal, _or)
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
            lambda v: _each(
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
                _call(_concat, [left, right], text=True)
                if sign == "||"
                else _both(left, right, _ARITHMETIC[sign])
            )

    def product(self) -> Expression:
        left = self.signed()
        while True:
            sign = self.take("*", "/", "%")
            if sign is None:
                return left
            left = _both(left, self.signed(), _ARITHMETIC[sign])

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
                condition = _both(subject, condition, _COMPARE["="])
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
        if kind in ("double", "float"):
            return _call(_to_number, [inner])
        if kind in ("int", "integer", "bigint", "long", "smallint", "tinyint"):
            return _call(lambda v: np.trunc(_to_number(v)), [inner])
        if kind == "boolean":
            return _call(lambda v: _truth(_to_number(v)), [inner])
        if kind == "string":
            self.ask(inner, Kind.CATEGORY)
            return _call(_to_text, [inner], text=True)
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
        if name not in _FUNCTIONS or name == "if":
            raise self.refuse(f"the function {name}")
        function, least, most, takes_text, gives_text = _FUNCTIONS[name]
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


def _is_text(value: Value) -> bool:
    return isinstance(value, str) or (isinstance(value, np.ndarray) and value.dtype == object)


def _each(value: Value, function: Callable[[Any], Any], dtype: Any = np.float64) -> Value:
    if isinstance(value, np.ndarray):
        out = np.empty(len(value), dtype=dtype)
        out[:] = [function(each) for each in value.tolist()]
        return out
    return function(value)


def _is_null(value: Value) -> Value:
    if _is_text(value):
        return _each(value, lambda v: float(v is None))
    return np.asarray(np.isnan(value), dtype=np.float64)


def _null(*values: Value) -> Value:
    """Return whether one of the numbers is NULL, row by row."""
    out: Any = False
    for each in values:
        out = out | (np.equal(_is_null(each), 1.0))
    return out


def _compared(function: Callable[[Any, Any], Any]) -> Callable[[Value, Value], Value]:
    def compare(a: Value, b: Value) -> Value:
        if _is_text(a) != _is_text(b):
            a, b = _to_number(a), _to_number(b)
        if _is_text(a):
            null = _null(a, b)
            a = np.where(_null(a), "", a) if isinstance(a, np.ndarray) else a
            b = np.where(_null(b), "", b) if isinstance(b, np.ndarray) else b
            return np.where(null, np.nan, np.asarray(function(a, b), dtype=np.float64))
        return np.where(_null(a, b), np.nan, np.asarray(function(a, b), dtype=np.float64))

    return compare


def _same(a: Value, b: Value) -> Value:
    equal = _COMPARE["="](a, b)
    return np.where(np.isnan(equal), _is_null(a) * _is_null(b), equal)


def _and(a: Value, b: Value) -> Value:
    # False wins over NULL.
    return np.where((a == 0) | (b == 0), 0.0, np.where(_null(a, b), np.nan, 1.0))


def _or(a: Value, b: Value) -> Value:
    return np.where(_truthy(a) | _truthy(b), 1.0, np.where(_null(a, b), np.nan, 0.0))


def _truthy(a: Value) -> Value:
    return np.asarray((a != 0) & ~np.isnan(a))


def _not(a: Value) -> Value:
    return np.where(np.isnan(a), np.nan, np.asarray(a == 0, dtype=np.float64))


def _truth(a: Value) -> Value:
    return np.where(np.isnan(a), np.nan, np.asarray(a != 0, dtype=np.float64))


_COMPARE: dict[str, Callable[[Value, Value], Value]] = {
    "=": _compared(np.equal),
    "==": _compared(np.equal),
    "!=": _compared(np.not_equal),
    "<>": _compared(np.not_equal),
    "<": _compared(np.less),
    "<=": _compared(np.less_equal),
    ">": _compared(np.greater),
    ">=": _compared(np.greater_equal),
}
_COMPARE["<=>"] = _same


def _divide(a: Value, b: Value) -> Value:
    # Spark gives NULL for a division by zero.
    a, b = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    return np.where(b == 0, np.nan, a / np.where(b == 0, 1.0, b))


def _remainder(a: Value, b: Value) -> Value:
    return np.where(np.equal(b, 0), np.nan, np.fmod(a, np.where(np.equal(b, 0), 1.0, b)))


_ARITHMETIC: Mapping[str, Callable[[Value, Value], Value]] = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "/": _divide,
    "%": _remainder,
}


def _to_number(value: Value) -> Value:
    def parsed(text: Any) -> float:
        try:
            return float(text)
        except (TypeError, ValueError):
            return float("nan")

    return _each(value, parsed) if _is_text(value) else value


def _to_text(value: Value) -> Value:
    def spelled(each: Any) -> Any:
        if each is None or isinstance(each, str):
            return each
        return None if each != each else number_text(each)

    return _each(value, spelled, object)


def _concat(*values: Value) -> Value:
    texts = [_to_text(each) for each in values]
    rows = max((len(t) for t in texts if isinstance(t, np.ndarray)), default=-1)
    if rows < 0:
        return None if any(t is None for t in texts) else "".join(texts)
    columns = [t.tolist() if isinstance(t, np.ndarray) else [t] * rows for t in texts]
    out = np.empty(rows, dtype=object)
    out[:] = [
        None if any(part is None for part in row) else "".join(row)
        for row in zip(*columns, strict=True)
    ]
    return out


def _coalesce(*values: Value) -> Value:
    found = values[-1]
    for each in reversed(values[:-1]):
        found = np.where(np.equal(_is_null(each), 1.0), found, each)
    return found


def _nullif(a: Value, b: Value) -> Value:
    nothing = None if _is_text(a) else np.nan
    return np.where(np.equal(_COMPARE["="](a, b), 1.0), nothing, a)


def _log(*values: Value) -> Value:
    base, x = (np.e, values[0]) if len(values) == 1 else (values[0], values[1])
    x = np.asarray(x, dtype=np.float64)
    positive = np.where(x > 0, x, 1.0)
    return np.where(x > 0, np.log(positive) / (1.0 if base is np.e else np.log(base)), np.nan)


def _round(x: Value, digits: Value = 0.0) -> Value:
    # Half away from zero, as Spark rounds.
    scale = np.power(10.0, digits)
    scaled = np.abs(x) * scale
    return np.copysign(np.floor(scaled + 0.5) / scale, x)


def _extreme(choose: Callable[[Any, Any], Any]) -> Callable[..., Value]:
    def find(*values: Value) -> Value:
        found = values[0]
        for each in values[1:]:
            found = choose(found, each)
        return found

    return find


def _text(function: Callable[[str], Any], dtype: Any = object) -> Callable[[Value], Value]:
    nothing = None if dtype is object else float("nan")
    return lambda value: _each(value, lambda s: nothing if s is None else function(s), dtype)


def _substring(value: Value, start: Value, length: Value = np.inf) -> Value:
    # Positions count from 1; 0 reads as 1; negative ones count from the end.
    at, size = int(start), length

    def cut(text: str) -> str:
        begin = at - 1 if at > 0 else (0 if at == 0 else len(text) + at)
        end = len(text) if size == np.inf else begin + int(size)
        return text[max(0, begin) : max(0, end)]

    return _text(cut)(value)


def _quiet(function: Callable[..., Any]) -> Callable[..., Value]:
    def run(*values: Value) -> Value:
        with np.errstate(all="ignore"):
            return function(*(np.asarray(v, dtype=np.float64) for v in values))

    return run


# name: what computes it, least and most arguments, whether it takes text, whether it gives text
# (None: as its arguments are).
_FUNCTIONS: Mapping[str, tuple[Callable[..., Value], int, int, bool, bool | None]] = {
    **{
        name: (_quiet(function), 1, 1, False, False)
        for name, function in {
            "abs": np.abs, "exp": np.exp, "expm1": np.expm1, "sqrt": np.sqrt, "cbrt": np.cbrt,
            "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin, "acos": np.arccos,
            "atan": np.arctan, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh,
            "floor": np.floor, "ceil": np.ceil, "ceiling": np.ceil, "rint": np.rint,
            "sign": np.sign, "signum": np.sign, "degrees": np.degrees, "radians": np.radians,
            "negative": np.negative, "positive": np.positive,
        }.items()
    },
    "log": (_log, 1, 2, False, False),
    "ln": (_log, 1, 1, False, False),
    "log10": (lambda x: _log(10.0, x), 1, 1, False, False),
    "log2": (lambda x: _log(2.0, x), 1, 1, False, False),
    "log1p": (_quiet(lambda x: np.where(x > -1, np.log1p(np.maximum(x, -1)), np.nan)), 1, 1,
              False, False),
    "pow": (_quiet(np.power), 2, 2, False, False),
    "power": (_quiet(np.power), 2, 2, False, False),
    "atan2": (_quiet(np.arctan2), 2, 2, False, False),
    "hypot": (_quiet(np.hypot), 2, 2, False, False),
    "round": (_quiet(_round), 1, 2, False, False),
    "mod": (_remainder, 2, 2, False, False),
    "pmod": (_quiet(lambda a, b: np.mod(a, b)), 2, 2, False, False),
    "greatest": (_extreme(np.fmax), 2, 64, False, False),
    "least": (_extreme(np.fmin), 2, 64, False, False),
    "coalesce": (_coalesce, 1, 64, False, None),
    "ifnull": (_coalesce, 2, 2, False, None),
    "nvl": (_coalesce, 2, 2, False, None),
    "nullif": (_nullif, 2, 2, False, None),
    "isnull": (_is_null, 1, 1, False, False),
    "isnotnull": (lambda v: 1.0 - _is_null(v), 1, 1, False, False),
    "isnan": (_is_null, 1, 1, False, False),
    "lower": (_text(str.lower), 1, 1, True, True),
    "lcase": (_text(str.lower), 1, 1, True, True),
    "upper": (_text(str.upper), 1, 1, True, True),
    "ucase": (_text(str.upper), 1, 1, True, True),
    "trim": (_text(lambda s: s.strip(" ")), 1, 1, True, True),
    "ltrim": (_text(lambda s: s.lstrip(" ")), 1, 1, True, True),
    "rtrim": (_text(lambda s: s.rstrip(" ")), 1, 1, True, True),
    "length": (_text(lambda s: float(len(s)), np.float64), 1, 1, True, False),
    "char_length": (_text(lambda s: float(len(s)), np.float64), 1, 1, True, False),
    "substring": (_substring, 2, 3, True, True),
    "substr": (_substring, 2, 3, True, True),
    "concat": (_concat, 1, 64, False, True),
}  # fmt: skip


def select(name: str, statement: str, port: Callable[[str], Port]) -> list[Stage]:
    """
    Return the stages that a ``SELECT ... FROM __THIS__`` makes: one an expression, and its WHERE.

    Args:
        port: What is known of a column.

    Raises:
        UnsupportedModel: it is other SQL; names the part that is not supported.
    """
    parser = _Parser(name, _tokens(name, statement), port)
    parser.need("select")
    items: list[tuple[str, Expression, dict[str, Kind]]] = []
    while True:
        if parser.take("*"):
            pass
        else:
            if parser.word() in _REFUSED:
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
