"""The items' part of a package: its results for the catalogue, and its graph for other items."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from time import monotonic
from typing import Final

import numpy as np
from numpy.typing import NDArray

from martlet.errors import InvalidInput, UnsupportedModel
from martlet.formats import LoadOptions
from martlet.formats.package.manifest import Items
from martlet.formats.package.part import OpenPart
from martlet.stores.embeddings import Embeddings
from martlet.stores.features import Features
from martlet.stores.keys import Rows
from martlet.tensors import DType, Spec, Tensor, Tensors


class OpenItems:
    """
    The items' part, open. Any number of threads may call it.

    An item is looked up if it was computed before and nothing that it was computed from has
    changed; otherwise the graph runs for it. So the table affects only the time, never the answer.
    For an item of the catalogue, inputs other than its id may be left out: the catalogue's values
    are taken.

    Args:
        specs: The package's inputs.

    Raises:
        UnsupportedModel: the table is not that of the graph.
    """

    def __init__(
        self,
        folder: Path,
        items: Items,
        tables: Callable[[str], Embeddings],
        options: LoadOptions,
        specs: Mapping[str, Spec],
    ) -> None:
        self.items = items
        self._specs = specs
        self.part = OpenPart(folder, items.part, tables, options)
        self.table = Features(folder / items.table)
        self._set_rows = [(rows_of, SetRows(t)) for rows_of, t, _ in self.part.gathers]
        self._shapes = dict(zip(items.part.outputs, items.shapes, strict=True))
        self._deep = [(n, s) for n, s in self._shapes.items() if len(s) != 1]
        columns = self.table.columns
        lacking = {*self._shapes, *items.columns} - set(columns)
        if lacking or any(max(columns[n].width, 1) != prod(s) for n, s in self._shapes.items()):
            raise UnsupportedModel(f"{folder / items.table} was not computed by its graph")

    def __call__(self, inputs: Tensors) -> dict[str, Tensor]:
        """
        Return every output of the items' graph, by name.

        Raises:
            InvalidInput: the model refuses an id.
        """
        rows = self._rows_of(inputs)
        anew = self._to_compute(inputs, rows)
        return self._found(inputs, rows, anew)

    def located(self, inputs: Tensors) -> tuple[Tensor, Rows]:
        """
        Return a matrix and the row in it of each item: its share, the graph's only output.

        The matrix is the mapped table, not copied, where the table speaks for every item.

        Raises:
            InvalidInput: the model refuses an id.
        """
        rows = self._rows_of(inputs)
        anew = self._to_compute(inputs, rows)
        if anew is None:
            return self.matrix, rows
        (name,) = self.items.part.outputs
        return self._found(inputs, rows, anew)[name], np.arange(len(rows))

    @property
    def matrix(self) -> Tensor:
        """Each item's share, the graph's only output, as the mapped table has it; -1's is last."""
        (name,) = self.items.part.outputs
        return self.table.stored(name)

    def stored(self, name: str) -> Tensor | None:
        """Return what the table was computed from in the input *name*; None: not here."""
        column = self.table.columns[name]
        plain = column.dtype in (DType.BOOL, DType.INT64, DType.FLOAT32)
        return self.table.stored(name) if plain else None

    @property
    def set_rows(self) -> list[SetRows]:
        """Of the tables that the graph gathers from."""
        return [marks for _, marks in self._set_rows]

    def _rows_of(self, inputs: Tensors) -> Rows:
        keys = inputs[self.items.key].reshape(-1)
        return self.table.rows_of(keys if keys.dtype == np.int64 else keys.astype(np.int64))

    def _found(self, inputs: Tensors, rows: Rows, anew: Tensor | None) -> dict[str, Tensor]:
        found = self.table.take(rows, self.items.part.outputs)
        for name, shape in self._deep:
            found[name] = found[name].reshape(len(rows), *shape)
        if anew is not None:
            whole = self._completed(inputs, rows)
            only = {name: value[anew] for name, value in whole.items() if len(value) == len(rows)}
            outputs = self.part.run(self.part.feed(only))
            for name, values in zip(self.items.part.outputs, outputs, strict=True):
                found[name][anew] = values
        return found

    def _to_compute(self, inputs: Tensors, rows: Rows) -> Tensor | None:
        """Return the places of the items that the table cannot answer for; None: there are none."""
        anew = rows < 0
        for name in self.items.columns:
            if name not in inputs:
                continue  # left out: the table speaks for it
            known = self.table.take(rows, (name,))[name]
            same = inputs[name].reshape(known.shape) == known
            if not same.all():
                anew |= ~(same if same.ndim == 1 else same.all(axis=1))
        for rows_of, set_rows in self._set_rows:
            if set_rows.any_set():
                used, shape = rows_of(self._completed(inputs, rows))
                anew |= set_rows[used].reshape(shape[0], -1).any(axis=1)
        return np.flatnonzero(anew) if anew.any() else None

    def _completed(self, inputs: Tensors, rows: Rows) -> Tensors:
        """Return *inputs* with what was left out, as the table has it."""
        absent = [name for name in self.items.columns if name not in inputs]
        if not absent:
            return inputs
        if rows.size and rows.min() < 0:
            unknown = inputs[self.items.key].reshape(-1)[int(rows.argmin())]
            raise InvalidInput(
                f"the item {self.items.key}={unknown} is not in the catalogue: give its "
                f"{', '.join(absent)} too"
            )
        taken = self.table.take(rows, absent)
        shaped = {
            n: v.reshape(len(rows), *(self._specs[n].shape or ())[1:]) for n, v in taken.items()
        }
        return {**inputs, **shaped}


class SetRows:
    """Which rows of a table were set since it was written; at most a twentieth of a second old."""

    _EVERY_S: Final = 0.05

    def __init__(self, table: Embeddings) -> None:
        self.table = table
        self._rows: NDArray[np.bool_] | None = None
        self._looked = 0.0

    def any_set(self) -> bool:
        """Whether any is."""
        if self.table.live is None:
            return False
        now = monotonic()
        if now - self._looked > self._EVERY_S:
            self._looked = now
            found = self.table.live_rows
            rows = None
            if len(found):
                # Of row -1, which is not a row, the last place speaks.
                rows = np.zeros(int(found.max()) + 2, bool)
                rows[found] = True
            self._rows = rows
        return self._rows is not None

    def __getitem__(self, rows: Rows) -> NDArray[np.bool_]:
        marks = self._rows
        if marks is None:
            return np.zeros(len(rows), bool)
        return marks.take(np.minimum(rows, len(marks) - 1), mode="wrap")
