"""Many strings as two arrays: their UTF-8 bytes end to end, and where each begins."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from martlet.errors import InvalidInput
from martlet.stores.tablefile import Array, Sections

# Up to this many are decoded once and kept as str; beyond, each is decoded when asked for, so
# that a worker's private memory does not grow with the table.
_KEPT_DECODED = 100_000


class Strings:
    """
    Strings by number.

    Args:
        blob: Their UTF-8 bytes. uint8 [bytes].
        offsets: Where each begins, and the end. int64 [n + 1].
    """

    def __init__(self, blob: Array, offsets: Array) -> None:
        self.blob = blob
        self.offsets = offsets
        self._bytes = blob.data
        self._decoded: NDArray[np.object_] | None = None

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, number: int) -> str:
        return str(self.encoded(number), "utf-8")

    def encoded(self, number: int) -> memoryview:
        """Return the UTF-8 bytes of one."""
        return self._bytes[self.offsets[number] : self.offsets[number + 1]]

    def take(self, numbers: NDArray[np.integer]) -> NDArray[np.object_]:
        """Return those that *numbers* name; -1 is the last."""
        if self._decoded is None:
            if len(self) > _KEPT_DECODED:
                count = len(self)
                return objects([self[number % count] for number in numbers.tolist()])
            self._decoded = objects([self[number] for number in range(len(self))])
        return self._decoded.take(numbers, mode="wrap")


def objects(values: Sequence[object]) -> NDArray[np.object_]:
    """Return *values* as a one-dimensional object array, whatever they are."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array


def pack(values: Sequence[str], name: str) -> Sections:
    """
    Return *values* as the sections ``name`` and ``name.offsets`` of a table file.

    Raises:
        InvalidInput: one holds half a surrogate pair, which UTF-8 cannot.
    """
    try:
        encoded = [value.encode() for value in values]
    except UnicodeEncodeError as exc:
        raise InvalidInput(f"{exc.object!r} cannot be written as UTF-8") from None
    return {
        name: np.frombuffer(bytearray().join(encoded), np.uint8),
        f"{name}.offsets": np.fromiter(
            accumulate(map(len, encoded), initial=0), np.int64, len(encoded) + 1
        ),
    }
