"""What an ONNX graph takes and gives, as tensors by name: text, sequences, maps, optionals."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from martlet.errors import InvalidInput, ServableFailed, UnsupportedModel
from martlet.native import find
from martlet.tensors import DType, Spec, Tensor, Tensors

_DTYPES = {"float": DType.FLOAT32, "double": DType.FLOAT64} | {
    each.value: each for each in DType if each not in (DType.FLOAT32, DType.FLOAT64)
}
_TYPE = re.compile(r"(optional\()?(seq\()?(?:map\((\w+),)?tensor\((\w+)\)+")


@dataclass(frozen=True, slots=True)
class Kind:
    """
    What onnxruntime's name of a type says: ``seq(map(int64,tensor(float)))``.

    Args:
        dtype: Of the innermost tensors.
        optional, sequence: What is around them.
        key: Of a map; None: there is none.
    """

    dtype: DType
    optional: bool
    sequence: bool
    key: DType | None

    @classmethod
    def of(cls, text: str) -> Kind | None:
        """Return what *text* says; None for what is not answered here (sparse, complex)."""
        match = _TYPE.fullmatch(text)
        if match is None or match[4] not in _DTYPES or (match[3] or "int64") not in _DTYPES:
            return None
        key = _DTYPES[match[3]] if match[3] else None
        return cls(_DTYPES[match[4]], bool(match[1]), bool(match[2]), key)

    @property
    def plain(self) -> bool:
        """Whether it is a tensor and nothing else."""
        return not (self.optional or self.sequence or self.key)


@dataclass(frozen=True, slots=True)
class End:
    """
    One input or output of a graph.

    Args:
        name: Of its first tensor.
        kind: What the graph has there.
        specs: Its tensors: one, but for sequences (with the shape of each element, where these
            differ) and maps (with the keys).
    """

    name: str
    kind: Kind
    specs: list[Spec]

    @classmethod
    def read(
        cls,
        where: object,
        node: Any,
        *,
        given: bool,
        name: str = "",
        required: bool = True,
        told: str = "",
    ) -> End:
        """
        Read what a session says of *node*, an input of it (*given*) or an output.

        Raises:
            UnsupportedModel: it is of a type that no tensors stand for.
        """
        kind, name = Kind.of(node.type), name or node.name
        if kind is None or (given and kind.key and kind.sequence):
            raise UnsupportedModel(f"{where}: {name!r} is a {node.type}, which is not supported")
        shape = None
        if kind.plain:
            shape = tuple(size if isinstance(size, int) else -1 for size in node.shape)
        specs = [Spec(name, kind.dtype, shape, required and not kind.optional, description=told)]
        # Of no said rank: what has rows would be cut and joined by them.
        if kind.key:
            specs.append(Spec(_keys(name), kind.key, None))
        elif kind.sequence:
            told = f"shape of each element of {name}, which is padded to the largest"
            specs.append(Spec(_shapes(name), DType.INT64, None, not given, description=told))
        return cls(name, kind, specs)

    def value(self, inputs: Tensors) -> Any:
        """
        Return what onnxruntime takes for this input, from the tensors of one call.

        Raises:
            InvalidInput: a text is missing, or the parts do not belong together.
        """
        if self.name not in inputs:
            return None  # an optional that holds nothing
        found = inputs[self.name]
        if self.kind.dtype is DType.STRING:
            found = text_for(self.name, found)
        if self.kind.key:
            return self._map(found, inputs[_keys(self.name)])
        if self.kind.sequence:
            shapes = inputs.get(_shapes(self.name))
            return list(found) if shapes is None else self._elements(found, shapes)
        return found

    def _map(self, values: Tensor, keys: Tensor) -> dict[Any, Any]:
        if keys.ndim != 1 or keys.shape != values.shape:
            raise InvalidInput(
                f"{self.name!r} has shape {list(values.shape)} and {_keys(self.name)!r} "
                f"{list(keys.shape)}: of a map, both are lists of one length"
            )
        if self.kind.key is DType.STRING:
            keys = text_for(_keys(self.name), keys)
        return dict(zip(keys.tolist(), values.tolist(), strict=True))

    def _elements(self, padded: Tensor, shapes: Tensor) -> list[Tensor]:
        fit = shapes.shape == (len(padded), padded.ndim - 1) if padded.ndim else False
        if not fit or np.any((shapes < 0) | (shapes > np.array(padded.shape[1:], np.int64))):
            raise InvalidInput(
                f"{_shapes(self.name)!r} is no list of a shape within {list(padded.shape[1:])} "
                f"for each element of {self.name!r}"
            )
        return [
            np.ascontiguousarray(each[tuple(map(slice, shape))])
            for each, shape in zip(padded, shapes.tolist(), strict=True)
        ]

    def tensors(self, value: Any) -> Iterable[tuple[str, Tensor]]:
        """
        Yield the tensors that say what onnxruntime gave for this output.

        Raises:
            ServableFailed: a sequence holds elements of different ranks, or maps of other keys.
        """
        if self.kind.optional and value is None:
            value = [] if self.kind.sequence else np.empty((0,), self.kind.dtype.numpy)
        if self.kind.key:
            yield from self._of_maps(value)
        elif self.kind.sequence:
            yield from self._of_elements(value)
        else:
            yield self.name, value

    def _of_maps(self, value: Any) -> Iterable[tuple[str, Tensor]]:
        rows = value if self.kind.sequence else [value]
        keys = sorted(rows[0]) if rows else []
        if any(each.keys() != rows[0].keys() for each in rows):
            raise ServableFailed(f"the model gave maps of different keys as {self.name!r}")
        found = np.array([[row[key] for key in keys] for row in rows], self.kind.dtype.numpy)
        found = found.reshape(len(rows), len(keys))
        assert self.kind.key is not None
        yield self.name, found if self.kind.sequence else found[0]
        yield _keys(self.name), np.array(keys, self.kind.key.numpy)

    def _of_elements(self, value: Sequence[Any]) -> Iterable[tuple[str, Tensor]]:
        elements = [np.asarray(each) for each in value]
        if len({each.ndim for each in elements}) > 1:
            raise ServableFailed(f"the model gave elements of different ranks as {self.name!r}")
        rank = elements[0].ndim if elements else 0
        shapes = np.array([each.shape for each in elements], np.int64).reshape(len(elements), rank)
        size = (len(elements), *shapes.max(axis=0, initial=0))
        filling = "" if self.kind.dtype is DType.STRING else 0
        padded = np.full(size, filling, self.kind.dtype.numpy)
        for place, each in zip(padded, elements, strict=True) if rank else ():
            place[tuple(map(slice, each.shape))] = each
        yield self.name, padded if rank else np.array(elements, self.kind.dtype.numpy)
        yield _shapes(self.name), shapes


def _shapes(name: str) -> str:
    return f"{name}_shapes"


def _keys(name: str) -> str:
    return f"{name}_keys"


_TEXTS = find("texts")


def text_for(name: str, values: Tensor) -> Tensor:
    """
    Return text as onnxruntime takes it: an array of ``str``.

    Raises:
        InvalidInput: a value is missing, or no UTF-8.
    """
    if _TEXTS is not None and values.flags.c_contiguous and _TEXTS.all_str(values):
        return values
    try:
        flat = [v.decode() if isinstance(v, bytes) else v for v in values.ravel().tolist()]
    except UnicodeDecodeError as exc:
        raise InvalidInput(f"input {name!r} holds bytes that are not UTF-8: {exc}") from None
    if None in flat:
        raise InvalidInput(f"input {name!r} has a missing value, and ONNX has no missing text")
    return np.array(flat, dtype=object).reshape(values.shape)
