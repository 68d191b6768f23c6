"""What figures are of: the machine and the commit; and the least time of calls."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path


def machine() -> str:
    """Return the processor, its cores, how busy they are, Python's version and the commit."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parent,
    ).stdout.strip()
    told = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in told if line.startswith("model name")]
    cores, load = len(os.sched_getaffinity(0)), os.getloadavg()[0]
    return (
        f"{names[0] if names else platform.machine()}, {cores} cores, load {load:.1f}, "
        f"Python {platform.python_version()}, commit {commit}"
    )


def fastest(call: Callable[[], object], seconds: float = 1.0) -> float:
    """Return the least time of one call, in seconds: the machine's noise only adds."""
    call()
    least, until = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < until:
        begun = time.perf_counter()
        call()
        least = min(least, time.perf_counter() - begun)
    return least


def turns(
    calls: Sequence[Callable[[], object]],
    seconds: float = 0.5,
    clock: Callable[[], float] = time.perf_counter,
) -> list[float]:
    """
    Return the best time of each call, in microseconds; they take turns for *seconds* in all.

    Rounds are short, so that on a busy machine some are whole. The first call of a round, which
    finds the caches full of another's and an isolated process asleep, is not counted.
    """
    repeat = []
    for call in calls:
        call()
        begun = time.perf_counter()
        call()
        repeat.append(max(1, min(5000, int(0.02 / (time.perf_counter() - begun)))))
    best, rounds, until = [float("inf")] * len(calls), 0, time.perf_counter() + seconds
    while time.perf_counter() < until or rounds < 3:
        for at, call in enumerate(calls):
            call()
            begun = clock()
            for _ in range(repeat[at]):
                call()
            best[at] = min(best[at], (clock() - begun) / repeat[at])
        rounds += 1
    return [each * 1e6 for each in best]
