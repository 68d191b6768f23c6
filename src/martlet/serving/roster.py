"""What answers, as plain values that can be sent to every worker; and the orders that change it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from martlet.errors import Code
from martlet.serving.versions import Source
from martlet.states import VersionStatus
from martlet.tensors import Signature


@dataclass(frozen=True, slots=True)
class Entry:
    """
    One name.

    Args:
        versions: Those that answer, highest first.
        labels: Label to version; each is in *versions*.
        statuses: Every version ever seen, highest first.
        wanted: Whether some version of it should answer.
    """

    kind: str
    versions: tuple[int, ...] = ()
    labels: Mapping[str, int] = field(default_factory=dict)
    statuses: tuple[VersionStatus, ...] = ()
    wanted: bool = True


Roster = Mapping[str, Entry]


@dataclass(frozen=True, slots=True)
class Facts:
    """
    What was learnt of a version that is opened on demand, when it was opened and checked.

    Args:
        size: Bytes that it takes.
    """

    signatures: Mapping[str, Signature]
    size: int


@dataclass(frozen=True, slots=True)
class LoadOrder:
    """
    Open this version and keep it ready; it does not answer yet.

    With *facts* it has been opened and checked by another, so that it may wait for who asks.
    """

    name: str
    version: int
    source: Source
    facts: Facts | None = None


@dataclass(frozen=True, slots=True)
class UnloadOrder:
    """Close this version once nobody holds it. No roster in force names it."""

    name: str
    version: int


@dataclass(frozen=True, slots=True)
class RosterOrder:
    """Be ready to answer by *roster* as soon as *number* is in force."""

    number: int
    roster: Roster


@dataclass(frozen=True, slots=True)
class ListenOrder:
    """Open the doors: the roster in force is prepared."""


@dataclass(frozen=True, slots=True)
class PartOrder:
    """Part with this share of the connections: their clients open them anew, at any worker."""

    share: float


@dataclass(frozen=True, slots=True)
class Loaded:
    """A LoadOrder is done; *error* and *message* say why it failed."""

    name: str
    version: int
    error: Code | None = None
    message: str = ""
    facts: Facts | None = None


@dataclass(frozen=True, slots=True)
class Unloaded:
    """An UnloadOrder is done: nobody holds the version, and it is closed."""

    name: str
    version: int


@dataclass(frozen=True, slots=True)
class Prepared:
    """A RosterOrder is done."""

    number: int


@dataclass(frozen=True, slots=True)
class Listening:
    """A ListenOrder is done: the worker answers."""


Order = LoadOrder | UnloadOrder | RosterOrder | ListenOrder | PartOrder
Report = Loaded | Unloaded | Prepared | Listening
