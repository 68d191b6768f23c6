"""Child processes of the supervisor: forked, tied to its life, ended without its exit handlers."""

from __future__ import annotations

import ctypes
import faulthandler
import logging
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe
from typing import NoReturn

log = logging.getLogger(__name__)

_OURS = (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)
"""The supervisor's signals: a child starts with their default handlers."""


@dataclass(slots=True)
class Child:
    """A process, and our end of the pipe to it."""

    pid: int
    pipe: Connection


def start(body: Callable[[Connection], int], shut: Callable[[], None]) -> Child:
    """
    Fork a child that runs *body* with its end of the pipe, and exits with the status it returns.

    Args:
        shut: Closes, in the child, what belongs to the parent alone.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    ours, theirs = Pipe()
    parent = os.getpid()
    # Block signals until the child has its own handlers: ours, inherited, would swallow them.
    held = signal.pthread_sigmask(signal.SIG_BLOCK, _OURS)
    try:
        pid = os.fork()
        if pid == 0:
            ours.close()
            _live(body, shut, theirs, parent, held)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)
    theirs.close()
    return Child(pid, ours)


def _live(
    body: Callable[[Connection], int],
    shut: Callable[[], None],
    pipe: Connection,
    parent: int,
    mask: set[int | signal.Signals],
) -> NoReturn:
    status = 1
    try:
        signal.set_wakeup_fd(-1)
        for number in _OURS:
            signal.signal(number, signal.SIG_DFL)
        # Ctrl-C reaches the whole group: the supervisor alone decides what it means.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        # A crash in native code, or our SIGABRT to a hung child, then logs every thread's stack.
        faulthandler.enable()
        shut()
        _die_with(parent)
        status = body(pipe)
    except BaseException as exc:
        log.debug("a child ends", exc_info=True)
        pipe.send(f"{type(exc).__name__}: {exc}")
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # Not sys.exit: the parent's exit handlers and buffers are not the child's to run.
        os._exit(status)


def _die_with(parent: int) -> None:
    """Have Linux end this process when its parent dies: no child outlives a killed supervisor."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)


def how_it_ended(status: int) -> str:
    """
    Return what a wait status says, for people.

    >>> how_it_ended(11), how_it_ended(256)
    ('signal SIGSEGV', 'exit status 1')
    """
    code = os.waitstatus_to_exitcode(status)
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
