"""PFA expressions to Python: each is typed as it is read, and written as statements and a value."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from martlet.errors import InvalidInput, UnsupportedModel
from martlet.formats.pfa import library, paths, signatures
from martlet.formats.pfa.scope import Code, Lines, Names, Scope
from martlet.formats.pfa.types import (
    BOOLEAN,
    BYTES,
    DOUBLE,
    INT,
    LONG,
    NOTHING,
    NULL,
    STRING,
    Array,
    Enum,
    Function,
    Map,
    Record,
    Type,
    Types,
    Union,
    accepts,
    broadest,
)
from martlet.formats.pfa.values import Fields, from_base64, promotion, reader

_MAX_DEPTH = 120
_SYMBOL = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SIMPLE = re.compile(r"[a-z]\d+\Z|-?\d+(\.\d+)?\Z|True\Z|False\Z|None\Z")


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


@dataclass(frozen=True, slots=True)
class LibraryReference:
    """``{"fcn": "m.sqrt"}``: typed only where it is used."""

    name: str


@dataclass(slots=True)
class Store:
    """A cell or a pool: the Python that reads it, and its type."""

    text: str
    type: Type


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
                with _At(self, key):
                    return form(self, source, scope, out)
        if len(keys) == 1:
            (name,) = keys
            given = source[name]
            if name in _LITERALS and not isinstance(given, list):
                return self.literal(name, given)
            with _At(self, name):
                return self.call(name, given if isinstance(given, list) else [given], scope, out)
        raise self.error(f"an object with the keys {', '.join(sorted(keys))} is no expression")

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
            return _attr(self, {"attr": first, "path": [[part] for part in rest]}, scope, out)
        raise self.error(f"no symbol is named {name!r}")

    def declare(self, name: str, code: Code, scope: Scope, out: Lines) -> None:
        """Give a value a name in *scope*."""
        if not _SYMBOL.match(name):
            raise self.error(f"{name!r} cannot name a symbol")
        if name in scope.symbols:
            raise self.error(f"the symbol {name!r} is declared twice")
        python = self.names.fresh()
        out.append(f"{python} = {code.text}")
        scope.symbols[name] = Code(python, code.type)

    def spilled(self, code: Code, out: Lines) -> Code:
        """Return *code* as a name or a literal: what follows must not change it."""
        if _SIMPLE.match(code.text):
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
        steps = source if isinstance(source, list) and not _text(source) else [source]
        if not steps:
            return Code("None", NULL)
        code = Code("None", NULL)
        for i, each in enumerate(steps):
            with _At(self, str(i)):
                code = self.expression(each, scope, out)
                if i < len(steps) - 1 and not _SIMPLE.match(code.text):
                    out.append(code.text)
        return code

    def inner(self, source: Any, scope: Scope, out: Lines) -> Code:
        """Write a block with symbols of its own."""
        return self.block(source, Scope(scope), out)

    def arguments(self, sources: Sequence[Any], scope: Scope, out: Lines) -> list[Any]:
        """Write arguments, in order: one that has statements comes after those before it."""
        found: list[Any] = []
        for i, source in enumerate(sources):
            with _At(self, str(i)):
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
        with _At(self, "do"):
            code = self.block(body, own, lines)
            lines.append(f"return {self.want(code, result, 'the result')}")
        out.append(f"def {name}({', '.join(python)}):")
        out.append(lines)

    def reference(self, source: Mapping[str, Any], scope: Scope, out: Lines) -> Any:
        """Return ``{"fcn": name}``, with some parameters filled in if it says so."""
        name = source["fcn"]
        user = self.user(name)
        if user is None:
            if name not in library.functions():
                raise self.error(f"no function is named {name!r}")
            if source.get("fill"):
                raise self.error(f"{name!r} is of the library: only user functions are filled")
            return LibraryReference(name)
        fill = source.get("fill")
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

    def user(self, name: str) -> UserFunction | None:
        """Return the document's own function ``u.name``, or ``emit``."""
        if name == "emit" and self.emit is not None:
            return self.emit
        return self.users.get(name[2:]) if name.startswith("u.") else None

    # -- calls ----------------------------------------------------------------------------

    def call(self, name: str, sources: Sequence[Any], scope: Scope, out: Lines) -> Code:
        """Write a call of a function of the document or of the library."""
        user = self.user(name)
        if name == "model.tree.simpleWalk" and len(sources) == 3 and _tests_simply(sources[2]):
            # A walk whose test is the library's own: as a tree it can be kept compiled.
            name, sources = "model.tree.simpleTree", sources[:2]
        given = self.arguments(sources, scope, out)
        if user is not None:
            return self.call_user(name, user, given)
        found = library.functions().get(name)
        if found is None:
            raise self.error(f"no function is named {name!r}")
        for case in found.cases:
            settled = self.settled(case, given)
            if settled is None:
                continue
            matched = signatures.match(case, [each.type for each in settled])
            if matched is not None:
                return self.call_library(found, settled, *matched)
        types = ", ".join(str(getattr(each, "type", each)) for each in given)
        raise self.error(f"{name!r} does not take ({types})")

    def call_user(self, name: str, user: UserFunction, given: Sequence[Any]) -> Code:
        """Write a call of a function of the document."""
        if len(given) != len(user.params):
            raise self.error(f"{name!r} takes {len(user.params)} arguments, not {len(given)}")
        texts = [
            self.want(each, of, f"the argument {param!r}")
            for each, (param, of) in zip(given, user.params, strict=True)
        ]
        return Code(f"{user.name}({', '.join(texts)})", user.result)

    def call_library(
        self, entry: library.Entry, given: Sequence[Code], params: Sequence[Type], result: Type
    ) -> Code:
        """Write a call of a function of the library."""
        texts = [self.promoted(each, of) for each, of in zip(given, params, strict=True)]
        run = entry.bound(params, result)
        template = getattr(run, "template", entry.template)
        if template:
            return Code(template.format(*texts), result)
        return Code(f"{self.names.constant(run)}({', '.join(texts)})", result)

    def settled(self, case: signatures.Case, given: Sequence[Any]) -> list[Code] | None:
        """Return *given* with references to the library as functions of the types they will get."""
        if not any(isinstance(each, LibraryReference) for each in given):
            return list(given)
        if len(case.params) != len(given):
            return None
        types = [None if isinstance(each, LibraryReference) else each.type for each in given]
        found: list[Code] = []
        for i, each in enumerate(given):
            if isinstance(each, Code):
                found.append(each)
                continue
            wanted = signatures.parameters(case, types, i)
            code = None if wanted is None else self.as_function(each.name, wanted)
            if code is None:
                return None
            found.append(code)
        return found

    def as_function(self, name: str, params: Sequence[Type]) -> Code | None:
        """Return a function of the library as one of *params*."""
        entry = library.functions()[name]
        for case in entry.cases:
            matched = signatures.match(case, params)
            if matched is None:
                continue
            wanted, result = matched
            steps = [promotion(w, g) for w, g in zip(wanted, params, strict=True)]
            run = entry.bound(wanted, result)
            if any(step is not None for step in steps):
                run = _promoting(run, steps)
            return Code(self.names.constant(run), Function(tuple(params), result))
        return None


