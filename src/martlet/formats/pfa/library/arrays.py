"""``a.*``: numbers 15000 to 15810."""

from __future__ import annotations

import functools
import heapq
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from martlet.formats.pfa.failure import Failure
from martlet.formats.pfa.library import entry
from martlet.formats.pfa.library.core import Run, compared
from martlet.formats.pfa.library.maths import exp, ln
from martlet.formats.pfa.library.strings import bounds
from martlet.formats.pfa.types import INT, LONG, Array, Function, Type

Items = list[Any]
Less = Callable[[Any, Any], bool]
MOST = 1 << 22


def filled(a: Sequence[Any], code: int) -> None:
    """Raise Failure if *a* is empty."""
    if not a:
        raise Failure(code, "empty array")


entry("a.len", "[A] -> int")(len)
entry("a.subseq", "[A], int, int -> [A]")(lambda a, start, end: a[start:end])


@entry("a.head", "[A] -> A")
def head(a: Items) -> Any:
    filled(a, 15020)
    return a[0]


@entry("a.tail", "[A] -> [A]")
def tail(a: Items) -> Items:
    filled(a, 15030)
    return a[1:]


@entry("a.last", "[A] -> A")
def last(a: Items) -> Any:
    filled(a, 15040)
    return a[-1]


@entry("a.init", "[A] -> [A]")
def init(a: Items) -> Items:
    filled(a, 15050)
    return a[:-1]


@entry("a.subseqto", "[A], int, int, [A] -> [A]")
def subseqto(a: Items, start: int, end: int, replacement: Items) -> Items:
    first, after = bounds(len(a), start, end)
    return [*a[:first], *replacement, *a[after:]]


# -- searching: for a sequence, for an item, or for what a function says ------------------------

_SEARCH = "[A], [A] -> {0}; [A], A -> {0}; [A], fn(A -> boolean) -> {0}"


def _places(a: Items, needle: Any, is_item: bool) -> Iterable[int]:
    if callable(needle):
        return (i for i, each in enumerate(a) if needle(each))
    if is_item:
        return (i for i, each in enumerate(a) if each == needle)
    size = len(needle)
    return (i for i in range(len(a) - size + 1) if a[i : i + size] == needle)


def _search(name: str, gives: str, found: Callable[[Items, Iterable[int], Any], Any]) -> None:
    @entry(name, _SEARCH.format(gives), typed=True)
    def make(params: Sequence[Type], result: Type) -> Run:
        of = params[0]
        assert isinstance(of, Array)
        is_item = not isinstance(params[1], Function) and params[1] == of.items
        return lambda a, needle: found(a, _places(a, needle, is_item), needle)


_search("a.contains", "boolean", lambda a, at, needle: next(iter(at), None) is not None)
_search("a.index", "int", lambda a, at, needle: next(iter(at), -1))
_search("a.rindex", "int", lambda a, at, needle: max(at, default=-1))


def _count(a: Items, at: Iterable[int], needle: Any) -> int:
    if isinstance(needle, list) and not needle:
        return 0
    return sum(1 for _ in at)


_search("a.count", "int", _count)

_ENDS = "[A], [A] -> boolean; [A], A -> boolean"


def _ends(name: str, found: Callable[[Items, Items], bool]) -> None:
    @entry(name, _ENDS, typed=True)
    def make(params: Sequence[Type], result: Type) -> Run:
        if params[0] == params[1]:
            return found
        return lambda a, needle: found(a, [needle])


_ends("a.startswith", lambda a, needle: a[: len(needle)] == needle)
_ends("a.endswith", lambda a, needle: not needle or a[-len(needle) :] == needle)


# -- changing ----------------------------------------------------------------------------------

entry("a.concat", "[A], [A] -> [A]", template="({0} + {1})")(lambda a, b: a + b)
entry("a.append", "[A], A -> [A]", template="[*{0}, {1}]")(lambda a, item: [*a, item])


@entry("a.cycle", "[A], A, int -> [A]")
def cycle(a: Items, item: Any, most: int) -> Items:
    if most < 0:
        raise Failure(15150, "maxLength out of range")
    return [*a, item][-most:] if most else []


