"""``rand.*`` and ``a.shuffle``: number 34000. The draws are Python's; each engine seeds its own."""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from typing import Any

from martlet.formats.pfa.failure import Failure
from martlet.formats.pfa.library import entry

_MOST = 1 << 24


def _range(low: float, high: float, code: int) -> None:
    if high <= low:
        raise Failure(code, "high must be greater than low")


def _whole(name: str, bits: int, code: int) -> None:
    @entry(f"rand.{name}", f"-> {name}; {name}, {name} -> {name}")
    def draw(low: int | None = None, high: int | None = None) -> int:
        if low is None or high is None:
            return random.randrange(-(1 << bits), 1 << bits)
        _range(low, high, code)
        return random.randrange(low, high)


_whole("int", 31, 34000)
_whole("long", 63, 34010)


def _real(name: str, code: int) -> None:
    @entry(f"rand.{name}", f"{name}, {name} -> {name}")
    def draw(low: float, high: float) -> float:
        _range(low, high, code)
        return random.uniform(low, high)


_real("float", 34020)
_real("double", 34030)


def _filled(population: Sequence[Any], code: int) -> None:
    if not population:
        raise Failure(code, "population must not be empty")


@entry("rand.choice", "[A] -> A")
def choice(population: Sequence[Any]) -> Any:
    _filled(population, 34040)
    return random.choice(population)


@entry("rand.choices", "int, [A] -> [A]")
def choices(size: int, population: Sequence[Any]) -> list[Any]:
    _filled(population, 34050)
    return random.choices(population, k=min(size, _MOST))


@entry("rand.sample", "int, [A] -> [A]")
def sample(size: int, population: Sequence[Any]) -> list[Any]:
    _filled(population, 34060)
    if len(population) < size:
        raise Failure(34061, "population smaller than requested subsample")
    return random.sample(population, size)


@entry("rand.histogram", "[double] -> int; [A{prob: double}] -> A")
def histogram(distribution: Sequence[Any]) -> Any:
    if not distribution:
        raise Failure(34070, "distribution must be non-empty")
    records = isinstance(distribution[0], dict)
    weights = [each["prob"] if records else each for each in distribution]
    if any(w != w or w in (float("inf"), float("-inf")) for w in weights):
        raise Failure(34071, "distribution must be finite")
    if min(weights) < 0:
        raise Failure(34072, "distribution must be non-negative")
    if sum(weights) == 0:
        raise Failure(34070, "distribution must be non-empty")
    at = random.choices(range(len(weights)), weights)[0]
    return distribution[at] if records else at


def _drawn(size: int, code: int, given: tuple[Any, ...]) -> list[Any]:
    if not 0 < size <= _MOST:
        raise Failure(code, "size must be positive")
    if len(given) == 1:
        if not given[0]:
            raise Failure(code + 3, "population must be non-empty")
        return random.choices(given[0], k=size)
    low, high = given or (1, 0xD800) if code == 34080 else given or (0, 256)
    _range(low, high, code + 1)
    if low < 0 or high > (0x110000 if code == 34080 else 256):
        raise Failure(code + 2, "invalid char" if code == 34080 else "invalid byte")
    return [random.randrange(low, high) for _ in range(size)]


@entry("rand.string", "int -> string; int, string -> string; int, int, int -> string")
def string(size: int, *given: Any) -> str:
    return "".join(
        each if isinstance(each, str) else chr(each) for each in _drawn(size, 34080, given)
    )


@entry("rand.bytes", "int -> bytes; int, bytes -> bytes; int, int, int -> bytes")
def octets(size: int, *given: Any) -> bytes:
    return bytes(_drawn(size, 34090, given))


entry("rand.uuid", "-> string")(lambda: str(uuid.uuid4()))
entry("rand.uuid4", "-> string")(lambda: str(uuid.uuid4()))
entry("rand.gaussian", "double, double -> double")(random.gauss)


@entry("a.shuffle", "[A] -> [A]")
def shuffle(a: Sequence[Any]) -> list[Any]:
    return random.sample(a, len(a))
