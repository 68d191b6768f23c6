"""Counts of all workers of a server: each writes its own to a file; who is asked adds up."""

from __future__ import annotations

import logging
import pickle
import threading
from collections.abc import Iterable
from pathlib import Path

from martlet.monitor.counts import Counts, Totals

log = logging.getLogger(__name__)

WRITE_S = 0.1
"""How far one worker's view of another lags behind."""


class Together:
    """
    One worker's counts, and those of its siblings.

    A worker that is started in another's place goes on from what that one had written, so no
    counter falls.

    Args:
        folder: Where the workers of one server write; private to them.
        index: Which of them this is.
    """

    def __init__(self, folder: Path, index: int) -> None:
        self._folder = folder
        self._own = folder / f"{index}.counts"
        self.counts = Counts(_read(self._own))
        self._stop = threading.Event()
        self._silent = False

    def start(self) -> None:
        """Write from now on, from a thread of its own, whenever something was counted."""
        threading.Thread(target=self._keep_writing, name="counts", daemon=True).start()

    def _keep_writing(self) -> None:
        written = 0
        while not self._stop.wait(WRITE_S):
            noted = self.counts.noted
            if noted != written:
                self.write()
                written = noted

    def write(self) -> None:
        """Write what was counted, whole or not at all."""
        scratch = self._own.with_suffix(".new")
        try:
            scratch.write_bytes(pickle.dumps(self.counts.totals()))
            scratch.replace(self._own)
        except OSError as exc:
            # A full disk must not stop the answers, nor be filled with what is said of it.
            if not self._silent:
                log.warning("the counts are not shared with the other workers: %s", exc)
            self._silent = True
        else:
            if self._silent:
                log.warning("the counts are shared with the other workers again")
            self._silent = False

    def stop(self) -> None:
        """Write no more."""
        self._stop.set()

    def totals(self) -> Totals:
        """Return the sums over all workers: this one's to the last answer, the others' of late."""
        found = self.counts.totals()
        _include_all(found, (f for f in self._folder.glob("*.counts") if f != self._own))
        return found


def totals_of(folder: Path) -> Totals:
    """Return the sums over all workers that write into *folder*, for who is none of them."""
    found = Totals()
    _include_all(found, folder.glob("*.counts"))
    return found


def _include_all(found: Totals, files: Iterable[Path]) -> None:
    for file in sorted(files):
        other = _read(file)
        if other is not None:
            found.include(other)


def _read(file: Path) -> Totals | None:
    try:
        # Written by a sibling into a folder that is the server's own.
        found = pickle.loads(file.read_bytes())
    except (OSError, EOFError, pickle.UnpicklingError):
        return None
    return found if isinstance(found, Totals) else None
