"""PFA expressions to Python: each is typed as it is read, and written as statements and a value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from martlet.errors import InvalidInput, UnsupportedModel
from martlet.formats.pfa import library
from martlet.formats.pfa.avrojson import from_base64, reader
from martlet.formats.pfa.calls import call
from martlet.formats.pfa.forms import FORMS
from martlet.formats.pfa.groves import Groves
from martlet.formats.pfa.scope import (
    Code,
    LibraryReference,
    Lines,
    Names,
    Scope,
    is_simple,
)
from martlet.formats.pfa.types import (
    BOOLEAN,
    BYTES,
    DOUBLE,
    INT,
    LONG,
    NULL,
    STRING,
    Function,
    Type,
    Types,
    accepts,
)
from martlet.formats.pfa.values import promotion

_MAX_DEPTH = 120
_SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")


@dataclass(slots=True)
class UserFunction:
    """A function of the document: its Python name and its type."""

    name: str
    params: list[tuple[str, Type]]
    result: Type

    @property
    def type(self) -> Function:
        """As an argument."""
        return Function(tuple(each for _, each in self.params), self.result)


@dataclass(slots=True)
class Store:
    """A cell or a pool: the Python that reads it, its type, and what it begins with."""

    text: str
    type: Type
    value: Any


@dataclass(slots=True)
class Compiler:
    """
    Compiles the expressions of one document.

    Args:
        types: The document's types.
        names: The Python names.
        clock: The name of what raises when time is up, called in every loop.
    """

    types: Types
    names: Names
    clock: str
    cells: dict[str, Store] = field(default_factory=dict)
    pools: dict[str, Store] = field(default_factory=dict)
    users: dict[str, UserFunction] = field(default_factory=dict)
    emit: UserFunction | None = None
    changes: bool = False
    """Whether some expression changes a cell or a pool."""
    groves: Groves | None = None
    """What is walked before the action; None outside it."""
    failed_at: str = ""
    """Where the first failure was, for one that does not say so itself."""
    _trail: list[str] = field(default_factory=list)

    # -- the one door ---------------------------------------------------------------------

    def expression(self, source: Any, scope: Scope, out: Lines) -> Code:
        """Write the statements of *source* to *out* and return its value."""
        if len(self._trail) > _MAX_DEPTH:
            raise UnsupportedModel(f"{self.where()}: expressions are nested too deeply")
        if source is None:
            return Code("None", NULL)
        if isinstance(source, bool):
            return Code(repr(source), BOOLEAN)
        if isinstance(source, int):
            return Code(f"({source})" if source < 0 else str(source),
                        INT if -(1 << 31) <= source < 1 << 31 else LONG)  # fmt: skip
        if isinstance(source, float):
            return Code(self.number(source), DOUBLE)
        if isinstance(source, str):
            return self.symbol(source, scope, out)
        if isinstance(source, list):
            if len(source) == 1 and isinstance(source[0], str):
                return Code(self.names.constant(source[0]), STRING)
            raise self.error(f"{str(source)[:60]} is no expression")
        if not isinstance(source, dict):
            raise self.error(f"{str(source)[:60]} is no expression")
        keys = source.keys() - {"@"}
        for key, form in FORMS.items():
            if key in keys:
                with self.at(key):
                    return form(self, source, scope, out)
        if len(keys) == 1:
            (name,) = keys
            given = source[name]
            if name in _LITERALS and not isinstance(given, list):
                return self.literal(name, given)
            with self.at(name):
                return call(self, name, given if isinstance(given, list) else [given], scope, out)
        raise self.error(f"an object with the keys {', '.join(sorted(keys))} is no expression")

    @contextmanager
    def at(self, *names: str) -> Iterator[None]:
        """Note where in the document the compiler is, for messages."""
        depth = len(self._trail)
        self._trail.extend(names)
        try:
            yield
        except Exception:
            self.failed_at = self.failed_at or self.where()
            raise
        finally:
            del self._trail[depth:]

    def where(self) -> str:
        """Return where in the document we are."""
        return " -> ".join(self._trail) or "the document"

    def error(self, text: str) -> UnsupportedModel:
        """Return the refusal of this part of the document."""
        return UnsupportedModel(f"PFA at {self.where()}: {text}")

    def number(self, value: float) -> str:
        """Return a float in Python."""
        return repr(value) if value - value == 0 else self.names.constant(value)

    def literal(self, kind: str, value: Any) -> Code:
        """Return ``{"int": 3}`` and its like."""
        try:
            if kind == "base64":
                return Code(self.names.constant(from_base64(value)), BYTES)
            of = self.types.read(kind)
            made = reader(of)(value)
        except (InvalidInput, ValueError, TypeError) as exc:
            raise self.error(f"{{{kind!r}: {str(value)[:40]}}} is no literal: {exc}") from None
        if isinstance(made, float):
            return Code(self.number(made), of)
        return Code(repr(made) if isinstance(made, int) else self.names.constant(made), of)

    # -- symbols --------------------------------------------------------------------------

    def symbol(self, name: str, scope: Scope, out: Lines) -> Code:
        """Return a symbol, or (``a.b.c``) a path into one."""
        found = scope.find(name)
        if found is not None:
            return found
        first, *rest = name.split(".")
        if rest and scope.find(first) is not None:
            return FORMS["attr"](
                self, {"attr": first, "path": [[part] for part in rest]}, scope, out
            )
        raise self.error(f"no symbol is named {name!r}")

    def declare(self, name: str, code: Code, scope: Scope, out: Lines) -> None:
        """Give a value a name in *scope*."""
        if not _SYMBOL.match(name):
            raise self.error(f"{name!r} cannot name a symbol")
        if name in scope.symbols:
            raise self.error(f"the symbol {name!r} is declared twice")
        if self.groves is not None and self.groves.holds(code.text):
            scope.symbols[name] = code  # nothing sets it: another name for the same
            return
        python = self.names.fresh()
        out.append(f"{python} = {code.text}")
        scope.symbols[name] = Code(python, code.type)

    def spilled(self, code: Code, out: Lines) -> Code:
        """Return *code* as a name or a literal: what follows must not change it."""
        if is_simple(code.text):
            return code
        python = self.names.fresh("t")
        out.append(f"{python} = {code.text}")
        return Code(python, code.type)

    def promoted(self, code: Code, wanted: Type) -> str:
        """Return *code* where a *wanted* value is asked for."""
        step = promotion(wanted, code.type)
        if step is None:
            return code.text
        if step is float:
            return f"{self.names.constant(float)}({code.text})"
        return f"{self.names.constant(step)}({code.text})"

    def want(self, code: Code, wanted: Type, what: str) -> str:
        """Return *code* as a *wanted* value. Raises UnsupportedModel: it may not stand for one."""
        if not accepts(wanted, code.type):
            raise self.error(f"{what} is {code.type}; {wanted} is wanted")
        return self.promoted(code, wanted)

    # -- blocks and functions -------------------------------------------------------------

    def block(self, source: Any, scope: Scope, out: Lines) -> Code:
        """Write one expression or a list of them in *scope*; the last one's value counts."""
        steps = source if isinstance(source, list) else [source]
        if not steps:
            return Code("None", NULL)
        code = Code("None", NULL)
        for i, each in enumerate(steps):
            with self.at(str(i)):
                code = self.expression(each, scope, out)
                if i < len(steps) - 1 and not is_simple(code.text):
                    out.append(code.text)
        return code

    def inner(self, source: Any, scope: Scope, out: Lines) -> Code:
        """Write a block with symbols of its own."""
        return self.block(source, Scope(scope), out)

    def arguments(self, sources: Sequence[Any], scope: Scope, out: Lines) -> list[Any]:
        """Write arguments, in order: one that has statements comes after those before it."""
        found: list[Any] = []
        for i, source in enumerate(sources):
            with self.at(str(i)):
                own: Lines = []
                code = self.argument(source, scope, own)
                if own:
                    found = [
                        self.spilled(each, out) if isinstance(each, Code) else each
                        for each in found
                    ]
                    out.extend(own)
                found.append(code)
        return found

    def argument(self, source: Any, scope: Scope, out: Lines) -> Any:
        """Return an argument: a value, a function, or a reference to the library."""
        if isinstance(source, dict) and "fcn" in source:
            return self.reference(source, scope, out)
        if isinstance(source, dict) and "params" in source:
            return self.function(source, scope, out)
        return self.expression(source, scope, out)

    def parameters(self, source: Mapping[str, Any]) -> list[tuple[str, Type]]:
        """Return a function's parameters."""
        found = []
        for each in source.get("params") or []:
            if not isinstance(each, dict) or len(each) != 1:
                raise self.error("a parameter is one name and its type")
            ((name, of),) = each.items()
            found.append((name, self.types.read(of)))
        return found

    def function(self, source: Mapping[str, Any], scope: Scope | None, out: Lines) -> Code:
        """Write an inline function."""
        params = self.parameters(source)
        result = self.types.read(source["ret"])
        name = self.names.fresh("f")
        self.define(name, params, result, source["do"], scope, out)
        return Code(name, Function(tuple(of for _, of in params), result))

    def define(
        self,
        name: str,
        params: Sequence[tuple[str, Type]],
        result: Type,
        body: Any,
        scope: Scope | None,
        out: Lines,
    ) -> None:
        """Write ``def name(...)`` with *body*."""
        own = Scope(scope, sealed=True)
        python = []
        for param, of in params:
            python.append(self.names.fresh())
            own.symbols[param] = Code(python[-1], of)
        lines: Lines = []
        with self.at("do"):
            code = self.block(body, own, lines)
            lines.append(f"return {self.want(code, result, 'the result')}")
        out.append(f"def {name}({', '.join(python)}):")
        out.append(lines)

    def reference(self, source: Mapping[str, Any], scope: Scope, out: Lines) -> Any:
        """Return ``{"fcn": name}``, with some parameters filled in if it says so."""
        name, fill = source["fcn"], source.get("fill")
        user = self.user(name)
        if user is None:
            if name not in library.functions():
                raise self.error(f"no function is named {name!r}")
            if not fill:
                return LibraryReference(name)
            user = self.of_library(name)
        if not fill:
            return Code(user.name, user.type)
        unknown = set(fill) - {param for param, _ in user.params}
        if unknown:
            raise self.error(f"{name!r} has no parameter {unknown.pop()!r}")
        given = {}
        for param, of in user.params:
            if param in fill:
                code = self.argument(fill[param], scope, out)
                text = self.want(code, of, f"the parameter {param!r}")
                given[param] = self.spilled(Code(text, of), out).text
        rest = [(param, of) for param, of in user.params if param not in fill]
        names = {param: self.names.fresh() for param, _ in rest}
        passed = ", ".join(given.get(param) or names[param] for param, _ in user.params)
        made = self.names.fresh("f")
        out.append(f"def {made}({', '.join(names.values())}):")
        out.append([f"return {user.name}({passed})"])
        return Code(made, Function(tuple(of for _, of in rest), user.result))

    def of_library(self, name: str) -> UserFunction:
        """Return a function of the library as one whose parameters can be filled by name."""
        entry = library.functions()[name]
        found = entry.named()
        if found is None:
            raise self.error(f"{name!r} has no one signature to fill: wrap it in a function")
        return UserFunction(self.names.constant(entry.run), *found)

    def user(self, name: str) -> UserFunction | None:
        """Return the document's own function ``u.name``, or ``emit``."""
        if name == "emit" and self.emit is not None:
            return self.emit
        return self.users.get(name[2:]) if name.startswith("u.") else None


_LITERALS = ("int", "long", "float", "double", "string", "base64")
