"""An embedding lookup as plain nodes: ids to rows, rows to vectors, a bag of vectors to one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from onnx import NodeProto, TensorProto, helper

from martlet.convert.rewriting.graph import Graph
from martlet.formats.package.ids import MODULO, REFUSE, WRAP, ZERO, Ids, Outcome

# Beyond any table: onnxruntime's Gather refuses it.
_BEYOND: Final = 1 << 40
ZEROS: Final = ("/zeros_first", "/zeros_last")
"""What the name of a table ends with that has a row of zeros more."""
BAGS: Final = ("sum", "mean", "sqrtn", "max")


@dataclass(frozen=True, slots=True)
class Lookup:
    """
    One place where vectors are taken from a table.

    Args:
        table: The constant that holds the vectors, [rows, dim].
        input: The graph's input that holds the ids, [n], [n, 1] or [n, length].
        column: Which of the input's columns, where it is only one.
        bag: How the vectors of a row become one: one of BAGS; "" where each stays.
        ids: From ids to rows.
        vectors: The tensor that the gather gives: the shape of the ids, and the dim.
        gives: The tensor of the model that it stands for.
        asked: How many ids that have rows were asked, each by itself.
    """

    table: str
    input: str
    column: int | None
    bag: str
    ids: Ids
    vectors: str
    gives: str
    asked: int = 0

    def __str__(self) -> str:
        column = "" if self.column is None else f"[:, {self.column}]"
        taken = f"{self.table}[{self.input}{column}]"
        return f"{self.bag}({taken})" if self.bag else taken


def copies(table: str) -> list[str]:
    """Return the names that *table* has where a row of zeros was put to it."""
    return [table + end for end in ZEROS]


class _Builder:
    """Nodes being written, each with one output."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[NodeProto] = []

    def __call__(self, op: str, *inputs: str, gives: str = "", **attributes: Any) -> str:
        output = gives or self.graph.fresh(op)
        domain = "ai.onnx.ml" if op == "LabelEncoder" else ""
        self.nodes.append(helper.make_node(op, list(inputs), [output], domain=domain, **attributes))
        return output

    def number(self, value: Any) -> str:
        return self.graph.constant(np.asarray(value, np.int64), "number")


def nodes_of(
    graph: Graph, lookup: Lookup, shape: Sequence[int] | None
) -> tuple[list[NodeProto], Lookup]:
    """
    Return nodes that compute ``lookup.gives``, and the lookup with its ``vectors`` named.

    Args:
        graph: Gets the constants that they need.
        lookup: Its ``vectors`` is not read.
        shape: What is given has this shape, -1 where it goes with the rows; None where that is
            the gather's own.
    """
    build = _Builder(graph)
    ids = lookup.input
    if lookup.column is not None:
        ids = build("Gather", ids, build.number(lookup.column), axis=1)
    rows, places = _rows(build, lookup.ids, ids, _type_of(graph, lookup.input))
    plain = not lookup.bag and shape is None
    vectors = lookup.gives if plain else graph.fresh("vectors")
    build("Gather", _table(graph, lookup.table, places), rows, axis=0, gives=vectors)
    last = vectors
    if lookup.bag:
        last = _bag(build, lookup, vectors, rows, places, "" if shape is not None else lookup.gives)
    if shape is not None:
        build("Reshape", last, build.number(shape), gives=lookup.gives)
    return build.nodes, replace(lookup, vectors=vectors)


@dataclass(frozen=True, slots=True)
class _Places:
    """
    Where rows lie in the table that is gathered from.

    Args:
        zeros: The place of a row of zeros, if there is one.
        first: The place of row 0.
    """

    zeros: int | None
    first: int

    def __call__(self, outcome: Outcome) -> int:
        if isinstance(outcome, int):
            return outcome + self.first
        return self.zeros if outcome == ZERO and self.zeros is not None else _BEYOND


def _table(graph: Graph, table: str, places: _Places) -> str:
    """Return the name of *table*, or of the same with a row of zeros before or behind it."""
    if places.zeros is None:
        return table
    name = table + ZEROS[0 if places.first else 1]
    if name not in graph.constants:
        array = graph.array(table)
        row = np.zeros((1, *array.shape[1:]), array.dtype)
        made = graph.constant(np.concatenate([row, array] if places.first else [array, row]))
        graph.constants[name] = graph.constants.pop(made)
    return name


