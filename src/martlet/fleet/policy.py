"""When a worker that ended is restarted, and when a silent one is ended: pure decisions."""

from __future__ import annotations

from dataclasses import dataclass

STABLE_S = 10.0
FIRST_WAIT_S = 0.05
LONGEST_WAIT_S = 10.0
MISSED_WAIT_S = 0.5


@dataclass(frozen=True, slots=True)
class Patience:
    """
    How long the supervisor waits for a child.

    Args:
        hang_s: For a worker's loop to turn; a model that computes on the loop blocks it.
        load_s: For a version to open, in a worker or on trial. A load may block a worker's
            loop all that time, since importing a library holds the interpreter.
    """

    hang_s: float = 30.0
    load_s: float = 600.0


@dataclass(frozen=True, slots=True)
class Life:
    """How a worker's last runs went: when it started, and how many ended early in a row."""

    started_at: float
    early_ends: int = 0


def respawn_at(life: Life, now: float, answered: bool = False) -> tuple[float, int]:
    """
    Return when to start the worker again, and its count of early ends from now on.

    A worker that had run for a while is restarted at once: whatever killed it is rare. One that
    keeps ending early waits twice as long each time, so that a broken model does not burn a core.
    Once the server has *answered*, clients need the worker, so it waits half a second at most.

    >>> respawn_at(Life(started_at=0.0), now=60.0)
    (60.0, 0)
    >>> respawn_at(Life(started_at=59.0, early_ends=2), now=60.0)
    (60.2, 3)
    >>> respawn_at(Life(started_at=59.0, early_ends=9), now=60.0, answered=True)
    (60.5, 10)
    """
    if now - life.started_at >= STABLE_S:
        return now, 0
    longest = MISSED_WAIT_S if answered else LONGEST_WAIT_S
    wait = min(FIRST_WAIT_S * 2**life.early_ends, longest)
    return now + wait, life.early_ends + 1


def is_hung(beaten_at: float, loading: bool, now: float, patience: Patience) -> bool:
    """
    Return whether a worker whose loop last turned at *beaten_at* has to be replaced.

    >>> is_hung(0.0, loading=False, now=31.0, patience=Patience())
    True
    >>> is_hung(0.0, loading=True, now=31.0, patience=Patience())
    False
    """
    return now - beaten_at > (patience.load_s if loading else patience.hang_s)
