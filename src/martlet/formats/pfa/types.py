"""Avro's types as PFA uses them, and which of them may stand for which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from martlet.errors import UnsupportedModel


@dataclass(frozen=True, slots=True)
class Primitive:
    """``null boolean int long float double bytes string``."""

    name: str

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Array:
    """A list of *items*."""

    items: Type

    def __str__(self) -> str:
        return f"array of {self.items}"


@dataclass(frozen=True, slots=True)
class Map:
    """Text keys to *values*."""

    values: Type

    def __str__(self) -> str:
        return f"map of {self.values}"


@dataclass(frozen=True, slots=True, eq=False)
class Record:
    """
    Named fields. Two of one document with the same name are the same; fields may recur.

    Args:
        defaults: Of some fields the JSON that stands for them where a record lacks them.
        orders: How records are ordered by each: ``ascending``, ``descending`` or ``ignore``.
    """

    name: str
    fields: dict[str, Type] = field(default_factory=dict)
    defaults: dict[str, Any] = field(default_factory=dict)
    orders: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"record {self.name}"


@dataclass(frozen=True, slots=True)
class Enum:
    """One of *symbols*, ordered as they stand."""

    name: str
    symbols: tuple[str, ...]

    def __str__(self) -> str:
        return f"enum {self.name}"


@dataclass(frozen=True, slots=True)
class Fixed:
    """*size* bytes."""

    name: str
    size: int

    def __str__(self) -> str:
        return f"fixed {self.name}"


@dataclass(frozen=True, slots=True)
class Union:
    """One of several types."""

    types: tuple[Type, ...]

    def __str__(self) -> str:
        return "union of " + ", ".join(map(str, self.types))


@dataclass(frozen=True, slots=True)
class Function:
    """A function, as an argument."""

    params: tuple[Type, ...]
    result: Type

    def __str__(self) -> str:
        return f"function of ({', '.join(map(str, self.params))})"


@dataclass(frozen=True, slots=True)
class Nothing:
    """What an expression that never returns gives: ``error``."""

    def __str__(self) -> str:
        return "nothing"


Type = Primitive | Array | Map | Record | Enum | Fixed | Union | Function | Nothing

NULL, BOOLEAN = Primitive("null"), Primitive("boolean")
INT, LONG = Primitive("int"), Primitive("long")
FLOAT, DOUBLE = Primitive("float"), Primitive("double")
BYTES, STRING = Primitive("bytes"), Primitive("string")
NOTHING = Nothing()
PRIMITIVES = {t.name: t for t in (NULL, BOOLEAN, INT, LONG, FLOAT, DOUBLE, BYTES, STRING)}
NUMBERS: tuple[Type, ...] = (INT, LONG, FLOAT, DOUBLE)
"""Each may stand for those after it."""

_MAX_DEPTH = 200


class Types:
    """The named types of one document."""

    def __init__(self) -> None:
        self._named: dict[str, Type] = {}
        self._waiting: dict[str, Record] = {}

    def read(self, source: Any, depth: int = 0) -> Type:
        """
        Return the type that Avro's JSON *source* declares.

        Raises:
            UnsupportedModel: it is none.
        """
        if depth > _MAX_DEPTH:
            raise UnsupportedModel("a type is nested too deeply")
        if isinstance(source, str):
            if source in PRIMITIVES:
                return PRIMITIVES[source]
            if source in self._named:
                return self._named[source]
            # A type may be used before the place that defines it.
            return self._waiting.setdefault(source, Record(source))
        if isinstance(source, list):
            return union([self.read(each, depth + 1) for each in source])
        if not isinstance(source, dict) or "type" not in source:
            raise UnsupportedModel(f"{str(source)[:80]} is no Avro type")
        kind = source["type"]
        if not isinstance(kind, str):
            return self.read(kind, depth + 1)
        if kind == "array":
            return Array(self.read(source.get("items"), depth + 1))
        if kind == "map":
            return Map(self.read(source.get("values"), depth + 1))
        if kind in ("record", "enum", "fixed"):
            return self._define(kind, source, depth)
        return self.read(kind, depth + 1)

    def _define(self, kind: str, source: Mapping[str, Any], depth: int) -> Type:
        name = source.get("name")
        if not isinstance(name, str):
            raise UnsupportedModel(f"a {kind} has no name")
        namespace = source.get("namespace")
        full = f"{namespace}.{name}" if namespace else name
        if kind == "enum":
            symbols = source.get("symbols")
            if not isinstance(symbols, list) or not symbols:
                raise UnsupportedModel(f"the enum {full} has no symbols")
            return self._named.setdefault(full, Enum(full, tuple(map(str, symbols))))
        if kind == "fixed":
            return self._named.setdefault(full, Fixed(full, int(source.get("size", 0))))
        if full in self._named:
            return self._named[full]
        made = self._waiting.pop(full, None) or Record(full)
        self._named[full] = made
        fields = source.get("fields")
        if not isinstance(fields, list):
            raise UnsupportedModel(f"the record {full} has no fields")
        for each in fields:
            own = str(each["name"])
            made.fields[own] = self.read(each["type"], depth + 1)
            if "default" in each:
                made.defaults[own] = each["default"]
            made.orders[own] = str(each.get("order", "ascending"))
        return made

    def check(self) -> None:
        """
        Raise UnsupportedModel if a type was used and never defined.

        An enum or a fixed must stand before its uses; a record need not.
        """
        if self._waiting:
            raise UnsupportedModel(f"no type is named {next(iter(self._waiting))!r}")


def union(types: Sequence[Type]) -> Type:
    """Return the union of *types*, flat and without repeats; of one type, that type."""
    flat: list[Type] = []
    for each in types:
        for one in each.types if isinstance(each, Union) else (each,):
            if one not in flat and not isinstance(one, Nothing):
                flat.append(one)
    if not flat:
        return NOTHING
    return flat[0] if len(flat) == 1 else Union(tuple(flat))


def accepts(wanted: Type, given: Type) -> bool:
    """Return whether a *given* value may stand where a *wanted* one is asked for."""
    if wanted == given or isinstance(given, Nothing):
        return True
    if isinstance(given, Union):
        return all(accepts(wanted, each) for each in given.types)
    if isinstance(wanted, Union):
        return any(accepts(each, given) for each in wanted.types)
    if wanted in NUMBERS and given in NUMBERS:
        return NUMBERS.index(wanted) >= NUMBERS.index(given)
    if isinstance(wanted, Array) and isinstance(given, Array):
        return accepts(wanted.items, given.items)
    if isinstance(wanted, Map) and isinstance(given, Map):
        return accepts(wanted.values, given.values)
    if isinstance(wanted, Record) and isinstance(given, Record):
        return wanted.name == given.name
    if isinstance(wanted, Function) and isinstance(given, Function):
        return (
            len(wanted.params) == len(given.params)
            and all(accepts(g, w) for w, g in zip(wanted.params, given.params, strict=True))
            and accepts(wanted.result, given.result)
        )
    return False


def broadest(types: Sequence[Type]) -> Type:
    """Return the narrowest type that accepts all *types*: the widest number, or a union."""
    found = types[0]
    for each in types[1:]:
        if accepts(found, each):
            continue
        if accepts(each, found):
            found = each
        elif isinstance(found, Array) and isinstance(each, Array):
            found = Array(broadest([found.items, each.items]))
        elif isinstance(found, Map) and isinstance(each, Map):
            found = Map(broadest([found.values, each.values]))
        else:
            found = union([found, each])
    return found
