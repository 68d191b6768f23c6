"""What a TorchScript graph tells of its arguments, of which it has the names alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from martlet.errors import UnsupportedModel
from martlet.formats.torch.values import tensor
from martlet.tensors import DType, Shape, Spec, Tensor, Tensors

_CONVOLUTIONS = ("aten::_convolution", "aten::conv2d", "aten::conv1d")

# What these give has the elements of their first input, in another shape or order.
_SAME_ELEMENTS = frozenset(
    f"aten::{name}"
    for name in (
        *("reshape", "view", "flatten", "squeeze", "unsqueeze", "contiguous", "permute"),
        *("transpose", "t", "select", "slice", "expand", "clone", "detach", "dropout"),
    )
)


_ELEMENTWISE = frozenset(
    f"aten::{name}"
    for name in (
        *("relu", "sigmoid", "tanh", "exp", "log1p", "mul", "add", "sub", "div", "clamp", "abs"),
        *("layer_norm", "batch_norm", "dropout", "gelu", "silu", "leaky_relu", "nan_to_num"),
        *("sort", "cpu"),
    )
)


_PLAIN = {
    "IntType": DType.INT64,
    "FloatType": DType.FLOAT64,
    "BoolType": DType.BOOL,
    "StringType": DType.STRING,
}
# NamedTuple(user : Tensor, item : Tensor)
_FIELD = re.compile(r"(\w+) : ")

Told = tuple[DType, Shape]


@dataclass(frozen=True, slots=True)
class Argument:
    """
    One argument of ``forward``, and the inputs that fill it.

    Args:
        specs: None where it always has its default; several for a dictionary, list or tuple.
        made: What makes a dictionary, list or tuple of its parts by name; None for others.
        plain: Whether it is a number or text of Python's, or a list of such; not a tensor.
        default: What stands for an input that is left out.
        rounded: PyTorch's dtype that it is rounded to, where numpy has no such; else "".
    """

    specs: list[Spec]
    made: Callable[[dict[str, Any]], Any] | None = None
    plain: bool = False
    default: Any = None
    rounded: str = ""

    @property
    def as_it_comes(self) -> bool:
        """Whether it is the tensor of one input, which must come, as it comes."""
        one = len(self.specs) == 1 and self.specs[0].required
        return one and not (self.made or self.plain or self.rounded)

    def value(self, torch: Any, inputs: Tensors, copies: bool) -> Any:
        """Return it, from the inputs of one call."""
        names = [spec.name for spec in self.specs if spec.name in inputs]
        if self.made is not None:
            return self.made({name: self._one(torch, inputs[name], copies) for name in names})
        if not names:
            return self.default
        value = inputs[names[0]]
        return _plainly(value) if self.plain else self._one(torch, value, copies)

    def _one(self, torch: Any, array: Tensor, copies: bool) -> Any:
        found = tensor(torch, array, copies)
        return found.to(getattr(torch, self.rounded)) if self.rounded else found


def _plainly(array: Tensor) -> Any:
    if array.dtype != object:
        return array.tolist()
    texts = [each.decode() if isinstance(each, bytes) else each for each in array.ravel()]
    return texts if array.ndim else texts[0]


def arguments(module: Any, graph: Any) -> Iterator[Argument]:
    """
    Yield the arguments of a module's ``forward``, in order.

    Raises:
        UnsupportedModel: one is of a kind that no tensors fill, and has no default.
    """
    known = module.forward.schema.arguments[1:]
    always = {each.debugName() for node in graph.nodes() for each in node.outputs()}
    for value, told in zip(list(graph.inputs())[1:], known, strict=True):
        yield _argument(value, told, always)


def _argument(value: Any, told: Any, always: set[str]) -> Argument:
    # Saving adds a number to each name (user.1): what stands before it was the argument's.
    name = value.debugName().rpartition(".")[0] or value.debugName()
    of, default = value.type(), told.default_value if told.has_default_value() else None
    required = not told.has_default_value()
    if of.kind() == "OptionalType":
        of, required = of.getElementType(), False
    if of.kind() == "TensorType":
        return Argument([Spec(name, *_told(value, 0), required, enforced=False)])
    if of.kind() in _PLAIN:
        return Argument([Spec(name, _PLAIN[of.kind()], (), required)], plain=True, default=default)
    if of.kind() == "ListType" and of.getElementType().kind() in _PLAIN:
        spec = Spec(name, _PLAIN[of.getElementType().kind()], (-1,), required)
        return Argument([spec], plain=True, default=default)
    if not required:
        return Argument([], default=default)
    if str(of) == "Dict[str, Tensor]":
        return Argument(list(_keyed(name, value, always)), made=dict)
    if str(of) == "List[Tensor]":
        return Argument(_placed(name, _elements(name, value)), made=_listed)
    if of.kind() == "TupleType" and all(each.kind() == "TensorType" for each in of.elements()):
        known = _elements(name, value, len(of.elements()))
        return Argument(_placed(name, known, _FIELD.findall(of.str())), made=_tupled)
    raise UnsupportedModel(
        f"input {name!r} is a {value.type()}: make it tensors, or give it a default"
    )


def _listed(parts: dict[str, Any]) -> list[Any]:
    return list(parts.values())


def _tupled(parts: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(parts.values())


def _keyed(name: str, value: Any, always: set[str]) -> Iterator[Spec]:
    """
    Yield an input for each key that the graph reads the dictionary *value* by.

    Args:
        always: What is computed in every run: a key that is read elsewhere may be left out.
    """
    found: dict[str, Spec] = {}
    for use in value.uses():
        node = use.user
        reads = node.kind() in ("aten::__getitem__", "aten::__contains__", "aten::get")
        key = list(node.inputs())[1].node() if reads else None
        if key is None or not (key.hasAttribute("value") and key.kindOf("value") == "s"):
            raise UnsupportedModel(
                f"input {name!r} is a {value.type()} whose keys are not all written in the graph"
            )
        if node.kind() == "aten::__contains__":
            continue
        part, text = node.output(), key.s("value")
        required = node.kind() == "aten::__getitem__" and part.debugName() in always
        if text not in found or required:
            found[text] = Spec(text, *_told(part, 0), required, enforced=False)
    yield from found.values()


def _elements(name: str, value: Any, count: int | None = None) -> list[Told]:
    """
    Return what is asked of each element of a list, or of a tuple of *count* tensors.

    Raises:
        UnsupportedModel: it is a list, and the graph does not take all of it apart.
    """
    found: dict[int, Told] = dict.fromkeys(range(count or 0), _ANY)
    for use in value.uses():
        node = use.user
        if node.kind() in ("prim::ListUnpack", "prim::TupleUnpack"):
            parts: Iterable[tuple[int, Any]] = enumerate(node.outputs())
        elif node.kind() in ("aten::__getitem__", "prim::TupleIndex"):
            index = list(node.inputs())[1].node()
            told = index.hasAttribute("value") and index.kindOf("value") == "i"
            parts = [(index.i("value") if told else -1, node.output())]
        else:
            parts = [(-1, None)]
        for at, part in parts:
            if at >= 0 and found.get(at, _ANY) == _ANY:
                found[at] = _told(part, 0)
            elif at < 0 and count is None:
                raise UnsupportedModel(
                    f"input {name!r} is a {value.type()} whose length is not written in the graph"
                )
    return [found.get(at, _ANY) for at in range(max(found, default=-1) + 1)]


def _placed(name: str, told: list[Told], fields: list[str] | None = None) -> list[Spec]:
    """Return an input for each element of a list or tuple, called by its place or its field."""
    names = fields or [f"{name}_{at}" for at, _ in enumerate(told)]
    return [Spec(n, *each, enforced=False) for n, each in zip(names, told, strict=True)]


_ANY: Told = (DType.FLOAT32, None)
_ASKS = ("aten::size", "aten::dim", "aten::len", "aten::numel", "prim::isinstance", "prim::dtype")
_INTEGERS = range(5)  # PyTorch's numbers of uint8, int8, int16, int32 and int64


def _are_integers(value: Any) -> bool:
    """Whether whatever reads the elements of *value* casts them to integers first: ids, lengths."""
    readers = [use.user for use in value.uses() if use.user.kind() not in _ASKS]
    readers = [n for n in readers if n.kind() != "prim::unchecked_cast"]  # of another type's branch
    return bool(readers) and all(map(_casts_to_integers, readers))


def _casts_to_integers(node: Any) -> bool:
    if node.kind() != "aten::to":
        return False
    told = list(node.inputs())[1].node()
    known = told.hasAttribute("value") and told.kindOf("value") == "i"
    return known and told.i("value") in _INTEGERS


def _told(value: Any, depth: int) -> Told:
    """Return the dtype and shape that the operators which take *value* ask of it."""
    if depth == 0 and _are_integers(value):
        return DType.INT64, None
    for use in value.uses() if depth < 12 else ():
        node, at = use.user, use.offset
        kind, inputs = node.kind(), list(node.inputs())
        weight = _constant(inputs[1]) if len(inputs) > 1 else None
        if (kind == "aten::embedding" and at == 1) or (
            kind == "aten::embedding_bag" and at in (1, 2)
        ):
            return DType.INT64, None
        if kind == "aten::index_select" and at == 2:
            return DType.INT64, None
        if kind == "aten::_pack_padded_sequence" and at == 1:
            return DType.INT64, (-1,)
        if kind in ("aten::linear", "aten::matmul", "aten::mm") and at == 0 and weight is not None:
            width = weight.shape[-1 if kind == "aten::linear" else -2] if weight.dim() > 1 else -1
            return _dtype(weight), (-1, width) if weight.dim() == 2 else None
        if kind == "aten::addmm" and at == 1 and (other := _constant(inputs[2])) is not None:
            return _dtype(other), (-1, other.shape[0])
        if kind in _CONVOLUTIONS and at == 0 and weight is not None:
            return _dtype(weight), (-1, weight.shape[1], *[-1] * (weight.dim() - 2))
        output = next(node.outputs(), None)
        if output is None or kind == "aten::to":  # which takes any dtype
            continue
        if kind in (*_ELEMENTWISE, "prim::unchecked_cast"):
            return _told(output, depth + 1)
        if kind == "prim::ListConstruct":
            return _told_of_part(value, inputs, output, depth)
        if at == 0 and kind in _SAME_ELEMENTS:
            dtype, _ = _told(output, depth + 1)
            if dtype is not DType.FLOAT32:
                return dtype, None
    return _ANY


def _told_of_part(value: Any, parts: list[Any], whole: Any, depth: int) -> Told:
    """Return what is asked of one part of a concatenation: the width that the others leave."""
    joined = [use.user for use in whole.uses() if use.user.kind() == "aten::cat"]
    if len(joined) != 1:
        return _ANY
    dtype, shape = _told(next(joined[0].outputs()), depth + 1)
    others = [_width(part) for part in parts if part.debugName() != value.debugName()]
    if shape is None or len(shape) != 2 or -1 in (*others, shape[1]):
        return dtype, None
    return dtype, (-1, shape[1] - sum(others))


def _width(value: Any) -> int:
    """Return the size of the last axis of what an operator gives; -1: it is not told."""
    node = value.node()
    inputs = list(node.inputs())
    kind = node.kind()
    if kind == "aten::embedding" and (weight := _constant(inputs[0])) is not None:
        return int(weight.shape[-1])
    if kind == "aten::linear" and (weight := _constant(inputs[1])) is not None:
        return int(weight.shape[0])
    return _width(inputs[0]) if kind in _ELEMENTWISE else -1


def _constant(value: Any) -> Any:
    node = value.node()
    if node.kind() == "aten::t":
        inner = _constant(next(node.inputs()))
        return None if inner is None else inner.t()
    known = node.kind() == "prim::Constant" and node.hasAttribute("value")
    return node.t("value") if known and node.kindOf("value") == "t" else None


def _dtype(weight: Any) -> DType:
    name = str(weight.dtype).removeprefix("torch.")
    try:
        return DType(name)
    except ValueError:
        return DType.FLOAT32