def _tests_simply(source: Any) -> bool:
    """Return whether a function is ``simpleTest`` of its two parameters and nothing else."""
    if not isinstance(source, dict) or set(source) - {"@"} != {"params", "ret", "do"}:
        return False
    names = [name for each in source["params"] for name in each]
    do = source["do"]
    body = do[0] if isinstance(do, list) and len(do) == 1 else do
    return len(names) == 2 and body == {"model.tree.simpleTest": names}


def _promoting(run: Callable[..., Any], steps: Sequence[Any]) -> Callable[..., Any]:
    def call(*given: Any) -> Any:
        return run(
            *(each if step is None else step(each) for each, step in zip(given, steps, strict=True))
        )

    return call


class _At:
    """Notes where in the document the compiler is, for messages."""

    def __init__(self, compiler: Compiler, name: str) -> None:
        self._trail = compiler._trail
        self._name = name

    def __enter__(self) -> None:
        self._trail.append(self._name)

    def __exit__(self, kind: object, *rest: object) -> None:
        # The trail of a failure stays as it is: its message was made from it.
        self._trail.pop()


def _text(source: Sequence[Any]) -> bool:
    return len(source) == 1 and isinstance(source[0], str)


_LITERALS = ("int", "long", "float", "double", "string", "base64")


# -- forms: each takes the compiler, the object, the scope and where to write ------------------


