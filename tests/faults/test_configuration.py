"""A model config that is changed, broken or wrong while the server answers."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from drive import LIMIT_S, Client, Load, Server, comes, serving, write_version

ALL = "model_version_policy { all { } }"


def specific(*versions: int) -> str:
    chosen = " ".join(f"versions: {n}" for n in versions)
    return f"model_version_policy {{ specific {{ {chosen} }} }}"


def label(name: str, version: int) -> str:
    return f'version_labels {{ key: "{name}" value: {version} }}'


class Config:
    """A model config file, whose models are folders beside it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.file = folder / "models.config"

    def write(self, **models: str) -> None:
        """List *models*; what each entry says beside its name and folder."""
        entries = "".join(
            f'config {{ name: "{name}" base_path: "{self._folder / name}" '
            f'model_platform: "tensorflow" {more} }}'
            for name, more in models.items()
        )
        self.file.write_text(f"model_config_list {{ {entries} }}")


@pytest.fixture
def config(tmp_path: Path) -> Config:
    for n in (1, 2, 3):
        write_version(tmp_path / "m", n)
    write_version(tmp_path / "n", 1)
    return Config(tmp_path)


async def answering(server: Server, model: str) -> set[int]:
    """The versions of *model* that answer, as its status says."""
    _, _, body = await Client(server.port).ask("GET", f"/v1/models/{model}")
    told: dict[str, Any] = json.loads(body)
    states = told.get("model_version_status", [])
    return {int(each["version"]) for each in states if each["state"] == "AVAILABLE"}


async def predict(server: Server, where: str) -> Any:
    """The score of 5 by whom *where* names, or the status of the failure."""
    status, _, body = await Client(server.port).ask(
        "POST", f"/v1/models/{where}:predict", b'{"instances":[5.0]}'
    )
    return json.loads(body)["predictions"][0] if status == 200 else status


async def until(holds: Callable[[], Any]) -> None:
    end = time.monotonic() + LIMIT_S
    while not await holds():
        assert time.monotonic() < end, "it never came about"
        await asyncio.sleep(0.05)


def running(config: Config, log: Path, run: Callable[[Server], Any]) -> None:
    arguments = ("--workers", "2", "--log-level", "info", f"--model_config_file={config.file}")
    with serving(*arguments, log=log) as server:
        asyncio.run(run(server))


@asynccontextmanager
async def asked(server: Server) -> AsyncIterator[Load]:
    """Both models are asked all the while: no answer fails."""
    async with (
        Load(server.port, "m", connections=2, pause_s=0.005) as m,
        Load(server.port, "n", connections=2, pause_s=0.005) as n,
    ):
        yield m
    assert [*m.failed, *n.failed] == []
    assert [*m.torn, *n.torn] == []


def test_policies_and_labels_change_without_a_failed_answer(config, log):
    config.write(m=specific(1, 3) + label("stable", 1) + label("canary", 3), n="")

    async def run(server: Server) -> None:
        assert await answering(server, "m") == {1, 3}
        asked_for = ("m", "m/versions/1", "m/versions/2", "m/labels/stable", "m/labels/canary")
        found = [await predict(server, each) for each in asked_for]
        assert found == [3005.0, 1005.0, 404, 1005.0, 3005.0]
        async with asked(server):
            config.write(m=ALL + label("stable", 2), n="")
            server.signal(signal.SIGHUP)

            async def turned() -> bool:
                return await predict(server, "m/labels/stable") == 2005.0

            await until(turned)
            assert await answering(server, "m") == {1, 2, 3}
            assert await predict(server, "m/labels/canary") == 400
            config.write(m=specific(2), n="")
            server.signal(signal.SIGHUP)

            async def left() -> bool:
                return await answering(server, "m") == {2}

            await until(left)
        assert await predict(server, "m") == 2005.0

    running(config, log, run)


def test_a_label_onto_a_version_that_does_not_answer_is_given_to_nobody(config, log):
    config.write(m=specific(2), n="")

    async def run(server: Server) -> None:
        config.write(m=specific(2) + label("stable", 9), n=label("new", 1))
        server.signal(signal.SIGHUP)

        async def read() -> bool:
            return await predict(server, "n/labels/new") == 1005.0

        await until(read)
        assert await predict(server, "m/labels/stable") == 400
        assert await predict(server, "m") == 2005.0

    running(config, log, run)


@pytest.mark.parametrize(
    "broken",
    ["model_config_list { config { name:", "", 'model_config_list { config { base_path: "/" } }'],
    ids=["cut off", "empty", "without a name"],
)
def test_a_broken_config_keeps_what_answers_and_the_next_is_read(config, log, broken):
    config.write(m="", n="")

    async def run(server: Server) -> None:
        async with asked(server):
            config.file.write_text(broken)
            server.signal(signal.SIGHUP)
            await comes(lambda: "the models stay as they were" in log.read_text(), "a refusal")
            # What it might have done of it in spite of that it would have done by now.
            await asyncio.sleep(1.5)
            assert await answering(server, "m") == {3}
            assert await answering(server, "n") == {1}
            config.write(m=specific(2), n="")
            server.signal(signal.SIGHUP)

            async def turned() -> bool:
                return await answering(server, "m") == {2}

            await until(turned)

    running(config, log, run)


def test_a_model_without_its_folder_holds_up_no_other(config, tmp_path, log):
    config.write(m="", n="")

    async def run(server: Server) -> None:
        async with asked(server):
            config.write(m="", n="", nowhere="")
            server.signal(signal.SIGHUP)
            write_version(tmp_path / "m", 4)

            async def turned() -> bool:
                return await answering(server, "m") == {4}

            await until(turned)
            assert await predict(server, "nowhere") == 404
            write_version(tmp_path / "nowhere", 7)

            async def came() -> bool:
                return await predict(server, "nowhere") == 7005.0

            await until(came)

    running(config, log, run)


def test_a_model_that_is_listed_no_more_leaves(config, tmp_path, log):
    """And the server is ready without it, even where it never answered."""
    config.write(m="", n="")

    async def ready(server: Server) -> bool:
        status, _, _ = await Client(server.port).ask("GET", "/readyz")
        return status == 200

    async def run(server: Server) -> None:
        assert await ready(server)
        write_version(tmp_path / "broken", 1, load="raise")
        config.write(m="", n="", broken="")
        server.signal(signal.SIGHUP)

        async def told() -> bool:
            return not await ready(server)

        await until(told)
        config.write(m="")
        server.signal(signal.SIGHUP)

        async def left() -> bool:
            return await predict(server, "n") == 404

        await until(left)
        assert await predict(server, "m") == 3005.0
        assert await ready(server)

    running(config, log, run)
