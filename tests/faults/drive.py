"""A server in processes of its own, a load that never stops asking, and what its answers tell."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import martlet

HERE = Path(__file__).parent
PLUGIN = HERE / "plugin"
ENV = {
    **os.environ,
    "PYTHONPATH": f"{Path(martlet.__file__).parent.parent}:{PLUGIN}",
    "OMP_NUM_THREADS": "1",
}

PORTS = ("--rest-port", "0", "--grpc-port", "0")

LIMIT_S = 120.0
"""After which what has not come never will, on a machine however busy."""

HANDS = 4
"""Those that a call goes through there and back, each of which may be held up by the machine."""


class Server:
    """``martlet serve`` with *arguments*, on a free port."""

    def __init__(self, *arguments: str, log: Path) -> None:
        self.log = log
        with log.open("w") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "martlet", "serve", *PORTS, *arguments],
                stdout=subprocess.PIPE,
                stderr=stderr,
                env=ENV,
                text=True,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:(\d+) \(gRPC at (\S+)\)", line)
        assert found, f"the server did not start: {log.read_text()}"
        self.port = int(found[1])
        self.grpc = found[2]

    def children(self) -> list[int]:
        """The pids of the supervisor's children: workers, and a trial while there is one."""
        pid = self.process.pid
        return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, timeout: float = 30.0) -> int:
        return self.process.wait(timeout)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


@contextlib.contextmanager
def serving(*arguments: str, log: Path) -> Iterator[Server]:
    server = Server(*arguments, log=log)
    try:
        yield server
    finally:
        server.close()


@dataclass(slots=True)
class Answer:
    """One request: when it went out and came back (seconds), and what with."""

    sent: float
    got: float
    x: float
    status: int
    """0: the connection broke."""
    version: int = 0
    score: float = 0.0
    text: str = ""

    @property
    def failed(self) -> bool:
        return self.status != 200

    @property
    def torn(self) -> bool:
        """Whether the version that signed and the version that scored differ."""
        return not self.failed and self.score != self.x + 1000 * self.version


class Client:
    """One keep-alive connection, opened when needed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(
        self, method: str, path: str, body: bytes = b"", headers: str = ""
    ) -> tuple[int, dict[str, str], bytes]:
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        )
        try:
            writer.write(head.encode() + body)
            raw = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = raw.strip().split("\r\n")
            found = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
            content = await reader.readexactly(int(found["content-length"]))
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            self.close()
            raise
        if found.get("connection") == "close":
            self.close()
        return int(first.split()[1]), found, content

    async def infer(self, model: str, x: float) -> Answer:
        """Ask *model* over Open Inference, whose answers name their version."""
        body = json.dumps(
            {"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [x]}]}
        ).encode()
        sent = time.monotonic()
        try:
            status, _, content = await self.ask("POST", f"/v2/models/{model}/infer", body)
        except (OSError, asyncio.IncompleteReadError) as exc:
            return Answer(sent, time.monotonic(), x, 0, text=repr(exc))
        got = time.monotonic()
        if status != 200:
            return Answer(sent, got, x, status, text=content.decode(errors="replace"))
        found: dict[str, Any] = json.loads(content)
        score = found["outputs"][0]["data"][0]
        return Answer(sent, got, x, status, int(found["model_version"]), score)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


@dataclass
class Load:
    """
    Connections that ask as soon as they are answered, until the block ends.

    Args:
        pause_s: Between an answer and the next request of a connection.
        renew: A connection is opened anew after about so many requests, to meet other workers.
    """

    port: int
    model: str = "m"
    connections: int = 8
    seed: int = 0
    pause_s: float = 0.0
    renew: int = 40
    answers: list[Answer] = field(default_factory=list)

    async def __aenter__(self) -> Load:
        self._over = False
        self._tasks = [asyncio.create_task(self._ask(n)) for n in range(self.connections)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._over = True
        await asyncio.gather(*self._tasks)

    async def _ask(self, number: int) -> None:
        pick = random.Random(self.seed * 1000 + number)
        client = Client(self.port)
        while not self._over:
            answer = await client.infer(self.model, float(pick.randrange(900)))
            self.answers.append(answer)
            if answer.status == 0:
                await asyncio.sleep(0.01)
            if pick.random() < 1 / self.renew:
                client.close()
            if self.pause_s:
                await asyncio.sleep(self.pause_s)
        client.close()

    # -- what the answers tell -------------------------------------------------------------

    @property
    def failed(self) -> list[Answer]:
        return [each for each in self.answers if each.failed]

    @property
    def refused(self) -> list[Answer]:
        """Those for whom nobody listened. One whom a killed worker had in its queue is cut off."""
        return [each for each in self.answers if each.text.startswith("ConnectionRefusedError")]

    @property
    def torn(self) -> list[Answer]:
        return [each for each in self.answers if each.torn]

    @property
    def versions(self) -> set[int]:
        return {each.version for each in self.answers if not each.failed}

    @property
    def regressions(self) -> int:
        return regressions(self.answers)

    def p99_ms(self) -> float:
        return p99_ms([self])


class Asking:
    """``asking.py``: a client in a process of its own, which asks *rate* times a second."""

    def __init__(self, port: int, model: str, rate: float, connections: int = 1) -> None:
        self._told = [str(HERE / "asking.py"), *map(str, (port, model, rate, connections))]

    async def __aenter__(self) -> Asking:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, *self._told, stdin=PIPE, stdout=PIPE, limit=1 << 26
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()

    async def ask(self, seconds: float) -> list[tuple[int, int]]:
        """Return the status of each request, and how long after it was due it was answered, us."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{seconds}\n".encode())
        found: list[tuple[int, int]] = json.loads(await self._process.stdout.readline())
        return found


