"""A model in a process of its own: what crashes or hangs there stops nobody else."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from drive import Answer, Client, Load, Server, Stalls, p99_ms, serving, write_version
from faulty import CRASH, HOLD_GIL, LOOP, RAISE

DEADLINE_S = 0.3


def two_models(tmp_path: Path, settings: str) -> list[str]:
    """A good model ``m``, and ``bad``, which is run as *settings* say."""
    write_version(tmp_path / "m", 1)
    write_version(tmp_path / "bad", 1)
    file = tmp_path / "settings.toml"
    file.write_text(f"[bad]\n{settings}\n")
    config = tmp_path / "models.config"
    entries = "".join(
        f'config {{ name: "{name}" base_path: "{tmp_path / name}" model_platform: "tensorflow" }}'
        for name in ("m", "bad")
    )
    config.write_text(f"model_config_list {{ {entries} }}")
    return [
        "--workers", "1", "--log-level", "info", "--model-settings", str(file),
        f"--model_config_file={config}",
    ]  # fmt: skip


APART = f'isolation = "process"\ndeadline_ms = {DEADLINE_S * 1000}'


@pytest.mark.parametrize(
    "how", [LOOP, HOLD_GIL, CRASH], ids=["loops", "holds the interpreter", "crashes"]
)
def test_a_model_that_misbehaves_apart_stalls_nobody(tmp_path, log, times, figures, how):
    rounds, stalls = times(1, 8), Stalls()

    async def misbehave(server: Server, end: float) -> list[Answer]:
        client, answers = Client(server.port), []
        while time.monotonic() < end:
            answers.append(await client.infer("bad", how))
            await asyncio.sleep(0.02)
        return answers

    async def probe(server: Server, end: float) -> list[float]:
        client, took = Client(server.port), []
        while time.monotonic() < end:
            started = time.monotonic()
            status, _, _ = await client.ask("GET", "/healthz")
            assert status == 200
            took.append(time.monotonic() - started)
            await asyncio.sleep(0.02)
        return took

    async def load(server: Server, seed: int, *more: Any) -> tuple[Load, list[Any]]:
        end = time.monotonic() + 2
        async with Load(server.port, connections=2, pause_s=0.002, seed=seed) as found:
            beside = await asyncio.gather(*(each(server, end) for each in (probe, *more)))
        return found, beside

    async def run(server: Server) -> tuple[list[Load], list[Load], list[Answer], list[float]]:
        alone, beside, bad, probes = [], [], [], []
        # By turns, since the machine is not the same from one minute to the next.
        for number in range(rounds):
            for _ in range(2):
                alone.append((await load(server, 7 + number))[0])
            async with stalls:
                found, (took, answers) = await load(server, 8 + number, misbehave)
            beside.append(found)
            bad += answers
            probes += took
        recovered = await recovers(Client(server.port))
        assert recovered.score == 1005
        return alone, beside, bad, probes

    async def recovers(client: Client) -> Answer:
        # Who dies again and again rests ever longer.
        end = time.monotonic() + 120
        while True:
            answer = await client.infer("bad", 5)
            if answer.status == 200:
                return answer
            assert answer.status in (503, 504), answer
            assert time.monotonic() < end, answer
            await asyncio.sleep(0.1)

    with serving(*two_models(tmp_path, APART), log=log) as server:
        alone, beside, bad, probes = asyncio.run(run(server))
    figures(p99_alone_ms=p99_ms(alone[::2]), p99_alone_again_ms=p99_ms(alone[1::2]),
            p99_beside_ms=p99_ms(beside), bad_calls=len(bad), longest_probe_ms=1000 * max(probes),
            longest_stall_of_the_machine_ms=1000 * stalls.longest_s,
            longest_bad_answer_s=max(a.got - a.sent for a in bad))  # fmt: skip
    assert [each.failed for each in (*alone, *beside)] == [[]] * 3 * rounds
    assert {each.status for each in bad} <= {503, 504}
    assert max(each.got - each.sent for each in bad) < DEADLINE_S + 1.5
    assert max(probes) < 0.1 + 2 * stalls.longest_s


def test_a_killed_process_of_a_model_costs_the_call_in_flight(tmp_path, log, times, figures):
    kills = times(3, 20)

    def children(parent: int) -> list[int]:
        return [
            int(pid)
            for task in Path(f"/proc/{parent}/task").iterdir()
            for pid in (task / "children").read_text().split()
        ]

    def processes(server: Server) -> list[int]:
        (worker,) = server.children()
        (launcher,) = children(worker)
        return children(launcher)

    async def run(server: Server) -> Load:
        async with Load(server.port, "bad", connections=2, seed=9) as load:
            for _ in range(kills):
                await asyncio.sleep(1.0)
                for pid in processes(server):
                    os.kill(pid, signal.SIGKILL)
                # Three deaths in a row rest for five seconds, each further one for twice as long.
                if kills > 3:
                    await asyncio.sleep(0.2)
        return load

    with serving(*two_models(tmp_path, 'isolation = "process"'), log=log) as server:
        load = asyncio.run(run(server))
    died = [each for each in load.failed if "died while" in each.text]
    figures(kills=kills, answers=len(load.answers), in_flight=len(died))
    assert 1 <= len(died) <= kills
    assert {each.status for each in load.failed} <= {503}
    assert load.torn == []


def test_what_raises_is_told_and_nothing_else_changes(tmp_path, log):
    async def run(server: Server) -> None:
        client = Client(server.port)
        answer = await client.infer("bad", RAISE)
        assert answer.status == 500
        assert "RuntimeError: this model raises when asked to" in answer.text
        assert (await client.infer("bad", 2)).score == 1002

    with serving(*two_models(tmp_path, 'isolation = "process"'), log=log) as server:
        asyncio.run(run(server))


BATCHED = 'max_rows = 32\nisolation = "{}"'


@pytest.mark.parametrize("where", ["inline", "process"])
def test_a_poisoned_request_among_batches_fails_alone(tmp_path, log, times, figures, where):
    seconds = times(2, 15)

    async def run(server: Server) -> tuple[Load, int]:
        client, poisoned = Client(server.port), 0
        async with Load(server.port, "bad", connections=8, seed=10) as load:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                answer = await client.infer("bad", RAISE)
                assert answer.status == 500
                poisoned += 1
        return load, poisoned

    with serving(*two_models(tmp_path, BATCHED.format(where)), log=log) as server:
        load, poisoned = asyncio.run(run(server))
    figures(answers=len(load.answers), poisoned=poisoned, failed=len(load.failed))
    assert (load.failed, load.torn) == ([], [])


def test_overload_is_refused_early_and_what_is_taken_is_answered(tmp_path, log, times, figures):
    """Twenty connections that never pause ask a model that takes 10 ms and may queue four."""
    seconds = times(3, 60)
    arguments = two_models(tmp_path, 'isolation = "thread"\nthreads = 2\nmax_queue = 4')
    for version in (tmp_path / "bad" / "1").iterdir():
        told: dict[str, Any] = json.loads(version.read_text())
        version.write_text(json.dumps({**told, "wait_ms": 10}))

    stalls = Stalls()

    async def run(server: Server) -> tuple[float, Load, float]:
        # Six are what it may hold at once: two at work and four that wait.
        async with Load(server.port, "bad", connections=6, seed=11) as peak:
            await asyncio.sleep(seconds / 2)
        async with stalls, Load(server.port, "bad", connections=30, pause_s=0.02, seed=12) as over:
            await asyncio.sleep(seconds)
        started = time.monotonic()
        async with Load(server.port, "bad", connections=6, seed=13) as after:
            await asyncio.sleep(seconds / 2)
        healthy = next(a.got for a in sorted(after.answers, key=lambda a: a.got) if not a.failed)
        assert not [each for each in after.answers if each.failed and each.sent > started + 0.5]
        # The machine may be busier than it was: the peak is that of before or after.
        least = min(len(each.answers) - len(each.failed) for each in (peak, after))
        return least / (seconds / 2), over, healthy - started

    with serving(*arguments, log=log) as server:
        at_peak, over, recovery = asyncio.run(run(server))
    refused = [each for each in over.failed if each.status == 429]
    good = (len(over.answers) - len(over.failed)) / seconds
    slowest = sorted(each.got - each.sent for each in refused)[int(0.99 * len(refused))]
    figures(offered_times=len(over.answers) / seconds / at_peak, peak_per_s=at_peak,
            goodput_per_s=good, refused=len(refused), refused_p99_ms=1000 * slowest,
            machine_p99_ms=1000 * stalls.p99_s, recovery_s=recovery)  # fmt: skip
    assert len(refused) == len(over.failed)
    assert good >= 0.8 * at_peak
    assert slowest < 0.05 + stalls.p99_s
    assert recovery < 5
