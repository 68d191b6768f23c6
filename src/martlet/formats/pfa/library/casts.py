"""``cast.*`` and ``impute.*``: numbers 17000 and 21000."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

from martlet.formats.pfa.avrojson import writer
from martlet.formats.pfa.failure import Failure
from martlet.formats.pfa.library import entry
from martlet.formats.pfa.library.core import Run
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
    Map,
    Record,
    Type,
    Union,
)
from martlet.formats.pfa.values import single, test

_NUMBERS = "int -> {0}; long -> {0}; float -> {0}; double -> {0}"


def _bits(bits: int, code: int) -> None:
    if not (2 if code == 17000 else 1) <= bits <= (64 if code == 17000 else 63):
        raise Failure(code, "unrepresentable unsigned number")


@entry("cast.signed", "long, int -> long")
def signed(x: int, bits: int) -> int:
    _bits(bits, 17000)
    half = 1 << (bits - 1)
    return (x + half) % (1 << bits) - half


@entry("cast.unsigned", "long, int -> long")
def unsigned(x: int, bits: int) -> int:
    _bits(bits, 17010)
    return x % (1 << bits)


def _whole(name: str, bits: int, code: int) -> None:
    @entry(f"cast.{name}", _NUMBERS.format(name))
    def cast(x: float) -> int:
        limit = 1 << bits
        if not -limit <= x < limit:
            raise Failure(code, f"{name} overflow")
        return x if isinstance(x, int) else math.floor(x + 0.5)


_whole("int", 31, 17020)
_whole("long", 63, 17030)
entry("cast.float", _NUMBERS.format("float"))(single)
entry("cast.double", _NUMBERS.format("double"))(float)


def _fanout(name: str, of: str, yes: Any, no: Any, code: int) -> None:
    @entry(
        f"cast.fanout{name}",
        f"A@ -> [{of}]; string, [string], boolean -> [{of}]; int, int, int, boolean -> [{of}]",
        typed=True,
    )
    def make(params: Sequence[Type], result: Type) -> Run:
        if len(params) == 1:
            assert isinstance(params[0], Enum)
            count = len(params[0].symbols)
            return lambda x: [yes if i == x.place else no for i in range(count)]
        if len(params) == 3:

            def by_word(x: str, words: Sequence[str], outside: bool) -> list[Any]:
                if len(set(words)) != len(words):
                    raise Failure(code, "non-distinct values in dictionary")
                found = [yes if each == x else no for each in words]
                return [*found, no if x in words else yes] if outside else found

            return by_word

        def by_number(x: int, low: int, high: int, outside: bool) -> list[Any]:
            if high - low > 1 << 24:
                raise Failure(code, "too many values")
            found = [yes if i == x else no for i in range(low, high)]
            return [*found, no if low <= x < high else yes] if outside else found

        return by_number


_fanout("Boolean", "boolean", True, False, 17060)
_fanout("Int", "int", 1, 0, 17070)
_fanout("Long", "long", 1, 0, 17080)
_fanout("Float", "float", 1.0, 0.0, 17090)
_fanout("Double", "double", 1.0, 0.0, 17100)


def _zigzag(value: int) -> bytes:
    n = (value << 1) ^ (value >> 63)
    n &= (1 << 64) - 1
    out = bytearray()
    while n > 0x7F:
        out.append((n & 0x7F) | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def avro(of: Type) -> Callable[[Any], bytes]:
    """Return what writes a value of this type in Avro's binary form."""
    made: dict[str, Callable[[Any], bytes]] = {}

    def make(of: Type) -> Callable[[Any], bytes]:
        if of == NULL:
            return lambda v: b""
        if of == BOOLEAN:
            return lambda v: b"\1" if v else b"\0"
        if of in (INT, LONG):
            return _zigzag
        if of == FLOAT:
            return struct.Struct("<f").pack
        if of == DOUBLE:
            return struct.Struct("<d").pack
        if of == STRING:
            return lambda v: _zigzag(len(v.encode())) + v.encode()
        if of == BYTES:
            return lambda v: _zigzag(len(v)) + v
        if isinstance(of, Fixed):
            return bytes
        if isinstance(of, Enum):
            return lambda v: _zigzag(v.place)
        if isinstance(of, Array):
            item = make(of.items)
            return lambda v: (_zigzag(len(v)) if v else b"") + b"".join(map(item, v)) + b"\0"
        if isinstance(of, Map):
            value, text = make(of.values), make(STRING)
            return lambda v: (
                (_zigzag(len(v)) if v else b"")
                + b"".join(text(k) + value(each) for k, each in v.items())
                + b"\0"
            )
        if isinstance(of, Union):
            members = [(test(each), make(each)) for each in of.types]
            return lambda v: next(
                _zigzag(i) + write(v) for i, (is_one, write) in enumerate(members) if is_one(v)
            )
        assert isinstance(of, Record)
        name = of.name
        if name not in made:
            made[name] = lambda v: b""
            fields = [(key, make(each)) for key, each in of.fields.items()]
            made[name] = lambda v: b"".join(write(v[key]) for key, write in fields)
        return lambda v: made[name](v)

    return make(of)


@entry("cast.avro", "A -> bytes", typed=True)
def cast_avro(params: Sequence[Type], result: Type) -> Run:
    return avro(params[0])


@entry("cast.json", "A -> string", typed=True)
def cast_json(params: Sequence[Type], result: Type) -> Run:
    write = writer(params[0])
    return lambda v: json.dumps(write(v), separators=(",", ":"), ensure_ascii=False)


# -- impute ------------------------------------------------------------------------------------

_REAL = "float -> {0}; double -> {1}"


@entry("impute.errorOnNull", "(A|null) -> A")
def error_on_null(x: Any) -> Any:
    if x is None:
        raise Failure(21000, "encountered null")
    return x


entry("impute.defaultOnNull", "(A|null), A -> A")(lambda x, other: other if x is None else x)
entry("impute.isnan", _REAL.format("boolean", "boolean"))(lambda x: x != x)
entry("impute.isinf", _REAL.format("boolean", "boolean"))(math.isinf)
entry("impute.isnum", _REAL.format("boolean", "boolean"))(math.isfinite)


@entry("impute.errorOnNonNum", _REAL.format("float", "double"))
def error_on_non_num(x: float) -> float:
    if x != x:
        raise Failure(21050, "encountered nan")
    if math.isinf(x):
        raise Failure(21051 if x > 0 else 21052, f"encountered {'+' if x > 0 else '-'}inf")
    return x


entry("impute.defaultOnNonNum", "float, float -> float; double, double -> double")(
    lambda x, other: x if math.isfinite(x) else other
)
