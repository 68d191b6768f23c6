"""The algebra that lets a graph be split: what is linear is applied to each side by itself.

A tensor that depends on user and item is held, as long as it can be, as a concatenation or as a
sum of parts that depend on one of them. ``W [u; i]`` is then ``Wu u + Wi i``; the sum over fields
of a factorisation machine is the user's sum and the item's; and a layer over the concatenation
``[q, k, q - k, q * k]`` of an attention unit is ``(W1 + W3) q + (W2 - W3) k + W4 (q * k)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from onnx import NodeProto, helper

from martlet.convert.rewriting.graph import Array, Graph
from martlet.convert.splitting.sides import Shape, Side, broadcast, side_of, sides_of

# Whoever broadcasts needs no copies: their outputs are held as what was there before.
EXPANDING: Final = frozenset({"Expand", "Tile"})
# Operators under which a tensor of one row goes with one of many.
BROADCASTING: Final = frozenset(
    {"Add", "Sub", "Mul", "Div", "Pow", "Where", "Max", "Min", "Equal", "Less", "Greater", "And"}
    | {"Or", "Xor", "LessOrEqual", "GreaterOrEqual", "Sum", "Mean", "PRelu"}
)


@dataclass(frozen=True, slots=True)
class Joined:
    """Parts side by side along an axis; each with its size there."""

    axis: int
    parts: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Summed:
    """Parts that are added, each with its sign. One alone is the tensor without being expanded."""

    terms: tuple[tuple[float, str], ...]


Form = Joined | Summed

Rule = Callable[["Distribution", NodeProto], Form | None]
"""How the output of a node of one operator is held as a form; None where it is not."""


class Distribution:
    """
    One pass over a graph, from its inputs to its outputs.

    Args:
        graph: Not changed.
        shapes: Of its tensors.
        user_inputs: The user's and the context's; other inputs are the item's.
    """

    def __init__(self, graph: Graph, shapes: dict[str, Shape], user_inputs: Sequence[str]) -> None:
        self._before = graph
        self._after = graph.copy()
        self._after.nodes = []
        self._shapes = dict(shapes)
        self._sides = {
            name: side
            for name, side in sides_of(graph, user_inputs).items()
            if name in graph.inputs or name in graph.constants
        }
        self._forms: dict[str, Form] = {}
        self._pending: dict[str, NodeProto] = {}
        self._item = next((each for each in graph.inputs if each not in user_inputs), "")
        self._rows = ""
        self._rules: Mapping[str, Rule] = {}

    def run(self, rules: Mapping[str, Rule]) -> Graph:
        """Return the graph with the same outputs, its sides as far apart as *rules* take them."""
        self._rules = rules
        live = self._before.live()
        for node in self._before.nodes:
            if any(name in live for name in node.output):
                self._take(node)
        for name in self._before.outputs:
            self.settle(name)
        return self._after

    def _take(self, node: NodeProto) -> None:
        side = side_of(self._sides, node.input)
        rule = self._rules.get(node.op_type)
        one = len([each for each in node.output if each]) == 1
        if rule is not None and one and (side is Side.CROSS or node.op_type in EXPANDING):
            form = rule(self, node)
            name = node.output[0]
            if form is not None and self._has_shape(form, name):
                self._forms[name] = form
                self._pending[name] = node
                self._sides[name] = side
                return
        self._keep(node, side)

    def _has_shape(self, form: Form, name: str) -> bool:
        """Whether adding *form* up gives all of *name*: what was never expanded may not."""
        if isinstance(form, Joined) or len(form.terms) == 1:
            return True
        return broadcast([self.shape(each) for _, each in form.terms]) == self.shape(name)

    def _keep(self, node: NodeProto, side: Side) -> None:
        """Let the node stay, fed with tensors as they were."""
        mixed = side is Side.CROSS
        loose = node.op_type in BROADCASTING and mixed
        given = [self._loose(name, node) if loose else name for name in node.input]
        for name in given:
            self.settle(name)
        if mixed and not loose and node.op_type != "MatMul":
            given = [self._widened(name) for name in given]
        made = NodeProto()
        made.CopyFrom(node)
        del made.input[:]
        made.input.extend(given)
        self._after.nodes.append(made)
        for attributes in node.attribute:
            if attributes.HasField("g"):
                self._settle_inner(attributes.g)
        for name in made.output:
            self._sides[name] = side

    def _settle_inner(self, inner: Any) -> None:
        for node in inner.node:
            for name in node.input:
                self.settle(name)

    # -- writing nodes ---------------------------------------------------------------------

    def emit(self, op: str, *inputs: str, shape: Shape = (), gives: str = "", **about: Any) -> str:
        """Write a node and return its output."""
        name = gives or self._after.fresh(op)
        self._after.nodes.append(helper.make_node(op, list(inputs), [name], **about))
        self._sides[name] = side_of(self._sides, inputs)
        if shape:
            self._shapes[name] = shape
        return name

    def constant(self, value: Array) -> str:
        """Add a constant and return its name."""
        name = self._after.constant(value)
        self._sides[name] = Side.CONSTANT
        self._shapes[name] = value.shape
        return name

    def settle(self, name: str) -> str:
        """Compute a tensor that was held as a form, under its own name."""
        form = self._forms.get(name)
        node = self._pending.pop(name, None)
        if form is None or node is None:
            return name
        if isinstance(form, Joined):
            parts = [self._widened(self.settle(each)) for each, _ in form.parts]
            self.emit("Concat", *parts, gives=name, axis=form.axis)
        elif len(form.terms) == 1 and form.terms[0][0] == 1:
            self._keep(node, self._sides[name])
        else:
            self._add_up(name, form.terms)
        return name

    def _add_up(self, name: str, terms: Sequence[tuple[float, str]]) -> None:
        """Add *terms*, each side by itself first; the constant with a side that has few rows."""
        order = (Side.USER, Side.ITEM, Side.CROSS)
        by_side = {side: [t for t in terms if self._sides[t[1]] is side] for side in order}
        constant = [t for t in terms if self._sides[t[1]] is Side.CONSTANT]
        first = next(side for side in order if by_side[side])
        by_side[first] += constant
        groups = [by_side[side] for side in order if by_side[side]]
        totals = [self._sum(group) for group in groups[:-1]]
        last = groups[-1]
        if not totals:
            self._sum(last, name)
            return
        for total in totals[1:]:
            totals[0] = self.emit("Add", totals[0], total)
        if len(last) == 1:
            sign, tensor = last[0]
            self.emit("Add" if sign == 1 else "Sub", totals[0], self.settle(tensor), gives=name)
        else:
            self.emit("Add", totals[0], self._sum(last), gives=name)

    def _sum(self, terms: Sequence[tuple[float, str]], gives: str = "") -> str:
        ordered = sorted(terms, key=lambda each: -each[0])
        sign, found = ordered[0]
        found = self.settle(found)
        if len(ordered) == 1:
            if sign == 1:
                return found if not gives else self.emit("Identity", found, gives=gives)
            return self.emit("Neg", found, gives=gives)
        if sign != 1:
            found = self.emit("Neg", found)
        for at, (sign, tensor) in enumerate(ordered[1:], 2):
            last = gives if at == len(ordered) else ""
            found = self.emit("Add" if sign == 1 else "Sub", found, self.settle(tensor), gives=last)
        return found

    def _widened(self, name: str) -> str:
        """Return the user's tensor with a row for each item, where it may have one for all."""
        shape = self._shapes.get(name, ())
        if self._sides.get(name) is not Side.USER or shape[:1] != (-1,) or not self._item:
            return name
        if not self._rows:
            start, end = self.constant(np.array([0])), self.constant(np.array([1]))
            self._rows = self.emit("Slice", self.emit("Shape", self._item), start, end)
        ones = self.constant(np.ones(len(shape) - 1, np.int64))
        wanted = self.emit("Concat", self._rows, ones, axis=0) if len(shape) > 1 else self._rows
        return self.emit("Expand", name, wanted, shape=shape)

    def _loose(self, name: str, node: NodeProto) -> str:
        """Return a tensor before it was expanded, where the node broadcasts it all the same."""
        form = self._forms.get(name)
        if not (isinstance(form, Summed) and len(form.terms) == 1 and form.terms[0][0] == 1):
            return name
        narrow = form.terms[0][1]
        others = [self._shapes.get(each, ()) for each in node.input if each and each != name]
        if broadcast([self._shapes[narrow], *others]) == self._shapes.get(node.output[0]):
            return narrow
        return name

    # -- reading forms ---------------------------------------------------------------------

    def terms(self, name: str) -> list[tuple[float, str]]:
        """Return what is added to give *name*; itself alone where it is not a sum."""
        form = self._forms.get(name)
        return list(form.terms) if isinstance(form, Summed) else [(1.0, name)]

    def apart(self, name: str) -> bool:
        """Whether *name* is a sum of which each term is of one side."""
        return isinstance(self._forms.get(name), Summed) and not any(
            self._sides[each] is Side.CROSS for _, each in self.terms(name)
        )

    def joined(self, name: str) -> Joined | None:
        """Return *name* as a concatenation, if it is one."""
        form = self._forms.get(name)
        return form if isinstance(form, Joined) else None

    def each_part(self, form: Joined, make: Callable[[str, int, int], str]) -> Joined:
        """Return the concatenation of ``make(part, its start, its end)``."""
        parts, at = [], 0
        for name, size in form.parts:
            parts.append((make(self.settle(name), at, at + size), size))
            at += size
        return Joined(form.axis, tuple(parts))

    def value(self, name: str) -> Array | None:
        """Return the value of a constant; None for another tensor."""
        return self._after.array(name) if name in self._after.constants else None

    def shape(self, name: str) -> Shape:
        """Return a tensor's shape; () where it is not known."""
        return self._shapes.get(name, ())

    def is_one_sided(self, name: str) -> bool:
        """Whether *name* depends on the user alone, or on the item alone."""
        return self._sides[name] in (Side.USER, Side.ITEM)

    def linear(self, name: str, weights: Array) -> Summed | None:
        """Return ``name @ weights`` as a sum over the sides, if that parts them."""
        rows: dict[str, Array] = {}

        def put(tensor: str, part: Array) -> None:
            rows[tensor] = rows[tensor] + part if tensor in rows else part

        form = self._forms.get(name)
        if isinstance(form, Joined) and form.axis == len(self.shape(name)) - 1:
            at = 0
            for part, size in form.parts:
                own = weights[at : at + size]
                at += size
                for sign, tensor in self.terms(part) if self.apart(part) else [(1.0, part)]:
                    put(tensor, own * np.float32(sign))
        elif self.apart(name):
            for sign, tensor in self.terms(name):
                put(tensor, weights * np.float32(sign))
        if not any(map(self.is_one_sided, rows)):
            return None
        if any(self.shape(each)[-1:] != (len(part),) for each, part in rows.items()):
            return None
        return Summed(tuple((1.0, each) for each in self._products(rows)))

    def _products(self, rows: dict[str, Array]) -> list[str]:
        groups: dict[Any, list[str]] = {}
        for tensor in rows:
            self.settle(tensor)
            groups.setdefault((self._sides[tensor], self.shape(tensor)[:-1]), []).append(tensor)
        found = []
        for (_, lead), tensors in groups.items():
            weights = np.concatenate([rows[each] for each in tensors])
            one = tensors[0] if len(tensors) == 1 else self.emit("Concat", *tensors, axis=len(lead))
            shape = (*lead, weights.shape[1])
            found.append(self.emit("MatMul", one, self.constant(weights), shape=shape))
        return found
