"""Avro's JSON to values of a running engine, and back: unions bare or tagged, bytes as text."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable
from typing import Any

from martlet.errors import InvalidInput
from martlet.formats.pfa.types import (
    BOOLEAN,
    BYTES,
    DOUBLE,
    FLOAT,
    INT,
    LONG,
    NULL,
    NUMBERS,
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
)
from martlet.formats.pfa.values import Convert, Fields, Octets, Symbol, single, test

_SPECIAL = {
    "inf": math.inf, "+inf": math.inf, "infinity": math.inf, "-inf": -math.inf,
    "-infinity": -math.inf, "nan": math.nan,
}  # fmt: skip


class _Reader:
    """Makes the readers of types, each once: a record's fields may hold the record itself."""

    def __init__(self) -> None:
        self._made: dict[str, Convert] = {}

    def of(self, of: Type) -> Convert:
        if isinstance(of, Record):
            # By name at the time of use: the record may be within itself.
            if of.name not in self._made:
                self._made[of.name] = lambda v: self._made[of.name](v)
                self._made[of.name] = self._record(of)
            name = of.name
            return lambda v: self._made[name](v)
        if isinstance(of, Array):
            item = self.of(of.items)
            return lambda v: [item(each) for each in _is(v, list, "an array")]
        if isinstance(of, Map):
            value = self.of(of.values)
            return lambda v: {str(k): value(each) for k, each in _is(v, dict, "a map").items()}
        if isinstance(of, Union):
            return self._union(of)
        return _scalar(of)

    def _record(self, of: Record) -> Convert:
        fields = {name: self.of(each) for name, each in of.fields.items()}
        kind = of.name

        def read(v: Any) -> Fields:
            given = _is(v, dict, f"a record {kind}")
            if type(given) is Fields and given.kind == kind:
                return given
            if len(given) != len(fields) and not given.keys() <= fields.keys():
                unknown = next(name for name in given if name not in fields)
                raise InvalidInput(f"the record {kind} has no field {unknown!r}")
            try:
                return Fields(kind, [(name, step(given[name])) for name, step in fields.items()])
            except KeyError:
                for name in fields:
                    if name not in given and name not in of.defaults:
                        raise InvalidInput(f"the record {kind} lacks the field {name!r}") from None
                return read({**of.defaults, **given})

        return read

    def _union(self, of: Union) -> Convert:
        tagged = {tag(each): self.of(each) for each in of.types}
        bare = [(each, self.of(each)) for each in of.types if each != NULL]
        nullable = NULL in of.types
        names = ", ".join(tagged)

        def read(v: Any) -> Any:
            if v is None:
                if nullable:
                    return None
                raise InvalidInput(f"null is none of {names}")
            if type(v) is dict and len(v) == 1:
                ((key, inner),) = v.items()
                if key in tagged:
                    return tagged[key](inner)
            for each, step in bare:
                if _may_be(each, v):
                    try:
                        return step(v)
                    except InvalidInput:
                        continue
            raise InvalidInput(f"{str(v)[:60]!r} is none of {names}")

        return read


def _may_be(of: Type, v: Any) -> bool:
    if isinstance(v, bool):
        return of == BOOLEAN
    if isinstance(v, int):
        return of in NUMBERS
    if isinstance(v, float):
        return of in (FLOAT, DOUBLE)
    if isinstance(v, str):
        return of in (STRING, BYTES) or isinstance(of, Enum | Fixed)
    if isinstance(v, bytes):
        return of in (STRING, BYTES) or isinstance(of, Fixed)
    if isinstance(v, list):
        return isinstance(of, Array)
    return isinstance(v, dict) and isinstance(of, Map | Record)


def _is(v: Any, cls: type, what: str) -> Any:
    if not isinstance(v, cls):
        raise InvalidInput(f"{str(v)[:60]!r} is not {what}")
    return v


def tag(of: Type) -> str:
    """Return what a union's JSON calls a member."""
    if isinstance(of, Array):
        return "array"
    if isinstance(of, Map):
        return "map"
    return of.name if not isinstance(of, Union | Function | Nothing) else ""


def _scalar(of: Type) -> Convert:
    if isinstance(of, Enum):
        return _symbol(of)
    if isinstance(of, Fixed):
        return _fixed(of)
    if of not in _PRIMITIVES:
        raise InvalidInput(f"{of} has no values in JSON")
    return _PRIMITIVES[of]


