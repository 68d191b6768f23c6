"""A server and commands as a user runs them: in processes of their own, on free ports."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# How long anything may take on a machine that has much else to do.
WAIT_S = 60.0

_READY = re.compile(r"ready at http://(\S+?)(?: \(gRPC at (\S+)\))?$")


def ask(
    where: str, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
) -> tuple[int, Any]:
    """Return the status and the answer (JSON where it is), asked on a connection of its own."""
    connection = http.client.HTTPConnection(where, timeout=WAIT_S)
    with contextlib.closing(connection):
        raw = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
        connection.request(method, path, raw, headers or {})
        response = connection.getresponse()
        text = response.read()
        with contextlib.suppress(ValueError):
            return response.status, json.loads(text)
        return response.status, text


def until(true: Callable[[], bool]) -> None:
    """Wait until *true* holds."""
    end = time.monotonic() + WAIT_S
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


@dataclass
class Server:
    """A running ``martlet serve``: where it answers, as ``host:port``, and what it wrote."""

    rest: str
    grpc: str
    process: subprocess.Popen[str]
    log: Path

    @property
    def port(self) -> int:
        return int(self.rest.rpartition(":")[2])

    @property
    def url(self) -> str:
        return f"http://{self.rest}"

    def ask(self, path: str, body: object = None) -> tuple[int, Any]:
        return ask(self.rest, "GET" if body is None else "POST", path, body)

    def until(self, path: str, true: Callable[[int, Any], bool], body: object = None) -> None:
        """Wait until the answer of *path* is as wanted."""
        until(lambda: true(*self.ask(path, body)))

    def cpu_s(self) -> float:
        """What its workers have computed, in seconds of CPU: waiting on a busy machine is none."""
        stats = [Path(f"/proc/{pid}/stat").read_text() for pid in self.workers()]
        ticks = [sum(map(int, each.rpartition(")")[2].split()[11:13])) for each in stats]
        return sum(ticks) / os.sysconf("SC_CLK_TCK")

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]


@contextlib.contextmanager
def serving(*arguments: object, workers: int = 1) -> Iterator[Server]:
    """Run ``martlet serve`` with *arguments* for the block; SIGTERM ends it, and it drains."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        command = [sys.executable, "-m", "martlet", "serve", *map(str, arguments)]
        command += ["--rest-port=0", "--grpc-port=0", f"--workers={workers}"]
        with log.open("w") as errors:
            process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                found = _READY.search(line.strip())
                if found is not None:
                    break
            else:
                process.wait(WAIT_S)
                raise AssertionError(f"it did not start: {log.read_text()[-2000:]}")
            yield Server(found[1], found[2], process, log)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(WAIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
            process.stdout.close()


def martlet(*words: object, code: int = 0, stdin: str | None = None) -> str:
    """Run a command as somebody would type it; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "martlet", *map(str, words)],
        capture_output=True,
        text=True,
        input=stdin,
        timeout=600,
        check=False,
        env={**os.environ, "COLUMNS": "200", "MARTLET_ROOT": "", "NO_COLOR": "1"},
    )
    assert done.returncode == code, f"martlet {words}: {done.returncode}\n{done.stderr}"
    return done.stdout if code == 0 else done.stderr
