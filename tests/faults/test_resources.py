"""Memory that comes back, clients that dawdle or vanish, folders that go away."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from drive import ENV, Client, Load, Server, folder, from_folder, serving, until, write_version

MB = 1 << 20


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


def test_slow_clients_cost_the_others_nothing(tmp_path, log, times, figures):
    """Connections that idle or have sent half a request, and clients that vanish as they queue."""
    idle, vanishing, pick = times(400, 2000), times(500, 10_000), random.Random(14)

    async def half_open(server: Server, half: bool) -> socket.socket:
        sock = socket.socket()
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", server.port))
        if half:
            sock.send(b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")
        return sock

    async def vanish(server: Server) -> None:
        body = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1]}]}'
        sock = await half_open(server, half=False)
        with contextlib.suppress(OSError):
            sock.send(
                b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"
                % (len(body), body)
            )
        sock.close()

    async def run(server: Server) -> tuple[Load, Load, int]:
        pids = server.children()
        async with Load(server.port, connections=4, pause_s=0.002, seed=15) as alone:
            await asyncio.sleep(2)
        before = sum(map(rss, pids))
        held = [await half_open(server, pick.random() < 0.5) for _ in range(idle)]
        async with Load(server.port, connections=4, pause_s=0.002, seed=16) as beside:
            for _ in range(vanishing // 10):
                await asyncio.gather(*(vanish(server) for _ in range(10)))
        grown = sum(map(rss, pids)) - before
        for sock in held:
            sock.close()
        assert server.children() == pids
        return alone, beside, grown

    with serving(*from_folder(folder(tmp_path)), log=log) as server:
        alone, beside, grown = asyncio.run(run(server))
    figures(idle=idle, vanished=vanishing, answers=len(beside.answers), failed=len(beside.failed),
            p99_alone_ms=alone.p99_ms(), p99_beside_ms=beside.p99_ms(),
            grown_mb=grown / MB)  # fmt: skip
    assert (alone.failed, beside.failed) == ([], [])
    assert grown < 20 * MB


def test_a_folder_of_models_that_goes_away_changes_nothing(tmp_path, log):
    versions = folder(tmp_path)

    async def run(server: Server) -> Load:
        async with Load(server.port, connections=2, pause_s=0.01, seed=18) as load:
            await until(load, 1)
            versions.rename(tmp_path / "away")
            server.signal(signal.SIGHUP)
            end = time.monotonic() + 1.5
            while time.monotonic() < end:
                await asyncio.sleep(0.05)
            (tmp_path / "away").rename(versions)
            write_version(versions, 2)
            server.signal(signal.SIGHUP)
            await until(load, 2)
        return load

    with serving(*from_folder(versions), log=log) as server:
        load = asyncio.run(run(server))
        assert asyncio.run(Client(server.port).infer("m", 1)).version == 2
    assert (load.failed, load.torn, load.regressions) == ([], [], 0)
