"""How urgent the process of an isolated model is to the scheduler: decided from how it behaved.

A model that loops wants a core for as long as it is let. Steps of niceness do not keep it out of
the way: who wakes on its core waits until its slice has ended. A process under SCHED_IDLE is put
aside at once by whoever wakes, and has the cores that nobody else wants.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

NICER = 10
"""Of each isolated model's process, for a start."""

LEAST_PATIENCE_S, UNUSUAL = 0.1, 4.0
_MANY, _AMONG_S = 2, 60.0
_FORGETS = 0.99


def patience_s(usual_s: float) -> float:
    """
    Return how long a call may work before its process has to yield, or may be ended.

    >>> [patience_s(usual) for usual in (0.0, 0.002, 0.5)]
    [0.1, 0.1, 2.0]
    """
    return max(LEAST_PATIENCE_S, UNUSUAL * usual_s)


def usual_after(usual_s: float, took_s: float) -> float:
    """Return how long a model's calls take at most, of late, after one more that was answered."""
    return max(took_s, usual_s * _FORGETS)


def is_suspect(troubles: Sequence[float], now: float) -> bool:
    """
    Return whether a model whose processes were ended, or died, at these times has to yield always.

    One is an accident; after two within a minute, every process does for the next minute.

    >>> [is_suspect(troubles, 50.0) for troubles in ([], [49.0], [20.0, 49.0])]
    [False, False, True]
    >>> is_suspect([20.0, 49.0], 110.0)
    False
    """
    return sum(now - each < _AMONG_S for each in troubles[-_MANY:]) == _MANY


def worked_s(pid: int) -> float:
    """
    Return how long the process *pid*, all its threads together, has had a core; 0: it is gone.

    Source:
        clock_getcpuclockid(3): a clock's id is made of the process's; CPUCLOCK_SCHED is 2.
    """
    try:
        return time.clock_gettime((~pid << 3) | 2)
    except OSError:
        return 0.0


class Priority:
    """
    That of one process, all of its threads.

    What the system would not let us give back is not taken: without CAP_SYS_NICE, or RLIMIT_NICE
    of 10, it stays as it is.

    Args:
        pid: The process, which is as nice as NICER.
        idle: Whether it yields to everybody.
    """

    def __init__(self, pid: int, idle: bool = False) -> None:
        self._pid = pid
        self.idle = idle

    def lower(self) -> bool:
        """Have it yield to everybody; False: it does already, or cannot be made to."""
        if self.idle or not reversible():
            return False
        self.idle = True
        self._set(os.SCHED_IDLE)
        return True

    def restore(self) -> None:
        """Have it what we have ourselves."""
        if self.idle:
            self.idle = False
            self._set(os.sched_getscheduler(0))

    def _set(self, policy: int) -> None:
        # A thread that is begun meanwhile has what the one that began it had: look again.
        done: set[Path] = set()
        with contextlib.suppress(OSError):
            while fresh := set(Path(f"/proc/{self._pid}/task").iterdir()) - done:
                for thread in fresh:
                    with contextlib.suppress(ProcessLookupError):
                        os.sched_setscheduler(int(thread.name), policy, os.sched_param(0))
                done |= fresh


@contextlib.contextmanager
def idling() -> Iterator[None]:
    """Have the calling thread, and what it starts in the block, yield to everybody."""
    before = os.sched_getscheduler(0)
    os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    try:
        yield
    finally:
        os.sched_setscheduler(0, before, os.sched_param(0))


@cache
def reversible() -> bool:
    """
    Return whether the system lets us take back SCHED_IDLE from a process that is as nice.

    Source:
        sched(7), "The nice value" and "SCHED_IDLE"; the kernel's user_check_sched_setscheduler.
    """
    found = []

    def attempt() -> None:
        # The scheduler knows threads: this one ends with the attempt.
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICER)
            with idling():
                pass
            found.append(True)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return bool(found)
