"""The rows of a table that were set since it was written, as its readers see them."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from martlet.stores.keys import Keys, Rows, concatenated, integers, texts
from martlet.stores.livefile import BASE_ROW, NEW_KEY, UPDATED_NS, UPDATES, LiveFile
from martlet.stores.strings import objects
from martlet.stores.tablefile import Array


@dataclass(frozen=True, slots=True)
class LiveStats:
    """How much a live file holds."""

    rows: int
    """Rows of the base table that have another vector now."""
    new_keys: int
    """Keys that the base table does not have."""
    updates: int
    """Updates ever made: rows set and rows taken back."""
    updated_ns: int
    """Time of the last update, in nanoseconds since 1970; 0: never."""
    records: int
    """Records in use; a row that was taken back keeps its record."""
    room: int
    """Records that fit in all."""


class Live:
    """
    The live rows of one table. Any thread may read, while another process writes.

    A row number below the base's count is the base's own; a key that the base does not have has
    the base's count plus its record's number.

    Args:
        file: Open.
        text: Whether keys are strings.
    """

    def __init__(self, file: LiveFile, *, text: bool) -> None:
        self.file = file
        self._text = text
        self._numbers: dict[int | str, int] = {}
        self._known = 0
        self._lock = threading.Lock()

    def gather(
        self, base: Array, scales: Array | None, rows: Rows
    ) -> tuple[Array, NDArray[np.float32] | None]:
        """Return what is stored of *rows* now, and the scales; see ``Slots.gather``."""
        return self.file.slots.gather(base, scales, rows)

    # -- keys that the base does not have --------------------------------------------------

    def numbers_of(self, keys: Sequence[int | str]) -> Rows:
        """Return the record of each of *keys* that the base does not have; 0 for none."""
        self._catch_up()
        find = self._numbers.get
        return np.fromiter((find(key, 0) for key in keys), np.int64, len(keys))

    def keys_at(self, numbers: Rows) -> list[int | str]:
        """Return the keys of the records *numbers*, which are of new keys."""
        return [self._key(number) for number in numbers.tolist()]

    def new_rows(self) -> Rows:
        """Return the row of every key that the base does not have and that has a vector now."""
        self._catch_up()
        numbers = np.fromiter(self._numbers.values(), np.int64, len(self._numbers))
        return numbers[self.file.slots.present(numbers)] + self.file.shape.rows

    @property
    def has_new_keys(self) -> bool:
        """Whether any key was ever set that the base does not have."""
        self._catch_up()
        return bool(self._numbers)

    def _catch_up(self) -> None:
        # Records are appended and never change their owner: those since the last look are read.
        in_use = self.file.in_use
        if in_use == self._known:
            return
        with self._lock:
            start = self._known + 1
            kinds = self.file.slots.records["kind"][start : in_use + 1]
            for number in (np.flatnonzero(kinds == NEW_KEY) + start).tolist():
                self._numbers[self._key(number)] = number
            self._known = max(self._known, in_use)

    def _key(self, number: int) -> int | str:
        record = self.file.slots.records[number]
        owner = int(record["owner"])
        if not self._text:
            return owner
        return self.file.text(owner, int(record["length"])).decode("utf-8", "replace")

    # -- all of them -----------------------------------------------------------------------

    def owners(self) -> tuple[Rows, NDArray[np.uint32]]:
        """
        Return the row of every record in use, and its word, which moves when the record does.

        A record that no row points to has row -1.
        """
        slots, rows = self.file.slots, self.file.shape.rows
        numbers = np.arange(1, self.file.in_use + 1)
        words = slots.words[numbers]
        owners = slots.records["owner"][numbers]
        of_base = slots.records["kind"][numbers] == BASE_ROW
        inside = of_base & (owners >= 0) & (owners < rows)
        found = np.where(of_base, -1, rows + numbers)
        pointed = slots.pointers[owners[inside]] == numbers[inside]
        found[inside] = np.where(pointed, owners[inside], -1)
        return found, words

    def replaced(self) -> Rows:
        """Return the base's rows that have another vector now, in the order they first had one."""
        rows, _ = self.owners()
        numbers = np.flatnonzero((rows >= 0) & (rows < self.file.shape.rows)) + 1
        return rows[numbers[self.file.slots.present(numbers)] - 1]

    def stats(self) -> LiveStats:
        """Return what it holds now."""
        load = self.file.slots.load
        return LiveStats(
            rows=len(self.replaced()),
            new_keys=len(self.new_rows()),
            updates=load(UPDATES),
            updated_ns=load(UPDATED_NS),
            records=self.file.in_use,
            room=self.file.shape.layout.capacity - 1,
        )


class LiveKeys:
    """The base's keys, and behind them those that were set since."""

    def __init__(self, base: Keys, live: Live, *, text: bool) -> None:
        self.base = base
        self._live = live
        self._text = text

    def __len__(self) -> int:
        return len(self.base) + len(self._live.new_rows())

    def rows_of(self, keys: ArrayLike | Sequence[str]) -> Rows:
        """See Keys."""
        rows = self.base.rows_of(keys)
        if not self._live.has_new_keys:
            return rows
        missing = np.flatnonzero(rows < 0)
        if not len(missing):
            return rows
        wanted = texts(keys) if self._text else integers(keys).tolist()
        numbers = self._live.numbers_of([wanted[i] for i in missing.tolist()])
        numbers[~self._live.file.slots.present(numbers)] = 0
        rows[missing] = np.where(numbers > 0, numbers + len(self.base), -1)
        return rows

    def at(self, rows: Array) -> Array:
        """See Keys."""
        count = len(self.base)
        if not len(rows) or int(rows.max()) < count:
            return self.base.at(rows)
        new = np.flatnonzero(rows >= count)
        found = self._empty(len(rows))
        own = np.flatnonzero(rows < count)
        if len(own):
            found[own] = self.base.at(rows[own])
        found[new] = concatenated(self._live.keys_at(rows[new] - count))
        return found

    @property
    def all(self) -> Array:
        """Every key: the base's in the order of its rows, then the others."""
        rows = self._live.new_rows()
        return np.concatenate([self.base.all, self.at(rows)]) if len(rows) else self.base.all

    def _empty(self, count: int) -> Array:
        return objects([None] * count) if self._text else np.empty(count, np.int64)
