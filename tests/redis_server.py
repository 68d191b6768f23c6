"""A Redis of our own, for as long as a test needs it."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def redis_server() -> Iterator[str]:
    """Give the URL of a Redis that keeps nothing; skip the test where there is none to start."""
    redis = pytest.importorskip("redis")
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        pytest.skip("no redis-server here: apt-get install redis-server")
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        path = Path(folder) / "socket"
        process = subprocess.Popen(
            [program, "--port", "0", "--unixsocket", str(path), "--save", "", "--dir", folder],
            stdout=subprocess.DEVNULL,
        )
        url = f"unix://{path}"
        try:
            end = time.monotonic() + 20
            while True:
                try:
                    redis.Redis.from_url(url).ping()
                    break
                except redis.exceptions.ConnectionError:
                    assert time.monotonic() < end, "redis-server did not start"
                    time.sleep(0.02)
            yield url
        finally:
            process.terminate()
            process.wait()
