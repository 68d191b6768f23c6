"""A circuit breaker: a ranking step that is late again and again is skipped for a while."""

from __future__ import annotations

FORGIVEN = 2
FIRST_REST_S, LONGEST_REST_S = 1.0, 30.0


class Breaker:
    """
    Counts how often in a row a step was late, and says when to try it again.

    Waiting in vain for a model that hangs uses up the time of the steps below it. So after a few
    such waits the step rests; then one call tries it, and each further rest is twice as long. Any
    thread may call it: a race costs at most one more call that waits in vain.

    Source:
        M. Nygard, "Release It!", the circuit breaker: closed, open, half-open.
    """

    __slots__ = ("_late", "_until")

    def __init__(self) -> None:
        self._late = 0
        self._until = 0.0

    def allows(self, now: float) -> bool:
        """Return whether to try the step; after a rest, True for the first call only."""
        if self._late < FORGIVEN:
            return True
        if now < self._until:
            return False
        self._until = now + self._rest_s()
        return True

    def was_late(self, now: float) -> None:
        """Note that the step was tried, and had not answered when its time was over."""
        self._late += 1
        self._until = now + self._rest_s()

    def was_in_time(self) -> None:
        """Note that the step answered, well or not."""
        self._late = 0

    def _rest_s(self) -> float:
        return min(FIRST_REST_S * 2.0 ** max(0, self._late - FORGIVEN), LONGEST_REST_S)
