"""``a.*`` of PFA: sets, and functions over items."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

from martlet.formats.pfa.failure import Failure
from martlet.formats.pfa.library import entry
from martlet.formats.pfa.library.arrays import MOST, Items, distinct_of, filled, hashable
from martlet.formats.pfa.library.core import Run

# -- sets --------------------------------------------------------------------------------------


entry("a.distinct", "[A] -> [A]")(lambda a: list(distinct_of(a).values()))
_TWO = "[A], [A] -> {0}"
entry("a.seteq", _TWO.format("boolean"))(
    lambda a, b: distinct_of(a).keys() == distinct_of(b).keys()
)
entry("a.union", _TWO.format("[A]"))(lambda a, b: list(distinct_of([*a, *b]).values()))
entry("a.subset", _TWO.format("boolean"))(
    lambda little, big: distinct_of(little).keys() <= distinct_of(big).keys()
)
entry("a.disjoint", _TWO.format("boolean"))(
    lambda a, b: distinct_of(a).keys().isdisjoint(distinct_of(b).keys())
)


def _only(a: Items, b: Items, wanted: bool) -> Items:
    other = distinct_of(b)
    return [v for v in a if (hashable(v) in other) is wanted]


# As the reference implementation has it: what both hold, from each of the two in turn.
entry("a.intersection", _TWO.format("[A]"))(lambda a, b: [*_only(a, b, True), *_only(b, a, True)])
entry("a.diff", _TWO.format("[A]"))(lambda a, b: _only(a, b, False))
entry("a.symdiff", _TWO.format("[A]"))(lambda a, b: [*_only(a, b, False), *_only(b, a, False)])


# -- functions over items ----------------------------------------------------------------------

entry("a.map", "[A], fn(A -> B) -> [B]")(lambda a, f: [f(each) for each in a])
entry("a.mapWithIndex", "[A], fn(int, A -> B) -> [B]")(
    lambda a, f: [f(i, each) for i, each in enumerate(a)]
)
entry("a.filter", "[A], fn(A -> boolean) -> [A]")(lambda a, f: [each for each in a if f(each)])
entry("a.filterWithIndex", "[A], fn(int, A -> boolean) -> [A]")(
    lambda a, f: [each for i, each in enumerate(a) if f(i, each)]
)
entry("a.filterMap", "[A], fn(A -> (B|null)) -> [B]")(
    lambda a, f: [v for v in map(f, a) if v is not None]
)
entry("a.filterMapWithIndex", "[A], fn(int, A -> (B|null)) -> [B]")(
    lambda a, f: [v for i, each in enumerate(a) if (v := f(i, each)) is not None]
)
entry("a.flatMap", "[A], fn(A -> [B]) -> [B]")(lambda a, f: [v for each in a for v in f(each)])
entry("a.flatMapWithIndex", "[A], fn(int, A -> [B]) -> [B]")(
    lambda a, f: [v for i, each in enumerate(a) for v in f(i, each)]
)


def _aligned(arrays: Sequence[Items], code: int) -> None:
    if len({len(each) for each in arrays}) > 1:
        raise Failure(code, "misaligned arrays")


_LETTERS = ("A, B", "A, B, C", "A, B, C, D")


def _zipped(index: str) -> str:
    return "; ".join(
        ", ".join(f"[{each}]" for each in letters.split(", "))
        + f", fn({index}{letters} -> Z) -> [Z]"
        for letters in _LETTERS
    )


@entry("a.zipmap", _zipped(""))
def zipmap(*given: Any) -> Items:
    *arrays, f = given
    _aligned(arrays, 15650)
    return [f(*each) for each in zip(*arrays, strict=True)]


@entry("a.zipmapWithIndex", _zipped("int, "))
def zipmap_with_index(*given: Any) -> Items:
    *arrays, f = given
    _aligned(arrays, 15660)
    return [f(i, *each) for i, each in enumerate(zip(*arrays, strict=True))]


@entry("a.reduce", "[A], fn(A, A -> A) -> A")
def reduce(a: Items, f: Run) -> Any:
    filled(a, 15670)
    return functools.reduce(f, a)


@entry("a.reduceRight", "[A], fn(A, A -> A) -> A")
def reduce_right(a: Items, f: Run) -> Any:
    filled(a, 15680)
    return functools.reduce(lambda x, y: f(y, x), a[::-1])


entry("a.fold", "[A], B, fn(B, A -> B) -> B")(lambda a, zero, f: functools.reduce(f, a, zero))
entry("a.foldRight", "[A], B, fn(A, B -> B) -> B")(
    lambda a, zero, f: functools.reduce(lambda x, y: f(y, x), a[::-1], zero)
)
entry("a.takeWhile", "[A], fn(A -> boolean) -> [A]")(lambda a, f: list(itertools.takewhile(f, a)))
entry("a.dropWhile", "[A], fn(A -> boolean) -> [A]")(lambda a, f: list(itertools.dropwhile(f, a)))
entry("a.any", "[A], fn(A -> boolean) -> boolean")(lambda a, f: any(map(f, a)))
entry("a.all", "[A], fn(A -> boolean) -> boolean")(lambda a, f: all(map(f, a)))


@entry("a.corresponds", "[A], [B], fn(A, B -> boolean) -> boolean")
def corresponds(a: Items, b: Items, f: Run) -> bool:
    return len(a) == len(b) and all(map(f, a, b))


@entry("a.correspondsWithIndex", "[A], [B], fn(int, A, B -> boolean) -> boolean")
def corresponds_with_index(a: Items, b: Items, f: Run) -> bool:
    return len(a) == len(b) and all(map(f, range(len(a)), a, b))


@entry("a.slidingWindow", "[A], int, int -> [[A]]")
def sliding_window(a: Items, size: int, step: int) -> list[Items]:
    if size < 1:
        raise Failure(15770, "size < 1")
    if step < 1:
        raise Failure(15771, "step < 1")
    return [a[i : i + size] for i in range(0, len(a) - size + 1, step)]


@entry("a.combinations", "[A], int -> [[A]]")
def combinations(a: Items, size: int) -> list[Items]:
    if size < 1:
        raise Failure(15780, "size < 1")
    if math.comb(len(a), size) > MOST:
        raise Failure(15780, "too many combinations")
    return [list(each) for each in itertools.combinations(a, size)]


@entry("a.permutations", "[A] -> [[A]]")
def permutations(a: Items) -> list[Items]:
    if len(a) > 10:
        raise Failure(15790, "too many permutations")
    return [list(each) for each in itertools.permutations(a)]


@entry("a.groupby", "[A], fn(A -> string) -> {[A]}")
def groupby(a: Items, f: Callable[[Any], str]) -> dict[str, Items]:
    found: dict[str, Items] = {}
    for each in a:
        found.setdefault(f(each), []).append(each)
    return found
