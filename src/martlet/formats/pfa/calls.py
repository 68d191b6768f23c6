"""Calls in a PFA document: of its own functions, and of the library's by their arguments' types."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from martlet.formats.pfa import library, signatures
from martlet.formats.pfa.groves import is_test
from martlet.formats.pfa.scope import Code, LibraryReference, Lines, Scope
from martlet.formats.pfa.types import Function, Type
from martlet.formats.pfa.values import promotion

if TYPE_CHECKING:
    from martlet.formats.pfa.compiler import Compiler, UserFunction


def call(c: Compiler, name: str, sources: Sequence[Any], scope: Scope, out: Lines) -> Code:
    """Write a call of a function of the document or of the library."""
    own: Lines = []
    code = _called(c, name, sources, scope, own)
    # What trees of a cell say of the input is found for all rows at once, before the action runs.
    walked = c.groves.found(c, name, sources, scope, code) if c.groves is not None else None
    if walked is not None:
        return walked
    out.extend(own)
    return code


def _called(c: Compiler, name: str, sources: Sequence[Any], scope: Scope, out: Lines) -> Code:
    user = c.user(name)
    if (
        name == "model.tree.simpleWalk"
        and len(sources) == 3
        and is_test("model.tree.simpleTest", sources[2])
    ):
        # A walk whose test is the library's own: as a tree it can be kept compiled.
        name, sources = "model.tree.simpleTree", sources[:2]
    given = c.arguments(sources, scope, out)
    if user is not None:
        return call_user(c, name, user, given)
    found = library.functions().get(name)
    if found is None:
        raise c.error(f"no function is named {name!r}")
    for case in found.cases:
        codes = _settled(c, case, given)
        if codes is None:
            continue
        matched = signatures.match(case, [each.type for each in codes])
        if matched is not None:
            return _call_library(c, found, codes, *matched)
    types = ", ".join(str(getattr(each, "type", each)) for each in given)
    raise c.error(f"{name!r} does not take ({types})")


def call_user(c: Compiler, name: str, user: UserFunction, given: Sequence[Any]) -> Code:
    """Write a call of a function of the document."""
    if len(given) != len(user.params):
        raise c.error(f"{name!r} takes {len(user.params)} arguments, not {len(given)}")
    texts = [
        c.want(each, of, f"the argument {param!r}")
        for each, (param, of) in zip(given, user.params, strict=True)
    ]
    return Code(f"{user.name}({', '.join(texts)})", user.result)


def _call_library(
    c: Compiler, entry: library.Entry, given: Sequence[Code], params: Sequence[Type], result: Type
) -> Code:
    """Write a call of a function of the library."""
    texts = [c.promoted(each, of) for each, of in zip(given, params, strict=True)]
    run = entry.bound(params, result)
    template = getattr(run, "template", entry.template)
    if template:
        return Code(template.format(*texts), result)
    return Code(f"{c.names.constant(run)}({', '.join(texts)})", result)


def _settled(c: Compiler, case: signatures.Case, given: Sequence[Any]) -> list[Code] | None:
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
        code = None if wanted is None else as_function(c, each.name, wanted)
        if code is None:
            return None
        found.append(code)
    return found


def as_function(c: Compiler, name: str, params: Sequence[Type]) -> Code | None:
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
        return Code(c.names.constant(run), Function(tuple(params), result))
    return None


def _promoting(run: Callable[..., Any], steps: Sequence[Any]) -> Callable[..., Any]:
    def call(*given: Any) -> Any:
        return run(
            *(each if step is None else step(each) for each, step in zip(given, steps, strict=True))
        )

    return call
