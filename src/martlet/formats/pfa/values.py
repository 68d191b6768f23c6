"""Values of a running PFA engine: what they are in Python, and what may stand for what.

``null`` None, ``boolean`` bool, ``int`` and ``long`` int, ``float`` and ``double`` float,
``string`` str, ``bytes`` bytes, array list, map dict; records, enum symbols and fixed are the
classes below, which know their type's name. A union's value is the bare value: its class tells.
Values are never changed in place.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

from martlet.formats.pfa.types import (
    BOOLEAN,
    BYTES,
    DOUBLE,
    FLOAT,
    INT,
    LONG,
    NULL,
    STRING,
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
)

Convert = Callable[[Any], Any]


class Fields(dict[str, Any]):
    """
    A record: its fields, and its type's name.

    As it never changes, what a function makes of it once may be kept in ``memo``.
    """

    __slots__ = ("kind", "memo")

    def __init__(self, kind: str, fields: Any) -> None:
        super().__init__(fields)
        self.kind = kind
        self.memo: Any = None


class Symbol(str):
    """A value of an enum; ``place`` is its position among the symbols."""

    __slots__ = ("kind", "place")
    kind: str
    place: int

    @classmethod
    def of(cls, of: Enum, text: str) -> Symbol:
        """Return the symbol *text*. Raises ValueError: there is none."""
        made = cls(text)
        made.kind = of.name
        made.place = of.symbols.index(text)
        return made


class Octets(bytes):
    """A value of a fixed."""

    kind: str

    @classmethod
    def of(cls, of: Fixed, data: bytes) -> Octets:
        """Return *data* as a fixed of this type."""
        made = cls(data)
        made.kind = of.name
        return made


def test(of: Type) -> Callable[[Any], bool]:
    """Return the test whether a union's value is of this member type."""
    if of == NULL:
        return lambda v: v is None
    if of == BOOLEAN:
        return lambda v: v is True or v is False
    if of in (INT, LONG):
        return lambda v: type(v) is int
    if of in (FLOAT, DOUBLE):
        return lambda v: type(v) is float
    if of == STRING:
        return lambda v: type(v) is str
    if of == BYTES:
        return lambda v: type(v) is bytes
    if isinstance(of, Array):
        return lambda v: type(v) is list
    if isinstance(of, Map):
        return lambda v: type(v) is dict
    if isinstance(of, Record | Enum | Fixed):
        name, cls = of.name, {Record: Fields, Enum: Symbol, Fixed: Octets}[type(of)]
        return lambda v: type(v) is cls and v.kind == name
    if isinstance(of, Union):
        tests = [test(each) for each in of.types]
        return lambda v: any(each(v) for each in tests)
    return lambda v: callable(v)


def promotion(wanted: Type, given: Type) -> Convert | None:
    """Return what turns a *given* value into a *wanted* one; None where it is one already."""
    if wanted == given or isinstance(given, Nothing | Function) or isinstance(wanted, Function):
        return None
    if wanted in (FLOAT, DOUBLE) and given in (INT, LONG):
        return float
    if wanted == FLOAT and given == DOUBLE:
        return single
    if isinstance(given, Union):
        steps = [(test(each), promotion(wanted, each)) for each in given.types]
        if all(step is None for _, step in steps):
            return None

        def by_member(v: Any) -> Any:
            for is_one, step in steps:
                if is_one(v):
                    return v if step is None else step(v)
            return v

        return by_member
    if isinstance(wanted, Union):
        if given in wanted.types:
            return None
        member = next((each for each in wanted.types if accepts(each, given)), None)
        return None if member is None else promotion(member, given)
    if isinstance(wanted, Array) and isinstance(given, Array):
        item = promotion(wanted.items, given.items)
        return None if item is None else lambda v: [item(each) for each in v]
    if isinstance(wanted, Map) and isinstance(given, Map):
        value = promotion(wanted.values, given.values)
        return None if value is None else lambda v: {k: value(each) for k, each in v.items()}
    return None


def single(value: float) -> float:
    """Return *value* rounded to float32."""
    try:
        return float(struct.unpack("f", struct.pack("f", value))[0])
    except OverflowError:
        return math.copysign(math.inf, value)
