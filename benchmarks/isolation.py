"""What batches and isolation cost and bring: W1 and W2 under each setting, beside none.

python benchmarks/isolation.py [--seconds 4] [--connections 16]        (needs wrk)

For each: requests a second, server CPU-microseconds a request (user + system, of every process of
the server), and the median and 99th percentile of latency. One worker.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import workloads

SETTINGS = {
    "inline": "",
    "inline, batches of 64": "max_rows = 64",
    "inline, batches of 1024": "max_rows = 1024",
    "thread": 'isolation = "thread"',
    "process": 'isolation = "process"',
    "process, batches of 1024": 'isolation = "process"\nmax_rows = 1024',
}
TICKS = os.sysconf("SC_CLK_TCK")


def descendants(pid: int) -> list[int]:
    """Every process below *pid*."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += [int(child), *descendants(int(child))]
    return found


def cpu_s(pids: list[int]) -> float:
    """User and system seconds of *pids* so far."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def measure(work: workloads.Workload, settings: str, seconds: int, connections: int) -> str:
    """Serve *work* under *settings*, ask it with wrk, and return a row of figures."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "settings.toml").write_text(f"[m]\n{settings}\n")
        body = work.bodies["rows"]
        (folder / "body").write_bytes(body)
        script = folder / "ask.lua"
        script.write_text(
            f'wrk.method = "POST"\nlocal f = io.open("{folder}/body", "rb")\n'
            'wrk.body = f:read("*a")\n'
        )
        server = subprocess.Popen(
            [
                *(sys.executable, "-m", "martlet", "serve", "--model", f"m={work.model}"),
                *("--rest-port", "0", "--workers", "1"),
                *("--model-settings", str(folder / "settings.toml")),
            ],
            stdout=subprocess.PIPE,
            text=True,
        )
        try:
            assert server.stdout is not None
            found = re.search(r"http://\S+", server.stdout.readline())
            assert found, "the server did not start"
            url = f"{found.group()}/v1/models/m:predict"

            def ask(for_s: int) -> str:
                command = ["wrk", "-t1", f"-c{connections}", f"-d{for_s}s", "--latency"]
                return subprocess.run(
                    [*command, "-s", str(script), url], capture_output=True, text=True, check=True
                ).stdout

            ask(1)
            pids = descendants(server.pid)
            before = cpu_s(pids)
            out = ask(seconds)
            used = cpu_s(pids) - before
        finally:
            server.terminate()
            server.wait()
    assert "Non-2xx" not in out, out
    matched = re.search(r"(\d+) requests in ([\d.]+)s", out)
    assert matched, out
    count, took = int(matched[1]), float(matched[2])
    median, tail = (re.search(rf"{p}%\s+(\S+)", out) for p in (50, 99))
    assert median and tail, out
    return f"{count / took:>8.0f}/s {used / count * 1e6:>7.0f} us {median[1]:>9} {tail[1]:>9}"


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--connections", type=int, default=16)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for work in workloads.make(Path(folder)):
            print(f"{work.name}, {given.connections} connections")
            for name, settings in SETTINGS.items():
                row = measure(work, settings, given.seconds, given.connections)
                print(f"  {name:26} {row}", flush=True)


if __name__ == "__main__":
    main()
