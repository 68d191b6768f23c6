"""Processes that die or end while clients keep asking."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .running import WAIT_S, Server, serving, until


@dataclass
class Load:
    """Threads that ask one request after the other on connections that they keep."""

    port: int
    stop: threading.Event = field(default_factory=threading.Event)
    answered: int = 0
    failed: list[str] = field(default_factory=list)

    BODY = b'{"user": 1, "size": 3}'

    def run(self) -> None:
        request = (
            b"POST /v1/recommenders/films:recommend HTTP/1.1\r\nHost: x\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(self.BODY), self.BODY)
        )
        while not self.stop.is_set():
            try:
                self._on_one_connection(request)
            except ConnectionRefusedError:
                return
            except OSError as exc:
                self.failed.append(str(exc))

    def _on_one_connection(self, request: bytes) -> None:
        with socket.create_connection(("127.0.0.1", self.port), WAIT_S) as sock:
            file = sock.makefile("rb")
            while not self.stop.is_set():
                sock.sendall(request)
                status = file.readline()
                headers = {}
                while (line := file.readline()) not in (b"\r\n", b""):
                    name, _, value = line.partition(b":")
                    headers[name.lower()] = value.strip()
                body = file.read(int(headers.get(b"content-length", 0)))
                if not status.startswith(b"HTTP/1.1 200") or not body.endswith(b"}"):
                    raise OSError(f"cut off: {status!r}")
                self.answered += 1
                if headers.get(b"connection") == b"close":
                    return


@contextlib.contextmanager
def under_load(server: Server, threads: int = 4) -> Iterator[list[Load]]:
    loads = [Load(server.port) for _ in range(threads)]
    running = [threading.Thread(target=load.run, daemon=True) for load in loads]
    for thread in running:
        thread.start()
    try:
        yield loads
    finally:
        for load in loads:
            load.stop.set()
        for thread in running:
            thread.join(WAIT_S)


def _answered(loads: list[Load], more: int) -> None:
    """Wait until so many more requests have been answered."""
    before = sum(load.answered for load in loads)
    until(lambda: sum(load.answered for load in loads) >= before + more)


def test_a_killed_worker_comes_back_and_sigterm_under_load_loses_nothing(demo: Path):
    with serving("--root", demo / "registry", workers=2) as server:
        before = server.workers()
        assert len(before) == 2
        with under_load(server) as loads:
            _answered(loads, 100)
            os.kill(before[0], signal.SIGKILL)
            until(lambda: before[0] not in server.workers() and len(server.workers()) == 2)
            _answered(loads, 100)
        # Those who were talking to it were cut off, once; everybody else was not.
        assert max(len(load.failed) for load in loads) <= 1
        # The new worker answers too, before what follows.
        with under_load(server) as loads:
            _answered(loads, 200)
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(WAIT_S) == 0
        assert [each for load in loads for each in load.failed] == []
