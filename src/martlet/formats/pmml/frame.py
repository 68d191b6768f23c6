"""What runs: a program of slots, filled once a batch (a frame) or once a record.

A model compiles into slots. Each holds one thing that others ask for (a field's column, a
model's prediction) and is computed when first asked, so that what no answer needs costs nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

import numpy as np

from martlet.formats.pmml.column import Rows

Maker = Callable[["Frame"], Any]
Record = list[Any]
"""One row: a cell a slot, UNSET before it is asked for."""

Single = Callable[[Record], Any]
"""Computes one value of a record. Raises RowError where the row has none."""

UNSET: Any = object()


FLOATS = frozenset({float})
"""``FLOATS.issuperset(map(type, values))``: whether all *values* are floats, in C."""


class RowError(Exception):
    """A row has no answer; the text says why. It never leaves the format."""


class Program:
    """The makers of every slot, for a batch and for a record."""

    def __init__(self) -> None:
        self.makers: list[Maker] = []
        self.singles: list[Single] = []
        self.raws: list[int] = []
        """The slots that the caller fills."""
        self.as_given: dict[int, int] = {}
        """Fields that are what the caller gave, if that is a float; by slot, the caller's slot."""
        self.cheap: set[int] = set()
        """Slots that cost a record no more to compute than to keep."""
        self.origins: dict[int, Any] = {}
        """What a slot was made of, where its maker does not show it."""
        self.whole: set[int] = set()
        """Slots that need all rows in their order, even where only some are asked for (Lag)."""

    def slot(self, maker: Maker, single: Single) -> int:
        """Add a slot and return its number."""
        self.makers.append(maker)
        self.singles.append(single)
        return len(self.makers) - 1

    def reader(self, slot: int) -> Single:
        """Return what reads *slot* of a record, computing it at the first reading."""
        singles = self.singles
        if slot in self.cheap:
            return singles[slot]

        def read(record: Record) -> Any:
            value = record[slot]
            if value is UNSET:
                value = record[slot] = singles[slot](record)
            return value

        return read

    def given(self, slots: Sequence[int]) -> Callable[[Record], tuple[Any, ...]] | None:
        """
        Return what reads the fields *slots* of a record at once; None: read them one by one.

        Where all that it reads are floats, they are the fields' values, NaN where missing.
        """
        if not slots or any(slot not in self.as_given for slot in slots):
            return None
        raws = [self.as_given[slot] for slot in slots]
        if len(raws) == 1:
            return lambda record: (record[raws[0]],)
        return itemgetter(*raws)

    def raw_slot(self) -> int:
        """Add a slot that the caller fills."""
        number = len(self.makers)

        def nothing(_: Any) -> Any:
            raise AssertionError(f"slot {number} was not filled")

        self.raws.append(number)
        return self.slot(nothing, nothing)

    def record(self, frame: Frame, row: int) -> Record:
        """Return one *row* of *frame* as a record: what the caller gave, and nothing computed."""
        record = [UNSET] * len(self.makers)
        for slot in self.raws:
            value = frame[slot][row]
            record[slot] = value.item() if isinstance(value, np.generic) else value
        return record


class Frame:
    """A batch of rows."""

    __slots__ = ("_cells", "_index", "_parent", "_program", "rows")

    def __init__(
        self,
        program: Program,
        rows: int,
        parent: Frame | None = None,
        index: Rows | None = None,
    ) -> None:
        self._program = program
        self._cells: list[Any] = [None] * len(program.makers)
        self._parent = parent
        self._index = index
        self.rows = rows

    def __setitem__(self, slot: int, value: Any) -> None:
        self._cells[slot] = value

    def __getitem__(self, slot: int) -> Any:
        found = self._cells[slot]
        if found is None:
            found = self._cells[slot] = self._make(slot)
        return found

    def _make(self, slot: int) -> Any:
        parent = self._parent
        if parent is not None and parent.gives(slot):
            found = parent[slot]
            return found[self._index] if isinstance(found, np.ndarray) else found.take(self._index)
        return self._program.makers[slot](self)

    def gives(self, slot: int) -> bool:
        """Whether a part of this frame takes *slot* from it rather than compute it alone."""
        if self._cells[slot] is not None or slot in self._program.whole:
            return True
        return self._parent is not None and self._parent.gives(slot)

    def take(self, rows: Rows) -> Frame:
        """Return the frame of *rows*: it shares what is computed here, and computes the rest."""
        return Frame(self._program, len(rows), self, rows)
