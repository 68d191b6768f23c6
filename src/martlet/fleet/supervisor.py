"""N worker processes on one port: started by fork, watched, replaced when they die, drained."""

from __future__ import annotations

import logging
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.connection import Connection

from martlet.fleet.board import Board
from martlet.fleet.children import how_it_ended, start
from martlet.fleet.policy import Life, Patience, is_hung, respawn_at
from martlet.fleet.scaler import Scaler
from martlet.fleet.swap import Fleet, Worker
from martlet.fleet.trial import Trial, Try
from martlet.servers.control import Ask, LoadModel, ServeModels, UnloadModel
from martlet.serving.roster import PartOrder
from martlet.serving.versions import Desired

log = logging.getLogger(__name__)

MERCY_S = 0.5
"""Time between SIGABRT, at which a hung worker logs its stacks, and SIGKILL."""

MOST_EARLY_ENDS = 5

Work = Callable[[int, Connection], int]
"""What a child runs, given its index and the connection for orders and reports."""


class Supervisor:
    """
    Keeps *count* workers alive, and what is wanted answering, until SIGTERM or SIGINT.

    Args:
        count: How many workers to begin with; without *scaler* that number stays.
        fleet: Decides what the workers hold, and when they switch to it.
        work: Runs in each child; returns its exit status. It drains on SIGTERM.
        attempt: Runs in the child that tries a version before the workers open it.
        board: Where the workers write their heartbeats.
        watch: Called about once a second; returns what is wanted if that has changed, else None.
        on_ready: Called when the server answers for the first time.
        drain_s: How long workers may take to drain before they are killed.
        strict: Whether the server refuses to start when some name has no version that answers.
        asked: Called with a client's request to load or unload; *watch* is called right after.
        look: Called at SIGHUP, so that the next *watch* looks at everything again.
        patience: How long to wait for a child.
        scaler: Says how many workers there should be, up to the room that *board* has.
    """

    def __init__(
        self,
        count: int,
        fleet: Fleet,
        work: Work,
        attempt: Try,
        board: Board,
        watch: Callable[[], Desired | None],
        on_ready: Callable[[], None],
        drain_s: float,
        strict: bool = True,
        asked: Callable[[Ask], None] | None = None,
        look: Callable[[], None] | None = None,
        patience: Patience = Patience(),
        scaler: Scaler | None = None,
    ) -> None:
        self._count = count
        self._scaler = scaler
        self._fleet = fleet
        self._work = work
        self._attempt = attempt
        self._board = board
        self._patience = patience
        self._trial: Trial | None = None
        self._clean = True
        self._watch = watch
        self._on_ready = on_ready
        self._drain_s = drain_s
        self._strict = strict
        self._asked = asked
        self._look = look
        self._selector = selectors.DefaultSelector()
        self._workers: list[Worker] = []
        self._stops = 0
        self._reload = self._hung_up = False
        self._ready = False
        self._watched_at = self._scaled_at = 0.0
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
        for index in range(self._board.workers):
            self._workers.append(Worker.absent(index))
        self._resize(self._count)
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
        if self._hung_up and self._look is not None:
            self._hung_up = False
            self._look()
        if self._reload or now - self._watched_at >= 1.0:
            self._watched_at, self._reload = now, False
            desired = self._watch()
            if desired is not None:
                self._fleet.want(desired)
        self._scale(now)
        for worker in list(self._workers):
            if worker.pid == 0 and worker.due <= now and not self._stops:
                self._workers[worker.index] = self._spawn(worker)
        self._fleet.turn(self._workers, now)
        self._try(now)
        self._replace_the_silent(now)
        if not self._ready and all(w.listening for w in self._staff) and self._fleet.settled:
            self._ready = True
            self._on_ready()

    def _next_wait(self) -> float:
        now = time.monotonic()
        due = [worker.due for worker in self._workers if worker.pid == 0]
        if any(worker.condemned and worker.pid for worker in self._workers):
            due.append(now + MERCY_S)
        return max(0.0, min([self._watched_at + 1.0, *due]) - now)

    def _start_failure(self) -> str | None:
        """Return why the server cannot start, if it cannot."""
        for worker in self._workers:
            if worker.pid == 0 and worker.said:
                return worker.said
            if worker.life.early_ends > MOST_EARLY_ENDS:
                return f"worker {worker.index} dies again and again while starting"
        silent = self._fleet.failures()
        if self._strict and self._fleet.settled and silent:
            return "; ".join(f"{name!r} does not answer: {why}" for name, why in silent.items())
        return None

    def _listen(self, wait: float) -> None:
        for key, _ in self._selector.select(wait):
            if key.fileobj is self._wake:
                _empty(self._wake)
            elif key.data is not None:
                worker = self._workers[key.data]
                listened = worker.listening
                self._hear(worker)
                if worker.newcomer and worker.listening and not listened:
                    self._make_room_for(worker)

    def _hear(self, worker: Worker) -> None:
        try:
            while worker.pipe.poll():
                report = worker.pipe.recv()
                if isinstance(report, str):
                    worker.said = f"worker {worker.index} ended: {report}"
                    log.error("%s", worker.said)
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

    def _spawn(self, before: Worker) -> Worker:
        now, index = time.monotonic(), before.index
        self._board.beat(index, now)
        child = start(partial(self._work, index), partial(self._shut, index))
        self._selector.register(child.pipe, selectors.EVENT_READ, index)
        life = Life(now, before.life.early_ends)
        return Worker(index, child.pid, child.pipe, life, newcomer=before.newcomer)

    def _shut(self, index: int | None = None) -> None:
        """Close, in a child, what belongs to the supervisor and to the other children."""
        self._selector.close()
        for end in (self._wake, self._woken):
            end.close()
        for other in self._workers:
            if other.pid and other.index != index:
                other.pipe.close()
        if self._trial is not None:
            self._trial.pipe.close()

    def _try(self, now: float) -> None:
        """Begin the next trial, or take the verdict of the one under way."""
        if self._trial is not None:
            verdict = self._trial.verdict(now)
            if verdict is None:
                return
            self._end_trial()
            self._fleet.tried(verdict, now)
        order = self._fleet.to_try()
        if order is not None:
            until = now + self._patience.load_s
            self._trial = Trial(order, self._attempt, self._shut, until)
            self._selector.register(self._trial.pipe, selectors.EVENT_READ, None)

    def _end_trial(self) -> None:
        if self._trial is not None:
            self._selector.unregister(self._trial.pipe)
            self._trial.end()
            self._trial = None

    def _replace_the_silent(self, now: float) -> None:
        """End the workers that hang, or cannot hold what they should."""
        for worker in self._workers:
            if not worker.pid:
                continue
            beaten = self._board.beaten(worker.index)
            if not worker.doomed and is_hung(beaten, bool(worker.loading), now, self._patience):
                worker.doomed = f"its loop has not turned for {now - beaten:.1f} s"
            if worker.doomed and not worker.condemned:
                log.error(
                    "worker %d (pid %d) is ended: %s", worker.index, worker.pid, worker.doomed
                )
                worker.condemned = now
                # faulthandler then writes every thread's stack, so the log shows what hung.
                os.kill(worker.pid, signal.SIGABRT)
            elif (worker.condemned and now - worker.condemned > MERCY_S) or (
                worker.leaves_by and now > worker.leaves_by
            ):
                os.kill(worker.pid, signal.SIGKILL)

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
            worker.due, early = respawn_at(worker.life, now, self._ready)
            worker.life = Life(worker.life.started_at, early)
            worker.pid, worker.listening = 0, False
            self._board.gone(worker.index)
            self._fleet.lost(worker, how_it_ended(status))
            if worker.leaves_by:
                log.info("worker %d (pid %d) left: %s", worker.index, pid, how_it_ended(status))
                self._workers[worker.index] = Worker.absent(worker.index)
            elif self._stops:
                # A worker that was never told to listen has cut off no client.
                self._clean = self._clean and (status == 0 or not worker.invited)
            else:
                log.warning(
                    "worker %d (pid %d) ended with %s; started again in %.2f s",
                    worker.index, pid, how_it_ended(status), worker.due - now,
                )  # fmt: skip

    # -- as many as are needed -------------------------------------------------------------

    @property
    def _staff(self) -> list[Worker]:
        """The workers that there should be, including those that wait to be restarted."""
        return [each for each in self._workers if each.due < Worker.NEVER and not each.leaves_by]

    def _scale(self, now: float) -> None:
        if self._scaler is None or not self._ready or now - self._scaled_at < 1.0:
            return
        self._scaled_at = now
        staff = self._staff
        ready = {each.index: each.pid for each in staff if each.listening}
        self._resize(self._scaler.turn(ready, len(staff), now))

    def _resize(self, count: int) -> None:
        """Have *count* workers: start some, or have some drain and leave."""
        staff = self._staff
        absent = [each for each in self._workers if each.due == Worker.NEVER]
        for worker in absent[: max(0, count - len(staff))]:
            worker.due, worker.newcomer = 0.0, self._ready
        for worker in staff[count:]:
            # One second after its own deadline, in case it does not leave by itself.
            worker.leaves_by = time.monotonic() + self._drain_s + 1.0
            if worker.pid:
                os.kill(worker.pid, signal.SIGTERM)
            else:
                self._workers[worker.index] = Worker.absent(worker.index)

    def _make_room_for(self, newcomer: Worker) -> None:
        """Have the others' clients reconnect, a share of them: else the newcomer would get none."""
        others = [each for each in self._staff if each.listening and each is not newcomer]
        for worker in others:
            worker.order(PartOrder(1 / (len(others) + 1)))

    # -- stopping --------------------------------------------------------------------------

    def _stop(self, *_: object) -> None:
        self._stops += 1

    def _hangup(self, *_: object) -> None:
        self._hung_up = self._reload = True

    def _drain(self) -> int:
        """Ask the workers to drain; kill those that will not, or all at a second signal."""
        self._stops = max(1, self._stops)
        self._end_trial()
        self._signal(signal.SIGTERM)
        # A worker's own deadline is drain_s; one second more lets it leave by itself.
        end = time.monotonic() + self._drain_s + 1.0
        killed = False
        while any(worker.pid for worker in self._workers):
            left = end - time.monotonic()
            if (left <= 0 or self._stops > 1) and not killed:
                self._signal(signal.SIGKILL)
                killed = True
            self._listen(min(0.2, max(0.01, left)))
            self._reap()
        return 0 if self._clean and not killed else 1

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
