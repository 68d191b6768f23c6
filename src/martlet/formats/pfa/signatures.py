"""
The types of library functions, written as PFA's specification writes them, and their matching.

``[A], fn(A -> B) -> [B]``: arrays in brackets, maps in braces, unions in parentheses, functions
with their arrows; a capital letter is any type, the same at each place; ``A#`` any number,
``A{count: double}`` any record with at least these fields, ``A@`` any enum, ``A%`` any fixed.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from martlet.formats.pfa.types import (
    NOTHING,
    NUMBERS,
    PRIMITIVES,
    Array,
    Enum,
    Fixed,
    Function,
    Map,
    Nothing,
    Record,
    Type,
    Union,
    accepts,
    broadest,
    union,
)

_TOKEN = re.compile(r"\s*(->|fn|[A-Za-z][A-Za-z0-9]*|[\[\](){}<>|,:#@%])")


@dataclass(frozen=True, slots=True)
class Letter:
    """A capital letter; *kind* is "", "#" (number), "@" (enum), "%" (fixed) or "{" (record)."""

    label: str
    kind: str = ""
    fields: tuple[tuple[str, Pattern], ...] = ()


@dataclass(frozen=True, slots=True)
class Listed:
    items: Pattern


@dataclass(frozen=True, slots=True)
class Mapped:
    values: Pattern


@dataclass(frozen=True, slots=True)
class Either:
    types: tuple[Pattern, ...]


@dataclass(frozen=True, slots=True)
class Fn:
    params: tuple[Pattern, ...]
    result: Pattern


Pattern = Letter | Listed | Mapped | Either | Fn | Type


@dataclass(frozen=True, slots=True)
class Case:
    """One way to call a function."""

    params: tuple[Pattern, ...]
    result: Pattern


class _Parser:
    def __init__(self, text: str) -> None:
        self.tokens = _TOKEN.findall(text)
        assert "".join(self.tokens) == text.replace(" ", ""), text
        self.at = 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self, token: str) -> bool:
        if self.peek() == token:
            self.at += 1
            return True
        return False

    def need(self, token: str) -> None:
        assert self.take(token), f"{token} wanted at {self.at} of {self.tokens}"

    def params(self) -> tuple[Pattern, ...]:
        found: list[Pattern] = []
        while self.peek() != "->":
            found.append(self.pattern())
            self.take(",")
        self.need("->")
        return tuple(found)

    def pattern(self) -> Pattern:
        token = self.peek()
        self.at += 1
        if token == "[":
            items = self.pattern()
            self.need("]")
            return Listed(items)
        if token == "{":
            values = self.pattern()
            self.need("}")
            return Mapped(values)
        if token == "(":
            types = [self.pattern()]
            while self.take("|"):
                types.append(self.pattern())
            self.need(")")
            return Either(tuple(types))
        if token == "fn":
            self.need("(")
            params = self.params()
            result = self.pattern()
            self.need(")")
            return Fn(params, result)
        if token in PRIMITIVES:
            return PRIMITIVES[token]
        assert token[:1].isupper(), token
        for kind in "#@%":
            if self.take(kind):
                return Letter(token, kind)
        if self.take("{"):
            fields: list[tuple[str, Pattern]] = []
            while not self.take("}"):
                name = self.peek()
                self.at += 1
                self.need(":")
                fields.append((name, self.pattern()))
                self.take(",")
            return Letter(token, "{", tuple(fields))
        return Letter(token)


@cache
def cases(text: str) -> tuple[Case, ...]:
    """Return the ways to call that *text* lists, apart by ``;``."""
    found = []
    for each in text.split(";"):
        parser = _Parser(each.strip())
        params = parser.params()
        found.append(Case(params, parser.pattern()))
    return tuple(found)


class _Bindings:
    """What each capital letter has been seen to stand for."""

    def __init__(self) -> None:
        self.seen: dict[str, list[Type]] = {}

    def type(self, label: str) -> Type:
        return broadest(self.seen[label]) if label in self.seen else NOTHING


def match(case: Case, given: Sequence[Type]) -> tuple[tuple[Type, ...], Type] | None:
    """Return the parameters' and the result's types when called with *given*; None: no match."""
    if len(case.params) != len(given):
        return None
    bindings = _Bindings()
    # Functions last: their own types follow from the values they are given.
    order = sorted(range(len(given)), key=lambda i: isinstance(case.params[i], Fn))
    if not all(_fits(case.params[i], given[i], bindings) for i in order):
        return None
    for params in case.params:
        if not _holds(params, bindings):
            return None
    wanted = tuple(_resolved(each, bindings) for each in case.params)
    if not all(accepts(w, g) for w, g in zip(wanted, given, strict=True)):
        return None
    return wanted, _resolved(case.result, bindings)


def concrete(case: Case) -> tuple[tuple[Type, ...], Type] | None:
    """Return the types of *case* where it has no letters, None where it has."""
    if any(map(_open, (*case.params, case.result))):
        return None
    none = _Bindings()
    return tuple(_resolved(each, none) for each in case.params), _resolved(case.result, none)


def _fits(pattern: Pattern, given: Type, bindings: _Bindings) -> bool:
    if isinstance(given, Nothing):
        return True
    if isinstance(pattern, Letter):
        bindings.seen.setdefault(pattern.label, []).append(given)
        if pattern.kind == "{" and isinstance(given, Record):
            return all(
                name in given.fields and _fits(each, given.fields[name], bindings)
                for name, each in pattern.fields
            )
        return not isinstance(given, Function)
    if isinstance(pattern, Listed):
        return isinstance(given, Array) and _fits(pattern.items, given.items, bindings)
    if isinstance(pattern, Mapped):
        return isinstance(given, Map) and _fits(pattern.values, given.values, bindings)
    if isinstance(pattern, Fn):
        if not isinstance(given, Function) or len(pattern.params) != len(given.params):
            return False
        for wanted, param in zip(pattern.params, given.params, strict=True):
            # A function may take more than it will be given; it binds only what nothing else did.
            if not _known(wanted, bindings) and not _fits(wanted, param, bindings):
                return False
        return _fits_result(pattern.result, given.result, bindings)
    if isinstance(pattern, Either):
        return _fits_either(pattern, given, bindings)
    return accepts(pattern, given)


def _fits_result(pattern: Pattern, given: Type, bindings: _Bindings) -> bool:
    if isinstance(pattern, Letter) and pattern.label in bindings.seen:
        # A fold may begin with a narrower type than its function gives.
        return accepts(bindings.type(pattern.label), given) or _fits(pattern, given, bindings)
    return _fits(pattern, given, bindings)


def _fits_either(pattern: Either, given: Type, bindings: _Bindings) -> bool:
    fixed = [p for p in pattern.types if not _open(p)]
    loose = [p for p in pattern.types if _open(p)]
    rest: list[Type] = []
    for each in given.types if isinstance(given, Union) else (given,):
        if not any(accepts(p, each) for p in fixed):  # type: ignore[arg-type]  # none is open
            rest.append(each)
    if not rest:
        return True
    # A record that nests itself is told from what ends the nesting by its fields.
    for p in loose:
        if isinstance(p, Letter) and p.kind == "{":
            own = [t for t in rest if isinstance(t, Record) and _same(p, t, bindings)]
            rest = [t for t in rest if t not in own]
            for each in own:
                bindings.seen.setdefault(p.label, []).append(each)
        elif rest:
            return _fits(p, union(rest), bindings)
    return not rest


def _same(pattern: Letter, given: Record, bindings: _Bindings) -> bool:
    seen = bindings.seen.get(pattern.label)
    return given in seen if seen else True


def _open(pattern: Pattern) -> bool:
    if isinstance(pattern, Letter):
        return True
    if isinstance(pattern, Listed):
        return _open(pattern.items)
    if isinstance(pattern, Mapped):
        return _open(pattern.values)
    return isinstance(pattern, Either | Fn)


def _known(pattern: Pattern, bindings: _Bindings) -> bool:
    if isinstance(pattern, Letter):
        return pattern.label in bindings.seen
    if isinstance(pattern, Listed):
        return _known(pattern.items, bindings)
    if isinstance(pattern, Mapped):
        return _known(pattern.values, bindings)
    return not isinstance(pattern, Either | Fn)


def _holds(pattern: Pattern, bindings: _Bindings) -> bool:
    """Return whether each letter stands for something of its kind."""
    if isinstance(pattern, Letter):
        found = bindings.type(pattern.label)
        if isinstance(found, Nothing) or pattern.kind == "":
            return True
        wanted = {"#": None, "@": Enum, "%": Fixed, "{": Record}[pattern.kind]
        return found in NUMBERS if wanted is None else isinstance(found, wanted)
    if isinstance(pattern, Listed):
        return _holds(pattern.items, bindings)
    if isinstance(pattern, Mapped):
        return _holds(pattern.values, bindings)
    if isinstance(pattern, Fn):
        return all(_holds(each, bindings) for each in (*pattern.params, pattern.result))
    return True


def _resolved(pattern: Pattern, bindings: _Bindings) -> Type:
    if isinstance(pattern, Letter):
        return bindings.type(pattern.label)
    if isinstance(pattern, Listed):
        return Array(_resolved(pattern.items, bindings))
    if isinstance(pattern, Mapped):
        return Map(_resolved(pattern.values, bindings))
    if isinstance(pattern, Either):
        return union([_resolved(each, bindings) for each in pattern.types])
    if isinstance(pattern, Fn):
        return Function(
            tuple(_resolved(each, bindings) for each in pattern.params),
            _resolved(pattern.result, bindings),
        )
    return pattern


def parameters(case: Case, given: Sequence[Type | None], at: int) -> tuple[Type, ...] | None:
    """
    Return the types that the function at parameter *at* will be called with.

    Args:
        given: The other arguments' types; None where one is not known.
    """
    pattern = case.params[at]
    if not isinstance(pattern, Fn):
        return None
    bindings = _Bindings()
    for each, of in zip(case.params, given, strict=True):
        if of is not None and not isinstance(each, Fn) and not _fits(each, of, bindings):
            return None
    return tuple(_resolved(each, bindings) for each in pattern.params)
