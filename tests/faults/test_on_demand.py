"""More models than there is memory for: each is opened when asked for, and none is refused."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import threading
import time
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

from drive import LIMIT_S, Answer, Client, Server, Stalls, comes, serving, write_version

from martlet.serving import memory

MB = 1 << 20
WORKERS = 2
SIZE_MB = 4
ROOM = 20


def folders(tmp_path: Path, models: int, open_ms: int = 20) -> list[str]:
    """So many models of 4 MB; opening one takes a while and is written down; model n adds 1000n."""
    entries = []
    for n in range(1, models + 1):
        write_version(
            tmp_path / f"m{n}", 1, SIZE_MB,
            version=n, open_ms=open_ms, journal=str(tmp_path / "journal"),
        )  # fmt: skip
        entries.append(
            f'config {{ name: "m{n}" base_path: "{tmp_path / f"m{n}"}" '
            'model_platform: "tensorflow" }'
        )
    config = tmp_path / "models.config"
    config.write_text(f"model_config_list {{ {' '.join(entries)} }}")
    return ["--workers", str(WORKERS), f"--model_config_file={config}"]


def base_mb(tmp_path: Path, log: Path) -> int:
    """What a worker takes that has one model open, less the model."""
    with serving(*folders(tmp_path / "one", 1), log=log) as server:
        held = max(map(memory.held_by, server.children()))
    return held // MB - SIZE_MB + 1


@contextlib.contextmanager
def watched(workers: list[int]) -> Iterator[list[int]]:
    """What the workers held together, every 5 ms."""
    found, over = [], threading.Event()

    def look() -> None:
        while not over.wait(0.005):
            found.append(sum(map(memory.held_by, workers)))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def openings_at_once(journal: Path) -> dict[str, int]:
    """The most openings of one version at once in one process, and of all in one."""
    now: dict[str, set[str]] = {}
    of_one = of_all = 0
    for line in journal.read_text().splitlines():
        what, pid, name = line.split()
        open_now = now.setdefault(pid, set())
        if what == "begin":
            of_one = max(of_one, 1 + (name in open_now))
            open_now.add(name)
            of_all = max(of_all, len(open_now))
        else:
            open_now.discard(name)
    return {"of_one": of_one, "of_all": of_all}


def test_two_hundred_models_share_room_for_twenty(tmp_path, log, times, figures):
    """Skewed traffic (Zipf's law); a swap of the model that is asked for most."""
    models, seconds, least = 200, times(6, 45), 600
    weights = list(accumulate(1 / n for n in range(1, models + 1)))
    answers: list[tuple[int, Answer]] = []

    async def ask(server: Server, seed: int, over: asyncio.Event) -> None:
        pick, client = random.Random(seed), Client(server.port)
        while not over.is_set():
            (n,) = pick.choices(range(1, models + 1), cum_weights=weights)
            answers.append((n, await client.infer(f"m{n}", float(pick.randrange(900)))))
            if pick.random() < 0.02:
                client.close()
        client.close()

    async def run(server: Server) -> None:
        over = asyncio.Event()
        asking = [asyncio.create_task(ask(server, seed, over)) for seed in range(8)]
        await asyncio.sleep(seconds / 3)
        write_version(tmp_path / "m1", 2, SIZE_MB, version=500, journal=str(tmp_path / "journal"))
        server.signal(signal.SIGHUP)
        await asyncio.sleep(2 * seconds / 3)
        await comes(
            lambda: len(answers) >= least and any(a.version == 2 for _, a in answers),
            "the new version, among many answers",
        )
        over.set()
        await asyncio.gather(*asking)

    (tmp_path / "one").mkdir()
    limit = WORKERS * (base_mb(tmp_path, log) + ROOM * SIZE_MB) * 16 // 15
    arguments = [*folders(tmp_path, models), "--memory-mb", str(limit), "--on-demand"]
    with serving(*arguments, log=log) as server:
        started = (tmp_path / "journal").read_text().count("begin")
        with watched(server.children()) as held:
            asyncio.run(run(server))
        _, _, body = asyncio.run(Client(server.port).ask("GET", "/workers"))
        told = json.loads(body)["on_demand"]
        _, _, body = asyncio.run(Client(server.port).ask("POST", "/v2/repository/index"))
        index = {(each["name"], each["version"]): each for each in json.loads(body)}
    at_once = openings_at_once(tmp_path / "journal")
    latest = max(n for n, _ in answers)
    figures(answers=len(answers), failed=sum(a.failed for _, a in answers), models_asked=latest,
            limit_mb=limit, most_held_mb=max(held) / MB, resident=told["resident"],
            opened=told["opened"] - started, evicted=told["evicted"], **at_once)  # fmt: skip
    assert [a for _, a in answers if a.failed] == []
    for n, answer in answers:
        assert answer.score - answer.x == 1000 * (500 if answer.version == 2 else n)
    assert {a.version for n, a in answers if n == 1} == {1, 2}
    assert at_once["of_one"] == 1
    assert max(held) <= limit * MB
    assert told["resident"] <= WORKERS * ROOM
    assert told["evicted"] > models
    assert all(each["state"] == "READY" for each in index.values() if each["name"] != "m1")
    assert any("the next request opens it" in each["reason"] for each in index.values())


def test_who_cannot_wait_for_a_model_that_opens_slowly_is_told_to_come_again(
    tmp_path, log, figures
):
    """One opening, for those who wait and those who cannot."""
    arguments = folders(tmp_path, 2, open_ms=5000)
    arguments[1] = "1"
    (tmp_path / "one").mkdir()
    limit = (base_mb(tmp_path, log) + SIZE_MB + SIZE_MB // 2) * 16 // 15  # for one, not for two
    hurried: list[float] = []
    stalls = Stalls()

    async def ask(server: Server, timeout_s: float) -> int:
        headers = f"X-Request-Timeout: {timeout_s}\r\n"
        sent = time.monotonic()
        status, found, body = await Client(server.port).ask(
            "POST", "/v2/models/m1/infer", INFER, headers
        )
        if timeout_s < 5:
            hurried.append(time.monotonic() - sent)
            assert found.get("retry-after") == "1", body
        return status

    async def run(server: Server) -> list[int]:
        # The second takes the room of the first.
        assert (await Client(server.port).infer("m2", 5)).score == 2005
        waits = [ask(server, 2.0), ask(server, 29), ask(server, 2.2), ask(server, 29)]
        async with stalls:
            return list(await asyncio.gather(*waits))

    with serving(*arguments, "--memory-mb", str(limit), "--on-demand", log=log) as server:
        opened = (tmp_path / "journal").read_text().count("m1")
        found = asyncio.run(run(server))
        opened = (tmp_path / "journal").read_text().count("m1") - opened
    figures(longest_of_the_hurried_s=max(hurried))
    assert found == [503, 200, 503, 200]
    assert max(hurried) < 2.2 + stalls.slack_s
    assert opened == 2, "it begins once and ends once"


def test_a_model_whose_file_has_gone_is_503_until_it_is_back(tmp_path, log):
    """It was checked at the start; another took its room, and now it cannot be opened again."""
    arguments = folders(tmp_path, 3)
    arguments[1] = "1"
    (tmp_path / "one").mkdir()
    limit = (base_mb(tmp_path, log) + 2 * SIZE_MB) * 16 // 15

    async def run(server: Server) -> None:
        client = Client(server.port)
        for n in (1, 2, 3):
            assert (await client.infer(f"m{n}", 5)).score == 1000 * n + 5
        (tmp_path / "m1" / "1").rename(tmp_path / "away")
        status, headers, body = await client.ask("POST", "/v2/models/m1/infer", INFER)
        assert (status, headers["retry-after"]) == (503, "1"), body
        assert b"cannot be opened" in body
        _, _, told = await client.ask("GET", "/v1/models/m1")
        assert json.loads(told)["model_version_status"][0]["state"] == "END"
        assert (await client.infer("m3", 5)).score == 3005
        (tmp_path / "away").rename(tmp_path / "m1" / "1")
        end = time.monotonic() + LIMIT_S
        while (answer := await client.infer("m1", 5)).failed:
            assert answer.status == 503
            assert time.monotonic() < end, answer
            await asyncio.sleep(0.1)
        assert answer.score == 1005

    with serving(
        *arguments, "--file_system_poll_wait_seconds=0",
        "--memory-mb", str(limit), "--on-demand", log=log,
    ) as server:  # fmt: skip
        asyncio.run(run(server))


INFER = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1]}]}'
