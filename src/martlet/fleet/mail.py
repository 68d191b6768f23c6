"""A worker's end of the pipe to its supervisor, for several threads."""

from __future__ import annotations

import threading
from multiprocessing.connection import Connection
from typing import Any


class Mail:
    """Sends whole messages one after the other; one thread reads."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    def send(self, message: Any) -> None:
        """Send *message*, which must be a plain value that pickles."""
        with self._lock:
            self._pipe.send(message)

    def recv(self) -> Any:
        """Return the next message. Raises EOFError, OSError: the supervisor is gone."""
        return self._pipe.recv()