def _inside(a: Items, index: int, code: int) -> int:
    at = index + len(a) if index < 0 else index
    if not 0 <= at < len(a):
        raise Failure(code, "index out of range")
    return at


@entry("a.insert", "[A], int, A -> [A]")
def insert(a: Items, index: int, item: Any) -> Items:
    at = _inside(a, index, 15160)
    return [*a[:at], item, *a[at:]]


@entry("a.replace", "[A], int, A -> [A]")
def replace(a: Items, index: int, item: Any) -> Items:
    at = _inside(a, index, 15170)
    return [*a[:at], item, *a[at + 1 :]]


@entry("a.remove", "[A], int, int -> [A]; [A], int -> [A]")
def remove(a: Items, start: int, end: int | None = None) -> Items:
    if end is None:
        at = _inside(a, start, 15180)
        return [*a[:at], *a[at + 1 :]]
    first, after = bounds(len(a), start, end)
    return [*a[:first], *a[after:]]


@entry("a.rotate", "[A], int -> [A]")
def rotate(a: Items, steps: int) -> Items:
    if steps < 0:
        raise Failure(15190, "steps out of range")
    at = steps % len(a) if a else 0
    return [*a[at:], *a[:at]]


entry("a.reverse", "[A] -> [A]")(lambda a: a[::-1])
entry("a.flatten", "[[A]] -> [A]")(lambda a: [each for inner in a for each in inner])


# -- order: natural, or as a function says -----------------------------------------------------


def order(less: Less) -> Callable[[Any], Any]:
    """Return the key that sorts as *less* says."""
    return functools.cmp_to_key(lambda x, y: -1 if less(x, y) else 1 if less(y, x) else 0)


def natural(of: Type) -> Callable[[Any], Any]:
    """Return the key that sorts as PFA orders values of this type."""
    return functools.cmp_to_key(compared(of))


def item_of(of: Type) -> Type:
    """Return what an array's items are."""
    assert isinstance(of, Array)
    return of.items


def first_of(a: Sequence[Any], key: Callable[[Any], Any], largest: bool) -> int:
    """Return the place of the largest (or smallest), the first of equals."""
    keys = [key(each) for each in a]
    return keys.index(max(keys) if largest else min(keys))


def some_of(a: Sequence[Any], n: int, key: Callable[[Any], Any], largest: bool) -> list[int]:
    """Return the places of the *n* largest (or smallest), the first of equals before others."""
    pick = heapq.nlargest if largest else heapq.nsmallest
    return pick(n, range(len(a)), key=lambda i: key(a[i]))


@entry("a.sort", "[A] -> [A]", typed=True)
def sort(params: Sequence[Type], result: Type) -> Run:
    key = natural(item_of(params[0]))
    return lambda a: sorted(a, key=key)


entry("a.sortLT", "[A], fn(A, A -> boolean) -> [A]")(lambda a, less: sorted(a, key=order(less)))


def _extremes(word: str, largest: bool, code: int, place: bool) -> None:
    gives = "int" if place else "A"
    several = "[int]" if place else "[A]"
    name = f"a.arg{word}" if place else f"a.{word}"
    # max 15240, min 15250, maxLT 15260 ...; argmax 15320, argmin 15330 ...
    codes = [code + step for step in (0, 20, 40, 60)]

    def one(a: Items, key: Callable[[Any], Any], number: int) -> Any:
        filled(a, number)
        at = first_of(a, key, largest)
        return at if place else a[at]

    def many(a: Items, n: int, key: Callable[[Any], Any], number: int) -> Items:
        filled(a, number)
        if n < 0:
            raise Failure(number + 1, "n < 0")
        found = some_of(a, n, key, largest)
        return found if place else [a[i] for i in found]

    @entry(name, f"[A] -> {gives}", typed=True)
    def plain(params: Sequence[Type], result: Type) -> Run:
        key = natural(item_of(params[0]))
        return lambda a: one(a, key, codes[0])

    @entry(f"{name}LT", f"[A], fn(A, A -> boolean) -> {gives}")
    def by(a: Items, less: Less) -> Any:
        return one(a, order(less), codes[1])

    @entry(f"{name}N", f"[A], int -> {several}", typed=True)
    def plain_several(params: Sequence[Type], result: Type) -> Run:
        key = natural(item_of(params[0]))
        return lambda a, n: many(a, n, key, codes[2])

    @entry(f"{name}NLT", f"[A], int, fn(A, A -> boolean) -> {several}")
    def several_by(a: Items, n: int, less: Less) -> Items:
        return many(a, n, order(less), codes[3])


