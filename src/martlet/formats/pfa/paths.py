"""Reading and changing what lies at a path, and PFA's exceptions of doing so."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from martlet.formats.pfa.failure import Failure
from martlet.formats.pfa.values import Fields


@dataclass(frozen=True, slots=True)
class Kind:
    """What is read: its name, and PFA's number of its first exception."""

    name: str
    code: int


ATTR, CELL, POOL = Kind("attr", 2000), Kind("cell", 2004), Kind("pool", 2008)

CAUGHT = (Failure,)


def item(array: Sequence[Any], index: int, kind: Kind) -> Any:
    """Return an item. Raises Failure: the index is outside."""
    if 0 <= index < len(array):
        return array[index]
    raise Failure(kind.code, f"array index not found in {kind.name}")


def value(mapping: dict[str, Any], key: str, kind: Kind) -> Any:
    """Return a map's value. Raises Failure: there is no such key."""
    try:
        return mapping[key]
    except KeyError:
        raise Failure(kind.code + 1, f"map key not found in {kind.name}") from None


def changed(whole: Any, path: tuple[Any, ...], to: Any, is_function: bool, kind: Kind) -> Any:
    """Return *whole* with what lies at *path* replaced, everything else shared."""
    if not path:
        return to(whole) if is_function else to
    first, rest = path[0], path[1:]
    if isinstance(whole, list):
        if not 0 <= first < len(whole):
            raise Failure(kind.code + 2, f"array index not found in {kind.name}-to")
        out = list(whole)
        out[first] = changed(whole[first], rest, to, is_function, kind)
        return out
    if isinstance(whole, Fields):
        inner = changed(whole[first], rest, to, is_function, kind)
        return Fields(whole.kind, {**whole, first: inner})
    if first in whole:
        return {**whole, first: changed(whole[first], rest, to, is_function, kind)}
    if rest or is_function:
        raise Failure(kind.code + 3, f"map key not found in {kind.name}-to")
    return {**whole, first: to}


def pooled(
    pool: dict[str, Any],
    key: str,
    path: tuple[Any, ...],
    to: Any,
    is_function: bool,
    begin: Any,
    kind: Kind,
) -> Any:
    """Change what a pool holds at *key*, beginning with *begin* if it holds nothing."""
    was = pool.get(key, begin)
    pool[key] = changed(was, path, to, is_function, kind)
    return pool[key]


def raise_user(text: str, code: int | None) -> None:
    """Raise the document's own exception."""
    raise Failure(code, text, user=True)


def is_wanted(failure: Failure, wanted: tuple[Any, ...] | None) -> bool:
    """Return whether a ``try`` with this filter catches *failure*."""
    return wanted is None or failure.code in wanted or failure.text in wanted