def _value(c: Compiler, source: Any, scope: Scope, out: Lines) -> Code:
    of = c.types.read(source["type"])
    if "new" in source:
        return _new(c, source["new"], of, scope, out)
    try:
        made = reader(of)(source["value"])
    except (InvalidInput, KeyError) as exc:
        raise c.error(f"the value is no {of}: {exc}") from None
    return Code(c.names.constant(made), of)


def _new(c: Compiler, parts: Any, of: Type, scope: Scope, out: Lines) -> Code:
    if isinstance(parts, list) and isinstance(of, Array):
        items = c.arguments(parts, scope, out)
        return Code("[" + ", ".join(c.want(each, of.items, "an item") for each in items) + "]", of)
    if not isinstance(parts, dict) or not isinstance(of, Map | Record):
        raise c.error(f"nothing new of {of} is made of that")
    values = c.arguments(list(parts.values()), scope, out)
    fields = of.fields if isinstance(of, Record) else None
    if fields is not None and set(parts) != set(fields):
        raise c.error(f"{of} has the fields {', '.join(fields)}")
    pairs = ", ".join(
        f"{c.names.constant(key)}: "
        + c.want(code, fields[key] if fields is not None else of.values, f"the field {key!r}")  # type: ignore[union-attr]  # a Map where there are no fields
        for key, code in zip(parts, values, strict=True)
    )
    if isinstance(of, Record):
        kind = c.names.constant(of.name)
        return Code(f"{c.names.constant(Fields)}({kind}, {{{pairs}}})", of)
    return Code(f"{{{pairs}}}", of)


def _do(c: Compiler, source: Any, scope: Scope, out: Lines) -> Code:
    return c.inner(source["do"], scope, out)


def _let(c: Compiler, source: Any, scope: Scope, out: Lines) -> Code:
    for name, each in source["let"].items():
        code = c.expression(each, scope, out)
        if isinstance(code.type, Function):
            raise c.error(f"{name!r} would be a function")
        c.declare(name, code, scope, out)
    return Code("None", NULL)


def _set(c: Compiler, source: Any, scope: Scope, out: Lines) -> Code:
    for name, each in source["set"].items():
        found = scope.settable(name)
        if found is None:
            raise c.error(f"no symbol {name!r} may be set here")
        code = c.expression(each, scope, out)
        out.append(f"{found.text} = {c.want(code, found.type, repr(name))}")
    return Code("None", NULL)


def _if(c: Compiler, source: Any, scope: Scope, out: Lines) -> Code:
    return _choose(c, [(source["if"], source["then"])], source, scope, out)


def _cond(c: Compiler, source: Any, scope: Scope, out: Lines) -> Code:
    branches = [(each["if"], each["then"]) for each in source["cond"]]
    return _choose(c, branches, source, scope, out)


def _choose(
    c: Compiler, branches: list[tuple[Any, Any]], source: Any, scope: Scope, out: Lines
) -> Code:
    whole = "else" in source
    found = c.names.fresh("t")
    bodies: list[tuple[Lines, Code]] = []
    lines = out
    for condition, then in branches:
        test = c.want(c.expression(condition, scope, lines), BOOLEAN, "the condition")
        body: Lines = []
        bodies.append((body, c.inner(then, scope, body)))
        lines.append(f"if {test}:")
        lines.append(body)
        lines.append("else:")
        rest: Lines = []
        lines.append(rest)
        lines = rest
    if whole:
        bodies.append((lines, c.inner(source["else"], scope, lines)))
    result = broadest([code.type for _, code in bodies]) if whole else NULL
    for body, code in bodies:
        if whole:
            body.append(f"{found} = {c.promoted(code, result)}")
        elif not _SIMPLE.match(code.text):
            body.append(code.text)
    return Code(found if whole else "None", result)


