"""Records of two payloads, of which one word selects the newer: written and read at once.

The writer fills the payload that the word does not select, then stores the word one higher: its
lowest bit selects. A reader takes the word, copies, and takes the word again; where it moved, the
payload may have been overwritten, and the reader begins again. So no reader waits for a writer,
and a writer that is killed half-way leaves a torn payload that no word selects.

Source:
    Lamport, "Concurrent Reading and Writing", CACM 1977; Boehm, "Can Seqlocks Get Along With
    Programming Language Memory Models?", MSPC 2012 (the fences).
"""

from __future__ import annotations

import mmap
import platform
import zlib
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from martlet import native
from martlet.errors import NotAvailable
from martlet.stores.keys import Rows
from martlet.stores.tablefile import Array

PRESENT: Final = 1
ABSENT: Final = 0
"""A payload that says: as if the row had never been written here."""

RECORD_HEAD: Final = 24
PAYLOAD_HEAD: Final = 12

_native = native.find("live")

# numpy says nothing of the order in which other cores see its stores; these machines keep it.
_ORDERED = platform.machine().lower() in ("x86_64", "amd64", "i686")


class Layout(NamedTuple):
    """Where things lie in a live file: bytes, or counts."""

    rows: int
    """Of the base table."""
    pointers: int
    """Offset of uint32[rows]: the number of each row's record, 0 for none."""
    records: int
    """Offset of the records. Number 0 is not a record."""
    capacity: int
    """Of records that there is room for, number 0 included."""
    stride: int
    payload: int


