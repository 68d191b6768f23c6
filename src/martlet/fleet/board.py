"""A few words of shared memory: which roster is in force, and when each worker last stirred."""

from __future__ import annotations

import mmap

_MS = 1000.0


class Board:
    """
    What the supervisor and the workers forked from it read and write without a message.

    Reads and writes of a word are whole. Times are time.monotonic(), which all processes share.

    Args:
        workers: How many there may be.
    """

    def __init__(self, workers: int) -> None:
        self._words = memoryview(mmap.mmap(-1, 8 * (1 + workers))).cast("Q")
        self.force = self._words[:1]
        """The number of the roster in force: written by the supervisor, read by every engine."""

    def beat(self, index: int, now: float) -> None:
        """Note that worker *index* turned its loop at *now*."""
        self._words[1 + index] = int(now * _MS)

    def beaten(self, index: int) -> float:
        """Return when worker *index* last turned its loop."""
        return self._words[1 + index] / _MS
