"""What a TorchScript graph tells of its arguments, of which it has the names alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    )
)


_NUMBERS = {"IntType": DType.INT64, "FloatType": DType.FLOAT64, "BoolType": DType.BOOL}


@dataclass(frozen=True, slots=True)
class Argument:
    """
    One argument of ``forward``, and the inputs that fill it.

    Args:
        specs: None where it always has its default; several for a dictionary.
        keys: Of a dictionary, the input of each key; None for other arguments.
        number: Whether it is a Python number, not a tensor.
        default: What stands for an input that is left out.
        rounded: PyTorch's dtype that it is rounded to, where numpy has no such; else "".
    """

    specs: list[Spec]
    keys: Mapping[str, str] | None = None
    number: bool = False
    default: Any = None
    rounded: str = ""

    @property
    def plain(self) -> bool:
        """Whether it is the tensor of one input, which must come, as it comes."""
        one = len(self.specs) == 1 and self.specs[0].required
        return one and not (self.keys or self.number or self.rounded)

    def value(self, torch: Any, inputs: Tensors, copies: bool) -> Any:
        """Return it, from the inputs of one call."""
        if self.keys is not None:
            return {key: self._one(torch, inputs[n], copies) for key, n in self.keys.items()}
        name = self.specs[0].name if self.specs else ""
        if name not in inputs:
            return self.default
        if self.number:
            return inputs[name].item()
        return self._one(torch, inputs[name], copies)

    def _one(self, torch: Any, array: Tensor, copies: bool) -> Any:
        found = tensor(torch, array, copies)
        return found.to(getattr(torch, self.rounded)) if self.rounded else found


def arguments(module: Any, graph: Any) -> Iterator[Argument]:
    """
    Yield the arguments of a module's ``forward``, in order.

    Raises:
        UnsupportedModel: one is of a kind that no tensors fill, and has no default.
    """
    known = module.forward.schema.arguments[1:]
    for value, told in zip(list(graph.inputs())[1:], known, strict=True):
        yield _argument(value, told)


def _argument(value: Any, told: Any) -> Argument:
    # Saving adds a number to each name (user.1): what stands before it was the argument's.
    name = value.debugName().rpartition(".")[0] or value.debugName()
    of, default = value.type(), told.default_value if told.has_default_value() else None
    required = not told.has_default_value()
    if of.kind() == "OptionalType":
        of, required = of.getElementType(), False
    if of.kind() == "TensorType":
        return Argument([Spec(name, *_told(value, 0), required, enforced=False)])
    if of.kind() in _NUMBERS:
        spec = Spec(name, _NUMBERS[of.kind()], (), required)
        return Argument([spec], number=True, default=default)
    if str(of) == "Dict[str, Tensor]" and required:
        parts = {key: _told(part, 0) for key, part in _parts(name, value)}
        specs = [Spec(key, *told, enforced=False) for key, told in parts.items()]
        return Argument(specs, keys={key: key for key in parts})
    if not required:
        return Argument([], default=default)
    raise UnsupportedModel(
        f"input {name!r} is a {value.type()}: make it tensors, or give it a default"
    )


def _parts(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the keys that the graph reads a dictionary by, and what it finds there."""
    for use in value.uses():
        node = use.user
        key = list(node.inputs())[1].node() if node.kind().startswith("aten::__") else None
        if key is None or not (key.hasAttribute("value") and key.kindOf("value") == "s"):
            raise UnsupportedModel(
                f"input {name!r} is a {value.type()} whose keys are not all written in the graph"
            )
        if node.kind() == "aten::__getitem__":
            yield key.s("value"), node.output()


def _told(value: Any, depth: int) -> tuple[DType, Shape]:
    """Return the dtype and shape that the operators which take *value* ask of it."""
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
    return DType.FLOAT32, None


def _told_of_part(value: Any, parts: list[Any], whole: Any, depth: int) -> tuple[DType, Shape]:
    """Return what is asked of one part of a concatenation: the width that the others leave."""
    joined = [use.user for use in whole.uses() if use.user.kind() == "aten::cat"]
    if len(joined) != 1:
        return DType.FLOAT32, None
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
