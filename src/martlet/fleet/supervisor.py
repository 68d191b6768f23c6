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
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from typing import NoReturn

from martlet.fleet.policy import Life, respawn_at
from martlet.fleet.swap import Fleet, Worker
from martlet.servers.control import Ask, LoadModel, ServeModels, UnloadModel
from martlet.serving.versions import Desired

log = logging.getLogger(__name__)

Work = Callable[[int, Connection], int]
"""What a child does: its number, and the connection that brings orders and takes reports."""


class Supervisor:
    """
    Keeps *count* workers alive, and what is wanted answering, until SIGTERM or SIGINT.

    Args:
        count: How many workers.
        fleet: Decides what the workers hold and when they turn to it.
        work: Run in each child; returns its exit status. It drains on SIGTERM.
        watch: Called about once a second: the new wish when it has changed, else None.
        on_ready: Called when the server answers for the first time.
        drain_s: How long workers may take to drain before they are killed.
        strict: Whether a name with no version that answers stops the start.
        asked: Called with what a client asked of the server, from a worker; *watch* comes next.
    """

    def __init__(
        self,
        count: int,
        fleet: Fleet,
        work: Work,
        watch: Callable[[], Desired | None],
        on_ready: Callable[[], None],
        drain_s: float,
        strict: bool = True,
        asked: Callable[[Ask], None] | None = None,
    ) -> None:
        self._count = count
        self._fleet = fleet
        self._work = work
        self._watch = watch
        self._on_ready = on_ready
        self._drain_s = drain_s
        self._strict = strict
        self._asked = asked
        self._selector = selectors.DefaultSelector()
        self._workers: list[Worker] = []
        self._stops = 0
        self._reload = False
        self._ready = False
        self._watched_at = 0.0
        self._wake, self._woken = socket.socketpair()

    def run(self) -> int:
        """Supervise until told to stop; return the exit status: 0 when every worker drained."""
        for end in (self._wake, self._woken):
            end.setblocking(False)
        signal.set_wakeup_fd(self._woken.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGHUP, self._hangup)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._selector.register(self._wake, selectors.EVENT_READ)
        for index in range(self._count):
            self._workers.append(self._spawn(index, early_ends=0))
        failure = None
        while not self._stops and failure is None:
            self._turn()
            failure = self._start_failure() if not self._ready else None
        status = self._drain()
        if failure is not None:
            print(f"martlet: {failure}", file=sys.stderr)
            return 1
        return status

    # -- one turn of the loop --------------------------------------------------------------

    def _turn(self) -> None:
        self._listen(self._next_wait())
        self._reap()
        now = time.monotonic()
        if self._reload or now - self._watched_at >= 1.0:
            self._watched_at, self._reload = now, False
            desired = self._watch()
            if desired is not None:
                self._fleet.want(desired)
        for worker in list(self._workers):
            if worker.pid == 0 and worker.due <= now and not self._stops:
                self._workers[worker.index] = self._spawn(worker.index, worker.life.early_ends)
        self._fleet.turn(self._workers, now)
        for worker in self._workers:
            if worker.doomed and worker.pid:
                os.kill(worker.pid, signal.SIGKILL)
        if not self._ready and all(w.listening for w in self._workers) and self._fleet.settled:
            self._ready = True
            self._on_ready()

    def _next_wait(self) -> float:
        now = time.monotonic()
        due = [worker.due for worker in self._workers if worker.pid == 0]
        return max(0.0, min([self._watched_at + 1.0, *due]) - now)

    def _start_failure(self) -> str | None:
        """Return why the server cannot start, if it cannot."""
        for worker in self._workers:
            if worker.pid == 0 and not worker.listening and worker.life.early_ends:
                return worker.said or f"worker {worker.index} died while starting"
        silent = self._fleet.failures()
        if self._strict and self._fleet.settled and silent:
            return "; ".join(f"{name!r} does not answer: {why}" for name, why in silent.items())
        return None

    def _listen(self, wait: float) -> None:
        for key, _ in self._selector.select(wait):
            if key.fileobj is self._wake:
                _empty(self._wake)
            else:
                self._hear(self._workers[key.data])

    def _hear(self, worker: Worker) -> None:
        try:
            while worker.pipe.poll():
                report = worker.pipe.recv()
                if isinstance(report, str):
                    worker.said = report
                    log.error("%s", report)
                elif isinstance(report, (ServeModels, LoadModel, UnloadModel)):
                    if self._asked is not None:
                        self._asked(report)
                        self._reload = True
                else:
                    self._fleet.heard(worker, report, time.monotonic())
        except (EOFError, OSError):
            self._forget_pipe(worker)

    def _forget_pipe(self, worker: Worker) -> None:
        if not worker.pipe.closed:
            self._selector.unregister(worker.pipe)
            worker.pipe.close()

    # -- children --------------------------------------------------------------------------

    def _spawn(self, index: int, early_ends: int) -> Worker:
        sys.stdout.flush()
        sys.stderr.flush()
        ours, theirs = Pipe()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            ours.close()
            self._child(index, theirs, parent)
        theirs.close()
        self._selector.register(ours, selectors.EVENT_READ, index)
        return Worker(index, pid, ours, Life(time.monotonic(), early_ends))

    def _child(self, index: int, pipe: Connection, parent: int) -> NoReturn:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            # Ctrl-C reaches the whole group: the supervisor alone decides what it means.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            self._selector.close()
            for other in self._workers:
                if other.pid and other.index != index:
                    other.pipe.close()
            _die_with(parent)
            status = self._work(index, pipe)
        except BaseException as exc:
            log.debug("worker %d ends", index, exc_info=True)
            pipe.send(f"worker {index} ended: {exc}")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            # Not sys.exit: the parent's exit handlers and buffers are not the child's to run.
            os._exit(status)

    def _reap(self) -> None:
        for worker in self._workers:
            if worker.pid == 0:
                continue
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid == 0:
                continue
            self._hear(worker)
            self._forget_pipe(worker)
            now = time.monotonic()
            worker.due, early = respawn_at(worker.life, now)
            worker.life = Life(worker.life.started_at, early)
            worker.pid, worker.listening = 0, False
            self._fleet.lost(worker, now)
            if not self._stops:
                log.warning(
                    "worker %d (pid %d) ended with %d; started again in %.2f s",
                    worker.index,
                    pid,
                    os.waitstatus_to_exitcode(status),
                    worker.due - now,
                )

    # -- stopping --------------------------------------------------------------------------

    def _stop(self, *_: object) -> None:
        self._stops += 1

    def _hangup(self, *_: object) -> None:
        self._reload = True

    def _drain(self) -> int:
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
            self._listen(min(0.2, max(0.01, left)))
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
    """Have Linux end this process with its parent: no worker outlives a killed supervisor."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)
