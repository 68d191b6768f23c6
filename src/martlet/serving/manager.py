"""The manager of one process: opens versions, readies tables, frees what no table names."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from martlet.errors import MartletError
from martlet.serving import memory
from martlet.serving.engine import Engine
from martlet.serving.lane import Lane
from martlet.serving.ondemand import OnDemand
from martlet.serving.residents import Residents
from martlet.serving.roster import Loaded, LoadOrder, Roster, RosterOrder, UnloadOrder
from martlet.serving.settings import VersionSettings, of_version
from martlet.serving.traffic import Model, Table, Variant
from martlet.serving.versions import Source

log = logging.getLogger(__name__)

DRAIN_S = 60.0


class Closable(Protocol):
    """What a version holds."""

    def close(self) -> None:
        """Free it."""
        ...


class Manager:
    """
    Holds the versions of one process, and carries out the orders of its supervisor.

    One thread calls it. The tables that it readies answer once *engine* puts them in force.

    Args:
        engine: Answers from the tables made here.
        openers: By a source's kind, what opens it. An error that one raises is the reported reason.
        ours: Whether the process serves models and nothing else: then objects that live long are
            frozen out of the garbage collector's walks.
        residents: The versions that are opened on demand; None: their memory is not limited.
        settings_of: Returns the settings of a version.
    """

    def __init__(
        self,
        engine: Engine,
        openers: Mapping[str, Callable[[Source], Closable]],
        ours: bool = True,
        residents: Residents | None = None,
        settings_of: VersionSettings = of_version,
    ) -> None:
        self._engine = engine
        self._settings_of = settings_of
        self._residents = residents or Residents()
        self._ours = ours
        self._openers = openers
        self._held: dict[tuple[str, int], Variant[Any]] = {}

    def load(self, order: LoadOrder) -> Loaded:
        """Open a version and keep it ready. Never raises: a failure is in the report."""
        name, version, source = order.name, order.version, order.source
        if (name, version) in self._held:
            return Loaded(name, version)
        try:
            settings = self._settings_of(source.path, source.settings)
            content = self._opened(order, replace(source, settings=settings))
        except MartletError as exc:
            return Loaded(name, version, exc.code, str(exc))
        except Exception as exc:
            log.exception("version %d of %r failed to load", version, name)
            return Loaded(
                name, version, MartletError.code, f"{source.path}: {type(exc).__name__}: {exc}"
            )
        self._held[name, version] = Variant(name, version, content, Lane(name, settings))
        if isinstance(content, OnDemand):
            return Loaded(name, version, facts=content.facts)
        if self._ours:
            # What was just loaded lives long. If every full collection walked it, the slowest
            # answers would be slower.
            gc.collect()
            gc.freeze()
        return Loaded(name, version)

    def attempt(self, order: LoadOrder) -> Loaded:
        """Open a version to see whether it can be, in a process that then ends."""
        report = self.load(order)
        held = self._held.get((order.name, order.version))
        if held is None or report.facts is None:
            return report
        before = memory.held_with_children(os.getpid())
        held.servable.close()
        # Opening may also have loaded a library, which stays; closing gives back the version's own.
        given_back = before - memory.held_with_children(os.getpid())
        size = max(memory.size_of(order.source.path), given_back)
        return replace(report, facts=replace(report.facts, size=size))

    def _opened(self, order: LoadOrder, source: Source) -> Closable:
        opener: Callable[[Source], Any] = self._openers[source.kind]
        size = memory.size_of(source.path)
        label = f"version {order.version} of {order.name!r}"
        if not source.settings.on_demand or source.kind != "model":
            if self._residents.count:
                self._residents.make_room(label, size)
            return self._openers[source.kind](source)
        entry = OnDemand(self._residents, label, partial(opener, source), size, order.facts)
        if order.facts is None:
            entry.admit(self._residents.open_s)
        elif self._is_open(order.name):
            # The version before it is in use: open this one now, so that no request waits for it.
            entry.ready(self._residents.open_s)
        return entry

    def _is_open(self, name: str) -> bool:
        return any(
            of == name and isinstance(each.servable, OnDemand) and each.servable.within is not None
            for (of, _), each in self._held.items()
        )

    def prepare(self, order: RosterOrder) -> None:
        """Ready the table of a roster; the engine switches when its number is in force."""
        self._engine.prepare(order.number, self._table(order.roster))

    def publish(self, roster: Roster) -> None:
        """Put *roster* in force now: for an engine that shares its word with nobody."""
        self._engine.publish(self._table(roster))

    def _table(self, roster: Roster) -> Table:
        by_kind: dict[str, dict[str, Model[Any]]] = {"model": {}, "recommender": {}}
        for name, entry in roster.items():
            by_kind[entry.kind][name] = Model(
                name=name,
                variants={v: self._held[name, v] for v in entry.versions},
                labels=entry.labels,
                statuses=entry.statuses,
                wanted=entry.wanted,
            )
        return Table(models=by_kind["model"], recommenders=by_kind["recommender"])

    def let_go(self, order: UnloadOrder) -> Variant[Any]:
        """Forget a version and begin to drain it; ``free`` may then be called from any thread."""
        variant = self._held.pop((order.name, order.version))
        variant.drain()
        return variant

    def free(self, variant: Variant[Any]) -> None:
        """Close a version that was let go, once nobody holds it. Waits for that, up to DRAIN_S."""
        if not variant.drained.wait(DRAIN_S):
            log.error(
                "version %d of %r is still held after %g s; it is left to its holders",
                variant.version, variant.name, DRAIN_S,
            )  # fmt: skip
            return
        variant.lane.close()
        variant.servable.close()
        variant.servable = None
        memory.collect(self._ours)

    def stuck(self, longest_s: float, now: float) -> str:
        """Say which version has a call that has worked for more than *longest_s*; "": none."""
        for (name, version), variant in list(self._held.items()):
            content = variant.servable
            if isinstance(content, OnDemand) and content.opening_since:
                # Its calls wait until it is open: judge the opening, not them.
                if now - content.opening_since > self._residents.open_s:
                    return f"opening version {version} of {name!r} has taken too long"
            elif variant.lane.longest_s(now) > longest_s:
                return f"a call of version {version} of {name!r} has worked for {longest_s:g} s"
        return ""

    def pressure(self) -> tuple[int, float]:
        """Return how many calls wait for a thread, and how full the fullest lane is, 0 to 1."""
        waiting, fullest = 0, 0.0
        for variant in list(self._held.values()):
            lane = variant.lane
            calls, room = lane.under_way, lane.settings.at_work
            waiting += max(0, calls - room)
            fullest = max(fullest, min(1.0, calls / room))
        return waiting, fullest

    def close(self) -> None:
        """Free every version. Nobody asks the engine any more."""
        for variant in self._held.values():
            variant.servable.close()
        self._held.clear()