@dataclass
class Stalls:
    """How much later than asked the load's own process goes on: what is the machine's doing."""

    late: list[float] = field(default_factory=list)

    async def __aenter__(self) -> Stalls:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()

    async def _watch(self) -> None:
        while True:
            due = time.monotonic() + 0.005
            await asyncio.sleep(0.005)
            self.late.append(time.monotonic() - due)

    @property
    def p99_s(self) -> float:
        return sorted(self.late)[int(0.99 * len(self.late))]

    @property
    def longest_s(self) -> float:
        return max(self.late, default=0.0)

    @property
    def slack_s(self) -> float:
        """How much longer than at rest a call may take on this machine, now."""
        return HANDS * self.longest_s


def p99_ms(loads: Sequence[Load]) -> float:
    """Return how long 99 of 100 answers of *loads* took at most, in milliseconds."""
    took = sorted(each.got - each.sent for load in loads for each in load.answers)
    return 1000 * took[int(0.99 * len(took))]


def regressions(answers: list[Answer]) -> int:
    """
    Count answers from a version older than one that had been seen, by anybody, before they asked.

    That is stronger than one client's own order: who is told by another that the new version
    answers must meet it too.
    """
    good = [each for each in answers if not each.failed]
    asked = sorted(good, key=lambda each: each.sent)
    done = sorted(good, key=lambda each: each.got)
    newest = count = at = 0
    for each in asked:
        while done[at].got < each.sent:
            newest = max(newest, done[at].version)
            at += 1
        count += each.version < newest
    return count


def write_version(folder: Path, number: int, megabytes_of_file: int = 0, **told: Any) -> Path:
    """Publish version *number* of a faulty model in *folder*, by a rename as one should."""
    folder.mkdir(parents=True, exist_ok=True)
    staged = folder / f"staged-{number}"
    staged.mkdir()
    (staged / "model.faulty").write_text(json.dumps({"version": number, **told}))
    if megabytes_of_file:
        with (staged / "weights.bin").open("wb") as file:
            # A hole on the disk, and as many bytes as it says in memory.
            file.truncate(megabytes_of_file << 20)
    return staged.rename(folder / str(number))


def folder(tmp_path: Path, *numbers: int) -> Path:
    for number in numbers or (1,):
        write_version(tmp_path / "m", number)
    return tmp_path / "m"


def from_folder(path: Path, workers: int = 2) -> list[str]:
    flags = ["--model_name=m", f"--model_base_path={path}"]
    return ["--workers", str(workers), "--log-level", "info", *flags]


def two_models(tmp_path: Path, settings: str, **told: Any) -> list[str]:
    """A good model ``m``, and ``bad``, which is run as *settings* say."""
    write_version(tmp_path / "m", 1)
    write_version(tmp_path / "bad", 1, **told)
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


async def until(load: Load, version: int) -> None:
    end = time.monotonic() + LIMIT_S
    while version not in load.versions:
        assert time.monotonic() < end, f"version {version} never answered"
        await asyncio.sleep(0.005)


async def comes(true: Callable[[], object], what: str) -> None:
    """Wait until *true*, which is *what* is waited for."""
    end = time.monotonic() + LIMIT_S
    while not true():
        assert time.monotonic() < end, f"it never came about: {what}"
        await asyncio.sleep(0.01)


async def all_answer(server: Server, workers: int = 2) -> None:
    """Wait until so many workers answer: the ids that each makes begin alike."""
    seen: set[str] = set()
    end = time.monotonic() + LIMIT_S
    while len(seen) < workers:
        assert time.monotonic() < end, f"{len(seen)} of {workers} workers answer"
        client = Client(server.port)
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            _, headers, _ = await client.ask("GET", "/healthz")
            seen.add(headers["x-request-id"].partition("-")[0])
            client.close()
