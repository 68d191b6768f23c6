"""A call that may end the process, tried in a copy of the process first."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import resource
import signal
import time
import warnings
from collections.abc import Callable

_LONGEST_S = 120.0
_LOOK_S = 0.002


def survives(call: Callable[[], object], longest_s: float = _LONGEST_S) -> bool:
    """
    Return whether a copy of this process outlives *call*. What it raises there is no death.

    The copy has the calling thread alone, says nothing, and is ended after *longest_s*.
    """
    with warnings.catch_warnings():
        # Python 3.12 and later warn of other threads' locks: the copy runs one library's call.
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        try:
            faulthandler.disable()
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
            with contextlib.suppress(BaseException):
                call()
        finally:
            os._exit(0)
    end = time.monotonic() + longest_s
    while True:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            return status == 0
        if time.monotonic() >= end:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            return False
        time.sleep(_LOOK_S)
