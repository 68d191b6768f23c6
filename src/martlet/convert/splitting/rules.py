"""What a linear or elementwise operator does to a sum or a concatenation of parts."""

from __future__ import annotations

from math import prod
from typing import Final

import numpy as np
from onnx import NodeProto

from martlet.convert.rewriting.graph import Array, attribute
from martlet.convert.splitting.distribute import EXPANDING, Distribution, Form, Joined, Rule, Summed
from martlet.convert.splitting.sides import broadcast

_UNARY: Final = frozenset(
    {"Relu", "Sigmoid", "Tanh", "Abs", "Neg", "Exp", "Log", "Sqrt", "Elu", "Selu", "LeakyRelu"}
    | {"Softplus", "HardSigmoid", "Identity", "Dropout", "Erf", "Softsign"}
)
_RESHAPES: Final = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})


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
            "Reshape", to.settle(part), to.constant(np.array(shape, np.int64)), shape=shape
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


RULES: Final[dict[str, Rule]] = {
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
    **dict.fromkeys(EXPANDING, _expanded),
    **dict.fromkeys(_UNARY, _unary),
    **dict.fromkeys(_RESHAPES, _reshaped),
}
