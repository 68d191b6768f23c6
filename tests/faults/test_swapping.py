"""Swaps under load: nothing fails, nothing is torn, nobody sees the new version, then the old."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import time

import pytest
from drive import (
    LIMIT_S,
    Answer,
    Client,
    Load,
    Server,
    all_answer,
    comes,
    folder,
    from_folder,
    regressions,
    serving,
    until,
    write_version,
)

from martlet.serving import memory


def test_a_checker_sees_an_answer_that_goes_back():
    good = [Answer(0, 1, 0, 200, 1), Answer(2, 3, 0, 200, 2), Answer(2.5, 4, 0, 200, 1)]
    assert regressions(good) == 0
    assert regressions([*good, Answer(3.5, 5, 0, 200, 1)]) == 1


def test_swapping_under_load_fails_and_tears_nothing(tmp_path, log, times, figures):
    versions, swaps = folder(tmp_path), times(8, 100)

    async def run(server: Server) -> Load:
        async with Load(server.port, seed=1) as load:
            await until(load, 1)
            for number in range(2, swaps + 2):
                write_version(versions, number)
                server.signal(signal.SIGHUP)
                await until(load, number)
        return load

    with serving(*from_folder(versions), log=log) as server:
        load = asyncio.run(run(server))
    figures(swaps=swaps, answers=len(load.answers), failed=len(load.failed), torn=len(load.torn),
            regressions=load.regressions, p99_ms=load.p99_ms())  # fmt: skip
    assert load.versions == set(range(1, swaps + 2))
    assert (load.failed, load.torn, load.regressions) == ([], [], 0)


def test_a_swap_that_keeps_room_never_holds_two_versions(tmp_path, log, figures):
    """``--transition resource``: the old one leaves first; until the new one answers, 503."""
    versions, size_mb = folder(tmp_path / "first"), 100
    for path in versions.glob("1/*"):
        path.write_text(json.dumps({"version": 1, "megabytes": size_mb}))

    async def run(server: Server) -> tuple[Load, int]:
        (worker,) = server.children()
        most = 0
        async with Load(server.port, connections=2, pause_s=0.005, seed=12) as load:
            await until(load, 1)
            write_version(versions, 2, megabytes=size_mb)
            server.signal(signal.SIGHUP)
            end = time.monotonic() + LIMIT_S
            while 2 not in load.versions:
                assert time.monotonic() < end, "version 2 never answered"
                most = max(most, memory.held_by(worker))
                await asyncio.sleep(0.001)
        return load, most

    with serving(*from_folder(versions, 1), "--transition", "resource", log=log) as server:
        load, most = asyncio.run(run(server))
        assert asyncio.run(Client(server.port).infer("m", 1)).version == 2
    silent = max(each.got for each in load.failed) - min(each.sent for each in load.failed)
    figures(silent_s=silent, most_held_mb=most / (1 << 20), refused=len(load.failed))
    assert {each.status for each in load.failed} == {503}
    assert (load.torn, load.regressions) == ([], 0)
    assert most < 2 * size_mb << 20


BROKEN = {
    "damaged": ({"load": "raise"}, "this file cannot be read"),
    "lacks a library": ({"load": "missing"}, "a_library_that_is_not_there"),
    "crashes its reader": ({"load": "crash"}, "SIGSEGV"),
    "loops while it loads": ({"load": "loop"}, "time that a load may take"),
    "holds the interpreter": ({"load": "hold_gil"}, "time that a load may take"),
}


@pytest.mark.parametrize("told", BROKEN.values(), ids=BROKEN)
def test_a_new_version_that_is_broken_never_answers_and_the_old_one_does(
    tmp_path, log, times, figures, told
):
    settings, reason = told
    versions = folder(tmp_path)

    async def run(server: Server) -> Load:
        async with Load(server.port, seed=2) as load:
            await until(load, 1)
            write_version(versions, 2, **settings)
            server.signal(signal.SIGHUP)
            client, end = Client(server.port), time.monotonic() + LIMIT_S
            while True:
                _, _, content = await client.ask("GET", "/v1/models/m")
                if reason in content.decode():
                    break
                assert time.monotonic() < end, content.decode()
                await asyncio.sleep(0.05)
            # A mended file under a new number goes live in spite of it.
            write_version(versions, 3)
            server.signal(signal.SIGHUP)
            await until(load, 3)
            client.close()
        return load

    # Version 1 must open within it too, on a machine that is busy with other things.
    limit_s = times(15, 5) if settings.get("load") in ("loop", "hold_gil") else LIMIT_S
    with serving(*from_folder(versions), "--load-s", str(limit_s), log=log) as server:
        before = server.children()
        load = asyncio.run(run(server))
        assert set(before) <= set(server.children()), "a worker died of it"
    figures(answers=len(load.answers), failed=len(load.failed), versions=load.versions)
    assert (load.failed, load.torn, load.versions) == ([], [], {1, 3})


def test_a_worker_killed_in_a_swap_does_not_block_it(tmp_path, log, times, figures):
    versions, rounds, pick = folder(tmp_path), times(3, 20), random.Random(3)

    async def run(server: Server) -> Load:
        async with Load(server.port, seed=3) as load:
            await until(load, 1)
            for number in range(2, rounds + 2):
                # Else the last that answers might be killed, and nobody listen.
                await all_answer(server)
                write_version(versions, number)
                server.signal(signal.SIGHUP)
                await asyncio.sleep(pick.random() * 0.6)
                os.kill(pick.choice(server.children()[:2]), signal.SIGKILL)
                await until(load, number)
                await asyncio.sleep(0.3)
        return load

    with serving(*from_folder(versions), log=log) as server:
        load = asyncio.run(run(server))
    figures(kills=rounds, answers=len(load.answers), broken=len(load.failed),
            torn=len(load.torn), regressions=load.regressions)  # fmt: skip
    # A connection of the dead worker breaks: at most each of the eight once a kill.
    assert {each.status for each in load.failed} <= {0}
    assert len(load.failed) <= 8 * rounds
    assert load.refused == []
    assert (load.torn, load.regressions) == ([], 0)


def test_a_trial_that_is_killed_is_made_again_and_the_old_version_answers(tmp_path, log, figures):
    """The supervisor's own child in a swap: the process that tries the new version."""
    versions = folder(tmp_path)

    async def run(server: Server) -> Load:
        workers = set(server.children())
        async with Load(server.port, connections=4, seed=6) as load:
            await until(load, 1)
            write_version(versions, 2, open_ms=1500)
            server.signal(signal.SIGHUP)
            await comes(lambda: set(server.children()) - workers, "a trial")
            (trial,) = set(server.children()) - workers
            os.kill(trial, signal.SIGKILL)
            await until(load, 2)
        assert set(server.children()) == workers
        return load

    with serving(*from_folder(versions), log=log) as server:
        load = asyncio.run(run(server))
    figures(answers=len(load.answers), failed=len(load.failed))
    assert "the process that tried it died: signal SIGKILL" in log.read_text()
    assert (load.failed, load.torn, load.regressions) == ([], [], 0)
