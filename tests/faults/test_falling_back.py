"""A recommender whose ranking model hangs or crashes: it steps down in time, and is never empty."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from drive import LIMIT_S, Client, Server, Stalls, serving
from faulty import CRASH, HANG, HOLD_GIL, LOOP

DECLARATION = """
[recommender]
size = 3

[tables]
popular = "popular.json"
seen = "seen.json"

[[candidates]]
from = "popular"
lists = "popular"

[[filters]]
drop = "seen"
history = "seen"

[[ranking]]
model = "ranker"
{step}
[ranking.features]
x = "request.x"
"""

PATH = "/v1/recommenders/films:recommend"


def recommender(tmp_path: Path, settings: str, step: str = "") -> list[str]:
    """``films``, which ranks by ``ranker``, which is run as *settings* say."""
    (tmp_path / "popular.json").write_text(json.dumps({"all": [[i, 10.0 - i] for i in range(8)]}))
    (tmp_path / "seen.json").write_text(json.dumps({"1": [[0, 1.0]]}))
    (tmp_path / "films.toml").write_text(DECLARATION.format(step=step))
    (tmp_path / "ranker.faulty").write_text(json.dumps({"version": 1}))
    (tmp_path / "settings.toml").write_text(f"[ranker]\n{settings}\n")
    return [
        "--workers", "1", "--log-level", "info",
        "--model", f"ranker={tmp_path / 'ranker.faulty'}",
        "--recommender", f"films={tmp_path / 'films.toml'}",
        "--model-settings", str(tmp_path / "settings.toml"),
    ]  # fmt: skip


async def ask(client: Client, x: float, headers: str = "") -> tuple[dict[str, Any], float]:
    """Ask for user 1 with *x* for the model; return the slate, and how long it took."""
    body = json.dumps({"user": 1, "context": {"x": x}}).encode()
    started = time.monotonic()
    status, _, content = await client.ask("POST", PATH, body, headers)
    took = time.monotonic() - started
    found = json.loads(content)
    assert status == 200, found
    assert len(found["items"]) == 3
    assert found["items"][0]["item"] != 0, "what was seen is not shown, whoever ranks"
    return found, took


async def until_ranked(client: Client) -> None:
    end = time.monotonic() + LIMIT_S
    while True:
        found, _ = await ask(client, 7.0)
        if found["answered_by"] == "ranker":
            assert {each["score"] for each in found["items"]} == {1007.0}
            return
        assert time.monotonic() < end, found
        await asyncio.sleep(0.1)


async def probes(server: Server, asking: list[asyncio.Task[Any]]) -> float:
    """Ask the worker whether it lives until *asking* are done; return the longest that took."""
    client, longest = Client(server.port), 0.0
    while not all(each.done() for each in asking):
        started = time.monotonic()
        status, _, _ = await client.ask("GET", "/healthz")
        assert status == 200
        longest = max(longest, time.monotonic() - started)
        await asyncio.sleep(0.01)
    return longest


@pytest.mark.parametrize("isolation", ["inline", "thread", "process"])
@pytest.mark.parametrize("batches", ["", "max_rows = 32"], ids=["one by one", "batched"])
def test_a_recommender_whose_ranking_model_is_isolated_works(tmp_path, log, isolation, batches):
    async def run(server: Server) -> None:
        asking = [until_ranked(Client(server.port)) for _ in range(8)]
        await asyncio.gather(*asking)

    arguments = recommender(tmp_path, f'isolation = "{isolation}"\n{batches}')
    with serving(*arguments, log=log) as server:
        asyncio.run(run(server))


@pytest.mark.parametrize(
    ("how", "settings", "step"),
    [
        (LOOP, 'isolation = "process"\ndeadline_ms = 300', ""),
        (HOLD_GIL, 'isolation = "process"\ndeadline_ms = 300', ""),
        (CRASH, 'isolation = "process"', ""),
        (HANG, 'isolation = "process"', "timeout_ms = 300"),
        (HANG, 'isolation = "thread"', "timeout_ms = 300"),
    ],
    ids=["loops apart", "holds its interpreter", "crashes", "hangs apart", "hangs in a thread"],
)
def test_it_steps_down_in_time_when_its_model_misbehaves(
    tmp_path, log, figures, how, settings, step
):
    stalls = Stalls()

    async def run(server: Server) -> tuple[list[float], float]:
        client = Client(server.port)
        await until_ranked(client)

        async def misbehave() -> list[float]:
            took = []
            for _ in range(12):
                found, seconds = await ask(client, how)
                assert found["answered_by"] == "order"
                took.append(seconds)
            return took

        async with stalls:
            asking = asyncio.create_task(misbehave())
            longest = await probes(server, [asking])
            took = await asking
        await until_ranked(client)
        return took, longest

    with serving(*recommender(tmp_path, settings, step), log=log) as server:
        took, longest = asyncio.run(run(server))
    figures(longest_s=max(took), all_twelve_s=sum(took), longest_probe_ms=1000 * longest)
    # Who crashes is waited for until the step's own limit, which nobody has set: two seconds.
    limit_s = 2.0 if how == CRASH else 0.3
    assert max(took) < limit_s + 1.2 + stalls.slack_s
    if how != CRASH:
        # A step that is late again and again is not waited for twelve times.
        assert "is skipped for a while" in log.read_text()
    assert longest < 0.5 + stalls.slack_s


def test_it_answers_within_the_clients_own_patience(tmp_path, log):
    """The ranking model hangs, and nobody but the client has set a limit."""

    patience_s, stalls = 4.0, Stalls()

    async def run(server: Server) -> None:
        client = Client(server.port)
        await until_ranked(client)
        async with stalls:
            found, took = await ask(client, HANG, f"X-Request-Timeout: {patience_s}\r\n")
        assert found["answered_by"] == "order"
        assert took < patience_s + stalls.slack_s

    arguments = recommender(tmp_path, 'isolation = "thread"', "timeout_ms = 60_000")
    with serving(*arguments, log=log) as server:
        asyncio.run(run(server))


@pytest.mark.parametrize("how", [LOOP, HANG], ids=["loops", "hangs"])
def test_asking_the_model_itself_to_rank_stalls_nobody(tmp_path, log, how):
    body = json.dumps({"items": {"x": [how]}}).encode()

    async def rank(server: Server) -> int:
        status, _, _ = await Client(server.port).ask("POST", "/v1/models/ranker:rank", body)
        return status

    stalls = Stalls()

    async def run(server: Server) -> float:
        async with stalls:
            asking = [asyncio.create_task(rank(server)) for _ in range(4)]
            longest = await probes(server, asking)
        assert {await each for each in asking} == {504}
        return longest

    arguments = recommender(tmp_path, 'isolation = "process"\ndeadline_ms = 300')
    with serving(*arguments, log=log) as server:
        assert asyncio.run(run(server)) < 0.5 + stalls.slack_s
