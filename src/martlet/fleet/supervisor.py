"""N worker processes on one port: started by fork, watched, replaced when they die, drained."""

from __future__ import annotations

import ctypes
import logging
import os
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from martlet.fleet.policy import Life, respawn_at

log = logging.getLogger(__name__)

READY = b"+"


@dataclass(slots=True)
class Worker:
    """
    One child process.

    Args:
        pid: 0 while it is waiting to be started again.
        pipe: It writes READY to it, or why it cannot start. Closed when it ends.
    """

    index: int
    pid: int
    pipe: int
    life: Life
    ready: bool = False
    said: bytes = b""
    due: float = 0.0


class Supervisor:
    """
    Keeps *count* workers alive until SIGTERM or SIGINT.

    Args:
        count: How many.
        work: Run in each child with its number and a function that it calls once it answers.
            Returns the child's exit status. It handles SIGTERM by draining.
        on_ready: Called in the parent when all workers answer for the first time.
        drain_s: How long workers may take to drain before they are killed.
    """

    def __init__(
        self,
        count: int,
        work: Callable[[int, Callable[[], None]], int],
        on_ready: Callable[[], None],
        drain_s: float,
    ) -> None:
        self._count = count
        self._work = work
        self._on_ready = on_ready
        self._drain_s = drain_s
        self._workers: list[Worker] = []
        self._selector = selectors.DefaultSelector()
        self._stops = 0

    def run(self) -> int:
        """Supervise until told to stop; return the exit status: 0 when every worker drained."""
        wake, woken = socket.socketpair()
        woken.setblocking(False)
        wake.setblocking(False)
        signal.set_wakeup_fd(woken.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(wake, selectors.EVENT_READ)
        for index in range(self._count):
            self._workers.append(self._spawn(index, early_ends=0))
        failure = self._wait_ready(wake)
        if failure is None and not self._stops:
            self._on_ready()
        while failure is None and not self._stops:
            self._attend(wake)
        status = self._drain(wake)
        if failure is not None:
            print(failure, file=sys.stderr)
            return 1
        return status

    # -- children --------------------------------------------------------------------------

    def _spawn(self, index: int, early_ends: int) -> Worker:
        sys.stdout.flush()
        sys.stderr.flush()
        ours, theirs = os.pipe()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            os.close(ours)
            self._child(index, theirs, parent)
        os.close(theirs)
        os.set_blocking(ours, False)
        self._selector.register(ours, selectors.EVENT_READ, index)
        return Worker(index, pid, ours, Life(time.monotonic(), early_ends))

    def _child(self, index: int, pipe: int, parent: int) -> NoReturn:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            self._selector.close()
            _die_with(parent)
            status = self._work(index, lambda: os.write(pipe, READY) and None)
        except BaseException as exc:
            os.write(pipe, f"worker {index} cannot start: {exc}".encode()[:4000])
            if log.isEnabledFor(logging.DEBUG):
                traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            # Not sys.exit: the parent's exit handlers and buffers are not the child's to run.
            os._exit(status)

    # -- watching --------------------------------------------------------------------------

    def _wait_ready(self, wake: socket.socket) -> str | None:
        """Return None once every worker answers, or why one cannot start."""
        while not self._stops:
            if all(worker.ready for worker in self._workers):
                return None
            self._attend(wake, respawn=False)
            for worker in self._workers:
                if worker.pid == 0:
                    return worker.said.decode(errors="replace") or "a worker died while starting"
        return None

    def _attend(self, wake: socket.socket, respawn: bool = True) -> None:
        now = time.monotonic()
        waits = [worker.due - now for worker in self._workers if worker.pid == 0]
        for key, _ in self._selector.select(max(0.0, min(waits)) if waits else None):
            if key.fileobj is wake:
                _empty(wake)
            else:
                self._hear(self._workers[key.data])
        self._reap()
        if not respawn or self._stops:
            return
        now = time.monotonic()
        for worker in list(self._workers):
            if worker.pid == 0 and worker.due <= now:
                self._workers[worker.index] = self._spawn(worker.index, worker.life.early_ends)

    def _hear(self, worker: Worker) -> None:
        try:
            said = os.read(worker.pipe, 4096)
        except BlockingIOError:
            return
        if said == READY:
            worker.ready = True
        elif said:
            worker.said += said
            log.error("%s", said.decode(errors="replace"))
        else:
            self._selector.unregister(worker.pipe)
            os.close(worker.pipe)
            worker.pipe = -1

    def _reap(self) -> None:
        for worker in self._workers:
            if worker.pid == 0:
                continue
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid == 0:
                continue
            if worker.pipe != -1:
                self._hear(worker)
            if worker.pipe != -1:
                self._selector.unregister(worker.pipe)
                os.close(worker.pipe)
                worker.pipe = -1
            now = time.monotonic()
            worker.due, early = respawn_at(worker.life, now)
            worker.life = Life(worker.life.started_at, early)
            worker.pid, worker.ready = 0, False
            if not self._stops:
                code = os.waitstatus_to_exitcode(status)
                log.warning(
                    "worker %d (pid %d) ended with %d; started again in %.2f s",
                    worker.index, pid, code, worker.due - now,
                )  # fmt: skip

    # -- stopping --------------------------------------------------------------------------

    def _stop(self, *_: object) -> None:
        self._stops += 1

    def _drain(self, wake: socket.socket) -> int:
        """Ask the workers to drain; kill those that will not, or all at a second signal."""
        self._stops = max(1, self._stops)
        self._signal(signal.SIGTERM)
        # A worker's own deadline is drain_s; the second more is for it to leave by itself.
        end = time.monotonic() + self._drain_s + 1.0
        killed = False
        while any(worker.pid for worker in self._workers):
            left = end - time.monotonic()
            if (left <= 0 or self._stops > 1) and not killed:
                self._signal(signal.SIGKILL)
                killed = True
            for key, _ in self._selector.select(min(0.2, max(0.01, left))):
                if key.fileobj is wake:
                    _empty(wake)
                else:
                    self._hear(self._workers[key.data])
            self._reap()
        return 1 if killed else 0

    def _signal(self, number: signal.Signals) -> None:
        for worker in self._workers:
            if worker.pid:
                os.kill(worker.pid, number)


def _empty(wake: socket.socket) -> None:
    try:
        while wake.recv(4096):
            pass
    except BlockingIOError:
        pass


def _die_with(parent: int) -> None:
    """Ask Linux to end this process with its parent: no worker outlives a killed supervisor."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)
