"""Processes that are killed, hang or are told to leave."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import threading
import time
from functools import partial
from pathlib import Path

import pytest
from drive import (
    LIMIT_S,
    Answer,
    Client,
    Load,
    Server,
    Stalls,
    all_answer,
    comes,
    folder,
    from_folder,
    serving,
    until,
    write_version,
)
from faulty import HOLD_GIL, LOOP


def test_a_killed_worker_is_back_within_a_second(tmp_path, log, times, figures):
    kills, pick, took, stalls = times(3, 20), random.Random(4), [], Stalls()

    async def run(server: Server) -> Load:
        async with Load(server.port, seed=4) as load, stalls:
            await until(load, 1)
            for _ in range(kills):
                before = set(server.children())
                os.kill(pick.choice(sorted(before)), signal.SIGKILL)
                killed = time.monotonic()
                await comes(partial(replaced, server, before), "another worker")
                took.append(time.monotonic() - killed)
                await asyncio.sleep(1.0)
                # Else the last that answers might be killed, and nobody listen.
                await all_answer(server)
        return load

    with serving(*from_folder(folder(tmp_path)), log=log) as server:
        load = asyncio.run(run(server))
    figures(kills=kills, answers=len(load.answers), broken=len(load.failed),
            longest_respawn_s=max(took),
            longest_stall_of_the_machine_s=stalls.longest_s)  # fmt: skip
    assert {each.status for each in load.failed} <= {0}
    assert len(load.failed) <= 8 * kills
    assert load.refused == []
    assert max(took) < 1.0 + stalls.slack_s


def replaced(server: Server, before: set[int]) -> bool:
    """Whether there are two workers, one of whom was not there *before*."""
    now = server.children()
    return len(now) >= 2 and not before >= set(now)


def test_a_killed_worker_cuts_no_client_off_twice(tmp_path, log, times, figures):
    """Clients that connect anew at once do not meet the dead worker's listening socket."""
    kills, stop, cuts, answers = times(5, 30), threading.Event(), [0] * 16, [0] * 16

    def ask(port: int, number: int) -> None:
        while not stop.is_set():
            try:
                with socket.create_connection(("127.0.0.1", port), 20) as sock:
                    while not stop.is_set():
                        sock.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                        if not sock.recv(4096):
                            raise ConnectionResetError
                        answers[number] += 1
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
            before, killed = list(cuts), server.children()[0]
            os.kill(killed, signal.SIGKILL)
            asyncio.run(comes(partial(gone, server, killed), "its end"))
            # Who has two more answers asked for the second one afterwards: it knows of its cut.
            had = list(answers)
            asyncio.run(comes(partial(answered_twice, answers, had), "answers for all clients"))
            # Until the next one answers, nobody else is killed: somebody always listens.
            asyncio.run(all_answer(server))
            cut = [after - was for was, after in zip(before, cuts, strict=True)]
            most, total = max(most, *cut), total + sum(cut)
        stop.set()
        for each in clients:
            each.join(20)
    figures(kills=kills, clients=len(clients), cut=total, most_of_one_client=most)
    assert most <= 1


def gone(server: Server, pid: int) -> bool:
    return pid not in server.children()


def answered_twice(answers: list[int], since: list[int]) -> bool:
    """Whether each client has had two more answers than it had had."""
    return all(now >= then + 2 for now, then in zip(answers, since, strict=True))


@pytest.mark.parametrize("how", [LOOP, HOLD_GIL], ids=["loops", "holds the interpreter"])
def test_a_worker_that_hangs_is_found_and_replaced(tmp_path, log, times, figures, how):
    # A worker that has not hung must not be taken for one that has.
    hang_s, stalls = times(4, 1), Stalls()

    async def run(server: Server) -> tuple[Load, float]:
        before = set(server.children())
        async with Load(server.port, seed=5, connections=4, renew=5) as load, stalls:
            # By then both workers have found the model fast, and answer on their loops.
            await comes(lambda: len(load.answers) >= 1000, "a thousand answers")
            started = time.monotonic()
            answer = await Client(server.port).infer("m", how)
            assert answer.status == 0, "the connection of the hung worker breaks"
            await comes(partial(replaced, server, before), "another worker")
            took = time.monotonic() - started
        return load, took

    with serving(*from_folder(folder(tmp_path)), "--hang-s", str(hang_s), log=log) as server:
        load, took = asyncio.run(run(server))
    figures(hang_s=hang_s, replaced_after_s=took, answers=len(load.answers),
            broken=len(load.failed))  # fmt: skip
    assert took < hang_s + 3 + stalls.slack_s
    assert {each.status for each in load.failed} <= {0}
    assert "its loop has not turned" in log.read_text()
    assert "faulty.py" in log.read_text(), "the log says where it hung"


