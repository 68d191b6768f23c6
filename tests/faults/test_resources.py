"""Memory that comes back, clients that dawdle or vanish, folders that go away."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from drive import ENV, Client, Load, Server, folder, from_folder, serving, until, write_version

MB = 1 << 20
VANISHING = Path(__file__).parent / "vanishing.py"


def rss(pid: int) -> int:
    """Resident bytes of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE")


def test_loading_and_unloading_gives_the_memory_back(times, figures):
    """A model of 40 MB, loaded and unloaded again and again in a process of its own."""
    rounds = times(60, 500)
    code = f"""
import json, sys, tempfile
from pathlib import Path
import martlet
def rss():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
path = Path(tempfile.mkdtemp()) / "m.faulty"
path.write_text(json.dumps({{"version": 1, "megabytes": 40}}))
engine = martlet.Engine()
sizes = []
for number in range({rounds}):
    engine.load("m", path)
    assert engine.predict("m", {{"x": [1.0]}}).outputs["score"][0] == 1001
    loaded = rss()
    engine.unload("m")
    for thread in engine._leaving: thread.join()
    sizes.append((loaded, rss()))
print(json.dumps(sizes))
"""
    out = subprocess.run(
        [sys.executable, "-c", code], env=ENV, capture_output=True, text=True, check=True
    )
    sizes = json.loads(out.stdout)
    first, last = sizes[4], sizes[-1]
    figures(rounds=rounds, loaded_mb=first[0] / MB, unloaded_first_mb=first[1] / MB,
            unloaded_last_mb=last[1] / MB)  # fmt: skip
    assert last[1] <= first[1] * 1.05
    assert first[0] - first[1] > 35 * MB, "unloading frees it"


def test_a_worker_gives_back_what_an_unloaded_model_took(tmp_path, log, times, figures):
    """Unloaded and loaded again over the API, while another model is asked."""
    rounds, size_mb = times(3, 20), 60
    write_version(tmp_path / "big", 1, megabytes_of_file=size_mb)
    sizes: list[tuple[int, int]] = []

    async def run(server: Server) -> Load:
        (worker,) = server.children()
        client = Client(server.port)
        async with Load(server.port, connections=2, pause_s=0.005, seed=19) as load:
            for _ in range(rounds):
                status, _, _ = await client.ask("POST", "/v2/repository/models/big/unload")
                assert status == 200
                assert (await client.infer("big", 1)).status == 503
                without = rss(worker)
                status, _, _ = await client.ask("POST", "/v2/repository/models/big/load")
                assert status == 200
                assert (await client.infer("big", 1)).score == 1001
                sizes.append((without, rss(worker)))
        return load

    folder(tmp_path)
    config = tmp_path / "models.config"
    entries = "".join(
        f'config {{ name: "{name}" base_path: "{tmp_path / name}" model_platform: "tensorflow" }}'
        for name in ("m", "big")
    )
    config.write_text(f"model_config_list {{ {entries} }}")
    with serving("--workers", "1", f"--model_config_file={config}", log=log) as server:
        load = asyncio.run(run(server))
    (first, _), (last, loaded) = sizes[0], sizes[-1]
    figures(rounds=rounds, loaded_mb=loaded / MB, unloaded_first_mb=first / MB,
            unloaded_last_mb=last / MB)  # fmt: skip
    assert load.failed == []
    assert loaded - last > 0.9 * size_mb * MB, "unloading frees it"
    assert last <= first * 1.05 + 4 * MB


def test_slow_clients_cost_the_others_nothing(tmp_path, log, times, figures):
    """Connections that idle or have sent half a request, and clients that vanish as they queue."""
    idle, vanishing, rate = times(400, 2000), times(500, 10_000), 500
    pick = random.Random(14)

    def half_open(server: Server, half: bool) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", server.port))
        if half:
            sock.send(b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")
        return sock

    async def ask(server: Server, until: Callable[[], bool], seed: int) -> Load:
        async with Load(server.port, connections=4, pause_s=0.002, seed=seed) as load:
            while not until():
                await asyncio.sleep(0.05)
        return load

    def after(seconds: float) -> Callable[[], bool]:
        end = time.monotonic() + seconds
        return lambda: time.monotonic() > end

    async def run(server: Server) -> tuple[list[Load], int]:
        pids = server.children()
        # Twice: what differs between these two is the machine's doing.
        alone, again = [await ask(server, after(times(2, 10)), seed) for seed in (15, 16)]
        before = sum(map(rss, pids))
        held = [half_open(server, pick.random() < 0.5) for _ in range(idle)]
        beside = await ask(server, after(times(2, 10)), 17)
        # In a process of their own: in the load's they would delay what it measures.
        script = [sys.executable, str(VANISHING), *map(str, (server.port, vanishing, rate))]
        with subprocess.Popen(script) as leaving:
            while_leaving = await ask(server, lambda: leaving.poll() is not None, 18)
        assert leaving.returncode == 0
        grown = sum(map(rss, pids)) - before
        for sock in held:
            sock.close()
        assert server.children() == pids
        return [alone, again, beside, while_leaving], grown

    with serving(*from_folder(folder(tmp_path)), log=log) as server:
        loads, grown = asyncio.run(run(server))
    alone, again, beside, leaving = (each.p99_ms() for each in loads)
    figures(idle=idle, vanished=vanishing, answers=sum(len(each.answers) for each in loads),
            p99_alone_ms=alone, p99_alone_again_ms=again, p99_beside_idle_ms=beside,
            p99_beside_vanishing_ms=leaving, grown_mb=grown / MB)  # fmt: skip
    assert [each.failed for each in loads] == [[]] * 4
    assert grown < 20 * MB


def test_a_folder_of_models_that_goes_away_changes_nothing(tmp_path, log):
    versions = folder(tmp_path)

    async def run(server: Server) -> Load:
        async with Load(server.port, connections=2, pause_s=0.01, seed=18) as load:
            await until(load, 1)
            versions.rename(tmp_path / "away")
            server.signal(signal.SIGHUP)
            await asyncio.sleep(1.5)
            (tmp_path / "away").rename(versions)
            write_version(versions, 2)
            server.signal(signal.SIGHUP)
            await until(load, 2)
        return load

    with serving(*from_folder(versions), log=log) as server:
        load = asyncio.run(run(server))
        assert asyncio.run(Client(server.port).infer("m", 1)).version == 2
    assert (load.failed, load.torn, load.regressions) == ([], [], 0)
