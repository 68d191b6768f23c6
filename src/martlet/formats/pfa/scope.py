"""Names of a PFA document while it is compiled, and the Python that is written for it."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from martlet.errors import UnsupportedModel
from martlet.formats.pfa.types import Type

_SIMPLE = re.compile(r"[a-z]\d+\Z|-?\d+(\.\d+)?\Z|True\Z|False\Z|None\Z")

Lines = list[Any]
"""Lines of Python; a list within is a block, one step further in."""


class Code(NamedTuple):
    """A Python expression and the type of its value."""

    text: str
    type: Type


@dataclass(frozen=True, slots=True)
class LibraryReference:
    """``{"fcn": "m.sqrt"}``: typed only where it is used."""

    name: str


@dataclass(slots=True)
class Scope:
    """The symbols that a block may use. *sealed*: those outside may be read, not set."""

    parent: Scope | None = None
    sealed: bool = False
    symbols: dict[str, Code] = field(default_factory=dict)

    def find(self, name: str) -> Code | None:
        """Return what *name* stands for."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.symbols:
                return scope.symbols[name]
            scope = scope.parent
        return None

    def settable(self, name: str) -> Code | None:
        """Return what *name* stands for, if it may be set here."""
        scope: Scope | None = self
        while scope is not None:
            if name in scope.symbols:
                return scope.symbols[name]
            if scope.sealed:
                return None
            scope = scope.parent
        return None


class Names:
    """
    The Python names of one document: all of our own making, none of its text among them.

    What the document holds (text, tables, functions of the library) is bound to names by
    ``constant``; the source that is compiled says nothing else.
    """

    def __init__(self) -> None:
        self.bound: dict[str, Any] = {}
        self._numbers = itertools.count()
        self._known: dict[int, str] = {}

    def fresh(self, letter: str = "v") -> str:
        """Return a name not used yet."""
        return f"{letter}{next(self._numbers)}"

    def constant(self, value: Any) -> str:
        """Return a name that stands for *value*."""
        if isinstance(value, bool) or value is None:
            return repr(value)
        if id(value) in self._known:
            return self._known[id(value)]
        name = self.fresh("k")
        self.bound[name] = value
        self._known[id(value)] = name
        return name


def render(lines: Lines, depth: int = 0) -> str:
    """Return the Python source of *lines*."""
    out: list[str] = []
    _render(lines, depth, out)
    return "\n".join(out) + "\n"


def _render(lines: Lines, depth: int, out: list[str]) -> None:
    if depth > 90:
        raise UnsupportedModel("the document's blocks are nested too deeply")
    for line in lines:
        if isinstance(line, list):
            _render(line or ["pass"], depth + 1, out)
        else:
            out.append(" " * depth + line)


def compiled(source: str, bound: dict[str, Any]) -> dict[str, Any]:
    """
    Run the Python that we wrote, with nothing in reach but *bound*.

    Raises:
        UnsupportedModel: it is nested past what Python compiles.
    """
    space = {**bound, "__builtins__": {}}
    try:
        exec(compile(source, "<pfa>", "exec"), space)
    except (SyntaxError, RecursionError, MemoryError) as exc:
        raise UnsupportedModel(f"the document is nested too deeply: {exc}") from None
    return space


def is_simple(text: str) -> bool:
    """Whether *text* is a name or a number: to compute it does nothing."""
    return _SIMPLE.match(text) is not None


def statement(code: Code, out: Lines) -> None:
    """Write *code* for what it does, and drop its value."""
    if not is_simple(code.text):
        out.append(code.text)
