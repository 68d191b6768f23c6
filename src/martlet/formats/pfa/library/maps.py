"""``map.*``: numbers 26000 to 26400. A set is a map from what tells its items apart to them."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from typing import Any

from martlet.formats.pfa.failure import Failure
from martlet.formats.pfa.library import entry
from martlet.formats.pfa.library.arrays import Less, first_of, natural, order, some_of
from martlet.formats.pfa.library.casts import avro
from martlet.formats.pfa.library.core import Run
from martlet.formats.pfa.types import Array, Map, Type

Table = dict[str, Any]

entry("map.len", "{A} -> int")(len)
entry("map.keys", "{A} -> [string]")(list)
entry("map.values", "{A} -> [A]")(lambda m: list(m.values()))


@entry("map.containsKey", "{A}, string -> boolean; {A}, fn(string -> boolean) -> boolean")
def contains_key(m: Table, key: Any) -> bool:
    return any(map(key, m)) if callable(key) else key in m


@entry("map.containsValue", "{A}, A -> boolean; {A}, fn(A -> boolean) -> boolean")
def contains_value(m: Table, value: Any) -> bool:
    if callable(value):
        return any(map(value, m.values()))
    return any(each == value for each in m.values())


def identity(of: Type) -> Callable[[Any], str]:
    """Return the key of an item in a set: its Avro bytes in base 64."""
    write = avro(of)
    return lambda v: base64.b64encode(write(v)).decode()


@entry("map.add", "{A}, string, A -> {A}; {A}, A -> {A}", typed=True)
def add(params: Sequence[Type], result: Type) -> Run:
    if len(params) == 3:
        return lambda m, key, value: {**m, key: value}
    of = params[0]
    assert isinstance(of, Map)
    name = identity(of.values)
    return lambda m, item: {**m, name(item): item}


entry("map.remove", "{A}, string -> {A}")(lambda m, key: {k: v for k, v in m.items() if k != key})
entry("map.only", "{A}, [string] -> {A}")(lambda m, keys: {k: m[k] for k in keys if k in m})


@entry("map.except", "{A}, [string] -> {A}")
def without(m: Table, keys: Sequence[str]) -> Table:
    out = set(keys)
    return {k: v for k, v in m.items() if k not in out}


entry("map.update", "{A}, {A} -> {A}")(lambda base, over: {**base, **over})
entry("map.split", "{A} -> [{A}]")(lambda m: [{k: v} for k, v in m.items()])
entry("map.join", "[{A}] -> {A}")(lambda a: {k: v for m in a for k, v in m.items()})


def _extremes(word: str, largest: bool, code: int) -> None:
    name = f"map.arg{word}"

    def filled(m: Table, number: int, n: int = 0) -> tuple[list[str], list[Any]]:
        if not m:
            raise Failure(number, "empty map")
        if n < 0:
            raise Failure(number + 1, "n < 0")
        return list(m), list(m.values())

    def key_for(params: Sequence[Type]) -> Callable[[Any], Any]:
        assert isinstance(params[0], Map)
        return natural(params[0].values)

    @entry(name, "{A} -> string", typed=True)
    def plain(params: Sequence[Type], result: Type) -> Run:
        key = key_for(params)

        def run(m: Table) -> str:
            keys, values = filled(m, code)
            return keys[first_of(values, key, largest)]

        return run

    @entry(f"{name}LT", "{A}, fn(A, A -> boolean) -> string")
    def by(m: Table, less: Less) -> str:
        keys, values = filled(m, code + 20)
        return keys[first_of(values, order(less), largest)]

    @entry(f"{name}N", "{A}, int -> [string]", typed=True)
    def several(params: Sequence[Type], result: Type) -> Run:
        key = key_for(params)

        def run(m: Table, n: int) -> list[str]:
            keys, values = filled(m, code + 40, n)
            return [keys[i] for i in some_of(values, n, key, largest)]

        return run

    @entry(f"{name}NLT", "{A}, int, fn(A, A -> boolean) -> [string]")
    def several_by(m: Table, n: int, less: Less) -> list[str]:
        keys, values = filled(m, code + 60, n)
        return [keys[i] for i in some_of(values, n, order(less), largest)]


_extremes("max", True, 26120)
_extremes("min", False, 26130)


# -- sets --------------------------------------------------------------------------------------


@entry("map.toset", "[A] -> {A}", typed=True)
def toset(params: Sequence[Type], result: Type) -> Run:
    of = params[0]
    assert isinstance(of, Array)
    name = identity(of.items)
    return lambda a: {name(each): each for each in a}


entry("map.fromset", "{A} -> [A]")(lambda s: list(s.values()))


@entry("map.in", "{A}, A -> boolean", typed=True)
def contained(params: Sequence[Type], result: Type) -> Run:
    of = params[0]
    assert isinstance(of, Map)
    name = identity(of.values)
    return lambda s, x: name(x) in s


_TWO = "{A}, {A} -> "
entry("map.union", _TWO + "{A}")(lambda a, b: {**a, **b})
entry("map.intersection", _TWO + "{A}")(lambda a, b: {k: v for k, v in a.items() if k in b})
entry("map.diff", _TWO + "{A}")(lambda a, b: {k: v for k, v in a.items() if k not in b})
entry("map.symdiff", _TWO + "{A}")(
    lambda a, b: {k: v for k, v in {**a, **b}.items() if (k in a) != (k in b)}
)
entry("map.subset", _TWO + "boolean")(lambda little, big: little.keys() <= big.keys())
entry("map.disjoint", _TWO + "boolean")(lambda a, b: a.keys().isdisjoint(b.keys()))


# -- functions over values ---------------------------------------------------------------------

entry("map.map", "{A}, fn(A -> B) -> {B}")(lambda m, f: {k: f(v) for k, v in m.items()})
entry("map.mapWithKey", "{A}, fn(string, A -> B) -> {B}")(
    lambda m, f: {k: f(k, v) for k, v in m.items()}
)
entry("map.filter", "{A}, fn(A -> boolean) -> {A}")(
    lambda m, f: {k: v for k, v in m.items() if f(v)}
)
entry("map.filterWithKey", "{A}, fn(string, A -> boolean) -> {A}")(
    lambda m, f: {k: v for k, v in m.items() if f(k, v)}
)
entry("map.filterMap", "{A}, fn(A -> (B|null)) -> {B}")(
    lambda m, f: {k: w for k, v in m.items() if (w := f(v)) is not None}
)
entry("map.filterMapWithKey", "{A}, fn(string, A -> (B|null)) -> {B}")(
    lambda m, f: {k: w for k, v in m.items() if (w := f(k, v)) is not None}
)
entry("map.flatMap", "{A}, fn(A -> {B}) -> {B}")(
    lambda m, f: {k: w for v in m.values() for k, w in f(v).items()}
)
entry("map.flatMapWithKey", "{A}, fn(string, A -> {B}) -> {B}")(
    lambda m, f: {k: w for key, v in m.items() for k, w in f(key, v).items()}
)

_LETTERS = ("A, B", "A, B, C", "A, B, C, D")


def _zipped(key: str) -> str:
    return "; ".join(
        ", ".join(f"{{{each}}}" for each in letters.split(", "))
        + f", fn({key}{letters} -> Z) -> {{Z}}"
        for letters in _LETTERS
    )


def _aligned(maps: Sequence[Table], code: int) -> None:
    if any(each.keys() != maps[0].keys() for each in maps[1:]):
        raise Failure(code, "misaligned maps")


@entry("map.zipmap", _zipped(""))
def zipmap(*given: Any) -> Table:
    *maps, f = given
    _aligned(maps, 26370)
    return {k: f(*(m[k] for m in maps)) for k in maps[0]}


@entry("map.zipmapWithKey", _zipped("string, "))
def zipmap_with_key(*given: Any) -> Table:
    *maps, f = given
    _aligned(maps, 26380)
    return {k: f(k, *(m[k] for m in maps)) for k in maps[0]}


@entry("map.corresponds", "{A}, {B}, fn(A, B -> boolean) -> boolean")
def corresponds(a: Table, b: Table, f: Run) -> bool:
    return a.keys() == b.keys() and all(f(v, b[k]) for k, v in a.items())


@entry("map.correspondsWithKey", "{A}, {B}, fn(string, A, B -> boolean) -> boolean")
def corresponds_with_key(a: Table, b: Table, f: Run) -> bool:
    return a.keys() == b.keys() and all(f(k, v, b[k]) for k, v in a.items())