_extremes("max", True, 15240, place=False)
_extremes("min", False, 15250, place=False)
_extremes("max", True, 15320, place=True)
_extremes("min", False, 15330, place=True)


def hashable(value: Any) -> Any:
    """Return what is equal for equal values, and can be kept in a set."""
    if isinstance(value, list):
        return ("a", *map(hashable, value))
    if isinstance(value, dict):
        return ("m", frozenset((k, hashable(v)) for k, v in value.items()))
    return value


def distinct_of(a: Iterable[Any]) -> dict[Any, Any]:
    """Return the values by what tells them apart, in the order in which they come."""
    found: dict[Any, Any] = {}
    for each in a:
        found.setdefault(hashable(each), each)
    return found


# -- numbers -----------------------------------------------------------------------------------


def _total(name: str, code: int, run: Callable[[Items], Any]) -> None:
    @entry(name, "[A#] -> A", typed=True)
    def make(params: Sequence[Type], result: Type) -> Run:
        if result not in (INT, LONG):
            return lambda a: float(run(a))
        limit = 1 << (31 if result == INT else 63)
        number = code if result == INT else code + 1

        def checked(a: Items) -> Any:
            found = run(a)
            if -limit <= found < limit:
                return found
            raise Failure(number, f"{result} overflow")

        return checked


_total("a.sum", 15400, sum)
_total("a.product", 15410, math.prod)


@entry("a.lnsum", "[double] -> double")
def lnsum(a: Items) -> float:
    return float(sum(map(ln, a)))


@entry("a.mean", "[double] -> double")
def mean(a: Items) -> float:
    return sum(a) / len(a) if a else math.nan


@entry("a.geomean", "[double] -> double")
def geomean(a: Items) -> float:
    if not a:
        return math.nan
    product = math.prod(a)
    return float(product ** (1.0 / len(a))) if product >= 0 else math.nan


@entry("a.logsumexp", "[double] -> double")
def logsumexp(a: Items) -> float:
    if not a:
        return math.nan
    top = max(a)
    if not math.isfinite(top):
        return float(top)
    return float(top + ln(sum(exp(each - top) for each in a)))


@entry("a.median", "[A] -> A", typed=True)
def median(params: Sequence[Type], result: Type) -> Run:
    key = natural(item_of(params[0]))
    real = str(result) in ("float", "double")

    def run(a: Items) -> Any:
        filled(a, 15450)
        ordered = sorted(a, key=key)
        half = len(ordered) // 2
        if len(ordered) % 2:
            return ordered[half]
        if real:
            return (ordered[half - 1] + ordered[half]) / 2.0
        return ordered[half - 1]

    return run


@entry("a.ntile", "[A], double -> A", typed=True)
def ntile(params: Sequence[Type], result: Type) -> Run:
    key = natural(item_of(params[0]))
    real = str(result) in ("float", "double")

    def run(a: Items, p: float) -> Any:
        filled(a, 15460)
        if p != p:
            raise Failure(15461, "p not a number")
        ordered = sorted(a, key=key)
        if p <= 0:
            return ordered[0]
        if p >= 1:
            return ordered[-1]
        at = (len(ordered) - 1) * p
        low = math.floor(at)
        if real and low + 1 < len(ordered):
            return ordered[low] + (at - low) * (ordered[low + 1] - ordered[low])
        return ordered[low]

    return run


@entry("a.mode", "[A] -> A", typed=True)
def mode(params: Sequence[Type], result: Type) -> Run:
    """The most frequent; of equally frequent ones the median."""
    middle = median(params, result)

    def run(a: Items) -> Any:
        filled(a, 15470)
        values = distinct_of(a)
        counts = Counter(map(hashable, a))
        most = max(counts.values())
        return middle([values[k] for k, n in counts.items() if n == most])

    return run
