"""The forms of a PFA expression: objects whose first key is no function's name.

Each form takes the compiler, the object, the scope and where to write.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from martlet.errors import InvalidInput
from martlet.formats.pfa.access import ACCESS
from martlet.formats.pfa.avrojson import reader
from martlet.formats.pfa.calls import call_user
from martlet.formats.pfa.control import CONTROL, then_else
from martlet.formats.pfa.scope import Code, Lines, Scope
from martlet.formats.pfa.types import (
    BYTES,
    Array,
    Enum,
    Map,
    Record,
    Type,
    broadest,
)
from martlet.formats.pfa.values import Fields

if TYPE_CHECKING:
    from martlet.formats.pfa.compiler import Compiler


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
    calls = [call_user(c, user.name, user, given) for user in known]
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
    return then_else(c, source, f"{values} is not None", body, inner, scope, out)


# The first key that an object has says what it is: "if" before "then", "cell" before "to".
FORMS: Mapping[str, Callable[[Compiler, Any, Scope, Lines], Code]] = {
    "let": CONTROL["let"],
    "set": CONTROL["set"],
    "attr": ACCESS["attr"],
    "cell": ACCESS["cell"],
    "pool": ACCESS["pool"],
    "cond": CONTROL["cond"],
    "cast": CONTROL["cast"],
    "upcast": CONTROL["upcast"],
    "ifnotnull": CONTROL["ifnotnull"],
    "pack": _pack,
    "unpack": _unpack,
    "if": CONTROL["if"],
    "foreach": CONTROL["foreach"],
    "forkey": CONTROL["forkey"],
    "for": CONTROL["for"],
    "until": CONTROL["until"],
    "while": CONTROL["while"],
    "error": CONTROL["error"],
    "try": CONTROL["try"],
    "log": CONTROL["log"],
    "call": _call,
    "fcn": _function_alone,
    "params": _function_alone,
    "do": CONTROL["do"],
    "doc": CONTROL["doc"],
    "type": _value,
}
