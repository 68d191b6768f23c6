"""The reconciler: from what is wanted to what answers, by orders. No thread, clock or file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from martlet.errors import Code
from martlet.serving.roster import Entry, LoadOrder, Roster, UnloadOrder
from martlet.serving.versions import (
    Desired,
    Drain,
    Load,
    Source,
    View,
    Wanted,
    next_step,
    retry_at,
)
from martlet.states import State, VersionStatus


@dataclass(slots=True)
class _Version:
    source: Source
    state: State = State.START
    failures: int = 0
    retry_at: float | None = None
    error: Code | None = None
    message: str = ""


@dataclass(slots=True)
class _Name:
    kind: str
    versions: dict[int, _Version] = field(default_factory=dict)
    labels: dict[str, int] = field(default_factory=dict)


class Reconciler:
    """
    Follows every version through its life.

    Its owner calls ``want`` when the wish changes, ``loaded`` when a load has ended on every
    worker, and then ``step``; it carries out the orders it gets, and puts ``roster`` in force.
    """

    def __init__(self) -> None:
        self._desired: Desired = {}
        self._names: dict[str, _Name] = {}

    def want(self, desired: Desired) -> None:
        """From now on aim at exactly *desired*; versions that it does not name are drained."""
        self._desired = desired
        for name, wanted in desired.items():
            for version, source in wanted.versions.items():
                self._meet(name, version, source)

    def _meet(self, name: str, version: int, source: Source) -> None:
        known = self._names.setdefault(name, _Name(source.kind))
        found = known.versions.get(version)
        if found is None:
            known.versions[version] = _Version(source)
        elif found.state is State.END and (found.error is None or found.source != source):
            # It was unloaded, or failed and has been mended since: begin again.
            known.versions[version] = _Version(source)

    def loaded(self, name: str, version: int, error: Code | None, message: str, now: float) -> None:
        """Note how a load ended; *error* None: every worker holds it ready."""
        found = self._names[name].versions[version]
        found.error, found.message = error, message
        if error is None:
            found.state, found.failures, found.retry_at = State.AVAILABLE, 0, None
            return
        found.state = State.END
        found.failures += 1
        found.retry_at = retry_at(found.failures, now)

    def withdrawn(self, name: str, version: int) -> None:
        """Note that a load that was ordered was not begun, as nothing wants the version now."""
        self._names[name].versions[version].state = State.END

    def unloaded(self, name: str, version: int) -> None:
        """Note that no worker holds the version any more."""
        found = self._names[name].versions[version]
        found.state = State.END
        if self._wants(name, version):
            # It was asked for again on its way out: begin again.
            self._names[name].versions[version] = _Version(found.source)

    def _referred(self, name: str) -> set[int]:
        """Return the versions of *name* that something which answers refers to."""
        return {
            reference.version
            for known in self._names.values()
            for each in known.versions.values()
            if each.state is State.AVAILABLE
            for reference in each.source.references.values()
            if reference.kind == "model" and reference.name == name
        }

    def unloading(self) -> list[tuple[str, int]]:
        """Return the versions that are being unloaded."""
        return [
            (name, n)
            for name, known in self._names.items()
            for n, v in known.versions.items()
            if v.state is State.UNLOADING
        ]

    def step(self, now: float) -> list[LoadOrder | UnloadOrder]:
        """
        Return what to do now, in order.

        An UnloadOrder is carried out when a roster without its version is in force.
        """
        return [order for name in self._names for order in self._steps(name, now)]

    def _steps(self, name: str, now: float) -> Iterator[LoadOrder | UnloadOrder]:
        known = self._names[name]
        wanted = self._desired.get(name, Wanted({}))
        self._move_labels(known, wanted)
        needed = self._needed(name)
        for n, each in known.versions.items():
            if each.state is State.START and n not in needed:
                each.state = State.END  # a newer one came before its turn did
        while True:
            views = [View(n, v.state, n in needed, v.retry_at) for n, v in known.versions.items()]
            match next_step(views, now, wanted.transition):
                case Load(version):
                    known.versions[version].state = State.LOADING
                    yield LoadOrder(name, version, known.versions[version].source)
                case Drain(version):
                    known.versions[version].state = State.UNLOADING
                    yield UnloadOrder(name, version)
                case None:
                    break
        self._move_labels(known, wanted)

    @staticmethod
    def _move_labels(known: _Name, wanted: Wanted) -> None:
        def answers(version: int | None) -> bool:
            found = known.versions.get(version) if version is not None else None
            return found is not None and found.state is State.AVAILABLE

        moved = {
            label: target if answers(target) else known.labels.get(label)
            for label, target in wanted.labels.items()
        }
        known.labels = {k: v for k, v in moved.items() if v is not None and answers(v)}

    @staticmethod
    def _held(known: _Name, wanted: Wanted) -> set[int]:
        """Return the versions that a label still points at while its new one is on the way."""
        held = set()
        for label, target in wanted.labels.items():
            coming = known.versions.get(target)
            if coming is not None and coming.state is not State.AVAILABLE:
                held |= {known.labels[label]} if label in known.labels else set()
        return held

    def _needed(self, name: str) -> set[int]:
        known, wanted = self._names[name], self._desired.get(name, Wanted({}))
        return {*wanted.versions} | self._held(known, wanted) | self._referred(name)

    def needs(self, name: str, version: int) -> bool:
        """Return whether a version is wanted, or held by a label or by what refers to it."""
        return version in self._needed(name)

    def _wants(self, name: str, version: int) -> bool:
        return name in self._desired and version in self._desired[name].versions

    @property
    def settled(self) -> bool:
        """Whether nothing is being loaded or about to be: each name answers or has failed."""
        return not any(
            v.state in (State.START, State.LOADING)
            for name, known in self._names.items()
            for n, v in known.versions.items()
            if self._wants(name, n)
        )

    def failures(self) -> dict[str, str]:
        """Return why each wanted name that has no version to answer has none."""
        silent = {}
        for name in self._desired:
            known = self._names.get(name)
            versions = known.versions if known is not None else {}
            if not any(v.state is State.AVAILABLE for v in versions.values()):
                reasons = [f"version {n}: {v.message}" for n, v in versions.items() if v.message]
                silent[name] = "; ".join(reasons) or "it has no version"
        return silent

    def source(self, name: str, version: int) -> Source:
        """Return where a version that was wanted comes from."""
        return self._names[name].versions[version].source

    @property
    def roster(self) -> Roster:
        """What should answer now, and the state of everything ever wanted."""
        roster = {}
        for name, known in self._names.items():
            ordered = sorted(known.versions.items(), reverse=True)
            answering = tuple(n for n, v in ordered if v.state is State.AVAILABLE)
            if not answering and name not in self._desired and known.kind != "model":
                continue
            roster[name] = Entry(
                kind=known.kind,
                versions=answering,
                labels=dict(known.labels),
                statuses=tuple(VersionStatus(n, v.state, v.error, v.message) for n, v in ordered),
                wanted=bool(self._desired.get(name, Wanted({})).versions),
            )
        return roster
