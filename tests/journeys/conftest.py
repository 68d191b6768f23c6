"""A server as a user starts it: ``martlet serve`` in a process of its own, on free ports."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from . import models

_READY = re.compile(r"ready at http://(\S+?)(?: \(gRPC at (\S+)\))?$")


@dataclass
class Server:
    """Where it answers, as ``host:port``, and what it wrote."""

    rest: str
    grpc: str
    process: subprocess.Popen[str]
    log: Path


@contextlib.contextmanager
def serving(*arguments: str, workers: int = 1) -> Iterator[Server]:
    """Run ``martlet serve`` with *arguments* for the block; SIGTERM ends it, and it drains."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        command = [sys.executable, "-m", "martlet", "serve", *arguments]
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
                process.wait(30)
                raise AssertionError(f"it did not start: {log.read_text()[-2000:]}")
            yield Server(found[1], found[2], process, log)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
            process.stdout.close()


@pytest.fixture(scope="session")
def onnx_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of three small ONNX models: ``sums``, ``words`` and ``slow``."""
    pytest.importorskip("onnx")
    folder = tmp_path_factory.mktemp("models")
    arguments = []
    for make in (models.sums, models.words, models.slow):
        path = make(folder / f"{make.__name__}.onnx")
        arguments += ["--model", f"{make.__name__}={path}"]
    with serving(*arguments, "--rest_api_timeout_in_ms=2000") as server:
        yield server
