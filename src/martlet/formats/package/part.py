"""One graph of a package with its session, and its tables to gather from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from martlet.errors import UnsupportedModel
from martlet.formats import LoadOptions
from martlet.formats.onnx.errors import translated
from martlet.formats.onnx.servable import Opener
from martlet.formats.onnx.values import text_for
from martlet.formats.package.ids import MODULO, ZERO, Ids, Rows
from martlet.formats.package.manifest import Part
from martlet.stores.embeddings import Embeddings
from martlet.tensors import DType, Tensor, Tensors

_ELEMENTS = {"float": DType.FLOAT32, "double": DType.FLOAT64}
_ELEMENTS |= {each.value: each for each in DType if each.value not in ("float32", "float64")}


class IdRows:
    """From the ids of one input to rows of one table, as the model treats them."""

    def __init__(self, table: Embeddings, name: str, column: int | None, ids: Ids) -> None:
        self._table = table
        self._name = name
        self._column = column
        self._ids = ids
        self._text = _is_text(ids)
        # -1 is a row of zeros to the table: where that is what the model gives, all is done.
        self._zeros = not ids.special and ids.below == ids.above == ZERO
        self._modulo = ids.vocabulary is None and ids.below == ids.above == MODULO
        self._modulo = self._modulo and not ids.special

    def __call__(self, inputs: Tensors) -> tuple[Rows, tuple[int, ...]]:
        """
        Return the rows of the ids in *inputs*, flat, and the shape that the ids had.

        Raises:
            InvalidInput: the model refuses one of them.
        """
        given = inputs[self._name]
        if self._column is not None:
            given = given[:, self._column]
        keys = given.reshape(-1)
        if self._text:
            rows = self._table.rows_of(text_for(self._name, keys))
        else:
            keys = keys if keys.dtype == np.int64 else keys.astype(np.int64)
            if self._modulo:
                keys = (keys - self._ids.first) % self._ids.count + self._ids.first
            rows = self._table.rows_of(keys)
        if not self._zeros and rows.size and rows.min() < 0:
            rows = self._ids.resolve(self._name, keys, rows)
        return rows, given.shape


class OpenPart:
    """
    A part that answers. Any number of threads may call it.

    Args:
        folder: The package.
        part: Which of its parts.
        tables: Opens a table file of the package.

    Raises:
        UnsupportedModel: the graph does not load, or is not what the manifest says.
    """

    def __init__(
        self,
        folder: Path,
        part: Part,
        tables: Callable[[str], Embeddings],
        options: LoadOptions,
    ) -> None:
        self.part = part
        self._session = Opener(folder / part.graph, options)(None)
        self._call = getattr(self._session, "_sess", self._session).run
        self._fetch = list(part.outputs)
        self.gathers = [
            (
                IdRows(tables(each.table), each.input, each.column, each.ids),
                tables(each.table),
                each,
            )
            for each in part.gathers
        ]
        given = {node.name: node.type for node in self._session.get_inputs()}
        gives = {node.name for node in self._session.get_outputs()}
        if set(self._fetch) - gives:
            missing = sorted(set(self._fetch) - gives)[0]
            raise UnsupportedModel(f"{folder / part.graph} has no output {missing!r}")
        self.fed_otherwise = set(given) - set(part.inputs) - {each.feeds for each in part.gathers}
        self._inputs = [name for name in part.inputs if name in given]
        self._text = [name for name in self._inputs if given[name] == "tensor(string)"]
        self._dtypes = {name: _dtype(given[name]) for name in self._inputs}
        self._casts: list[tuple[str, np.dtype[Any]]] = []

    @property
    def inputs(self) -> list[str]:
        """The package's inputs that the graph takes as they come."""
        return self._inputs

    @property
    def floats(self) -> list[str]:
        """Those of them that are float32 to the graph."""
        return [name for name in self._inputs if self._dtypes[name] is DType.FLOAT32]

    def cast_from(self, dtypes: Mapping[str, DType]) -> None:
        """Let inputs that come as *dtypes* be cast to what the graph takes, where they differ."""
        self._casts = [
            (name, wanted.numpy)
            for name, wanted in self._dtypes.items()
            if dtypes[name] is not wanted
        ]

    def feed(self, inputs: Tensors) -> dict[str, Tensor]:
        """
        Return what the graph is fed for *inputs*: those it takes as they are, and vectors.

        Raises:
            InvalidInput: the model refuses an id.
        """
        feed = {name: inputs[name] for name in self._inputs}
        for name in self._text:
            feed[name] = text_for(name, feed[name])
        for name, dtype in self._casts:
            feed[name] = feed[name].astype(dtype)
        for rows_of, table, gather in self.gathers:
            rows, shape = rows_of(inputs)
            vectors = table.take(rows)
            feed[gather.feeds] = vectors if len(shape) == 1 else vectors.reshape(*shape, table.dim)
        return feed

    def run(self, feed: Mapping[str, Tensor]) -> list[Tensor]:
        """
        Return the part's outputs, in their order.

        Raises:
            InvalidInput, ServableFailed: the graph refuses a value, or fails.
        """
        try:
            found: list[Tensor] = self._call(self._fetch, feed, None)
        except Exception as exc:  # onnxruntime's errors share no base class
            raise translated(exc) from exc
        return found

    def close(self) -> None:
        """Free the session."""
        del self._call, self._session


def _is_text(ids: Ids) -> bool:
    return isinstance(next(iter(ids.vocabulary or ()), 0), str)


def _dtype(kind: str) -> DType:
    return _ELEMENTS[kind.removeprefix("tensor(").removesuffix(")")]
