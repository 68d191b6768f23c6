"""What is there, what is wanted, and the next step from one to the other: pure decisions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from martlet.serving.settings import DEFAULT, ModelSettings, Transition
from martlet.states import State

MAX_RETRIES = 5
FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 60.0


@dataclass(frozen=True, slots=True)
class Source:
    """
    Where a version comes from and how it is opened. Crosses to the workers, so plain values only.

    Args:
        path: The file or folder.
        kind: ``model`` or ``recommender``.
        format: As ``martlet.formats`` names it; None finds it by content.
        trusted: The reader may run code in the file.
        references: What the file refers to, as found when the version was planned: tables by
            the name that the file gives them, models by their own.
    """

    path: Path
    kind: str = "model"
    format: str | None = None
    trusted: bool = False
    references: Mapping[str, Reference] = field(default_factory=dict)
    settings: ModelSettings = DEFAULT


@dataclass(frozen=True, slots=True)
class Reference:
    """One thing a recommender refers to: what it is, its version, and where its files are."""

    kind: str
    name: str
    version: int
    path: Path


@dataclass(frozen=True, slots=True)
class Wanted:
    """
    What should answer under one name.

    Args:
        versions: Every version that should be loaded.
        labels: Label to version. A label of a version that does not answer yet waits for it.
    """

    versions: Mapping[int, Source]
    labels: Mapping[str, int] = field(default_factory=dict)

    @property
    def transition(self) -> Transition:
        """What a swap of it keeps: as its versions say, all alike."""
        for source in self.versions.values():
            return source.settings.transition
        return Transition.AVAILABILITY


Desired = Mapping[str, Wanted]


@dataclass(frozen=True, slots=True)
class View:
    """One version as the policy sees it. ``retry_at``: a failed one may be tried again then."""

    version: int
    state: State
    wanted: bool
    retry_at: float | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """Load this version, then let it answer."""

    version: int


@dataclass(frozen=True, slots=True)
class Drain:
    """Let this version answer no more; free it when nobody holds it."""

    version: int


def next_step(
    views: Sequence[View], now: float, transition: Transition = Transition.AVAILABILITY
) -> Load | Drain | None:
    """
    Return what to do next for one name, or None: nothing, or something is under way.

    The highest wanted version loads first, the lowest unwanted drains first. Under
    AVAILABILITY the last version that answers stays until a wanted one answers: a swap that
    fails to load must not leave the name silent. Under RESOURCE it leaves first, and the name is
    silent until the next one answers.

    Source:
        TensorFlow Serving's core/availability_preserving_policy.cc and
        core/resource_preserving_policy.cc.
    """
    answering = [v for v in views if v.state is State.AVAILABLE]
    spare = [v for v in answering if not v.wanted]
    waiting = [v for v in views if v.wanted and _may_load(v, now)]
    if transition is Transition.RESOURCE:
        if spare:
            return Drain(min(v.version for v in spare))
        busy = any(v.state is State.UNLOADING for v in views)
        return Load(max(v.version for v in waiting)) if waiting and not busy else None
    wanted = [v for v in views if v.wanted]
    if spare and (len(spare) > 1 or not wanted or any(v.wanted for v in answering)):
        return Drain(min(v.version for v in spare))
    if waiting and not any(v.state is State.LOADING for v in views):
        return Load(max(v.version for v in waiting))
    return None


def _may_load(view: View, now: float) -> bool:
    if view.state is State.START:
        return True
    return view.state is State.END and view.retry_at is not None and view.retry_at <= now


def retry_at(failures: int, now: float) -> float | None:
    """
    Return when a version that has failed to load *failures* times is tried again; None: never.

    >>> [retry_at(n, now=0.0) for n in (1, 2, 3, 6)]
    [1.0, 2.0, 4.0, None]
    """
    if failures > MAX_RETRIES:
        return None
    return now + min(FIRST_RETRY_S * 2.0 ** (failures - 1), LONGEST_RETRY_S)
