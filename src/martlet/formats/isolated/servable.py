"""A servable in a process of its own: for files whose reader runs code that they contain."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from martlet import deadline
from martlet.deadline import HeldUp
from martlet.errors import (
    DeadlineExceeded,
    InvalidInput,
    MartletError,
    NotAvailable,
    ServableFailed,
    UnsupportedModel,
)
from martlet.formats import LoadOptions
from martlet.formats.isolated.channel import Channel, memory
from martlet.formats.isolated.launcher import launcher_of
from martlet.formats.isolated.messages import error_of, signatures_of
from martlet.formats.isolated.owed import Owed
from martlet.formats.isolated.priority import (
    Priority,
    is_suspect,
    patience_s,
    reversible,
    usual_after,
    worked_s,
)
from martlet.servable import DEFAULT_SIGNATURE
from martlet.tensors import Signature, Tensor, Tensors

log = logging.getLogger(__name__)

LEAVING_S = 0.2
"""How long a process may take to leave by itself."""

_LOOK_S = 0.01
"""How often at most it is looked how much a process has worked."""

_ASKING_SPINS_S = 1e-3
"""How long who asked waits awake for the answer."""


class Isolated:
    """
    The servable that ``opener(path, options)`` makes, living in another process.

    That process sees no environment of ours beyond paths and locale and, where the kernel lets
    it, no network. Tensors cross in shared memory, never as pickles: what it sends back is
    data. It ends when we do. When it dies it is started anew for the next call.

    Args:
        opener: ``module:function`` that opens *path* there: it takes the path and the options.
        timeout_s: How long a load may take before the process is ended.
        call_s: How long a call may; the caller's own deadline, where it is sooner.
        format: Handed to the opener too, unless None.

    Raises:
        UnsupportedModel: the file does not load there; says why.
    """

    def __init__(
        self,
        opener: str,
        path: Path,
        options: LoadOptions,
        timeout_s: float = 600.0,
        call_s: float = 60.0,
        format: str | None = None,
    ) -> None:
        self._opener = opener
        self._path = path.absolute()
        self._options = options
        self._timeout_s = timeout_s
        self._call_s = call_s
        self._format = format
        self._deaths: list[float] = []
        self._troubles: list[float] = []
        self._usual_s = self._usual_work_s = 0.0
        self._lock = threading.Lock()
        self._owed: Owed | None = None
        self._closed = False
        self._launcher = launcher_of(options.threads)
        self._pid = 0
        self._priority = Priority(0)
        self.signatures: Mapping[str, Signature] = signatures_of(self._start())

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        """
        Predict in the other process; one call at a time.

        Raises:
            DeadlineExceeded: it took too long, and the process was ended.
            NotAvailable: the process died of this call, or rests after dying again and again.
            HeldUp: a loop asks, and has waited for as long as it may.
        """
        left = deadline.remaining()
        limit = self._call_s if left is None else min(left, self._call_s)
        end = time.monotonic() + limit
        if not self._lock.acquire(blocking=False):
            self._wait_for_others(limit)
        try:
            if self._closed:
                raise ServableFailed(f"the model {self._path} is closed")
            if self._owed is not None and not self._owed.answers(inputs, signature_name):
                self._collect(self._owed, end)
            if not self._pid:
                self._rest()
                if deadline.holds_up_a_loop():
                    raise HeldUp(f"the process of {self._path} starts anew")
                self._start_anew()
            elif self._priority.idle and not is_suspect(self._troubles, time.monotonic()):
                self._priority.restore()
            return self._ask(inputs, signature_name, end)
        finally:
            self._lock.release()

    def _wait_for_others(self, limit: float) -> None:
        spares = deadline.holds_up_a_loop() and limit > deadline.LONGEST_ON_LOOP_S
        if self._lock.acquire(timeout=deadline.LONGEST_ON_LOOP_S if spares else limit):
            return
        if spares:
            raise HeldUp(f"the process of {self._path} is busy")
        raise DeadlineExceeded("the deadline passed while the model's process was busy")

    def _ask(self, inputs: Tensors, signature_name: str, end: float) -> dict[str, Tensor]:
        owed, self._owed = self._owed, None
        begun = time.monotonic()
        # A caller in a hurry does not end a process that may be as quick as ever.
        limit = min(self._call_s, max(end - begun, patience_s(self._usual_s)))
        watched = most = None
        try:
            if owed is None:
                try:
                    self._channel.send({"signature": signature_name}, inputs)
                except UnicodeError as exc:
                    raise InvalidInput(f"an input holds text that is none: {exc}") from exc
            try:
                told, outputs = self._channel.receive(min(limit, _LOOK_S))
            except TimeoutError:
                if limit > deadline.LONGEST_ON_LOOP_S and deadline.holds_up_a_loop():
                    told, outputs = self._soon(owed or Owed.of(inputs, signature_name))
                else:
                    # What a call works is asked from here on: most are answered by now.
                    watched = worked_s(self._pid)
                    most = watched + patience_s(self._usual_work_s)
                    told, outputs = self._answer(most, begun + limit)
        except TimeoutError as exc:
            # One that yields and had no core may be late for want of it.
            if not self._priority.idle or most is None or worked_s(self._pid) >= most:
                self._troubles = [*self._troubles[-9:], time.monotonic()]
            self._end(0.0)
            self._start_soon()
            raise DeadlineExceeded(
                f"the model took longer than {limit:.3g} s and was ended"
            ) from exc
        except (EOFError, OSError) as exc:
            self._deaths = [*self._deaths[-9:], time.monotonic()]
            self._troubles = [*self._troubles[-9:], self._deaths[-1]]
            how = self._end()
            self._start_soon()
            raise NotAvailable(
                f"the model's process died while it answered: {how}; it is started anew"
            ) from exc
        self._usual_s = usual_after(self._usual_s, time.monotonic() - begun)
        work = 0.0 if watched is None else worked_s(self._pid) - watched
        self._usual_work_s = usual_after(self._usual_work_s, work)
        if "error" in told:
            raise error_of(told)
        return {
            name: value if value.dtype.hasobject else value.copy()  # what is a view of memory
            for name, value in outputs.items()
        }

    def _soon(self, question: Owed) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return what the process sends before the loop that waits must go on."""
        try:
            return self._channel.receive(deadline.LONGEST_ON_LOOP_S - _LOOK_S)
        except TimeoutError:
            self._owed = question
            raise HeldUp(f"{self._path} takes longer than a loop may wait") from None

    def _collect(self, owed: Owed, end: float) -> None:
        """Take the answer that the process owes; who wanted it may never ask for it again."""
        try:
            self._ask(owed.inputs, owed.signature_name, end)
        except HeldUp:
            raise
        except MartletError as exc:
            log.info("%s: an answer that nobody waited for: %s", self._path, exc)

    def _answer(self, most_s: float, end: float) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return what the process sends by *end*; once it has worked *most_s* it has to yield."""
        while not self._priority.idle:
            left = most_s - worked_s(self._pid)
            if left <= 0:
                if self._priority.lower():
                    log.info("%s works longer than usual: it yields meanwhile", self._path)
                break
            with contextlib.suppress(TimeoutError):
                # Who only waits, for a core or for anything else, takes nobody's.
                return self._channel.receive(min(max(left, _LOOK_S), _seconds_to(end)))
            if time.monotonic() >= end:
                break
        return self._channel.receive(_seconds_to(end))

    def _start_soon(self) -> None:
        """Have a thread start the process, so that the next call need not."""
        if resting_until(self._deaths) <= time.monotonic():
            threading.Thread(target=self._start_again, daemon=True).start()

    def _start_again(self) -> None:
        with self._lock, contextlib.suppress(MartletError):
            if not self._pid and not self._closed:
                self._start_anew()

    def _start_anew(self) -> None:
        try:
            self._start()
        except UnsupportedModel as exc:
            # It did load once: the file is not to blame, nor who asks.
            self._deaths = [*self._deaths[-9:], time.monotonic()]
            raise NotAvailable(f"the model's process did not start anew: {exc}") from exc

    def _rest(self) -> None:
        wait = resting_until(self._deaths) - time.monotonic()
        if wait > 0:
            raise NotAvailable(
                f"the model's process died {len(self._deaths)} times in a row; "
                f"it is tried again in {wait:.0f} s"
            )

    def _start(self) -> Any:
        idle = is_suspect(self._troubles, time.monotonic()) and reversible()
        if idle:
            log.info("%s was ended again and again: it yields to everybody for now", self._path)
        ours, theirs = socket.socketpair()
        given, taken = memory(), memory()
        crossing = (theirs.fileno(), taken, given)  # what we give they take
        try:
            self._pid = self._launcher.start(*crossing, idle=idle)
        except OSError as exc:
            ours.close()
            os.close(given)
            os.close(taken)
            raise NotAvailable(f"{self._path}: no process can be started for it: {exc}") from exc
        finally:
            theirs.close()
        self._channel = Channel(ours, given, taken, _ASKING_SPINS_S)
        self._priority = Priority(self._pid, idle)
        try:
            self._channel.tell(
                {
                    "opener": self._opener,
                    "path": str(self._path),
                    "threads": self._options.threads,
                    "trusted": self._options.trusted,
                    "format": self._format,
                }
            )
            told, _ = self._channel.receive(self._timeout_s)
        except TimeoutError as exc:
            self._end(0.0)
            raise UnsupportedModel(
                f"{self._path} did not load in {self._timeout_s:g} s, and its process was ended"
            ) from exc
        except (EOFError, OSError) as exc:
            raise UnsupportedModel(
                f"{self._path} did not load in its own process: {self._end()}"
            ) from exc
        if "error" in told:
            self._end()
            raise error_of(told)
        return told["signatures"]

    def _end(self, patience_s: float = LEAVING_S) -> str:
        pid, self._pid, self._owed = self._pid, 0, None
        if not pid:
            return "it had ended"
        # It ends by itself when the channel closes, unless it hangs.
        self._channel.close()
        code = self._launcher.end(pid, patience_s)
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._closed = True
            self._end()


def _seconds_to(moment: float) -> float:
    return max(0.001, moment - time.monotonic())


_MANY_DEATHS, _AMONG_S = 3, 60.0
_FIRST_REST_S, _LONGEST_REST_S = 5.0, 300.0


def resting_until(deaths: list[float]) -> float:
    """
    Return until when a process that died at these times, in seconds, is not started again.

    Deaths far apart are accidents, and two in a row are forgiven; then each rest is twice as long.

    >>> [resting_until(d) for d in ([], [1.0, 2.0], [1.0, 2.0, 3.0], [1.0, 998.0, 999.0])]
    [0.0, 0.0, 8.0, 0.0]
    """
    row = 1
    for earlier, later in zip(deaths[-2::-1], deaths[:0:-1], strict=True):
        if later - earlier > _AMONG_S + _LONGEST_REST_S:
            break
        row += 1
    if not deaths or row < _MANY_DEATHS:
        return 0.0
    return deaths[-1] + min(_FIRST_REST_S * 2.0 ** (row - _MANY_DEATHS), _LONGEST_REST_S)
