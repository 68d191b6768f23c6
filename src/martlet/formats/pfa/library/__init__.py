"""
PFA's function library: each function with its types and its number.

``FUNCTIONS`` is filled by :func:`entry` when the modules below are imported, which
:func:`functions` does, the first time it is asked.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from inspect import isfunction, signature
from typing import Any, TypeVar

from martlet.formats.pfa import signatures
from martlet.formats.pfa.signatures import Case, cases
from martlet.formats.pfa.types import Type

MODULES = (
    "core", "maths", "strings", "octets", "arrays", "array_functions", "maps", "algebra",
    "metrics", "interpolation", "casts", "stats", "stat_tests", "distributions", "trees",
    "clusters", "models", "times", "randoms",
)  # fmt: skip


Run = TypeVar("Run", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True)
class Entry:
    """
    One library function.

    Args:
        cases: The ways to call it.
        run: What computes it.
        typed: *run* is instead given the parameters' and result's types, and returns that.
        template: Python for the call, with ``{0}`` for the first argument; "" for none.
    """

    name: str
    cases: tuple[Case, ...]
    run: Callable[..., Any]
    typed: bool = False
    template: str = ""

    def named(self) -> tuple[list[tuple[str, Type]], Type] | None:
        """Return its parameters by name and its result, None where they depend on the call."""
        types = signatures.concrete(self.cases[0]) if len(self.cases) == 1 else None
        names = list(signature(self.run).parameters) if isfunction(self.run) else []
        if types is None or self.typed or len(names) != len(types[0]):
            return None
        return list(zip(names, types[0], strict=True)), types[1]

    def bound(self, params: Sequence[Type], result: Type) -> Callable[..., Any]:
        """Return what computes it for arguments of these types."""
        if not self.typed:
            return self.run
        made: Callable[..., Any] = self.run(params, result)
        return made


_FUNCTIONS: dict[str, Entry] = {}


def entry(
    name: str, types: str, *, typed: bool = False, template: str = ""
) -> Callable[[Run], Run]:
    """Note the function below as *name*, to be called as *types* say."""

    def note(run: Run) -> Run:
        _FUNCTIONS[name] = Entry(name, cases(types), run, typed, template)
        return run

    return note


@cache
def functions() -> Mapping[str, Entry]:
    """Return all of the library, by name."""
    for module in MODULES:
        importlib.import_module(f"{__name__}.{module}")
    return _FUNCTIONS
