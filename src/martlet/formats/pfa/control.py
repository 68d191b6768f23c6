"""What steers a PFA function: variables, conditions, loops, casts, failures.

Each form takes the compiler, the object, the scope and where to write.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from martlet.formats.pfa import paths
from martlet.formats.pfa.failure import Failure
from martlet.formats.pfa.scope import Code, Lines, Scope, statement
from martlet.formats.pfa.types import (
    BOOLEAN,
    BYTES,
    NOTHING,
    NULL,
    STRING,
    Array,
    Function,
    Map,
    Type,
    Union,
    accepts,
    broadest,
)

if TYPE_CHECKING:
    from martlet.formats.pfa.compiler import Compiler


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
        out.append(f"{found.text} = {_changed(c, name, found.type, each, scope, out)}")
    return Code("None", NULL)


_MOST = 1 << 24
"""The characters or items of a value that an action may put in place of another."""


def held(value: Any) -> Any:
    """Return *value*, unless a loop has made it grow past all use. Raises Failure."""
    if isinstance(value, str | bytes | list | dict) and len(value) > _MOST:
        raise Failure(None, f"a value of {len(value)} elements, past the limit of {_MOST}")
    return value


def _changed(c: Compiler, name: str, of: Type, source: Any, scope: Scope, out: Lines) -> str:
    """Return the code of a symbol's next value: what grows is held within bounds."""
    text = c.want(c.expression(source, scope, out), of, repr(name))
    grows = isinstance(of, Array | Map | Union) or of in (STRING, BYTES)
    return f"{c.names.constant(held)}({text})" if grows else text


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
        else:
            statement(code, body)
    return Code(found if whole else "None", result)


def _while(c: Compiler, source: Any, scope: Scope, out: Lines) -> Code:
    inner = Scope(scope)
    body: Lines = [f"{c.clock}()"]
    test = c.want(c.expression(source["while"], inner, body), BOOLEAN, "the condition")
    body.extend([f"if not {test}:", ["break"]])
    statement(c.inner(source["do"], inner, body), body)
    out.extend(["while True:", body])
    return Code("None", NULL)


def _until(c: Compiler, source: Any, scope: Scope, out: Lines) -> Code:
    inner = Scope(scope)
    body: Lines = [f"{c.clock}()"]
    statement(c.block(source["do"], inner, body), body)
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
    statement(c.inner(source["do"], inner, body), body)
    for name, each in source["step"].items():
        found = inner.symbols.get(name)
        if found is None:
            raise c.error(f"the step sets {name!r}, which the loop does not declare")
        body.append(f"{found.text} = {_changed(c, name, found.type, each, inner, body)}")
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
    statement(c.block(source["do"], inner, body), body)
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
    statement(c.block(source["do"], inner, body), body)
    listed = c.names.constant(_items)
    out.extend([f"for {key}, {value} in {listed}({items.text}):", body])
    return Code("None", NULL)


def _items(of: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return list(of.items())


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
            statement(result, body)
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
    return then_else(c, source, " and ".join(tests), [], inner, scope, out)


def then_else(
    c: Compiler, source: Any, test: str, body: Lines, inner: Scope, scope: Scope, out: Lines
) -> Code:
    """
    Write *source*'s "then" where *test* holds, and its "else", if it has one, where not.

    Args:
        c: The compiler.
        source: The form.
        test: What is asked, as Python.
        body: What stands before "then".
        inner: The scope of "then".
        scope: That of "else".
        out: Where to write.
    """
    found = c.names.fresh("t")
    then = c.block(source["then"], inner, body)
    out.extend([f"if {test}:", body])
    if "else" not in source:
        statement(then, body)
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
    for each in given if isinstance(given, list) else [given]:
        statement(c.expression(each, scope, out), out)
    return Code("None", NULL)


def _doc(c: Compiler, source: Any, scope: Scope, out: Lines) -> Code:
    return Code("None", NULL)


CONTROL: Mapping[str, Callable[[Compiler, Any, Scope, Lines], Code]] = {
    "let": _let,
    "set": _set,
    "cond": _cond,
    "cast": _cast,
    "upcast": _upcast,
    "ifnotnull": _ifnotnull,
    "if": _if,
    "foreach": _foreach,
    "forkey": _forkey,
    "for": _for,
    "until": _until,
    "while": _while,
    "error": _error,
    "try": _try,
    "log": _log,
    "do": _do,
    "doc": _doc,
}
