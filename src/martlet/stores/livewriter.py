"""Writes the live rows of a table: one process at a time, while any number read."""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from martlet.errors import NotAvailable, Overloaded, WrongState
from martlet.stores.keys import Rows
from martlet.stores.live import Live
from martlet.stores.livefile import (
    BASE_ROW,
    FOLDED,
    IN_USE,
    NEW_KEY,
    TEXT_END,
    UPDATED_NS,
    UPDATES,
    LiveFile,
    Shape,
    create,
    live_path,
    owner_crc,
)
from martlet.stores.livemend import mend
from martlet.stores.slots import ABSENT, PRESENT
from martlet.stores.tablefile import Array

_PATIENCE_S = 5.0
_LOOK_S = 0.001
_GROWTH_BYTES = 1 << 20


class LiveWriter:
    """
    Sets rows of one table. Threads may call it at once; another process waits its turn.

    Args:
        table: The base's file.
        shape: Of the live file, which is made when it is first needed.
        text: Whether keys are strings.
    """

    def __init__(self, table: Path, shape: Shape, *, text: bool) -> None:
        self._path = live_path(table)
        self._shape = shape
        self._text = text
        self._mutex = threading.RLock()
        self._depth = 0
        self._live: Live | None = None
        self._reserved = 0
        self._pages: set[int] = set()

    @contextlib.contextmanager
    def held(self) -> Iterator[Live]:
        """
        Hold the file's lock, and give its live rows to write. A thread that holds it may again.

        Raises:
            NotAvailable: another process has held it for five seconds, or it cannot be made.
            UnsupportedModel: the file is damaged, or belongs to another table.
        """
        with self._mutex:
            live = self._locked() if not self._depth or self._live is None else self._live
            self._depth += 1
            try:
                if not live.file.whole:
                    mend(live.file, text=self._text)
                yield live
            finally:
                self._depth -= 1
                if not self._depth:
                    fcntl.flock(live.file.descriptor, fcntl.LOCK_UN)

    def set(
        self, live: Live, keys: Sequence[int | str], rows: Rows, stored: Array,
        scales: NDArray[np.float32],
    ) -> None:  # fmt: skip
        """
        Let each of *keys* have its vector of *stored*; a reader sees each whole.

        Args:
            live: As ``held`` gave it.
            rows: Those of the base, -1 where it does not have the key.
            stored: [n, dim] in the table's precision.
            scales: [n]; ones where the table has none.

        Raises:
            Overloaded: there is no room for so many new keys; the table should be folded.
            NotAvailable: the disk is full.
        """
        self._check_open(live)
        numbers = self._numbers(live, keys, rows)
        missing = np.flatnonzero(numbers == 0)
        if len(missing):
            self._add(live, [keys[i] for i in missing.tolist()], rows[missing])
            numbers = self._numbers(live, keys, rows)
        live.file.slots.put(numbers, stored, scales, PRESENT)
        self._count(live, len(numbers))

    def unset(
        self, live: Live, keys: Sequence[int | str], rows: Rows, like: Array
    ) -> NDArray[np.bool_]:
        """
        Let each of *keys* be as the base has it; return which of them were not.

        Args:
            live: As ``held`` gave it.
            rows: Those of the base, -1 where it does not have the key.
            like: An empty array of stored vectors: [0, dim].
        """
        self._check_open(live)
        numbers = self._numbers(live, keys, rows)
        was = live.file.slots.present(numbers) & (numbers > 0)
        changed = np.ascontiguousarray(numbers[was])
        zeros = np.zeros((len(changed), *like.shape[1:]), like.dtype)
        live.file.slots.put(changed, zeros, np.zeros(len(changed), np.float32), ABSENT)
        self._count(live, len(changed))
        return was

    def sync(self) -> None:
        """Return once what was written is on disk, where a loss of power leaves it."""
        with self._mutex:
            if self._live is not None:
                self._live.file.mapping.flush()

    # -- the lock is held ------------------------------------------------------------------

    def _locked(self) -> Live:
        end = time.monotonic() + _PATIENCE_S
        while True:
            live = self._live or self._open()
            try:
                fcntl.flock(live.file.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    raise NotAvailable(
                        f"another process has been writing {self._path} for {_PATIENCE_S:g} s"
                    ) from None
                time.sleep(_LOOK_S)
                continue
            if os.fstat(live.file.descriptor).st_nlink:
                self._live = live
                return live
            # It was removed meanwhile: nobody who comes would find what is written there.
            self._live = None

    def _open(self) -> Live:
        if not self._path.exists():
            create(self._path, self._shape)
        self._reserved = 0
        self._pages.clear()
        return Live(LiveFile(self._path, self._shape.identity, writable=True), text=self._text)

    def _check_open(self, live: Live) -> None:
        folded = live.file.slots.load(FOLDED)
        if folded:
            raise WrongState(
                f"the live rows of {self._path.name.removesuffix('.live')} were folded into "
                f"version {folded}: set rows of that one"
            )

    def _numbers(self, live: Live, keys: Sequence[int | str], rows: Rows) -> Rows:
        numbers = np.zeros(len(rows), np.int64)
        own = rows >= 0
        numbers[own] = live.file.slots.pointers[rows[own]]
        # Beyond what is in use a pointer says nothing: its record never was.
        numbers[numbers > live.file.in_use] = 0
        new = np.flatnonzero(~own)
        if len(new):
            numbers[new] = live.numbers_of([keys[i] for i in new.tolist()])
        return numbers

    def _add(self, live: Live, keys: Sequence[int | str], rows: Rows) -> None:
        """Give each of *keys* a record; as yet none holds a vector."""
        file, slots, layout = live.file, live.file.slots, live.file.shape.layout
        owners = dict(zip(keys, rows.tolist(), strict=True))
        first, end = file.in_use + 1, slots.load(TEXT_END)
        if first + len(owners) > layout.capacity:
            raise Overloaded(
                f"{file.path.name} has room for {layout.capacity - 1} rows, and {first - 1} are "
                "taken: fold them into the table (martlet table compact)"
            )
        texts = self._texts(file, owners, end)
        if texts:
            file.reserve(file.shape.text_at + end, sum(map(len, texts.values())))
        self._grow(file, first + len(owners))
        for number, (key, row) in enumerate(owners.items(), first):
            text = texts.get(key, b"")
            if row >= 0:
                self._reserve_pointer(file, layout.pointers + 4 * row)
            elif text:
                at = file.shape.text_at + end
                file.mapping[at : at + len(text)] = text
            kind = BASE_ROW if row >= 0 else NEW_KEY
            owner = row if row >= 0 else end if self._text else int(key)
            record = slots.records[number : number + 1]
            record["word"], record["kind"], record["owner"] = 0, kind, owner
            record["length"] = len(text)
            record["crc"] = owner_crc(kind, owner, text)
            end += len(text)
            # In this order: a record is whole, then in use, then pointed to.
            slots.store(TEXT_END, end)
            slots.store(IN_USE, number)
            if row >= 0:
                slots.point(row, number)

    def _texts(
        self, file: LiveFile, owners: dict[int | str, int], end: int
    ) -> dict[int | str, bytes]:
        texts: dict[int | str, bytes] = {
            key: key.encode() for key, row in owners.items() if isinstance(key, str) and row < 0
        }
        if end + sum(map(len, texts.values())) > file.shape.text_room:
            raise Overloaded(
                f"{file.path.name} has no room for the text of more keys: fold them into the "
                "table (martlet table compact)"
            )
        return texts

    def _grow(self, file: LiveFile, count: int) -> None:
        layout = file.shape.layout
        end = count * layout.stride
        if end > self._reserved:
            start = max(self._reserved, (file.in_use + 1) * layout.stride)
            self._reserved = min(end + _GROWTH_BYTES, layout.capacity * layout.stride)
            file.reserve(layout.records + start, self._reserved - start)

    def _reserve_pointer(self, file: LiveFile, at: int) -> None:
        # Pointers lie apart: each may need a page of its own.
        page = at // mmap.PAGESIZE
        if page not in self._pages:
            file.reserve(at, 4)
            self._pages.add(page)

    def _count(self, live: Live, updates: int) -> None:
        slots = live.file.slots
        slots.store(UPDATES, slots.load(UPDATES) + updates)
        slots.store(UPDATED_NS, time.time_ns())
