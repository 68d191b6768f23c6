"""The part of a graph that depends on one input and one table, run by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from martlet.convert.rewriting.graph import Array, Graph, answer, attribute, session
from martlet.tensors import Tensors

_INTEGERS: dict[int, Any] = {
    TensorProto.INT32: np.int32,
    TensorProto.INT64: np.int64,
    TensorProto.INT16: np.int16,
    TensorProto.INT8: np.int8,
    TensorProto.UINT8: np.uint8,
    TensorProto.UINT16: np.uint16,
    TensorProto.UINT32: np.uint32,
}
_FEW = 1024
# Ids that came as floats (a Keras Input without a dtype) are whole numbers up to this one.
_FLOATS: dict[int, tuple[Any, int]] = {
    TensorProto.FLOAT: (np.float32, 1 << 24),
    TensorProto.DOUBLE: (np.float64, 1 << 53),
}


class Region:
    """
    The tensors of *graph* computed from the values of *name* and from *table* alone.

    Other inputs of which they ask the shape come from *base*, one row of every input.

    Args:
        graph: Not to be edited while this is in use.
        table: A constant, [rows, dim]; "" for a part without one.
        name: An input of ids: [n], [n, 1] or [n, length].
        tensors: Those of the graph that are asked for, in their order.
        base: One row of each input of the graph.
    """

    def __init__(
        self, graph: Graph, table: str, name: str, tensors: Sequence[str], base: Tensors
    ) -> None:
        self.graph, self.table, self.name = graph, table, name
        self.tensors = tensors
        # No -0, so that equal vectors have equal bits.
        self.vectors = np.zeros((0, 1), np.float32)
        if table:
            self.vectors = np.ascontiguousarray(graph.array(table)) + np.float32(0)
        self.base = base
        self.length = base[name].shape[1] if base[name].ndim == 2 else 1
        kind = graph.inputs[name].type.tensor_type.elem_type
        self.is_text = kind == TensorProto.STRING
        self.dtype: np.dtype[Any] = np.dtype(object)
        self.lowest, self.highest = 0, 0
        if kind in _INTEGERS:
            self.dtype = np.dtype(_INTEGERS[kind])
            limits = np.iinfo(self.dtype)
            self.lowest, self.highest = int(limits.min), int(limits.max)
        elif kind in _FLOATS:
            dtype, self.highest = _FLOATS[kind]
            self.dtype, self.lowest = np.dtype(dtype), -self.highest
        self._session = session(graph.cut(graph.inputs, list(tensors)))

    def feed(self, ids: NDArray[Any]) -> dict[str, Array]:
        """Return a feed of the graph's inputs in which *name* holds *ids* [n, length]."""
        n = len(ids)
        fed = {k: np.repeat(v, n, axis=0) for k, v in self.base.items() if k in self.graph.inputs}
        fed[self.name] = ids.reshape(n, *self.base[self.name].shape[1:]).astype(self.dtype)
        return fed

    def run(self, ids: NDArray[Any]) -> dict[str, Array] | None:
        """Return each tensor for *ids* [n, length]; None where the graph refuses them."""
        found = answer(self._session, self.feed(ids))
        return None if found is None else dict(zip(self.tensors, found, strict=True))

    def same(self, ids: Sequence[Any]) -> NDArray[Any]:
        """Return *ids* [n] as rows of which every column is the same. Shape [n, length]."""
        column = np.empty(len(ids), object if self.is_text else np.int64)
        column[:] = ids
        return np.repeat(column[:, None], self.length, axis=1)

    def rows(self, tensor: Array, n: int) -> Array | None:
        """
        Return the vectors that *tensor* holds for each of *n* rows, if that is what it holds.

        Shape [n, 1 or length, dim].
        """
        dim = self.vectors.shape[1]
        if tensor.dtype != self.vectors.dtype or tensor.ndim == 0 or tensor.size == 0:
            return None
        each, left = divmod(tensor.size, n * dim)
        if left or each not in (1, self.length):
            return None
        return tensor.reshape(n, each, dim) + np.float32(0)

    def each(self, ids: Sequence[Any]) -> Iterator[tuple[Any, dict[str, Array] | None]]:
        """
        Give every id with what each tensor holds for it ([1 or length, dim]), None if refused.

        An id stands beside one that is known, where one is: a graph may fail on a batch in which
        nothing is left (its own accident, not its treatment of the id).
        """
        at_once = self.run(self.same(ids)) if len(ids) else None
        if at_once is not None:
            for i, key in enumerate(ids):
                yield (
                    key,
                    {
                        name: rows[i]
                        for name, tensor in at_once.items()
                        if (rows := self.rows(tensor, len(ids))) is not None
                    },
                )
            return
        for key in ids:
            beside = self.base[self.name].reshape(1, -1)
            found = self.run(np.concatenate([self.same([key]), beside.astype(object)]))
            n = 2
            if found is None:
                found, n = self.run(self.same([key])), 1
            yield (
                key,
                None
                if found is None
                else {
                    name: rows[0]
                    for name, tensor in found.items()
                    if (rows := self.rows(tensor, n)) is not None
                },
            )

    def numbers(self) -> list[int]:
        """Return integers that the part compares with: ids that may be treated apart."""
        live = self.graph.live(self.tensors)
        found: set[int] = set()
        for name, constant in self.graph.constants.items():
            if name in live and constant.data_type in _INTEGERS and prod(constant.dims) <= _FEW:
                found.update(self.graph.array(name).ravel().tolist())
        return sorted(found)

    def constants_of_ids(self) -> list[Any]:
        """Return what may be a vocabulary: the texts or integers that the part names."""
        live = self.graph.live(self.tensors)
        found: dict[Any, None] = {}
        for name in self.graph.constants:
            if name not in live or name == self.table:
                continue
            array = self.graph.array(name)
            if self.is_text and array.dtype == object:
                found.update((_text(each), None) for each in array.ravel())
            elif not self.is_text and array.dtype.kind == "i" and array.size > 1:
                found.update((int(each), None) for each in array.ravel())
        names = ("keys_strings", "cats_strings") if self.is_text else ("keys_int64s", "cats_int64s")
        for node in self.graph.nodes:
            if any(output in live for output in node.output):
                for name in names:
                    for each in attribute(node, name, ()):
                        found[_text(each) if self.is_text else int(each)] = None
        if self.is_text:
            return list(found)
        return [each for each in found if self.lowest <= each <= self.highest]


def regions(
    graph: Graph, tables: Sequence[str], base: Tensors
) -> Iterator[tuple[str, str, list[str]]]:
    """Give each table and input with the tensors that depend on no others, in their order."""
    every = frozenset(tables)
    live = graph.live()
    found: dict[tuple[str, str], list[str]] = {}
    for name, sources in graph.sources().items():
        used = sources.constants & every
        if name not in live or len(used) != 1 or len(sources.inputs) != 1:
            continue
        (table,), (given,) = used, sources.inputs
        if name != table and _may_hold_ids(graph, given, base):
            found.setdefault((table, given), []).append(name)
    for (table, given), tensors in found.items():
        yield table, given, tensors


def _may_hold_ids(graph: Graph, name: str, base: Mapping[str, Array]) -> bool:
    kind = graph.inputs[name].type.tensor_type.elem_type
    known = kind in _INTEGERS or kind in _FLOATS or kind == TensorProto.STRING
    return known and name in base and base[name].ndim in (1, 2) and base[name].size > 0


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
