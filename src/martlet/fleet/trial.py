"""One version opened, checked and warmed in a process of its own, before any worker sees it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection

from martlet.errors import Code
from martlet.fleet.children import Child, how_it_ended, start
from martlet.serving.roster import Loaded, LoadOrder

Try = Callable[[LoadOrder, Connection], int]
"""What the child does: opens the version, and sends its Loaded."""

_NICER = 5


class Trial:
    """
    A version on trial. Its process ends when the trial does, and leaves only its report.

    Args:
        shut: Closes, in the child, what belongs to the supervisor alone.
        until: When it has taken too long, as time.monotonic().
    """

    def __init__(
        self, order: LoadOrder, attempt: Try, shut: Callable[[], None], until: float
    ) -> None:
        self.order = order
        self._until = until

        def body(pipe: Connection) -> int:
            # The workers answer requests meanwhile: those come first.
            os.nice(_NICER)
            return attempt(order, pipe)

        self._child: Child = start(body, shut)

    @property
    def pipe(self) -> Connection:
        """What becomes readable when there is a verdict."""
        return self._child.pipe

    def verdict(self, now: float) -> Loaded | None:
        """Return how it ended, once it has. Then ``end`` it."""
        try:
            if self.pipe.poll():
                report = self.pipe.recv()
                if isinstance(report, Loaded):
                    return report
                return self._failed(f"its trial failed: {report}")
        except (EOFError, OSError):
            _, status = os.waitpid(self._child.pid, 0)
            self._child.pid = 0
            return self._failed(f"the process that tried it died: {how_it_ended(status)}")
        if now > self._until:
            return self._failed("it did not open in the time that a load may take")
        return None

    def _failed(self, why: str) -> Loaded:
        return Loaded(self.order.name, self.order.version, Code.INTERNAL, why)

    def end(self) -> None:
        """End the process, if it has not ended."""
        if self._child.pid:
            os.kill(self._child.pid, signal.SIGKILL)
            os.waitpid(self._child.pid, 0)
            self._child.pid = 0
        self.pipe.close()
