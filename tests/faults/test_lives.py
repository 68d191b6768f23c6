"""Processes that are killed, hang or are told to leave."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from drive import (
    Client,
    Load,
    Server,
    all_answer,
    folder,
    from_folder,
    serving,
    until,
    write_version,
)
from faulty import HOLD_GIL, LOOP


def test_a_killed_worker_is_back_within_a_second(tmp_path, log, times, figures):
    kills, pick, took = times(3, 20), random.Random(4), []

    async def run(server: Server) -> Load:
        async with Load(server.port, seed=4) as load:
            await until(load, 1)
            for _ in range(kills):
                before = set(server.children())
                os.kill(pick.choice(sorted(before)), signal.SIGKILL)
                killed = time.monotonic()
                while not set(server.children()) - before or len(server.children()) < 2:
                    await asyncio.sleep(0.01)
                took.append(time.monotonic() - killed)
                await asyncio.sleep(1.0)
                # Else the last that answers might be killed, and nobody listen.
                await all_answer(server)
        return load

    with serving(*from_folder(folder(tmp_path)), log=log) as server:
        load = asyncio.run(run(server))
    figures(kills=kills, answers=len(load.answers), broken=len(load.failed),
            longest_respawn_s=max(took))  # fmt: skip
    assert {each.status for each in load.failed} <= {0}
    assert len(load.failed) <= 8 * kills
    assert load.refused == []
    assert max(took) < 1.0


def test_a_killed_worker_cuts_no_client_off_twice(tmp_path, log, times, figures):
    """Clients that connect anew at once do not meet the dead worker's listening socket."""
    kills, stop, cuts = times(5, 30), threading.Event(), [0] * 16

    def ask(port: int, number: int) -> None:
        while not stop.is_set():
            try:
                with socket.create_connection(("127.0.0.1", port), 20) as sock:
                    while not stop.is_set():
                        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                        if not sock.recv(4096):
                            raise ConnectionResetError
            except ConnectionRefusedError:
                time.sleep(0.05)  # nobody listens: that cuts nobody off
            except OSError:
                cuts[number] += 1

    with serving(*from_folder(folder(tmp_path)), log=log) as server:
        clients = [
            threading.Thread(target=ask, args=(server.port, n), daemon=True) for n in range(16)
        ]
        for each in clients:
            each.start()
        most, total = 0, 0
        for _ in range(kills):
            time.sleep(0.5)
            before, workers = list(cuts), server.children()
            os.kill(workers[0], signal.SIGKILL)
            # Until the next one answers, nobody else is killed: somebody always listens.
            while workers[0] in server.children() or len(server.children()) < 2:
                time.sleep(0.01)
            time.sleep(1.0)
            cut = [after - was for was, after in zip(before, cuts, strict=True)]
            most, total = max(most, *cut), total + sum(cut)
        stop.set()
        for each in clients:
            each.join(20)
    figures(kills=kills, clients=len(clients), cut=total, most_of_one_client=most)
    assert most <= 1


@pytest.mark.parametrize("how", [LOOP, HOLD_GIL], ids=["loops", "holds the interpreter"])
def test_a_worker_that_hangs_is_found_and_replaced(tmp_path, log, figures, how):
    async def run(server: Server) -> tuple[Load, float]:
        before = set(server.children())
        async with Load(server.port, seed=5, connections=4, renew=5) as load:
            # Until both workers have found the model fast, and answer on their loops.
            await asyncio.sleep(1.5)
            started = time.monotonic()
            answer = await Client(server.port).infer("m", how)
            assert answer.status == 0, "the connection of the hung worker breaks"
            while len(set(server.children()) - before) < 1 or len(server.children()) < 2:
                await asyncio.sleep(0.02)
            took = time.monotonic() - started
        return load, took

    with serving(*from_folder(folder(tmp_path)), "--hang-s", "1", log=log) as server:
        load, took = asyncio.run(run(server))
    figures(replaced_after_s=took, answers=len(load.answers), broken=len(load.failed))
    assert took < 4
    assert {each.status for each in load.failed} <= {0}
    assert "its loop has not turned" in log.read_text()
    assert "faulty.py" in log.read_text(), "the log says where it hung"


def test_a_call_that_never_ends_in_a_thread_costs_that_call_alone(tmp_path, log, figures):
    async def run(server: Server) -> Load:
        before = set(server.children())
        # The model is slow, so its calls work in threads; one of them loops for ever.
        async with Load(server.port, seed=5, connections=4) as load:
            await asyncio.sleep(1.0)
            asking = asyncio.create_task(Client(server.port).infer("m", LOOP))
            while len(set(server.children()) - before) < 1 or len(server.children()) < 2:
                await asyncio.sleep(0.02)
            await asyncio.sleep(0.5)
        assert (await asking).failed
        return load

    write_version(tmp_path / "m", 1, wait_ms=5)
    arguments = [*from_folder(tmp_path / "m"), "--hang-s", "1", "--drain-s", "2"]
    with serving(*arguments, log=log) as server:
        load = asyncio.run(run(server))
    figures(answers=len(load.answers), failed=len(load.failed))
    assert load.failed == []
    assert "has worked for 1 s" in log.read_text()


def test_sigterm_under_load_fails_nothing(tmp_path, log, times, figures):
    stops, total = times(2, 10), 0

    async def run(server: Server) -> Load:
        async with Load(server.port, seed=6, connections=16) as load:
            await until(load, 1)
            await asyncio.sleep(0.3)
            server.signal(signal.SIGTERM)
            while server.process.poll() is None:
                await asyncio.sleep(0.01)
        return load

    versions = folder(tmp_path)
    for _ in range(stops):
        with serving(*from_folder(versions), log=log) as server:
            load = asyncio.run(run(server))
            assert server.wait() == 0, log.read_text()
        # Once nobody listens a client cannot connect: that is no request that failed.
        assert [each for each in load.failed if each not in load.refused] == []
        total += len(load.answers) - len(load.failed)
    figures(stops=stops, answers=total, failed=0, exit_status=0)


def test_a_second_sigterm_forces(tmp_path, log, figures):
    async def run(server: Server) -> float:
        asking = asyncio.create_task(Client(server.port).infer("m", 1))
        await asyncio.sleep(0.3)
        server.signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
        assert server.process.poll() is None, "it waits for what is under way"
        server.signal(signal.SIGTERM)
        started = time.monotonic()
        while server.process.poll() is None:
            await asyncio.sleep(0.01)
        await asking
        return time.monotonic() - started

    write_version(tmp_path / "m", 1, wait_ms=20_000)
    with serving(*from_folder(tmp_path / "m", workers=1), log=log) as server:
        took = asyncio.run(run(server))
        assert server.wait() != 0
    figures(forced_after_s=took)
    # Not by the call's end, which takes 20 s.
    assert took < 5.0


def test_workers_leave_when_their_supervisor_is_killed(tmp_path, log):
    with serving(*from_folder(folder(tmp_path)), log=log) as server:
        children = server.children()
        server.signal(signal.SIGKILL)
        server.wait()
        end = time.monotonic() + 5
        while any(_lives(pid) for pid in children):
            assert time.monotonic() < end, "a worker outlives its supervisor"
            time.sleep(0.02)


def _lives(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
