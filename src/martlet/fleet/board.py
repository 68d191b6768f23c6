"""The board: a few words of shared memory for the roster in force and the workers' heartbeats."""

from __future__ import annotations

import mmap
from enum import IntEnum

_MS = 1000.0


class Word(IntEnum):
    """What a worker writes about itself. Sums only rise: readers take differences."""

    BEATEN_MS = 0
    BEATS = 1
    WAITING = 2
    """Calls that waited, summed over the beats."""
    FULL_PERMILLE = 3
    """How full the fullest lane was, in thousandths, summed over the beats."""
    RESIDENT = 4
    """Versions opened on demand that are open now."""
    RESIDENT_BYTES = 5
    """Bytes that those take."""
    OPENED = 6
    """Versions opened on demand so far, by this worker and by those that had its index before."""
    EVICTED = 7
    """Versions closed so far to make room for others; counted as OPENED is."""


class Board:
    """
    What the supervisor and the workers forked from it read and write without a message.

    Reads and writes of a word are whole. Times are time.monotonic(), which all processes share.

    Args:
        workers: The most there may be at a time.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._words = memoryview(mmap.mmap(-1, 8 * (1 + workers * len(Word)))).cast("Q")
        self.force = self._words[:1]
        """The number of the roster in force: written by the supervisor, read by every engine."""

    def beat(self, index: int, now: float, waiting: int = 0, full: float = 0.0) -> None:
        """
        Note that worker *index* turned its loop at *now*.

        Args:
            waiting: Calls that wait there for a thread.
            full: How much of its fullest lane is at work, 0 to 1.
        """
        self.write(index, Word.BEATEN_MS, int(now * _MS))
        for word, more in (
            (Word.BEATS, 1),
            (Word.WAITING, waiting),
            (Word.FULL_PERMILLE, round(1000 * full)),
        ):
            self.write(index, word, self.read(index, word) + more)

    def gone(self, index: int) -> None:
        """Note that worker *index* has ended: it holds nothing now; its sums stay."""
        for word in (Word.RESIDENT, Word.RESIDENT_BYTES):
            self.write(index, word, 0)

    def beaten(self, index: int) -> float:
        """Return when worker *index* last turned its loop."""
        return self.read(index, Word.BEATEN_MS) / _MS

    def read(self, index: int, word: Word) -> int:
        """Return the *word* that worker *index* wrote last."""
        return self._words[1 + index * len(Word) + word]

    def write(self, index: int, word: Word, value: int) -> None:
        """Write a *word* of worker *index*, which alone may write it."""
        self._words[1 + index * len(Word) + word] = value