def test_a_call_that_never_ends_in_a_thread_costs_that_call_alone(tmp_path, log, times, figures):
    hang_s = times(4, 1)

    async def run(server: Server) -> Load:
        before = set(server.children())
        # The model is slow, so its calls work in threads; one of them loops for ever.
        async with Load(server.port, seed=5, connections=4) as load:
            await until(load, 1)
            asking = asyncio.create_task(Client(server.port).infer("m", LOOP))
            await comes(partial(replaced, server, before), "another worker")
            await asyncio.sleep(0.5)
        assert (await asking).failed
        return load

    write_version(tmp_path / "m", 1, wait_ms=5)
    arguments = [*from_folder(tmp_path / "m"), "--hang-s", str(hang_s), "--drain-s", "2"]
    with serving(*arguments, log=log) as server:
        load = asyncio.run(run(server))
    figures(answers=len(load.answers), failed=len(load.failed))
    assert load.failed == []
    assert f"has worked for {hang_s} s" in log.read_text()


def test_sigterm_under_load_fails_nothing(tmp_path, log, times, figures):
    stops, total = times(2, 10), 0

    async def run(server: Server) -> Load:
        async with Load(server.port, seed=6, connections=16) as load:
            await until(load, 1)
            await asyncio.sleep(0.3)
            server.signal(signal.SIGTERM)
            await comes(lambda: server.process.poll() is not None, "the server's end")
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


def test_sigterm_while_a_worker_starts_is_a_clean_end(tmp_path, log):
    """It has cut nobody off, whatever it was at."""
    write_version(tmp_path / "m", 1, open_ms=3000)
    with serving(*from_folder(tmp_path / "m"), log=log) as server:
        before = server.children()
        os.kill(before[0], signal.SIGKILL)
        asyncio.run(comes(partial(replaced, server, set(before)), "another worker"))
        server.signal(signal.SIGTERM)
        assert server.wait(LIMIT_S) == 0, log.read_text()


def test_a_second_sigterm_forces(tmp_path, log, figures):
    begun = tmp_path / "begun"

    async def run(server: Server) -> tuple[float, Answer]:
        asking = asyncio.create_task(Client(server.port).infer("m", 1))
        await comes(begun.exists, "a call that is under way")
        server.signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
        assert server.process.poll() is None, "it waits for what is under way"
        server.signal(signal.SIGTERM)
        started = time.monotonic()
        await comes(lambda: server.process.poll() is not None, "the server's end")
        return time.monotonic() - started, await asking

    # Its deadline would end the call before the model does.
    write_version(tmp_path / "m", 1, wait_ms=60_000, begun=str(begun))
    arguments = [*from_folder(tmp_path / "m", workers=1), "--drain-s", "600"]
    with serving(*arguments, log=log) as server:
        took, answer = asyncio.run(run(server))
        assert server.wait() != 0
    figures(forced_after_s=took)
    assert answer.status == 0, "the call was cut off"


def test_workers_leave_when_their_supervisor_is_killed(tmp_path, log):
    with serving(*from_folder(folder(tmp_path)), log=log) as server:
        children = server.children()
        server.signal(signal.SIGKILL)
        server.wait()
        end = time.monotonic() + LIMIT_S
        while any(_lives(pid) for pid in children):
            assert time.monotonic() < end, "a worker outlives its supervisor"
            time.sleep(0.02)


def _lives(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"
