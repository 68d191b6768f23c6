"""A server over real sockets of the loopback, and a client that speaks bytes."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import uvloop

from martlet.errors import InvalidInput, NotAvailable
from martlet.servers.http import HttpServer
from martlet.servers.limits import Limits
from martlet.servers.routes import Request, Response, Route, Router

LIMITS = Limits(body_bytes=1000, header_bytes=2000, idle_s=500.0, request_s=300.0)


WAIT_S = 60.0


class Echo:
    """Answers with what it was sent; slowly, badly or at length where the path says so."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.began: list[str] = []
        self.cancelled: list[str] = []
        self.routes = [
            Route("POST", re.compile("/echo"), lambda: self._echo),
            Route("GET", re.compile("/echo"), lambda: self._echo),
            Route("GET", re.compile("/slow/(?P<name>.*)"), lambda name: lambda _: self._slow(name)),
            Route("GET", re.compile("/later/(?P<name>.*)"), lambda name: lambda _: _later(name)),
            Route("GET", re.compile("/long"), lambda: lambda _: Response(200, b"x" * 100_000)),
            Route("GET", re.compile("/raise/(?P<what>.*)"), _raiser),
        ]

    def unmatched(self, request: Request) -> None:
        return None

    def _echo(self, request: Request) -> Response:
        said = {"method": request.method, "body": request.body.decode("latin-1")}
        return Response(200, json.dumps(said).encode())

    async def _slow(self, name: str) -> Response:
        self.began.append(name)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        return Response(200, name.encode())


async def _later(name: str) -> Response:
    await asyncio.sleep(0)
    return Response(200, name.encode())


def _raiser(what: str) -> Callable[[Request], Response | Awaitable[Response]]:
    errors: dict[str, Exception] = {
        "ours": InvalidInput("this is wrong"),
        "busy": NotAvailable("not now"),
        "bug": ZeroDivisionError("oops"),
    }

    def at_once(request: Request) -> Response:
        raise errors[what]

    async def later(request: Request) -> Response:
        await asyncio.sleep(0)
        raise errors[what.removeprefix("later-")]

    return later if what.startswith("later-") else at_once


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict[str, str]:
        found: dict[str, str] = json.loads(self.body)
        return found


@dataclass
class Client:
    """A socket that speaks bytes, so that anything can be said on it."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    interim: list[int] = field(default_factory=list)

    def send(self, data: bytes | str) -> None:
        self.writer.write(data.encode("latin-1") if isinstance(data, str) else data)

    def reset(self) -> None:
        """Be gone without a word, as a process that is killed: RST, not FIN."""
        sock = self.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def answer(self, *, body: bool = True) -> Answer:
        while True:
            head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), WAIT_S)
            first, *rest = head.decode("latin-1").strip().split("\r\n")
            status = int(first.split(" ")[1])
            if status == 100:
                self.interim.append(status)
                continue
            headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in rest)}
            size = int(headers["content-length"]) if body else 0
            read = await asyncio.wait_for(self.reader.readexactly(size), WAIT_S)
            return Answer(status, headers, read)

    async def closed(self) -> bool:
        return await asyncio.wait_for(self.reader.read(), WAIT_S) == b""

    async def ask(self, method: str, path: str, *headers: str, body: str = "") -> Answer:
        lines = "".join(f"{line}\r\n" for line in headers)
        if body:
            lines += f"Content-Length: {len(body)}\r\n"
        self.send(f"{method} {path} HTTP/1.1\r\nHost: here\r\n{lines}\r\n{body}")
        return await self.answer(body=method != "HEAD")


@dataclass
class Place:
    """A server with its handlers, and the way to it."""

    server: HttpServer
    echo: Echo
    port: int

    async def client(self) -> Client:
        return Client(*await asyncio.open_connection("127.0.0.1", self.port))

    def pass_time(self, seconds: float) -> None:
        """Do what the server's sweep does *seconds* later."""
        for each in list(self.server.connections):
            each.expire(self.server.clock + seconds)

    async def until(self, true: Callable[[], bool]) -> None:
        async with asyncio.timeout(WAIT_S):
            while not true():
                await asyncio.sleep(0.001)


def over_sockets(limits: Limits = LIMITS) -> Callable[[Callable[[Place], Awaitable[None]]], object]:
    """Run a coroutine of a test on uvloop, with a server; no task of it may be left in error."""

    def decorate(test: Callable[[Place], Awaitable[None]]) -> object:
        async def main() -> None:
            complaints: list[object] = []
            loop = asyncio.get_running_loop()
            loop.set_exception_handler(lambda _, context: complaints.append(context))
            echo = Echo()
            server = HttpServer(Router([echo], limits.body_bytes), "127.0.0.1", 0, limits)
            await server.open()
            assert server._socket is not None
            place = Place(server, echo, server._socket.getsockname()[1])
            try:
                await test(place)
            finally:
                echo.gate.set()
                await server.drain(30.0, quiet_s=0.0)
            assert complaints == []

        def run() -> None:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(main())

        run.__name__, run.__doc__ = test.__name__, test.__doc__
        return run

    return decorate
