"""Whose a tensor is: the user's, the item's, of both; and the shapes that tensors have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from enum import Enum

from martlet.convert.rewriting.graph import Array, Graph, answer, needed, session
from martlet.errors import UnsupportedModel
from martlet.tensors import Tensors

Shape = tuple[int, ...]
"""Sizes; -1 where it goes with the number of rows."""


class Side(Enum):
    """What a tensor depends on."""

    CONSTANT = "constant"
    USER = "user"
    ITEM = "item"
    CROSS = "cross"

    def __or__(self, other: Side) -> Side:
        if self is other or other is Side.CONSTANT:
            return self
        return other if self is Side.CONSTANT else Side.CROSS


def sides_of(graph: Graph, user_inputs: Iterable[str]) -> dict[str, Side]:
    """Return the side of every tensor; an input that is not the user's is the item's."""
    user = set(user_inputs)
    found = {name: Side.USER if name in user else Side.ITEM for name in graph.inputs}
    found |= dict.fromkeys(graph.constants, Side.CONSTANT)
    for node in graph.nodes:
        side = side_of(found, needed(node))
        found.update((name, side) for name in node.output if name)
    return found


def side_of(sides: Mapping[str, Side], names: Iterable[str]) -> Side:
    """Return the side of what is computed from the tensors *names*."""
    found = Side.CONSTANT
    for name in names:
        found |= sides.get(name, Side.CONSTANT)
    return found


def shapes_of(graph: Graph, rows: Tensors) -> dict[str, Shape]:
    """
    Return the shape of every tensor that the graph computes, found by running it.

    Args:
        rows: Three rows at least of each input.

    Raises:
        UnsupportedModel: the graph does not answer them.
    """
    live = graph.live()
    names = [name for node in graph.nodes for name in node.output if name in live]
    opened = session(graph.cut(graph.inputs, names))
    runs: list[dict[str, Array]] = []
    for count in (2, 3):
        feed = {name: rows[name][:count] for name in graph.inputs if name in rows}
        found = answer(opened, feed)
        if found is None:
            raise UnsupportedModel(f"the graph does not answer {count} rows of the probes")
        runs.append(dict(zip(names, found, strict=True)) | feed)
    two, three = runs
    shapes: dict[str, Shape] = {name: tuple(t.dims) for name, t in graph.constants.items()}
    for name, array in two.items():
        a, b = getattr(array, "shape", ()), getattr(three[name], "shape", ())
        if len(a) == len(b):
            shapes[name] = tuple(x if x == y else -1 for x, y in zip(a, b, strict=True))
    return shapes


def broadcast(shapes: Sequence[Shape]) -> Shape | None:
    """Return the shape that *shapes* broadcast to; a size -1 is one of its own."""
    rank = max(map(len, shapes), default=0)
    found = []
    for sizes in zip(*((*[1] * (rank - len(s)), *s) for s in shapes), strict=True):
        others = set(sizes) - {1}
        if len(others) > 1:
            return None
        found.append(others.pop() if others else 1)
    return tuple(found)


def dtypes_of(graph: Graph, rows: Tensors, names: Iterable[str]) -> dict[str, str]:
    """Return numpy's name of each tensor's dtype, found by running the graph."""
    wanted = [name for name in names if name not in graph.inputs]
    found = {name: str(rows[name].dtype) for name in names if name in graph.inputs}
    if wanted:
        arrays = answer(session(graph.cut(graph.inputs, wanted)), rows)
        if arrays is None:
            raise UnsupportedModel("the graph does not answer the probes")
        found |= {name: str(array.dtype) for name, array in zip(wanted, arrays, strict=True)}
    return found
