"""Attributes, cells and pools of PFA: reading along a path, and writing there.

Each form takes the compiler, the object, the scope and where to write.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from martlet.formats.pfa import paths
from martlet.formats.pfa.calls import as_function
from martlet.formats.pfa.scope import Code, LibraryReference, Lines, Scope
from martlet.formats.pfa.types import (
    LONG,
    NULL,
    STRING,
    Array,
    Function,
    Map,
    Record,
    Type,
    accepts,
)

if TYPE_CHECKING:
    from martlet.formats.pfa.compiler import Compiler


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
        found = as_function(c, made.name, [of])
        if found is None:
            raise c.error(f"{made.name!r} does not take {of}")
        made = found
    if isinstance(made.type, Function):
        if not accepts(Function((of,), of), made.type):
            raise c.error(f"the function does not make {of} of {of}")
        return made.text, True
    return c.want(made, of, "the new value"), False


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


ACCESS: Mapping[str, Callable[[Compiler, Any, Scope, Lines], Code]] = {
    "attr": _attr,
    "cell": _cell,
    "pool": _pool,
}
