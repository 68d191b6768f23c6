"""Starts the processes of isolated models: a small process that only forks.

A busy process that starts another stalls: between ``vfork`` and ``exec`` it holds its interpreter
until the child has been given a core, which may take a hundred milliseconds. So the one that
answers requests starts nothing: it asks the launcher, which has the common libraries loaded and
forks in a few milliseconds.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time

from martlet.formats.isolated.priority import NICER, Priority, idling

_KEPT = (
    "PATH",
    "LANG",
    "LC_ALL",
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
    "TZ",
    "VIRTUAL_ENV",
    "MARTLET_NATIVE",
)
# Arrays of many rows come again and again: memory that was given back costs a fault for each page.
_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(64 << 20)}
_LONGEST = 64
_DYING_S = 0.05


class Launcher:
    """
    A launcher process, and our end of the socket to it. It ends when we do; any thread may ask.

    Args:
        threads: That the numeric libraries of what it starts may use.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._lock = threading.Lock()
        self._socket: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, *crossing: int, idle: bool = False) -> int:
        """
        Start a process that serves a model over three descriptors; return its pid.

        Args:
            idle: It yields to everybody from its first moment (``priority``).

        Raises:
            OSError: none can be started.
        """
        words = b"start idle" if idle else b"start"
        with self._lock:
            try:
                return int(self._ask(words, *crossing))
            except (OSError, ValueError):
                # It was killed: nothing else ends it. The next one is as good.
                self._close()
                try:
                    return int(self._ask(words, *crossing))
                except ValueError:
                    raise OSError("the launcher of isolated models does not answer") from None

    def end(self, pid: int, patience_s: float) -> int:
        """Return how the process *pid* ended, as a return code; kill it after *patience_s*."""
        with self._lock:
            try:
                return int(self._ask(b"end %d %f" % (pid, patience_s)))
            except (OSError, ValueError):
                # Whom the launcher started it alone knows; without it they leave by themselves.
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
                return -signal.SIGKILL

    def _ask(self, words: bytes, *crossing: int) -> bytes:
        if self._socket is None:
            if not crossing:
                raise OSError("there is no launcher")
            self._open()
        assert self._socket is not None
        socket.send_fds(self._socket, [words], crossing)
        return self._socket.recv(_LONGEST)

    def _open(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-c"),
                    "import sys; from martlet.formats.isolated.launcher import launch; "
                    "launch(int(sys.argv[1]))",
                    str(theirs.fileno()),
                ],
                env={k: os.environ[k] for k in _KEPT if k in os.environ}
                | {"OMP_NUM_THREADS": str(self._threads)}
                | _MEMORY,
                pass_fds=(theirs.fileno(),),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )

    def _close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def close(self) -> None:
        """End the launcher; those that it started leave by themselves."""
        with self._lock:
            self._close()


_launchers: dict[int, Launcher] = {}
_first = threading.Lock()


def launcher_of(threads: int) -> Launcher:
    """Return this process's launcher of models that may use *threads*."""
    with _first:
        if threads not in _launchers:
            _launchers[threads] = Launcher(threads)
        return _launchers[threads]


@atexit.register
def _end_all() -> None:
    for each in _launchers.values():
        each.close()


# A forked process has launchers of its own.
os.register_at_fork(after_in_child=_launchers.clear)


# -- in the launcher ----------------------------------------------------------------------------


def launch(fd: int) -> None:
    """Start and end processes as we are asked to, until who asks is gone: the launcher's life."""
    from martlet.formats.isolated.child import serve

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICER)
    asking = socket.socket(fileno=fd)
    gc.freeze()
    while True:
        words, crossing, _, _ = socket.recv_fds(asking, _LONGEST, 3)
        if not words:
            os._exit(0)
        if words.startswith(b"start"):
            # What forks is as urgent as what is forked: a fork takes a core for a millisecond.
            with idling() if words.endswith(b"idle") else contextlib.nullcontext():
                pid = os.fork()
                if pid == 0:
                    asking.close()
                    try:
                        serve(*crossing)
                    finally:
                        sys.stderr.flush()
                        os._exit(0)
            for each in crossing:
                os.close(each)
            asking.send(b"%d" % pid)
        else:
            _, whom, patience_s = words.split()
            asking.send(b"%d" % _ended(int(whom), float(patience_s)))


def _ended(pid: int, patience_s: float) -> int:
    code = _left(pid, patience_s)
    if code is None:
        os.kill(pid, signal.SIGKILL)
        code = _left(pid, _DYING_S)
    if code is None:
        # To die takes a core too: where all are wanted, one that yields to everybody gets none.
        Priority(pid, idle=True).restore()
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return code


def _left(pid: int, patience_s: float) -> int | None:
    """Return how *pid* ended, if it does so in time."""
    end = time.monotonic() + patience_s
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= end:
            return None
        time.sleep(0.002)