def _rows(build: _Builder, ids: Ids, given: str, kind: int) -> tuple[str, _Places]:
    """Return the tensor of the places to gather from, and how rows are placed."""
    last = _Places(ids.count, 0) if ZERO in ids.outcomes else _Places(None, 0)
    if ids.vocabulary is not None:
        known = {**ids.vocabulary, **ids.special}
        build.graph.use("ai.onnx.ml", 2)
        about: dict[str, Any] = {
            "values_int64s": [last(each) for each in known.values()],
            "default_int64": last(ids.below),
        }
        if isinstance(next(iter(known)), str):
            return build("LabelEncoder", given, keys_strings=list(known), **about), last
        whole = build("Cast", given, to=TensorProto.INT64)
        return build("LabelEncoder", whole, keys_int64s=list(known), **about), last
    if ids.below == ids.above == REFUSE and ids.special == {ids.first - 1: ZERO}:
        return _from_missing(build, ids, given, kind)
    count = ids.count
    whole = build("Cast", given, to=TensorProto.INT64)
    rows = build("Sub", whole, build.number(ids.first)) if ids.first else whole
    found = rows
    # A bare Gather wraps below and refuses above; with a row of zeros behind the table its
    # bounds are others.
    if ids.below == MODULO or ids.above == MODULO:
        found = build("Mod", rows, build.number(count))
    if ids.below == WRAP and last.zeros is not None:
        low = build("Less", rows, build.number(-count))
        wrapped = build(
            "Where", low, build.number(_BEYOND), build("Add", rows, build.number(count))
        )
        found = build("Where", build("Less", rows, build.number(0)), wrapped, found)
    elif ids.below not in (MODULO, WRAP):
        low = build("Less", rows, build.number(0))
        found = build("Where", low, build.number(last(ids.below)), found)
    if ids.above != MODULO and not (ids.above == REFUSE and last.zeros is None):
        high = build("Less", build.number(count - 1), rows)
        found = build("Where", high, build.number(last(ids.above)), found)
    for key, outcome in ids.special.items():
        same = build("Equal", whole, build.number(key))
        found = build("Where", same, build.number(last(outcome)), found)
    return found, last


def _from_missing(build: _Builder, ids: Ids, given: str, kind: int) -> tuple[str, _Places]:
    """The id before the first is the missing one: with the zeros in front all lie in line."""
    whole, places = given, _Places(0, 1)
    if kind == TensorProto.INT32:
        one = build.graph.constant(np.int32(ids.first - 1), "number")
        # What was below wraps to 2**31 and more, which the gather refuses as too high.
        whole = build("Cast", build("Sub", whole, one), to=TensorProto.UINT32)
        return build("Cast", whole, to=TensorProto.INT64), places
    rows = build("Sub", build("Cast", given, to=TensorProto.INT64), build.number(ids.first - 1))
    low = build("Less", rows, build.number(0))
    return build("Where", low, build.number(_BEYOND), rows), places


def _type_of(graph: Graph, name: str) -> int:
    return int(graph.inputs[name].type.tensor_type.elem_type)


def _bag(
    build: _Builder, lookup: Lookup, vectors: str, rows: str, places: _Places, gives: str
) -> str:
    if lookup.bag == "max":
        if build.graph.opset < 18:
            return build("ReduceMax", vectors, axes=[1], keepdims=0, gives=gives)
        return build("ReduceMax", vectors, build.number([1]), keepdims=0, gives=gives)
    axis = build.number([1])
    if lookup.bag == "sum":
        return build("ReduceSum", vectors, axis, keepdims=0, gives=gives)
    total = build("ReduceSum", vectors, axis, keepdims=0)
    if places.zeros is not None:
        unknown = build("Equal", rows, build.number(places.zeros))
        counts = build("Cast", build("Not", unknown), to=TensorProto.FLOAT)
        counted = build("ReduceSum", counts, axis, keepdims=1)
        one = build.graph.constant(np.float32(1))
        length = build("Max", counted, one)
    else:
        shape = build("Shape", lookup.input)
        length = build("Cast", build("Gather", shape, build.number(1)), to=TensorProto.FLOAT)
    if lookup.bag == "sqrtn":
        length = build("Sqrt", length)
    return build("Div", total, length, gives=gives)
