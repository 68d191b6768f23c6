"""``model.tree.*``: tests of a node, and walks down a tree."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from martlet.formats.pfa.failure import Failure
from martlet.formats.pfa.library import entry
from martlet.formats.pfa.library.core import Run
from martlet.formats.pfa.ordering import key_of
from martlet.formats.pfa.types import NULL, NUMBERS, Array, Record, Type, Union, accepts, union
from martlet.formats.pfa.values import Fields, promotion

Vector = Sequence[float]

# -- trees: numbers 32000 ----------------------------------------------------------------------

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
    "==": operator.eq,
    "!=": operator.ne,
}
_COMPARISON = "T{field: F@, operator: string, value: V}"
Test = Callable[[Any, Any], Any]


def _comparison(params: Sequence[Type], number: int, missing: bool) -> Test:
    """
    Return the test of a datum by a comparison.

    Each field is tested by what its own type and the comparisons' value type allow, found once
    for each field and operator.

    Args:
        missing: Whether a missing value makes the answer unknown; otherwise it is compared.
    """
    datum_type, of = params[0], params[1]
    assert isinstance(datum_type, Record) and isinstance(of, Record)
    value_type, known = of.fields["value"], datum_type.fields
    made: dict[tuple[str, str], Test] = {}

    def test(datum: Any, comparison: Any) -> Any:
        field = comparison["field"]
        key = (field, comparison["operator"])
        step = made.get(key)
        if step is None:
            step = made[key] = _step(known[field], value_type, key[1], number, missing)
        return step(datum[field], comparison["value"])

    return test


def _step(field: Type, value: Type, name: str, number: int, missing: bool) -> Test:
    if name in ("alwaysTrue", "alwaysFalse"):
        return lambda x, v: name == "alwaysTrue"
    if not missing and name in ("isMissing", "notMissing"):
        return lambda x, v: (x is None) is (name == "isMissing")
    if missing and isinstance(field, Union):
        field = union([each for each in field.types if each != NULL])
    if name in ("in", "notIn"):
        members = value.types if isinstance(value, Union) else (value,)
        if not any(isinstance(m, Array) and accepts(m.items, field) for m in members):
            return _refused(number + 1, "bad value type")
        inside = name == "in"
        return lambda x, v: None if missing and x is None else (x in _listed(v, number)) is inside
    run = _OPERATORS.get(name)
    if run is None:
        return _refused(number, "invalid comparison operator")
    if not accepts(value, field) and not (field in NUMBERS and value in NUMBERS):
        return _refused(number + 1, "bad value type")
    if field in NUMBERS:
        if value in NUMBERS and not missing:
            return run
        return lambda x, v: None if missing and x is None else run(x, _number(v, number))
    convert, order = promotion(value, field), key_of(value)

    def ordered(x: Any, v: Any) -> Any:
        if missing and x is None:
            return None
        x = x if convert is None else convert(x)
        return run(x, v) if order is None else run(order(x), order(v))

    return ordered


def _refused(code: int, text: str) -> Test:
    def refuse(x: Any, v: Any) -> Any:
        raise Failure(code, text)

    return refuse


def _listed(value: Any, number: int) -> Any:
    if type(value) is not list:
        raise Failure(number + 1, "bad value type")
    return value


def _number(value: Any, number: int) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise Failure(number + 1, "bad value type")


@entry("model.tree.simpleTest", f"D{{}}, {_COMPARISON} -> boolean", typed=True)
def simple_test(params: Sequence[Type], result: Type) -> Run:
    return _comparison(params, 32000, missing=False)


@entry("model.tree.missingTest", f"D{{}}, {_COMPARISON} -> (null|boolean)", typed=True)
def missing_test(params: Sequence[Type], result: Type) -> Run:
    """Unknown where the field is missing."""
    return _comparison(params, 32010, missing=True)


@entry("model.tree.compoundTest", "D{}, string, [T{}], fn(D, T -> boolean) -> boolean")
def compound_test(datum: Any, logic: str, comparisons: Sequence[Any], f: Run) -> bool:
    results = (f(datum, each) for each in comparisons)
    if logic == "and":
        return all(results)
    if logic == "or":
        return any(results)
    if logic == "xor":
        return bool(sum(results) % 2 == 1)
    raise Failure(32020, "unrecognized logical operator")


@entry("model.tree.surrogateTest", "D{}, [T{}], fn(D, T -> (null|boolean)) -> boolean")
def surrogate_test(datum: Any, comparisons: Sequence[Any], f: Run) -> bool:
    """What the first comparison says that is not unknown."""
    for each in comparisons:
        found = f(datum, each)
        if found is not None:
            return bool(found)
    raise Failure(32030, "no successful surrogate")


def _node_kind(of: Type) -> str:
    assert isinstance(of, Record)
    return of.name


def _walk(
    params: Sequence[Type], branch: Callable[[Any, Any, Any], str]
) -> Callable[[Any, Any, Any], Any]:
    kind = _node_kind(params[1])

    def walk(datum: Any, node: Any, f: Any) -> Any:
        while type(node) is Fields and node.kind == kind:
            node = node[branch(datum, node, f)]
        return node

    return walk


@entry(
    "model.tree.simpleWalk",
    "D{}, T{pass: (T{}|S), fail: (T{}|S)}, fn(D, T -> boolean) -> S",
    typed=True,
)
def simple_walk(params: Sequence[Type], result: Type) -> Run:
    return _walk(params, lambda datum, node, f: "pass" if f(datum, node) else "fail")


def _three_ways(datum: Any, node: Any, f: Any) -> str:
    found = f(datum, node)
    return "missing" if found is None else "pass" if found else "fail"


@entry(
    "model.tree.missingWalk",
    "D{}, T{pass: (T{}|S), fail: (T{}|S), missing: (T{}|S)}, fn(D, T -> (null|boolean)) -> S",
    typed=True,
)
def missing_walk(params: Sequence[Type], result: Type) -> Run:
    return _walk(params, _three_ways)


@entry(
    "model.tree.simpleTree",
    "D{}, T{field: F@, operator: string, value: V, pass: (T{}|S), fail: (T{}|S)} -> S",
    typed=True,
)
def simple_tree(params: Sequence[Type], result: Type) -> Run:
    """
    A tree that is walked again is kept as tuples: field, test, value, and where it goes.

    Each node's test is found once, by its field and operator, not at every row.
    """
    datum_type, of = params[0], params[1]
    assert isinstance(datum_type, Record) and isinstance(of, Record)
    value_type, known, kind = of.fields["value"], datum_type.fields, of.name
    test = _comparison(params, 32060, missing=False)
    walk = _walk(params, lambda datum, node, f: "pass" if test(datum, node) else "fail")

    def inner(node: Any) -> bool:
        return type(node) is Fields and node.kind == kind

    def compiled(root: Any) -> Any:
        done: dict[int, Any] = {}
        pending = [root]
        while pending:
            node = pending[-1]
            below = [each for each in (node["pass"], node["fail"]) if inner(each)]
            waiting = [each for each in below if id(each) not in done]
            if waiting:
                pending.extend(waiting)
                continue
            pending.pop()
            field, name = node["field"], node["operator"]
            step = _step(known[field], value_type, name, 32060, False)
            ends = [done[id(e)] if inner(e) else e for e in (node["pass"], node["fail"])]
            done[id(node)] = (field, step, node["value"], *ends)
        return done[id(root)]

    def run(datum: Any, node: Any) -> Any:
        if not inner(node):
            return node
        owner, at = node.memo or (None, None)
        if owner is not run:
            node.memo = (run, None)
            return walk(datum, node, None)
        if at is None:
            at = compiled(node)
            node.memo = (run, at)
        while type(at) is tuple:
            field, step, value, yes, no = at
            at = yes if step(datum[field], value) else no
        return at

    return run
