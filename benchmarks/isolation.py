"""What batches and isolation cost and bring: W1 and W2 under each setting, beside none.

    python benchmarks/isolation.py [--seconds 4] [--connections 16] [--rounds 3]     (needs wrk)
    python benchmarks/isolation.py --before ../older/src     beside another checkout

Each figure is the median of the rounds, in which all take turns: requests a second, server
CPU-microseconds a request (user + system, of every process of the server), the median and 99th
percentile of latency. One worker.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import workloads
from load import Sample, measure
from machine import machine

SETTINGS = {
    "inline": "",
    "inline, batches of 64": "max_rows = 64",
    "inline, batches of 1024": "max_rows = 1024",
    "thread": 'isolation = "thread"',
    "process": 'isolation = "process"',
    "process, batches of 1024": 'isolation = "process"\nmax_rows = 1024',
}


@dataclass(frozen=True, slots=True)
class Case:
    """A server of one workload: its settings, and whose code it runs (None: this checkout's)."""

    name: str
    settings: str = ""
    source: Path | None = None


def one(case: Case, work: workloads.Workload, form: str, given: argparse.Namespace) -> Sample:
    """Serve *work* as *case* says, ask it with wrk, and return what that took."""
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "settings.toml"
        settings.write_text(f"[m]\n{case.settings}\n")
        command = [sys.executable, "-m", "martlet", "serve", "--model", f"m={work.model}"]
        command += ["--rest-port", "0", "--workers", "1"]
        if case.settings:
            command += ["--model-settings", str(settings)]
        env = dict(os.environ)
        if case.source is not None:
            env["PYTHONPATH"] = str(case.source)
        server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
        try:
            assert server.stdout is not None
            found = re.search(r"http://[^\s)]+", server.stdout.readline())
            assert found, "the server did not start"
            url, body = f"{found.group()}/v1/models/m:predict", work.bodies[form]
            measure(server.pid, url, body, given.connections, 1)
            sample = measure(server.pid, url, body, given.connections, given.seconds)
        finally:
            server.terminate()
            server.wait()
    assert not sample.bad, f"{case.name}: {sample.bad} bad answers"
    return sample


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--before", type=Path, help="the src folder of another checkout, built")
    given = parser.parse_args()
    print(machine())
    cases = [Case(name, settings) for name, settings in SETTINGS.items()]
    if given.before is not None:
        cases = [Case("this checkout"), Case("before", source=given.before.resolve())]
    with tempfile.TemporaryDirectory() as folder:
        for work in workloads.make(Path(folder)):
            for form in ("rows",) if given.before is None else ("rows", "columns"):
                print(f"{work.name} by {form}, {given.connections} connections", flush=True)
                samples: dict[str, list[Sample]] = {case.name: [] for case in cases}
                for number in range(given.rounds):
                    for case in cases[:: 1 if number % 2 else -1]:
                        samples[case.name].append(one(case, work, form, given))
                _print(samples)


def _print(samples: dict[str, list[Sample]]) -> None:
    first = next(iter(samples.values()))
    for name, found in samples.items():
        rps, cpu, p50, p99 = (
            statistics.median(getattr(each, field) for each in found)
            for field in ("rps", "cpu_us", "p50", "p99")
        )
        ratio = statistics.median(
            each.cpu_us / other.cpu_us for each, other in zip(found, first, strict=True)
        )
        print(f"  {name:26} {rps:>8.0f}/s {cpu:>7.1f} us ({ratio:.2f}) {p50:>8.2f} {p99:>8.2f} ms")


if __name__ == "__main__":
    main()