class Slots:
    """
    The records of one mapped live file, and its words. One process at a time may write.

    Args:
        mapping: The file.
        row_bytes: Of one vector as it is stored.

    Raises:
        NotAvailable: this machine needs the compiled part, and it is not built.
    """

    def __init__(self, mapping: mmap.mmap, layout: Layout, row_bytes: int) -> None:
        if _native is None and not _ORDERED:
            raise NotAvailable(
                f"rows that change while they are read need martlet's compiled part on "
                f"{platform.machine()}: install a wheel, or build it with a C compiler"
            )
        self.layout = layout
        self._mapping = mapping
        self.pointers: NDArray[np.uint32] = np.frombuffer(
            mapping, np.uint32, layout.rows, layout.pointers
        )
        self.records: Array = np.frombuffer(
            mapping, _record(layout, row_bytes), layout.capacity, layout.records
        )
        self.words: NDArray[np.uint32] = self.records["word"]

    def gather(
        self, base: Array, scales: Array | None, rows: Rows
    ) -> tuple[Array, NDArray[np.float32] | None]:
        """
        Return the newest stored vectors of *rows* [n], and their scales where the table has them.

        Args:
            base, scales: As the base table stores them, a row of zeros last.
            rows: Below the base's count its own; above it, that plus a record's number; any other
                gives zeros.
        """
        found = np.empty((len(rows), *base.shape[1:]), base.dtype)
        found_scales = None if scales is None else np.empty(len(rows), np.float32)
        if _native is not None:
            wanted = np.ascontiguousarray(rows, np.int64)
            _native.gather(base, scales, self._mapping, self.layout, wanted, found, found_scales)
            return found, found_scales
        count = self.layout.rows
        own = (rows >= 0) & (rows < count)
        of_base = np.where(own, rows, count)
        base.take(of_base, axis=0, out=found)
        if scales is not None:
            scales.take(of_base, out=found_scales)
        numbers = np.where(own, 0, np.where(rows > count, rows - count, 0))
        numbers[own] = self.pointers[rows[own]]
        numbers[numbers >= self.layout.capacity] = 0
        going = np.flatnonzero(numbers)
        while len(going):
            before, flags, read_scales, vectors = self._read(numbers[going])
            still = self.words[numbers[going]] == before
            good = still & (before != 0) & (flags == PRESENT)
            found[going[good]] = vectors[good].view(base.dtype).reshape(-1, *base.shape[1:])
            if found_scales is not None:
                found_scales[going[good]] = read_scales[good]
            going = going[~still]
        return found, found_scales

    def present(self, numbers: Rows) -> NDArray[np.bool_]:
        """Return which of the records *numbers* hold a vector now."""
        found = np.zeros(len(numbers), bool)
        going = np.arange(len(numbers))
        while len(going):
            asked = numbers[going]
            before = self.words[asked]
            flags = self.records["payloads"]["flag"][asked, before & 1]
            still = self.words[asked] == before
            found[going] = (before != 0) & (flags == PRESENT)
            going = going[~still]
        return found

    def put(self, numbers: Rows, values: Array, scales: NDArray[np.float32], flag: int) -> None:
        """
        Write *values* [n, dim], as stored, into the records *numbers*, one after the other.

        The caller holds the file's lock. Each is seen whole or not at all.
        """
        values = np.ascontiguousarray(values)
        if _native is not None:
            _native.put(self._mapping, self.layout, numbers, values, scales, flag)
            return
        raw = values.reshape(len(numbers), values.shape[1]).view(np.uint8)
        payloads = self.records["payloads"]
        for number, vector, scale in zip(numbers.tolist(), raw, scales, strict=True):
            after = int(self.words[number]) + 1
            after = after if after < 1 << 32 else 2
            payload = payloads[number, after & 1 : (after & 1) + 1]
            payload["flag"], payload["scale"], payload["vector"] = flag, scale, vector
            payload["crc"] = payload_crc(payload[0])
            self.words[number] = after

    def load(self, offset: int, width: int = 8) -> int:
        """Return the word at *offset*; what was stored before it is seen after it."""
        if _native is not None:
            return int(_native.load(self._mapping, offset, width))
        dtype = np.uint64 if width == 8 else np.uint32
        return int(np.frombuffer(self._mapping, dtype, 1, offset)[0])

    def store(self, offset: int, value: int, width: int = 8) -> None:
        """Store the word at *offset*, in one step, after all that was written before."""
        if _native is not None:
            _native.store(self._mapping, offset, width, value)
            return
        dtype = np.uint64 if width == 8 else np.uint32
        np.frombuffer(self._mapping, dtype, 1, offset)[0] = value

    def point(self, row: int, number: int) -> None:
        """Let the base's *row* have the record *number*, which is whole."""
        self.store(self.layout.pointers + 4 * row, number, 4)

    def _read(self, numbers: Rows) -> tuple[Array, Array, Array, Array]:
        before = self.words[numbers]
        payloads = self.records["payloads"][numbers, before & 1]
        vectors: Array = np.ascontiguousarray(payloads["vector"])
        return before, payloads["flag"], payloads["scale"], vectors


def payload_crc(payload: Any) -> int:
    """Return the CRC-32 of a payload's flag, scale and vector."""
    head = payload["flag"].tobytes() + payload["scale"].tobytes()
    return zlib.crc32(payload["vector"].tobytes(), zlib.crc32(head))


def payload_bytes(row_bytes: int) -> int:
    """Return how long a payload is, so that the next begins at a multiple of 4."""
    return -(-(PAYLOAD_HEAD + row_bytes) // 4) * 4


def _record(layout: Layout, row_bytes: int) -> np.dtype[Any]:
    payload = np.dtype(
        {
            "names": ["flag", "scale", "crc", "vector"],
            "formats": ["<u4", "<f4", "<u4", ("u1", (row_bytes,))],
            "offsets": [0, 4, 8, PAYLOAD_HEAD],
            "itemsize": layout.payload,
        }
    )
    return np.dtype(
        {
            "names": ["word", "kind", "owner", "length", "crc", "payloads"],
            "formats": ["<u4", "<u4", "<i8", "<u4", "<u4", (payload, (2,))],
            "offsets": [0, 4, 8, 16, 20, RECORD_HEAD],
            "itemsize": layout.stride,
        }
    )
