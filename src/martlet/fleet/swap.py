"""One swap for all workers: what each holds, and the shared word that turns them together.

A version goes live in three moves. Every worker opens it; every worker readies the table that
names it; then one word in shared memory takes the new number, and each worker's next request
reads it. So no client that keeps asking sees the new version, then the old one again.
"""

from __future__ import annotations

import logging
import mmap
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection

from martlet.errors import Code
from martlet.fleet.policy import Life
from martlet.serving.reconciler import Reconciler
from martlet.serving.roster import (
    Listening,
    ListenOrder,
    Loaded,
    LoadOrder,
    Order,
    Prepared,
    Report,
    Roster,
    RosterOrder,
    UnloadOrder,
)
from martlet.serving.versions import Desired

log = logging.getLogger(__name__)

Key = tuple[str, int]


def shared_word() -> memoryview:
    """Return one 8-byte word that children forked from here share. Reads and writes are whole."""
    return memoryview(mmap.mmap(-1, 8)).cast("Q")


@dataclass(slots=True)
class Worker:
    """
    One child process, as the supervisor sees it.

    Args:
        pid: 0 while it waits, until *due*, to be started again.
        told: Versions that it was ordered to load and not to unload.
        holds: Versions that it reported loaded.
        sent, prepared: The last roster it was sent, and the last it has ready.
        invited, listening: It was told to open its doors; it said that it did.
        doomed: It cannot hold what it should, and is to be started again.
        said: Its last words, when it could not go on.
    """

    index: int
    pid: int
    pipe: Connection
    life: Life
    due: float = 0.0
    told: set[Key] = field(default_factory=set)
    holds: set[Key] = field(default_factory=set)
    sent: int = 0
    prepared: int = 0
    invited: bool = False
    listening: bool = False
    doomed: bool = False
    said: str = ""

    def order(self, order: Order) -> None:
        """Send *order*; a worker that has died meanwhile is noticed elsewhere."""
        try:
            self.pipe.send(order)
        except (OSError, ValueError):
            log.debug("worker %d is gone; %r not sent", self.index, order)


class Fleet:
    """
    Brings every worker to what is wanted.

    The supervisor calls ``turn`` whenever something may have changed, with the workers there
    are. Workers that die are left out of what is waited for; those that start catch up before
    they open their doors.
    """

    def __init__(self, word: memoryview, reconciler: Reconciler) -> None:
        self._word = word
        self._reconciler = reconciler
        self._loading: dict[Key, LoadOrder] = {}
        self._number = 0
        self._roster: Roster = {}
        self._failed: dict[Key, Loaded] = {}
        self._began = False

    def want(self, desired: Desired) -> None:
        """From now on, make exactly *desired* true."""
        self._began = True
        self._reconciler.want(desired)

    @property
    def settled(self) -> bool:
        """Whether every name answers with what is wanted of it, or has failed."""
        return self._began and self._reconciler.settled and self._word[0] == self._number

    def failures(self) -> dict[str, str]:
        """Return why each name that has no version to answer has none."""
        return self._reconciler.failures()

    def heard(self, worker: Worker, report: Report, now: float) -> None:
        """Take in what a worker reports."""
        match report:
            case Loaded(name, version, None, _):
                worker.holds.add((name, version))
            case Loaded(name, version, _, message):
                log.error("version %d of %r: %s", version, name, message)
                if (name, version) in self._loading:
                    self._failed[name, version] = report
                    worker.told.discard((name, version))
                else:
                    # It answers elsewhere: this worker cannot catch up, so it begins again.
                    worker.doomed = True
            case Prepared(number):
                worker.prepared = number
            case Listening():
                worker.listening = True

    def lost(self, worker: Worker, now: float) -> None:
        """Note that a worker has ended: nothing waits for it."""
        worker.told.clear()
        worker.holds.clear()

    def turn(self, workers: Sequence[Worker], now: float) -> None:
        """Send what should be sent now, and put in force what every worker has ready."""
        alive = [worker for worker in workers if worker.pid]
        self._finish_loads(alive, now)
        for order in self._reconciler.step(now):
            if isinstance(order, LoadOrder):
                self._loading[order.name, order.version] = order
        roster = self._reconciler.roster
        if roster != self._roster:
            self._number += 1
            self._roster = roster
        for worker in alive:
            self._send(worker)
        if all(w.prepared == self._number for w in alive if w.invited) and (
            self._word[0] != self._number
        ):
            self._word[0] = self._number
        if self._word[0] == self._number:
            self._unload(alive)
        self._invite(alive)

    def _finish_loads(self, alive: list[Worker], now: float) -> None:
        for (name, version), order in list(self._loading.items()):
            key = (name, version)
            failed = self._failed.pop(key, None)
            if failed is not None:
                error, message = failed.error or Code.INTERNAL, failed.message
                self._reconciler.loaded(name, version, error, message, now)
            elif alive and all(key in w.holds for w in alive if self._counts(w, alive)):
                self._reconciler.loaded(name, version, None, "", now)
            else:
                continue
            del self._loading[key]
            log.debug("%r is settled", order)

    @staticmethod
    def _counts(worker: Worker, alive: list[Worker]) -> bool:
        """A worker that is still starting catches up; it is waited for only when all are."""
        return worker.invited or not any(each.invited for each in alive)

    def _send(self, worker: Worker) -> None:
        answering = {
            (name, version): None
            for name, entry in self._roster.items()
            for version in entry.versions
        }
        for name, version in [*answering, *self._loading]:
            if (name, version) not in worker.told:
                worker.told.add((name, version))
                source = self._reconciler.source(name, version)
                worker.order(LoadOrder(name, version, source))
        ready = all(key in worker.holds for key in answering)
        if ready and worker.sent != self._number:
            worker.sent = self._number
            worker.order(RosterOrder(self._number, self._roster))

    def _unload(self, alive: list[Worker]) -> None:
        named = {(name, v) for name, entry in self._roster.items() for v in entry.versions}
        for worker in alive:
            for name, version in worker.told - named - self._loading.keys():
                worker.told.discard((name, version))
                worker.holds.discard((name, version))
                worker.order(UnloadOrder(name, version))
        for name, version in self._reconciler.unloading():
            self._reconciler.unloaded(name, version)

    def _invite(self, alive: list[Worker]) -> None:
        for worker in alive:
            ready = self.settled or any(each.listening for each in alive)
            if ready and not worker.invited and worker.prepared == self._word[0] == self._number:
                worker.invited = True
                worker.order(ListenOrder())
