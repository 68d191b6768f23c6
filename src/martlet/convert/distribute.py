"""The algebra that lets a graph be split: what is linear is applied to each side by itself.

A tensor that depends on user and item is held, as long as it can be, as a concatenation or as a
sum of parts that depend on one of them. ``W [u; i]`` is then ``Wu u + Wi i``; the sum over fields
of a factorisation machine is the user's sum and the item's; and a layer over the concatenation
``[q, k, q - k, q * k]`` of an attention unit is ``(W1 + W3) q + (W2 - W3) k + W4 (q * k)``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Final

import numpy as np
from onnx import NodeProto, helper

from martlet.convert.graph import Array, Graph, attribute
from martlet.convert.sides import Shape, Side, side_of, sides_of

_UNARY: Final = frozenset(
    {"Relu", "Sigmoid", "Tanh", "Abs", "Neg", "Exp", "Log", "Sqrt", "Elu", "Selu", "LeakyRelu"}
    | {"Softplus", "HardSigmoid", "Identity", "Dropout", "Erf", "Softsign"}
)
# Operators under which a tensor of one row goes with one of many.
BROADCASTING: Final = frozenset(
    {"Add", "Sub", "Mul", "Div", "Pow", "Where", "Max", "Min", "Equal", "Less", "Greater", "And"}
    | {"Or", "Xor", "LessOrEqual", "GreaterOrEqual", "Sum", "Mean", "PRelu"}
)
_RESHAPES: Final = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})


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

    def run(self) -> Graph:
        """Return the graph with the same outputs, its sides as far apart as they go."""
        live = self._before.live()
        for node in self._before.nodes:
            if any(name in live for name in node.output):
                self._take(node)
        for name in self._before.outputs:
            self._settle(name)
        return self._after

    def _take(self, node: NodeProto) -> None:
        side = side_of(self._sides, node.input)
        rule = _RULES.get(node.op_type)
        one = len([each for each in node.output if each]) == 1
        if rule is not None and one and (side is Side.CROSS or rule is _expanded):
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
            self._settle(name)
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
                self._settle(name)

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

    def _settle(self, name: str) -> str:
        """Compute a tensor that was held as a form, under its own name."""
        form = self._forms.get(name)
        node = self._pending.pop(name, None)
        if form is None or node is None:
            return name
        if isinstance(form, Joined):
            parts = [self._widened(self._settle(each)) for each, _ in form.parts]
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
            self.emit("Add" if sign == 1 else "Sub", totals[0], self._settle(tensor), gives=name)
        else:
            self.emit("Add", totals[0], self._sum(last), gives=name)

    def _sum(self, terms: Sequence[tuple[float, str]], gives: str = "") -> str:
        ordered = sorted(terms, key=lambda each: -each[0])
        sign, found = ordered[0]
        found = self._settle(found)
        if len(ordered) == 1:
            if sign == 1:
                return found if not gives else self.emit("Identity", found, gives=gives)
            return self.emit("Neg", found, gives=gives)
        if sign != 1:
            found = self.emit("Neg", found)
        for at, (sign, tensor) in enumerate(ordered[1:], 2):
            last = gives if at == len(ordered) else ""
            found = self.emit(
                "Add" if sign == 1 else "Sub", found, self._settle(tensor), gives=last
            )
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
        """Return what is added to give *name*; itself alone where it is no sum."""
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
            parts.append((make(self._settle(name), at, at + size), size))
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
            self._settle(tensor)
            groups.setdefault((self._sides[tensor], self.shape(tensor)[:-1]), []).append(tensor)
        found = []
        for (_, lead), tensors in groups.items():
            weights = np.concatenate([rows[each] for each in tensors])
            one = tensors[0] if len(tensors) == 1 else self.emit("Concat", *tensors, axis=len(lead))
            shape = (*lead, weights.shape[1])
            found.append(self.emit("MatMul", one, self.constant(weights), shape=shape))
        return found


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


# -- the rules: a node whose output can be held as a form ------------------------------------

Rule = Callable[[Distribution, NodeProto], Form | None]


def _concat(to: Distribution, node: NodeProto) -> Form | None:
    rank = len(to.shape(node.output[0]))
    axis = attribute(node, "axis") % rank if rank else 0
    if axis == 0:
        return None
    parts: list[tuple[str, int]] = []
    for name in node.input:
        inner = to.joined(name)
        if inner is not None and inner.axis == axis:
            parts += inner.parts
        else:
            parts.append((name, to.shape(name)[axis]))
    return Joined(axis, tuple(parts)) if all(size > 0 for _, size in parts) else None


def _unary(to: Distribution, node: NodeProto) -> Form | None:
    form = to.joined(node.input[0])
    if form is None:
        if node.op_type == "Identity" and to.apart(node.input[0]):
            return Summed(tuple(to.terms(node.input[0])))
        return None
    about = {each.name: attribute(node, each.name) for each in node.attribute}
    op = "Identity" if node.op_type == "Dropout" else node.op_type
    about = {} if op == "Identity" else about
    return to.each_part(form, lambda part, *_: to.emit(op, part, shape=to.shape(part), **about))


def _arithmetic(to: Distribution, node: NodeProto) -> Form | None:
    one, other = node.input
    op = node.op_type
    if op in ("Mul", "Pow") and (one == other or (op == "Pow" and _is_two(to.value(other)))):
        form = to.joined(one)
        return form and to.each_part(
            form, lambda part, *_: to.emit("Mul", part, part, shape=to.shape(part))
        )
    constant, given, swapped = to.value(other), one, False
    if constant is None:
        constant, given, swapped = to.value(one), other, True
    if constant is not None and constant.dtype == np.float32:
        return _with_constant(to, op, given, constant, swapped)
    if op not in ("Add", "Sub"):
        return None
    sign = 1.0 if op == "Add" else -1.0
    terms = [*to.terms(one), *((sign * s, t) for s, t in to.terms(other))]
    if not any(to.is_one_sided(tensor) for _, tensor in terms):
        return None
    return Summed(tuple(terms))


def _is_two(value: Array | None) -> bool:
    return value is not None and value.size == 1 and float(value.reshape(())) == 2


def _with_constant(
    to: Distribution, op: str, given: str, constant: Array, swapped: bool
) -> Form | None:
    def apply(part: str, value: Array) -> str:
        name = to.constant(value)
        pair = (name, part) if swapped else (part, name)
        return to.emit(op, *pair, shape=to.shape(part))

    form = to.joined(given)
    if form is not None and constant.ndim <= len(to.shape(given)):
        axis = form.axis - (len(to.shape(given)) - constant.ndim)
        if axis < 0 or constant.shape[axis] == 1:
            return to.each_part(form, lambda part, *_: apply(part, constant))

        def sliced(part: str, start: int, end: int) -> str:
            return apply(part, np.take(constant, range(start, end), axis=axis))

        return to.each_part(form, sliced)
    terms = to.terms(given)
    if len(terms) == 1 and not to.apart(given):
        return None
    if op == "Add" or (op == "Sub" and not swapped):
        return Summed((*terms, (1.0 if op == "Add" else -1.0, to.constant(constant))))
    if op == "Sub":
        return Summed((*((-s, t) for s, t in terms), (1.0, to.constant(constant))))
    shapes = [to.shape(tensor) for _, tensor in terms]
    if not to.apart(given) or any(broadcast([s, constant.shape]) != s for s in shapes):
        return None
    if op == "Mul" or (op == "Div" and not swapped):
        return Summed(tuple((s, apply(t, constant)) for s, t in terms))
    return None


def _matmul(to: Distribution, node: NodeProto) -> Form | None:
    weights = to.value(node.input[1])
    if weights is None or weights.ndim != 2 or weights.dtype != np.float32:
        return None
    return to.linear(node.input[0], weights)


def _gemm(to: Distribution, node: NodeProto) -> Form | None:
    weights = to.value(node.input[1])
    plain = attribute(node, "alpha", 1.0) == attribute(node, "beta", 1.0) == 1.0
    if weights is None or weights.dtype != np.float32 or not plain or attribute(node, "transA", 0):
        return None
    form = to.linear(node.input[0], weights.T if attribute(node, "transB", 0) else weights)
    if form is None or len(node.input) < 3:
        return form
    bias = to.value(node.input[2])
    return None if bias is None else Summed((*form.terms, (1.0, to.constant(bias))))


def _batch_norm(to: Distribution, node: NodeProto) -> Form | None:
    name = node.input[0]
    scale, bias, mean, variance = (to.value(each) for each in node.input[1:5])
    if scale is None or bias is None or mean is None or variance is None:
        return None
    if not (to.joined(name) or to.apart(name)) or len(to.shape(name)) != 2:
        return None
    # In float64, so that the folded constants are off by no more than one rounding.
    factor = scale / np.sqrt(variance.astype(np.float64) + attribute(node, "epsilon", 1e-5))
    offset = bias - mean * factor
    product = _with_constant(to, "Mul", name, factor.astype(np.float32), False)
    added = offset.astype(np.float32)
    if isinstance(product, Summed):
        return Summed((*product.terms, (1.0, to.constant(added))))
    if product is None:
        return None

    def add(part: str, start: int, end: int) -> str:
        return to.emit("Add", part, to.constant(added[start:end]), shape=to.shape(part))

    return to.each_part(product, add)


def _reduced(to: Distribution, node: NodeProto) -> Form | None:
    name = node.input[0]
    axes = attribute(node, "axes")
    if axes is None and len(node.input) > 1:
        axes = to.value(node.input[1])
    form, rank = to.joined(name), len(to.shape(name))
    if form is None or axes is None:
        return None
    axes = sorted(int(each) % rank for each in axes)
    keep = attribute(node, "keepdims", 1)
    if 0 in axes or (node.op_type == "ReduceMean" and axes != [form.axis]):
        return None
    gone = np.array(axes, np.int64)

    def reduce(part: str, *_: int) -> str:
        shape = tuple(
            1 if i in axes else size
            for i, size in enumerate(to.shape(part))
            if keep or i not in axes
        )
        return to.emit("ReduceSum", part, to.constant(gone), shape=shape, keepdims=keep)

    done = to.each_part(form, reduce)
    if form.axis not in axes:
        moved = form.axis - (0 if keep else sum(each < form.axis for each in axes))
        return Joined(moved, done.parts)
    found = Summed(tuple((1.0, part) for part, _ in done.parts))
    if node.op_type == "ReduceSum":
        return found
    share = to.constant(np.array(1 / sum(size for _, size in form.parts), np.float32))
    return Summed(tuple((1.0, to.emit("Mul", t, share, shape=to.shape(t))) for _, t in found.terms))


def _reshaped(to: Distribution, node: NodeProto) -> Form | None:
    before, after = to.shape(node.input[0]), to.shape(node.output[0])
    form = to.joined(node.input[0])
    if form is None or not after or form.axis >= len(after) or after.count(-1) != 1:
        return None
    at = form.axis
    if before[:at] != after[:at] or prod(before[at:]) != prod(after[at:]):
        return None
    rest_before, rest = prod(before[at + 1 :]), prod(after[at + 1 :])
    if any(size * rest_before % rest for _, size in form.parts):
        return None
    parts = []
    for part, size in form.parts:
        count = size * rest_before // rest
        shape = (*after[:at], count, *after[at + 1 :])
        made = to.emit(
            "Reshape", to._settle(part), to.constant(np.array(shape, np.int64)), shape=shape
        )
        parts.append((made, count))
    return Joined(at, tuple(parts))


def _expanded(to: Distribution, node: NodeProto) -> Form | None:
    """Whoever broadcasts needs no copies: the tensor is held as it was before."""
    name, made = node.input[0], node.output[0]
    terms = to.terms(name)
    narrow = terms[0][1] if len(terms) == 1 and terms[0][0] == 1 else name
    before, after = to.shape(narrow), to.shape(made)
    if to.joined(name) or not before or before == after or before[:1] not in ((-1,), (1,)):
        return None
    if node.op_type == "Tile" and any(x not in (1, y) for x, y in zip(before, after, strict=False)):
        return None
    return Summed(((1.0, narrow),)) if broadcast([before, after]) == after else None


_RULES: Final[dict[str, Rule]] = {
    "Concat": _concat,
    "Add": _arithmetic,
    "Sub": _arithmetic,
    "Mul": _arithmetic,
    "Div": _arithmetic,
    "Pow": _arithmetic,
    "MatMul": _matmul,
    "Gemm": _gemm,
    "BatchNormalization": _batch_norm,
    "ReduceSum": _reduced,
    "ReduceMean": _reduced,
    "Expand": _expanded,
    "Tile": _expanded,
    **dict.fromkeys(_UNARY, _unary),
    **dict.fromkeys(_RESHAPES, _reshaped),
}