def _null(v: Any) -> None:
    if v is not None:
        raise InvalidInput(f"{str(v)[:60]!r} is not null")


def _boolean(v: Any) -> bool:
    if v is True or v is False:
        return bool(v)
    raise InvalidInput(f"{str(v)[:60]!r} is not a boolean")


def _whole(name: str, limit: int) -> Convert:
    def read(v: Any) -> int:
        if type(v) is float and v.is_integer():
            v = int(v)
        if not isinstance(v, int) or isinstance(v, bool) or not -limit <= v < limit:
            raise InvalidInput(f"{str(v)[:60]!r} is not {name}")
        return int(v)

    return read


def _real(rounded: Callable[[float], float]) -> Convert:
    def read(v: Any) -> float:
        if isinstance(v, int | float) and not isinstance(v, bool):
            return rounded(v)
        if isinstance(v, str) and v.lower() in _SPECIAL:
            return _SPECIAL[v.lower()]
        raise InvalidInput(f"{str(v)[:60]!r} is not a number")

    return read


def _string(v: Any) -> str:
    if isinstance(v, bytes):
        try:
            return v.decode()
        except UnicodeDecodeError:
            raise InvalidInput("text holds bytes that are not UTF-8") from None
    return str(_is(v, str, "text"))


def _bytes(v: Any) -> bytes:
    try:
        # Avro's JSON writes a byte as the character of that number.
        return bytes(v if isinstance(v, bytes) else _is(v, str, "bytes").encode("latin-1"))
    except UnicodeEncodeError:
        raise InvalidInput("bytes hold a character past 255") from None


def _fixed(of: Fixed) -> Convert:
    def read(v: Any) -> Octets:
        data = _bytes(v)
        if len(data) != of.size:
            raise InvalidInput(f"{len(data)} bytes are not {of} of {of.size}")
        return Octets.of(of, data)

    return read


def _symbol(of: Enum) -> Convert:
    def read(v: Any) -> Symbol:
        text = v.decode(errors="replace") if isinstance(v, bytes) else v
        if text not in of.symbols:
            raise InvalidInput(f"{str(text)[:60]!r} is not in {of}: {', '.join(of.symbols)}")
        return Symbol.of(of, text)

    return read


_PRIMITIVES: dict[Type, Convert] = {
    NULL: _null,
    BOOLEAN: _boolean,
    INT: _whole("int", 1 << 31),
    LONG: _whole("long", 1 << 63),
    FLOAT: _real(single),
    DOUBLE: _real(float),
    STRING: _string,
    BYTES: _bytes,
}


def reader(of: Type) -> Convert:
    """Return the function from JSON (unions bare or tagged) to a value; it raises InvalidInput."""
    return _Reader().of(of)


def writer(of: Type) -> Convert:
    """Return the function from a value to Avro's JSON: unions tagged, bytes as characters."""
    made: dict[str, Convert] = {}

    def make(of: Type) -> Convert:
        if isinstance(of, Record):
            name = of.name
            if name not in made:
                made[name] = lambda v: v
                fields = [(key, make(each)) for key, each in of.fields.items()]
                made[name] = lambda v: {key: step(v[key]) for key, step in fields}
            return lambda v: made[name](v)
        if isinstance(of, Array):
            item = make(of.items)
            return lambda v: [item(each) for each in v]
        if isinstance(of, Map):
            value = make(of.values)
            return lambda v: {k: value(each) for k, each in v.items()}
        if isinstance(of, Union):
            members = [(test(each), tag(each), make(each)) for each in of.types if each != NULL]

            def write(v: Any) -> Any:
                if v is None:
                    return None
                for is_one, name, step in members:
                    if is_one(v):
                        return {name: step(v)}
                return v

            return write
        if of == BYTES or isinstance(of, Fixed):
            return lambda v: v.decode("latin-1")
        if of in (FLOAT, DOUBLE):
            return _written_real
        return lambda v: v

    return make(of)


def _written_real(v: float) -> Any:
    if math.isfinite(v):
        return float(v)
    return "NaN" if v != v else "Infinity" if v > 0 else "-Infinity"


def from_base64(text: str) -> bytes:
    """Return the bytes. Raises ValueError: it is not base 64."""
    return base64.b64decode(text, validate=True)
