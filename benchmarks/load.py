"""Load from wrk, and what the server spent on it: CPU by /proc over all of its processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")

_SCRIPT = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local f = io.open(os.getenv("BODY"), "rb"); wrk.body = f:read("*a"); f:close()
function done(s, l, r)
  local bad = s.errors.status + s.errors.connect + s.errors.read + s.errors.write + s.errors.timeout
  io.stderr:write(string.format('{"n":%d,"us":%d,"bad":%d,"p50":%d,"p95":%d,"p99":%d}',
    s.requests, s.duration, bad, l:percentile(50), l:percentile(95), l:percentile(99)))
end
"""


@dataclass(frozen=True, slots=True)
class Sample:
    """One run of the load. Latencies in milliseconds; cpu_us is the server's, per request."""

    rps: float
    p50: float
    p95: float
    p99: float
    cpu_us: float
    bad: int


@contextmanager
def server(
    command: Sequence[str], ready: str, env: Mapping[str, str] | None = None
) -> Iterator[int]:
    """Start *command*, wait until *ready* answers, and end it; gives its pid."""
    process = subprocess.Popen(
        command,
        env={**os.environ, **(env or {})},
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait(ready, process)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        if process.poll() is None:
            process.kill()


def _wait(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with suppress(OSError), urllib.request.urlopen(url, timeout=2) as response:
            if response.status == 200:
                return
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}")
        time.sleep(0.1)
    raise RuntimeError(f"{url} did not answer within a minute")


def family_cpu_s(root: int) -> float:
    """Return the CPU seconds, user and system, of *root* and all that descend from it."""
    parent: dict[int, int] = {}
    cpu: dict[int, float] = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with suppress(OSError):
            fields = (entry / "stat").read_text().rpartition(")")[2].split()
            parent[int(entry.name)] = int(fields[1])
            cpu[int(entry.name)] = (int(fields[11]) + int(fields[12])) * TICK_S
    family = {root}
    while True:
        children = {pid for pid, up in parent.items() if up in family} - family
        if not children:
            return sum(cpu.get(pid, 0.0) for pid in family)
        family |= children


def post(url: str, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """Return what *url* answers to *body*."""
    request = urllib.request.Request(url, data=body, headers=dict(headers or {}))
    with urllib.request.urlopen(request, timeout=20) as response:
        found: bytes = response.read()
        return found


def measure(
    pid: int,
    url: str,
    body: bytes,
    connections: int,
    seconds: int,
    headers: Mapping[str, str] | None = None,
) -> Sample:
    """Load *url* in a closed loop from *connections* clients of one thread."""
    more = "".join(f'wrk.headers["{k}"] = "{v}"\n' for k, v in (headers or {}).items())
    with tempfile.TemporaryDirectory() as scratch:
        script, content = Path(scratch, "post.lua"), Path(scratch, "body")
        script.write_text(_SCRIPT + more)
        content.write_bytes(body)
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(script), url]
        before = family_cpu_s(pid)
        run = subprocess.run(
            command, env={**os.environ, "BODY": str(content)}, capture_output=True, text=True
        )
        spent = family_cpu_s(pid) - before
    found = json.loads(run.stderr[run.stderr.index("{") :])
    return Sample(
        rps=found["n"] / found["us"] * 1e6,
        p50=found["p50"] / 1e3,
        p95=found["p95"] / 1e3,
        p99=found["p99"] / 1e3,
        cpu_us=spent * 1e6 / max(1, found["n"]),
        bad=found["bad"],
    )


def measure_get(pid: int, url: str, connections: int, seconds: int) -> Sample:
    """Load *url* in the same loop with GET: what an empty reply costs. Without latencies."""
    before = family_cpu_s(pid)
    run = subprocess.run(
        ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", url],
        capture_output=True,
        text=True,
        check=True,
    )
    spent = family_cpu_s(pid) - before
    count = int(run.stdout.split(" requests in")[0].split()[-1])
    return Sample(count / seconds, 0.0, 0.0, 0.0, spent * 1e6 / count, 0)