def _while(c: Compiler, source: Any, scope: Scope, out: Lines) -> Code:
    inner = Scope(scope)
    body: Lines = [f"{c.clock}()"]
    test = c.want(c.expression(source["while"], inner, body), BOOLEAN, "the condition")
    body.extend([f"if not {test}:", ["break"]])
    _statement(c.inner(source["do"], inner, body), body)
    out.extend(["while True:", body])
    return Code("None", NULL)


def _until(c: Compiler, source: Any, scope: Scope, out: Lines) -> Code:
    inner = Scope(scope)
    body: Lines = [f"{c.clock}()"]
    _statement(c.block(source["do"], inner, body), body)
    test = c.want(c.expression(source["until"], inner, body), BOOLEAN, "the condition")
    body.extend([f"if {test}:", ["break"]])
    out.extend(["while True:", body])
    return Code("None", NULL)


def _for(c: Compiler, source: Any, scope: Scope, out: Lines) -> Code:
    inner = Scope(scope)
    for name, each in source["for"].items():
        c.declare(name, c.expression(each, scope, out), inner, out)
    body: Lines = [f"{c.clock}()"]
    test = c.want(c.expression(source["while"], inner, body), BOOLEAN, "the condition")
    body.extend([f"if not {test}:", ["break"]])
    _statement(c.inner(source["do"], inner, body), body)
    for name, each in source["step"].items():
        found = inner.symbols.get(name)
        if found is None:
            raise c.error(f"the step sets {name!r}, which the loop does not declare")
        code = c.expression(each, inner, body)
        body.append(f"{found.text} = {c.want(code, found.type, repr(name))}")
    out.extend(["while True:", body])
    return Code("None", NULL)


def _foreach(c: Compiler, source: Any, scope: Scope, out: Lines) -> Code:
    items = c.expression(source["in"], scope, out)
    if not isinstance(items.type, Array):
        raise c.error(f"foreach goes through an array, not {items.type}")
    inner = Scope(scope)
    python = c.names.fresh()
    inner.symbols[source["foreach"]] = Code(python, items.type.items)
    body: Lines = [f"{c.clock}()"]
    _statement(c.block(source["do"], inner, body), body)
    out.extend([f"for {python} in {items.text}:", body])
    return Code("None", NULL)


def _forkey(c: Compiler, source: Any, scope: Scope, out: Lines) -> Code:
    items = c.expression(source["in"], scope, out)
    if not isinstance(items.type, Map):
        raise c.error(f"forkey goes through a map, not {items.type}")
    inner = Scope(scope)
    key, value = c.names.fresh(), c.names.fresh()
    inner.symbols[source["forkey"]] = Code(key, STRING)
    inner.symbols[source["forval"]] = Code(value, items.type.values)
    body: Lines = [f"{c.clock}()"]
    _statement(c.block(source["do"], inner, body), body)
    listed = c.names.constant(_items)
    out.extend([f"for {key}, {value} in {listed}({items.text}):", body])
    return Code("None", NULL)


