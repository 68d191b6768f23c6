"""The process that a model lives in: it opens the file and answers until nobody asks."""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import os
import resource
import socket
import threading
import time
from pathlib import Path

from martlet.errors import MartletError
from martlet.formats import LoadOptions
from martlet.formats.isolated.channel import Channel
from martlet.formats.isolated.messages import described
from martlet.servable import Servable

_ANSWERED_SPINS_S = 100e-6
"""How long who answered waits awake for the next question."""

_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000


def serve(other: int, given: int, taken: int) -> None:
    """Open a model and answer calls for it until the other process is gone: the child's life."""
    _confine()
    threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()
    channel = Channel(socket.socket(fileno=other), given, taken, _ANSWERED_SPINS_S, answers=True)
    asked, _ = channel.receive()
    servable: Servable
    try:
        module, _, function = asked["opener"].partition(":")
        opener = getattr(importlib.import_module(module), function)
        options = LoadOptions(trusted=asked["trusted"], threads=asked["threads"])
        more = () if asked["format"] is None else (asked["format"],)
        servable = opener(Path(asked["path"]), options, *more)
        channel.tell({"signatures": described(servable.signatures)})
    except BaseException as exc:
        _tell(channel, exc, "UnsupportedModel", f"{asked['path']} does not load: ")
        return
    while True:
        try:
            asked, inputs = channel.receive()
        except (EOFError, OSError):
            return
        try:
            channel.send({}, servable.predict(inputs, asked["signature"]))
        except Exception as exc:
            _tell(channel, exc, "ServableFailed", "the model failed: ")


def _tell(channel: Channel, exc: BaseException, kind: str, prefix: str) -> None:
    if isinstance(exc, MartletError):
        kind, prefix = type(exc).__name__, ""
    name = "" if isinstance(exc, MartletError) else f"{type(exc).__name__}: "
    channel.tell({"error": kind, "message": f"{prefix}{name}{exc}"})


def _confine() -> None:
    """Give up what a model does not need; what the kernel refuses to take is kept."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    library = ctypes.CDLL(None, use_errno=True)
    with contextlib.suppress(AttributeError, OSError):
        library.prctl(38, 1, 0, 0, 0)  # PR_SET_NO_NEW_PRIVS
        library.unshare(_CLONE_NEWUSER | _CLONE_NEWNET)


def _follow(parent: int) -> None:
    # Not PR_SET_PDEATHSIG: it fires when the thread that loaded the model ends.
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)
