"""The fleet: what each worker holds, and the shared word that switches all of them at once.

A version goes live in three moves. Every worker opens it; every worker prepares the table that
names it; then the number in shared memory changes, and each worker's next request reads it. So no
client that keeps asking sees the new version and then the old one again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from typing import ClassVar, cast

from martlet.errors import Code
from martlet.fleet.policy import Life
from martlet.serving import memory
from martlet.serving.reconciler import Reconciler
from martlet.serving.roster import (
    Facts,
    Listening,
    ListenOrder,
    Loaded,
    LoadOrder,
    Order,
    Prepared,
    Report,
    Roster,
    RosterOrder,
    Unloaded,
    UnloadOrder,
)
from martlet.serving.versions import Desired, Source

log = logging.getLogger(__name__)

Key = tuple[str, int]


MOST_ORDERS = 8
"""Most load orders that a worker has not reported yet: a full pipe would block the supervisor."""


@dataclass(slots=True)
class Worker:
    """
    One child process, as the supervisor sees it.

    Args:
        pid: 0 while it waits, until *due*, to be started (again).
        told: Versions that it was ordered to load, and not since to unload, in that order.
        holds: Versions that it reported loaded.
        leaving: Versions that it was ordered to unload and has not yet closed.
        busy_since: When it began the first load that it has not reported.
        sent, prepared: The number of the last roster sent to it; of the last that it has ready.
        invited, listening: Whether it was told to listen; whether it reported that it does.
        doomed: Why it must be restarted: it hangs, or cannot hold what it should; "": it need not.
        condemned: When it was sent SIGABRT for that; 0: not yet.
        said: The error that it reported before it ended.
        newcomer: Whether it started while the server was answering.
        leaves_by: When it must have drained and left; 0: it stays.
    """

    NEVER: ClassVar[float] = float("inf")

    index: int
    pid: int
    pipe: Connection
    life: Life
    due: float = 0.0
    told: dict[Key, None] = field(default_factory=dict)
    holds: set[Key] = field(default_factory=set)
    leaving: set[Key] = field(default_factory=set)
    busy_since: float = 0.0
    sent: int = 0
    prepared: int = 0
    invited: bool = False
    listening: bool = False
    doomed: str = ""
    condemned: float = 0.0
    said: str = ""
    newcomer: bool = False
    leaves_by: float = 0.0

    @classmethod
    def absent(cls, index: int) -> Worker:
        """Return an empty place, for a worker that is not needed now."""
        return cls(index, 0, cast(Connection, None), Life(0.0), due=cls.NEVER)

    @property
    def loading(self) -> list[Key]:
        """The load orders that it has not reported, in order: the first is under way."""
        return [key for key in self.told if key not in self.holds]

    def order(self, order: Order) -> None:
        """Send *order*. If the worker has died, that is noticed elsewhere."""
        try:
            self.pipe.send(order)
        except (OSError, ValueError):
            log.debug("worker %d is gone; %r not sent", self.index, order)


class Fleet:
    """
    Brings every worker to what is wanted.

    The supervisor calls ``turn`` with its workers whenever something may have changed. A swap does
    not wait for workers that die; those that start catch up before they listen.

    Once a worker listens, a new version is first tried in a process of its own (``to_try``,
    ``tried``): a file that crashes or hangs its reader then harms no worker.

    Args:
        word: The number in force, in shared memory.
        reconciler: Says what to load and unload.
        load_s: How long a worker may take to open a version.
        memory_bytes: That the workers may hold together; 0: as many as they like.
        evictable: Returns how many of a worker's bytes it would give back for another version.
    """

    def __init__(
        self,
        word: memoryview,
        reconciler: Reconciler,
        load_s: float = 600.0,
        memory_bytes: int = 0,
        evictable: Callable[[int], int] = lambda index: 0,
    ) -> None:
        self._word = word
        self._reconciler = reconciler
        self._load_s = load_s
        self._memory_bytes = memory_bytes
        self._evictable = evictable
        self._facts: dict[Key, tuple[Source, Facts]] = {}
        self._untried: dict[Key, LoadOrder] = {}
        self._trying: Key | None = None
        self._loading: dict[Key, LoadOrder] = {}
        self._number = 0
        self._roster: Roster = {}
        self._failed: dict[Key, Loaded] = {}
        self._deaths: dict[Key, int] = {}
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

    # -- what happened ---------------------------------------------------------------------

    def heard(self, worker: Worker, report: Report, now: float) -> None:
        """Take in what a worker reports."""
        match report:
            case Loaded(name, version, None, _):
                worker.busy_since = now
                self._learn(report)
                worker.holds.add((name, version))
            case Loaded(name, version, _, message):
                worker.busy_since = now
                worker.told.pop((name, version), None)
                self._could_not(worker, report, f"it cannot open version {version} of {name!r}")
                log.error("version %d of %r: %s", version, name, message)
            case Unloaded(name, version):
                worker.leaving.discard((name, version))
            case Prepared(number):
                worker.prepared = number
            case Listening():
                worker.listening = True

    def _learn(self, report: Loaded) -> None:
        """Remember what was learnt of a version that is opened on demand, for later workers."""
        key = (report.name, report.version)
        if report.facts is not None and key not in self._facts:
            self._facts[key] = self._reconciler.source(*key), report.facts

    def _known(self, key: Key, source: Source) -> Facts | None:
        told_of, facts = self._facts.get(key, (None, None))
        return facts if told_of == source else None

    def _could_not(self, worker: Worker, report: Loaded, why: str) -> None:
        key = (report.name, report.version)
        if key in self._loading:
            self._failed.setdefault(key, report)
        elif key in _named(self._roster):
            # Other workers have it open: this one cannot catch up, so it is restarted.
            worker.doomed = why

    def lost(self, worker: Worker, how: str) -> None:
        """Note that a worker has ended, and *how*: nothing waits for it."""
        for key in worker.loading[:1]:
            # Dying once while it opens a version is an accident; twice is the version's fault.
            self._deaths[key] = self._deaths.get(key, 0) + 1
            if self._deaths[key] > 1 and key in self._loading:
                name, version = key
                text = f"the worker that opened it died: {how}"
                self._failed.setdefault(key, Loaded(name, version, Code.INTERNAL, text))
        worker.told.clear()
        worker.holds.clear()
        worker.leaving.clear()

    # -- trials ----------------------------------------------------------------------------

    def to_try(self) -> LoadOrder | None:
        """Return the version to try next, if none is on trial; who is wanted no more is not."""
        if self._trying is not None:
            return None
        for key in list(self._untried):
            if not self._reconciler.needs(*key):
                del self._untried[key]
                self._reconciler.withdrawn(*key)
        if not self._untried:
            return None
        self._trying = next(iter(self._untried))
        return self._untried[self._trying]

    def tried(self, report: Loaded, now: float) -> None:
        """Take in how the trial ended."""
        key, self._trying = (report.name, report.version), None
        order = self._untried.pop(key)
        if report.error is None:
            self._learn(report)
            self._deaths.pop(key, None)
            self._loading[key] = order
            return
        log.error("version %d of %r: %s", report.version, report.name, report.message)
        self._reconciler.loaded(report.name, report.version, report.error, report.message, now)

    # -- one turn --------------------------------------------------------------------------

    def turn(self, workers: Sequence[Worker], now: float) -> None:
        """Send what should be sent now, and put in force what every worker has ready."""
        alive = [worker for worker in workers if worker.pid]
        self._lose_patience(alive, now)
        self._finish_loads(alive, now)
        for order in self._reconciler.step(now):
            if isinstance(order, LoadOrder) and not self._refused(order, alive, now):
                key = (order.name, order.version)
                apart = any(w.listening for w in alive) or key in self._deaths
                (self._untried if apart else self._loading)[key] = order
        roster = self._reconciler.roster
        if roster != self._roster:
            self._number += 1
            self._roster = roster
        for worker in alive:
            self._send(worker, now)
        if all(w.prepared == self._number for w in alive if w.invited) and (
            self._word[0] != self._number
        ):
            self._word[0] = self._number
        if self._word[0] == self._number:
            self._unload(alive)
        self._invite(alive)

    def _refused(self, order: LoadOrder, alive: list[Worker], now: float) -> bool:
        """Fail a version that there is no room for, before anybody opens it."""
        if not self._memory_bytes or order.source.settings.on_demand:
            # For a version on demand the worker itself makes room, or refuses it.
            return False
        coming = sum(
            memory.size_of(each.source.path)
            for each in [*self._untried.values(), *self._loading.values()]
        )
        held = [
            memory.held_with_children(worker.pid) - self._evictable(worker.index) + coming
            for worker in alive
        ]
        why = memory.refusal(self._memory_bytes, held, memory.size_of(order.source.path))
        if why:
            log.error("version %d of %r: %s", order.version, order.name, why)
            code = Code.RESOURCE_EXHAUSTED
            self._reconciler.loaded(order.name, order.version, code, why, now)
        return bool(why)

    def _lose_patience(self, alive: list[Worker], now: float) -> None:
        for worker in alive:
            loading = worker.loading
            if not loading or now - worker.busy_since <= self._load_s or worker.doomed:
                continue
            name, version = loading[0]
            worker.doomed = f"it did not open version {version} of {name!r} in {self._load_s:g} s"
            text = f"it did not open within {self._load_s:g} s"
            self._failed.setdefault(
                (name, version), Loaded(name, version, Code.DEADLINE_EXCEEDED, text)
            )

    def _finish_loads(self, alive: list[Worker], now: float) -> None:
        for (name, version), order in list(self._loading.items()):
            key = (name, version)
            failed = self._failed.pop(key, None)
            if failed is not None:
                error, message = failed.error or Code.INTERNAL, failed.message
                self._reconciler.loaded(name, version, error, message, now)
            elif alive and all(key in w.holds for w in alive if self._counts(w, alive)):
                self._deaths.pop(key, None)
                self._reconciler.loaded(name, version, None, "", now)
            else:
                continue
            del self._loading[key]
            log.debug("%r is settled", order)
        self._failed = {key: each for key, each in self._failed.items() if key in self._loading}

    @staticmethod
    def _counts(worker: Worker, alive: list[Worker]) -> bool:
        """Whether a load waits for *worker*: not if it is still starting while others listen."""
        return worker.invited or not any(each.invited for each in alive)

    def _send(self, worker: Worker, now: float) -> None:
        answering = _named(self._roster)
        for name, version in [*answering, *self._loading]:
            outstanding = len(worker.loading)
            key = (name, version)
            if key in worker.told or key in worker.leaving or outstanding >= MOST_ORDERS:
                continue
            if not outstanding:
                worker.busy_since = now
            worker.told[key] = None
            source = self._reconciler.source(name, version)
            worker.order(LoadOrder(name, version, source, self._known(key, source)))
        ready = all(key in worker.holds for key in answering)
        # One roster at a time: in the pipe of a busy worker they would pile up.
        if ready and worker.sent == worker.prepared != self._number:
            worker.sent = self._number
            worker.order(RosterOrder(self._number, self._roster))

    def _unload(self, alive: list[Worker]) -> None:
        named = _named(self._roster)
        for worker in alive:
            for name, version in [k for k in worker.told if k not in named]:
                if (name, version) in self._loading or (name, version) not in worker.holds:
                    continue
                del worker.told[name, version]
                worker.holds.discard((name, version))
                worker.leaving.add((name, version))
                worker.order(UnloadOrder(name, version))
        for key in self._reconciler.unloading():
            if not any(key in worker.leaving for worker in alive):
                self._facts.pop(key, None)
                self._reconciler.unloaded(*key)

    def _invite(self, alive: list[Worker]) -> None:
        for worker in alive:
            ready = self.settled or any(each.listening for each in alive)
            if ready and not worker.invited and worker.prepared == self._word[0] == self._number:
                worker.invited = True
                worker.order(ListenOrder())


def _named(roster: Roster) -> dict[Key, None]:
    """Return every version that *roster* has answer."""
    return {(name, v): None for name, entry in roster.items() for v in entry.versions}
