"""Workers come with the load and leave after it, and no request notices."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from drive import LIMIT_S, Client, Load, Server, Stalls, regressions, serving, until, write_version

TARGET_MS = 130.0
WAIT_MS = 40
AT_ONCE = 4


def elastic(tmp_path: Path, shrink_s: float) -> list[str]:
    """A model that waits 40 ms, four calls at once in each worker; one to four workers."""
    write_version(tmp_path / "m", 1, wait_ms=WAIT_MS)
    settings = tmp_path / "settings.toml"
    settings.write_text(f'[m]\nisolation = "thread"\nthreads = {AT_ONCE}\n')
    return [
        "--model_name=m", f"--model_base_path={tmp_path / 'm'}",
        "--model-settings", str(settings), "--log-level", "info", "--log-format", "json",
        "--workers-min", "1", "--workers-max", "4",
        "--target-p95-ms", str(TARGET_MS), "--shrink-s", str(shrink_s),
    ]  # fmt: skip


async def workers(server: Server) -> dict[str, Any]:
    _, _, body = await Client(server.port).ask("GET", "/workers")
    found: dict[str, Any] = json.loads(body)
    return found


async def meets(server: Server, true: Callable[[int], bool]) -> float:
    """Wait until *true* of how many workers answer; return how long that took."""
    started = time.monotonic()
    while not true((await workers(server))["ready"]):
        assert time.monotonic() - started < LIMIT_S, await workers(server)
        await asyncio.sleep(0.1)
    return time.monotonic() - started


def test_workers_follow_the_load_and_no_request_fails(tmp_path, log, times, figures):
    """Fourteen calls at once where a worker takes four; a swap as they come, one as they leave."""
    shrink_s, stalls = times(2, 8), Stalls()

    async def run(server: Server) -> tuple[Load, Load, Load, float, float]:
        async with Load(server.port, connections=14, renew=15, seed=21) as rising:
            await until(rising, 1)
            # The version changes while workers come.
            while (await workers(server))["workers"] == 1:
                await asyncio.sleep(0.05)
            write_version(tmp_path / "m", 2, wait_ms=WAIT_MS)
            server.signal(signal.SIGHUP)
            grew = await meets(server, lambda ready: ready == 4)
            await until(rising, 2)
        async with Load(server.port, connections=14, renew=15, seed=22) as grown, stalls:
            await asyncio.sleep(times(3, 10))
        # Next to nobody asks; the version changes while workers leave.
        async with Load(server.port, connections=2, pause_s=0.2, renew=3, seed=23) as falling:
            await meets(server, lambda ready: ready <= 3)
            write_version(tmp_path / "m", 3, wait_ms=WAIT_MS)
            server.signal(signal.SIGHUP)
            shrank = await meets(server, lambda ready: ready == 1)
            await until(falling, 3)
        return rising, grown, falling, grew, shrank

    with serving(*elastic(tmp_path, shrink_s), log=log) as server:
        rising, grown, falling, grew, shrank = asyncio.run(run(server))
        told = asyncio.run(workers(server))
        _, _, metrics = asyncio.run(
            Client(server.port).ask("GET", "/monitoring/prometheus/metrics")
        )
        assert len(server.children()) == 1
        server.signal(signal.SIGTERM)
        assert server.wait() == 0
    answers = [*rising.answers, *grown.answers, *falling.answers]
    steps = [(each["before"], each["workers"]) for each in told["last"]]
    left = sum(before > after for before, after in steps)
    figures(answers=len(answers), failed=sum(each.failed for each in answers),
            grew_in_s=grew, p95_of_one_ms=p95_ms(rising, first_s=1.5), p95_grown_ms=p95_ms(grown),
            shrank_in_s=shrank, steps=steps)  # fmt: skip
    assert [each for each in answers if each.failed] == []
    assert [each for each in answers if each.torn] == []
    assert regressions(answers) == 0
    assert p95_ms(rising, first_s=1.5) > TARGET_MS
    assert p95_ms(grown) < TARGET_MS + 1000 * stalls.slack_s
    logged = [json.loads(line) for line in log.read_text().splitlines() if '"scaling"' in line]
    assert [each["scaling"]["workers"] for each in logged] == [after for _, after in steps]
    assert all(each["scaling"]["reason"] for each in logged)
    assert b"martlet_workers 1\n" in metrics
    assert left >= 3
    assert b'martlet_workers_decisions_total{direction="down"} %d\n' % left in metrics


def p95_ms(load: Load, first_s: float = 1e9) -> float:
    began = load.answers[0].sent
    took = sorted(a.got - a.sent for a in load.answers if a.sent - began < first_s)
    return 1000 * took[int(0.95 * len(took))]