def _items(of: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return list(of.items())


def _statement(code: Code, out: Lines) -> None:
    if not _SIMPLE.match(code.text):
        out.append(code.text)


def _cast(c: Compiler, source: Any, scope: Scope, out: Lines) -> Code:
    from martlet.formats.pfa.values import test

    code = c.spilled(c.expression(source["cast"], scope, out), out)
    partial = bool(source.get("partial"))
    found = c.names.fresh("t")
    branches: list[tuple[Lines, Code]] = []
    given = code.type.types if isinstance(code.type, Union) else (code.type,)
    left = list(given)
    lines = out
    for case in source["cases"]:
        of = c.types.read(case["as"])
        members = [each for each in given if accepts(of, each)]
        left = [each for each in left if each not in members]
        inner = Scope(scope)
        body: Lines = []
        python = c.names.fresh()
        source_type = members[0] if len(members) == 1 else of
        body.append(f"{python} = {c.promoted(Code(code.text, source_type), of)}")
        inner.symbols[case["named"]] = Code(python, of)
        branches.append((body, c.block(case["do"], inner, body)))
        is_one = c.names.constant(test(broadest(members) if members else of))
        rest: Lines = []
        lines.extend([f"if {is_one}({code.text}):", body, "else:", rest])
        lines = rest
    if left and not partial:
        raise c.error(f"no case takes {', '.join(map(str, left))}")
    if partial:
        for body, result in branches:
            _statement(result, body)
        return Code("None", NULL)
    result_type = broadest([each.type for _, each in branches])
    for body, result in branches:
        body.append(f"{found} = {c.promoted(result, result_type)}")
    lines.append(f"{found} = None")
    return Code(found, result_type)


def _upcast(c: Compiler, source: Any, scope: Scope, out: Lines) -> Code:
    of = c.types.read(source["as"])
    return Code(c.want(c.expression(source["upcast"], scope, out), of, "the value"), of)


def _ifnotnull(c: Compiler, source: Any, scope: Scope, out: Lines) -> Code:
    inner = Scope(scope)
    tests = []
    for name, each in source["ifnotnull"].items():
        code = c.spilled(c.expression(each, scope, out), out)
        if not isinstance(code.type, Union):
            raise c.error(f"{name!r} is {code.type}, which is never null")
        rest = tuple(of for of in code.type.types if of != NULL)
        python = c.names.fresh()
        out.append(f"{python} = {code.text}")
        inner.symbols[name] = Code(python, rest[0] if len(rest) == 1 else Union(rest))
        tests.append(f"{python} is not None")
    found = c.names.fresh("t")
    body: Lines = []
    then = c.block(source["then"], inner, body)
    out.extend([f"if {' and '.join(tests)}:", body])
    if "else" not in source:
        _statement(then, body)
        return Code("None", NULL)
    other: Lines = []
    otherwise = c.inner(source["else"], scope, other)
    result = broadest([then.type, otherwise.type])
    body.append(f"{found} = {c.promoted(then, result)}")
    other.append(f"{found} = {c.promoted(otherwise, result)}")
    out.extend(["else:", other])
    return Code(found, result)


def _error(c: Compiler, source: Any, scope: Scope, out: Lines) -> Code:
    code = source.get("code")
    out.append(f"{c.names.constant(paths.raise_user)}"
               f"({c.names.constant(str(source['error']))}, {c.names.constant(code)})")  # fmt: skip
    return Code("None", NOTHING)


def _try(c: Compiler, source: Any, scope: Scope, out: Lines) -> Code:
    body: Lines = []
    code = c.inner(source["try"], scope, body)
    found, caught = c.names.fresh("t"), c.names.fresh("e")
    wanted = source.get("filter")
    body.append(f"{found} = {code.text}")
    out.extend(["try:", body, f"except {c.names.constant(paths.CAUGHT)} as {caught}:"])
    allowed = None if wanted is None else tuple(wanted)
    out.append(
        [
            f"if not {c.names.constant(paths.is_wanted)}({caught}, {c.names.constant(allowed)}):",
            ["raise"],
            f"{found} = None",
        ]
    )
    return Code(found, broadest([code.type, NULL]))


def _log(c: Compiler, source: Any, scope: Scope, out: Lines) -> Code:
    given = source["log"]
    for each in given if isinstance(given, list) and not _text(given) else [given]:
        _statement(c.expression(each, scope, out), out)
    return Code("None", NULL)


def _doc(c: Compiler, source: Any, scope: Scope, out: Lines) -> Code:
    return Code("None", NULL)


def _call(c: Compiler, source: Any, scope: Scope, out: Lines) -> Code:
    which = c.expression(source["call"], scope, out)
    if not isinstance(which.type, Enum):
        raise c.error(f"call chooses by an enum, not {which.type}")
    symbols = which.type.symbols
    users = [c.users.get(symbol) for symbol in symbols]
    if not users or any(user is None for user in users):
        raise c.error(f"the functions {', '.join(symbols)} are not all there")
    known = [user for user in users if user is not None]
    which = c.spilled(which, out)
    given = c.arguments(source.get("args") or [], scope, out)
    calls = [c.call_user(user.name, user, given) for user in known]
    result = broadest([code.type for code in calls])
    found = c.names.fresh("t")
    lines = out
    for symbol, code in zip(symbols, calls, strict=True):
        rest: Lines = []
        lines.extend(
            [
                f"if {which.text} == {c.names.constant(symbol)}:",
                [f"{found} = {c.promoted(code, result)}"],
                "else:",
                rest,
            ]
        )
        lines = rest
    return Code(found, result)


def _path(
    c: Compiler, of: Type, sources: Sequence[Any], scope: Scope, out: Lines
) -> tuple[list[str], Type]:
    texts: list[str] = []
    codes = c.arguments(list(sources), scope, out)
    for source, code in zip(sources, codes, strict=True):
        if isinstance(of, Array):
            texts.append(c.want(code, LONG, "an index"))
            of = of.items
        elif isinstance(of, Map):
            texts.append(c.want(code, STRING, "a key"))
            of = of.values
        elif isinstance(of, Record):
            field_name = c.names.bound.get(code.text) if code.type == STRING else None
            if field_name not in of.fields:
                raise c.error(f"{of} has no field {str(field_name or source)!r}")
            texts.append(code.text)
            of = of.fields[field_name]
        else:
            raise c.error(f"{of} has no parts")
    return texts, of


def _written(c: Compiler, source: Any, of: Type, scope: Scope, out: Lines) -> tuple[str, bool]:
    """Return what is put there: a value, or (True) a function of what was there."""
    made = c.argument(source["to"], scope, out)
    if isinstance(made, LibraryReference):
        found = c.as_function(made.name, [of])
        if found is None:
            raise c.error(f"{made.name!r} does not take {of}")
        made = found
    if isinstance(made.type, Function):
        if not accepts(Function((of,), of), made.type):
            raise c.error(f"the function does not make {of} of {of}")
        return made.text, True
    return c.want(made, of, "the new value"), False


def _attr(c: Compiler, source: Any, scope: Scope, out: Lines) -> Code:
    base = c.expression(source["attr"], scope, out)
    sources = source.get("path") or []
    if "to" not in source:
        own: Lines = []
        keys, of = _path(c, base.type, sources, scope, own)
        base = c.spilled(base, out) if own else base
        out.extend(own)
        return Code(_read(c, base, keys, sources, paths.ATTR), of)
    base = c.spilled(base, out)
    keys, of = _path(c, base.type, sources, scope, out)
    text, is_function = _written(c, source, of, scope, out)
    step = c.names.constant(paths.changed)
    numbers = c.names.constant(paths.ATTR)
    return Code(
        f"{step}({base.text}, ({', '.join(keys)},), {text}, {is_function}, {numbers})", base.type
    )


def _read(
    c: Compiler, base: Code, keys: Sequence[str], sources: Sequence[Any], kind: paths.Kind
) -> str:
    text, of = base.text, base.type
    for key in keys:
        if isinstance(of, Record):
            text = f"{text}[{key}]"
            of = of.fields[c.names.bound[key]]
            continue
        step = paths.item if isinstance(of, Array) else paths.value
        text = f"{c.names.constant(step)}({text}, {key}, {c.names.constant(kind)})"
        of = of.items if isinstance(of, Array) else of.values  # type: ignore[union-attr]  # _path saw to it
    return text


def _cell(c: Compiler, source: Any, scope: Scope, out: Lines) -> Code:
    store = c.cells.get(source["cell"])
    if store is None:
        raise c.error(f"no cell is named {source['cell']!r}")
    base = Code(store.text, store.type)
    sources = source.get("path") or []
    keys, of = _path(c, store.type, sources, scope, out)
    if "to" not in source:
        return c.spilled(Code(_read(c, base, keys, sources, paths.CELL), of), out)
    c.changes = True
    text, is_function = _written(c, source, of, scope, out)
    step = c.names.constant(paths.changed)
    path = f"({', '.join(keys)},)" if keys else "()"
    numbers = c.names.constant(paths.CELL)
    out.append(f"{store.text} = {step}({store.text}, {path}, {text}, {is_function}, {numbers})")
    return Code(store.text, store.type)


def _pool(c: Compiler, source: Any, scope: Scope, out: Lines) -> Code:
    store = c.pools.get(source["pool"])
    if store is None:
        raise c.error(f"no pool is named {source['pool']!r}")
    if "del" in source:
        c.changes = True
        key = c.want(c.expression(source["del"], scope, out), STRING, "the key")
        out.append(f"{store.text}.pop({key}, None)")
        return Code("None", NULL)
    sources = source.get("path") or []
    if not sources:
        raise c.error("a pool is read at a path that begins with a key")
    keys, of = _path(c, Map(store.type), sources, scope, out)
    if "to" not in source:
        base = Code(store.text, Map(store.type))
        return c.spilled(Code(_read(c, base, keys, sources, paths.POOL), of), out)
    c.changes = True
    text, is_function = _written(c, source, of, scope, out)
    if "init" not in source:
        raise c.error("a pool is changed with an init, for a key that is not there")
    begin = c.want(c.expression(source["init"], scope, out), store.type, "the init")
    step = c.names.constant(paths.pooled)
    numbers = c.names.constant(paths.POOL)
    rest = f"({', '.join(keys[1:])},)" if keys[1:] else "()"
    found = c.names.fresh("t")
    out.append(
        f"{found} = {step}({store.text}, {keys[0]}, {rest}, {text}, {is_function}, "
        f"{begin}, {numbers})"
    )
    return Code(found, store.type)


def _function_alone(c: Compiler, source: Any, scope: Scope, out: Lines) -> Code:
    raise c.error("a function stands only where a function is wanted")


def _pack(c: Compiler, source: Any, scope: Scope, out: Lines) -> Code:
    from martlet.formats.pfa.packing import packer

    formats, given = [], []
    for each in source["pack"]:
        if not isinstance(each, dict) or len(each) != 1:
            raise c.error("a part to pack is one format and its value")
        ((kind, value),) = each.items()
        formats.append(kind)
        given.append(value)
    run, wanted = packer(formats, c.error)
    codes = c.arguments(given, scope, out)
    texts = [c.want(each, of, "a part") for each, of in zip(codes, wanted, strict=True)]
    return Code(f"{c.names.constant(run)}({', '.join(texts)})", BYTES)


def _unpack(c: Compiler, source: Any, scope: Scope, out: Lines) -> Code:
    from martlet.formats.pfa.packing import unpacker

    data = c.want(c.expression(source["unpack"], scope, out), BYTES, "what is unpacked")
    parts = []
    for each in source["format"]:
        ((name, kind),) = each.items()
        parts.append((name, kind))
    run, types = unpacker([kind for _, kind in parts], c.error)
    values = c.names.fresh("t")
    out.append(f"{values} = {c.names.constant(run)}({data})")
    inner = Scope(scope)
    body: Lines = []
    for i, ((name, _), of) in enumerate(zip(parts, types, strict=True)):
        c.declare(name, Code(f"{values}[{i}]", of), inner, body)
    then = c.block(source["then"], inner, body)
    found = c.names.fresh("t")
    out.extend([f"if {values} is not None:", body])
    if "else" not in source:
        _statement(then, body)
        return Code("None", NULL)
    other: Lines = []
    otherwise = c.inner(source["else"], scope, other)
    result = broadest([then.type, otherwise.type])
    body.append(f"{found} = {c.promoted(then, result)}")
    other.append(f"{found} = {c.promoted(otherwise, result)}")
    out.extend(["else:", other])
    return Code(found, result)


# The first key that an object has says what it is: "if" before "then", "cell" before "to".
FORMS: Mapping[str, Callable[[Compiler, Any, Scope, Lines], Code]] = {
    "let": _let,
    "set": _set,
    "attr": _attr,
    "cell": _cell,
    "pool": _pool,
    "cond": _cond,
    "cast": _cast,
    "upcast": _upcast,
    "ifnotnull": _ifnotnull,
    "pack": _pack,
    "unpack": _unpack,
    "if": _if,
    "foreach": _foreach,
    "forkey": _forkey,
    "for": _for,
    "until": _until,
    "while": _while,
    "error": _error,
    "try": _try,
    "log": _log,
    "call": _call,
    "fcn": _function_alone,
    "params": _function_alone,
    "do": _do,
    "doc": _doc,
    "type": _value,
}
