"""The HTTP server over real sockets of the loopback: framing, limits, drain."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import pytest
import uvloop

from martlet.errors import Code, InvalidInput, MartletError, NotAvailable
from martlet.servers import http, replies
from martlet.servers.failures import failed
from martlet.servers.http import HttpServer
from martlet.servers.limits import Limits
from martlet.servers.routes import Request, Response, Route, Router, failure
from martlet.servers.status import HTTP_STATUS

LIMITS = Limits(body_bytes=1000, header_bytes=2000, idle_s=5.0, request_s=3.0)
WAIT_S = 5.0


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
                await server.drain(1.0, quiet_s=0.0)
            assert complaints == []

        def run() -> None:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(main())

        run.__name__, run.__doc__ = test.__name__, test.__doc__
        return run

    return decorate


class TestFraming:
    def test_a_connection_takes_one_request_after_the_other(self):
        @over_sockets()
        async def run(place: Place) -> None:
            client = await place.client()
            for word in ("one", "two", "three"):
                answer = await client.ask("POST", "/echo", body=word)
                assert (answer.status, answer.json()["body"]) == (200, word)
            assert answer.headers["content-type"] == "application/json"
            assert "connection" not in answer.headers

        run()

    def test_pipelined_requests_are_answered_in_their_order(self):
        @over_sockets()
        async def run(place: Place) -> None:
            client = await place.client()
            paths = ["/later/a", "/raise/ours", "/later/b", "/nowhere", "/later/c", "/echo"]
            client.send("".join(f"GET {path} HTTP/1.1\r\n\r\n" for path in paths))
            answers = [await client.answer() for _ in paths]
            assert [a.status for a in answers] == [200, 400, 200, 404, 200, 200]
            assert [a.body for a in answers[::2]] == [b"a", b"b", b"c"]

        run()

    def test_requests_that_wait_behind_a_slow_one_are_answered_after_it(self):
        @over_sockets()
        async def run(place: Place) -> None:
            client = await place.client()
            client.send("GET /slow/first HTTP/1.1\r\n\r\nGET /echo HTTP/1.1\r\n\r\n")
            await place.until(lambda: place.echo.began == ["first"])
            client.send("GET /slow/second HTTP/1.1\r\nConnection: close\r\n\r\n")
            place.echo.gate.set()
            bodies = [(await client.answer()).body for _ in range(3)]
            assert (bodies[0], bodies[2]) == (b"first", b"second")
            assert await client.closed()

        run()

    @pytest.mark.parametrize("size", [1, 3, 1000])
    def test_a_request_may_come_in_pieces(self, size: int):
        @over_sockets()
        async def run(place: Place) -> None:
            client = await place.client()
            whole = b"POST /echo HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello"
            for start in range(0, len(whole), size):
                client.send(whole[start : start + size])
                await client.writer.drain()
                await asyncio.sleep(0)
            assert (await client.answer()).json()["body"] == "hello"

        run()

    def test_a_chunked_body_is_put_together(self):
        @over_sockets()
        async def run(place: Place) -> None:
            client = await place.client()
            client.send("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
            client.send("5;note=x\r\nhello\r\n1\r\n \r\n5\r\nworld\r\n0\r\n\r\n")
            assert (await client.answer()).json()["body"] == "hello world"
            assert (await client.ask("GET", "/echo")).status == 200

        run()

    def test_a_trailer_cannot_pass_for_a_header(self):
        @over_sockets()
        async def run(place: Place) -> None:
            client = await place.client()
            client.send("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n")
            client.send("0\r\nContent-Encoding: gzip\r\n\r\n")
            answer = await client.answer()
            assert (answer.status, answer.json()["body"]) == (200, "hi")

        run()

    def test_who_expects_100_continue_gets_it_before_sending_the_body(self):
        @over_sockets()
        async def run(place: Place) -> None:
            client = await place.client()
            client.send("POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
            head = await asyncio.wait_for(client.reader.readuntil(b"\r\n\r\n"), WAIT_S)
            assert head == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.send("hi")
            assert (await client.answer()).json()["body"] == "hi"

        run()

    def test_the_100_waits_until_earlier_requests_are_answered(self):
        @over_sockets()
        async def run(place: Place) -> None:
            client = await place.client()
            client.send("GET /slow/first HTTP/1.1\r\n\r\n")
            client.send("POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
            await place.until(lambda: place.echo.began == ["first"])
            place.echo.gate.set()
            assert (await client.answer()).body == b"first"
            assert client.interim == []
            client.send("hi")
            assert (await client.answer()).json()["body"] == "hi"
            assert client.interim == [100]

        run()

    def test_who_expects_it_with_too_large_a_body_is_refused_at_once(self):
        @over_sockets()
        async def run(place: Place) -> None:
            client = await place.client()
            client.send(
                "POST /echo HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5000\r\n\r\n"
            )
            assert (await client.answer()).status == 413
            assert client.interim == []

        run()

    def test_head_is_get_without_the_body(self):
        @over_sockets()
        async def run(place: Place) -> None:
            client = await place.client()
            answer = await client.ask("HEAD", "/long")
            assert (answer.status, answer.headers["content-length"]) == (200, "100000")
            assert (await client.ask("GET", "/echo")).status == 200

        run()

    def test_http_1_0_closes_unless_it_asks_to_be_kept_and_is_told_so(self):
        @over_sockets()
        async def run(place: Place) -> None:
            client = await place.client()
            client.send("GET /echo HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
            assert (await client.answer()).headers["connection"] == "keep-alive"
            client.send("GET /echo HTTP/1.0\r\n\r\n")
            assert (await client.answer()).headers["connection"] == "close"
            assert await client.closed()

        run()

    def test_who_is_turned_away_waits_and_who_was_there_does_not_notice(self):
        with http.bound("127.0.0.1", 0) as listening, socket.socket() as late:
            listening.listen()
            with socket.create_connection(listening.getsockname()) as early:
                assert http.turn_away(listening)
                early.sendall(b"ping")
                accepted, _ = listening.accept()
                with accepted:
                    assert accepted.recv(4) == b"ping"
                late.settimeout(0.1)
                with pytest.raises(TimeoutError):
                    late.connect(listening.getsockname())

    def test_a_share_of_the_clients_is_sent_to_open_their_connections_anew(self):
        @over_sockets()
        async def run(place: Place) -> None:
            clients = [await place.client() for _ in range(6)]
            for client in clients:
                await client.ask("GET", "/echo")
            place.server.part(1 / 3)
            answers = [await client.ask("GET", "/echo") for client in clients]
            assert {each.status for each in answers} == {200}
            told = [each.headers.get("connection") for each in answers]
            assert (told.count("close"), told.count(None)) == (2, 4)
            for client, word in zip(clients, told, strict=True):
                if word == "close":
                    assert await client.closed()
                else:
                    assert (await client.ask("GET", "/echo")).status == 200

        run()

    def test_what_comes_after_the_last_request_is_dropped(self):
        @over_sockets()
        async def run(place: Place) -> None:
            client = await place.client()
            client.send("GET /echo HTTP/1.1\r\nConnection: close\r\n\r\n\r\nGET /echo HTTP/1.1")
            assert (await client.answer()).headers["connection"] == "close"
            assert await client.closed()

        run()

    @pytest.mark.parametrize("authority", ["http://place:80", "HTTP://place", "https://[::1]:1"])
    def test_a_whole_url_names_a_path_too(self, authority: str):
        @over_sockets()
        async def run(place: Place) -> None:
            client = await place.client()
            client.send(f"GET {authority}/later/x HTTP/1.1\r\nHost: place\r\n\r\n")
            assert (await client.answer()).body == b"x"
            client.send("GET /later/y HTTP/1.1\r\nHost: place\r\n\r\n")
            assert (await client.answer()).body == b"y"

        run()

    def test_an_offer_to_upgrade_is_passed_over(self):
        @over_sockets()
        async def run(place: Place) -> None:
            client = await place.client()
            offer = ("Connection: Upgrade", "Upgrade: h2c")
            for _ in range(2):
                answer = await client.ask("POST", "/echo", *offer, body="hi")
                assert (answer.status, answer.json()["body"]) == (200, "hi")
            client.send("GET /echo HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n" * 3)
            assert [(await client.answer()).status for _ in range(3)] == [200] * 3

        run()


class TestBadRequests:
    @pytest.mark.parametrize(
        "said",
        [
            "hello\r\n\r\n",
            "GET\r\n\r\n",
            "GET /echo HTTP/9.9\r\n\r\n",
            "GET /echo HTTP/1.1\r\nNo colon here\r\n\r\n",
            "POST /echo HTTP/1.1\r\nContent-Length: many\r\n\r\n",
            "POST /echo HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
            "POST /echo HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n",
            "POST /echo HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
            "POST /echo HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            "\x16\x03\x01\x02\x00\x01\x00",
        ],
    )
    def test_what_is_not_http_is_told_so_and_the_next_client_is_served(self, said: str):
        @over_sockets()
        async def run(place: Place) -> None:
            client = await place.client()
            client.send(said)
            answer = await client.answer()
            assert answer.status == 400
            assert "not HTTP/1.1 that can be read" in answer.json()["error"]
            assert answer.headers["connection"] == "close"
            assert await client.closed()
            assert (await (await place.client()).ask("GET", "/echo")).status == 200

        run()

    def test_a_malformed_request_behind_good_ones_leaves_their_answers_whole(self):
        @over_sockets()
        async def run(place: Place) -> None:
            client = await place.client()
            client.send("GET /slow/first HTTP/1.1\r\n\r\nGET /later/b HTTP/1.1\r\n\r\nnonsense\r\n")
            await place.until(lambda: place.echo.began == ["first"])
            place.echo.gate.set()
            answers = [await client.answer() for _ in range(3)]
            assert [a.status for a in answers] == [200, 200, 400]
            assert await client.closed()

        run()

    def test_an_unknown_path_and_a_wrong_method_are_told(self):
        @over_sockets()
        async def run(place: Place) -> None:
            client = await place.client()
            assert (await client.ask("GET", "/nowhere")).status == 404
            answer = await client.ask("DELETE", "/echo")
            assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD, POST")
            assert (await client.ask("GET", "/echo")).status == 200

        run()


class TestLimits:
    @pytest.mark.parametrize("pieces", [1, 7], ids=["at once", "in pieces"])
    def test_headers_beyond_the_limit_are_431(self, pieces: int):
        @over_sockets()
        async def run(place: Place) -> None:
            client = await place.client()
            head = f"GET /echo HTTP/1.1\r\nX-Long: {'x' * 3000}\r\n\r\n"
            step = -(-len(head) // pieces)
            for start in range(0, len(head), step):
                client.send(head[start : start + step])
                await client.writer.drain()
                await asyncio.sleep(0.002)
            answer = await client.answer()
            assert (answer.status, answer.headers["connection"]) == (431, "close")
            assert await client.closed()

        run()

    def test_a_small_head_with_a_large_body_in_one_read_is_no_large_head(self):
        @over_sockets(Limits(body_bytes=100_000, header_bytes=200))
        async def run(place: Place) -> None:
            client = await place.client()
            for _ in range(2):
                assert (await client.ask("POST", "/echo", body="x" * 50_000)).status == 200

        run()

    def test_headers_without_end_are_cut_off(self):
        @over_sockets()
        async def run(place: Place) -> None:
            client = await place.client()
            client.send("GET /echo HTTP/1.1\r\n" + "X-Y: z\r\n" * 400)
            assert (await client.answer()).status == 431

        run()

    def test_a_body_of_known_length_beyond_the_limit_is_413_and_the_answer_is_read_whole(self):
        @over_sockets()
        async def run(place: Place) -> None:
            client = await place.client()
            client.send("POST /echo HTTP/1.1\r\nContent-Length: 5000000\r\n\r\n")
            client.send(b"x" * 5_000_000)
            answer = await client.answer()
            assert answer.status == 413
            assert answer.json()["error"] == "the body is 5000000 bytes; the limit is 1000 bytes"
            assert await client.closed()
            assert (
                await (await place.client()).ask("POST", "/echo", body="x" * 1000)
            ).status == 200

        run()

    def test_a_chunked_body_beyond_the_limit_is_413(self):
        @over_sockets()
        async def run(place: Place) -> None:
            client = await place.client()
            client.send("POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n")
            for _ in range(30):
                client.send("64\r\n" + "x" * 100 + "\r\n")
            answer = await client.answer()
            assert (answer.status, answer.headers["connection"]) == (413, "close")
            assert await client.closed()

        run()

    def test_a_request_that_drips_is_408(self):
        @over_sockets()
        async def run(place: Place) -> None:
            client = await place.client()
            client.send("POST /echo HTTP/1.1\r\nContent-Length: 5\r\n\r\nhe")
            await place.until(lambda: any(c.started for c in place.server.connections))
            place.pass_time(LIMITS.request_s - 0.5)
            client.send("l")
            await asyncio.sleep(0.01)
            place.pass_time(LIMITS.request_s + 0.5)
            answer = await client.answer()
            assert (answer.status, answer.headers["connection"]) == (408, "close")
            assert "did not arrive within 3 s" in answer.json()["error"]

        run()

    def test_a_connection_that_idles_is_closed_and_one_that_works_is_not(self):
        @over_sockets()
        async def run(place: Place) -> None:
            idle, fresh, working = [await place.client() for _ in range(3)]
            await idle.ask("GET", "/echo")
            working.send("GET /slow/a HTTP/1.1\r\n\r\n")
            await place.until(lambda: place.echo.began == ["a"])
            place.pass_time(LIMITS.idle_s - 1)
            assert len(place.server.connections) == 3
            place.pass_time(LIMITS.idle_s + 1)
            assert await idle.closed() and await fresh.closed()
            place.echo.gate.set()
            assert (await working.answer()).body == b"a"

        run()

    def test_a_client_that_asks_and_never_reads_is_not_answered_without_end(self):
        @over_sockets()
        async def run(place: Place) -> None:
            deaf = await place.client()
            deaf.reader._transport.pause_reading()  # type: ignore[attr-defined]
            requests = 400
            deaf.send("GET /long HTTP/1.1\r\n\r\n" * requests)
            await place.until(lambda: any(c._choked for c in place.server.connections))
            served = place.server.served
            await asyncio.sleep(0.05)
            assert place.server.served == served < requests
            # It reads after all, and misses nothing.
            deaf.reader._transport.resume_reading()  # type: ignore[attr-defined]
            for _ in range(requests):
                assert len((await deaf.answer()).body) == 100_000

        run()

    def test_a_client_that_does_not_read_is_let_go_in_the_end(self):
        @over_sockets()
        async def run(place: Place) -> None:
            deaf = await place.client()
            deaf.reader._transport.pause_reading()  # type: ignore[attr-defined]
            deaf.send("GET /long HTTP/1.1\r\n\r\n" * 500)
            await place.until(lambda: any(c._choked for c in place.server.connections))
            place.pass_time(LIMITS.idle_s + 1)
            await place.until(lambda: not place.server.connections)

        run()


class TestClientsThatLeave:
    def test_a_half_closed_client_gets_its_answers(self):
        @over_sockets()
        async def run(place: Place) -> None:
            client = await place.client()
            client.send("GET /slow/a HTTP/1.1\r\n\r\nGET /echo HTTP/1.1\r\n\r\n")
            client.writer.write_eof()
            await place.until(lambda: place.echo.began == ["a"])
            place.echo.gate.set()
            assert (await client.answer()).body == b"a"
            assert (await client.answer()).status == 200
            assert await client.closed()

        run()

    def test_a_half_closed_client_whose_answer_came_at_once_gets_it_too(self):
        @over_sockets()
        async def run(place: Place) -> None:
            client = await place.client()
            client.send("GET /long HTTP/1.1\r\n\r\n")
            client.writer.write_eof()
            assert len((await client.answer()).body) == 100_000
            assert await client.closed()

        run()

    def test_a_client_that_vanishes_cancels_what_it_asked_for(self):
        @over_sockets()
        async def run(place: Place) -> None:
            client = await place.client()
            client.send("GET /slow/a HTTP/1.1\r\n\r\n")
            await place.until(lambda: place.echo.began == ["a"])
            client.reset()
            await place.until(lambda: place.echo.cancelled == ["a"])
            await place.until(lambda: not place.server.connections)

        run()

    def test_a_client_that_closes_in_good_order_is_found_out(self):
        @over_sockets()
        async def run(place: Place) -> None:
            client = await place.client()
            client.send("GET /slow/a HTTP/1.1\r\n\r\n")
            await place.until(lambda: place.echo.began == ["a"])
            # Its end of the stream is all that comes: as from one that only half-closes.
            client.writer.close()
            await place.until(lambda: place.echo.cancelled == ["a"])
            await place.until(lambda: not place.server.connections)

        run()

    def test_a_client_that_leaves_in_the_middle_of_a_request_is_forgotten(self):
        @over_sockets()
        async def run(place: Place) -> None:
            client = await place.client()
            client.send("POST /echo HTTP/1.1\r\nContent-Le")
            client.writer.close()
            await place.until(lambda: not place.server.connections)
            assert place.server.served == 0

        run()


class TestErrors:
    @pytest.mark.parametrize("when", ["", "later-"], ids=["at once", "later"])
    def test_an_error_of_ours_is_its_own_status(self, when: str):
        @over_sockets()
        async def run(place: Place) -> None:
            client = await place.client()
            answer = await client.ask("GET", f"/raise/{when}ours")
            assert (answer.status, answer.json()) == (400, {"error": "this is wrong"})
            answer = await client.ask("GET", f"/raise/{when}busy")
            assert (answer.status, answer.headers["retry-after"]) == (503, "1")

        run()

    @pytest.mark.parametrize("when", ["", "later-"], ids=["at once", "later"])
    def test_a_handler_that_raises_is_500_logged_and_the_next_request_is_answered(
        self, when: str, caplog: pytest.LogCaptureFixture
    ):
        @over_sockets()
        async def run(place: Place) -> None:
            client = await place.client()
            answer = await client.ask("GET", f"/raise/{when}bug")
            assert answer.status == 500
            assert "oops" not in answer.json()["error"]
            assert (await client.ask("GET", "/echo")).status == 200

        with caplog.at_level(logging.ERROR, replies.__name__):
            run()
        assert f"GET /raise/{when}bug failed" in caplog.text
        assert "ZeroDivisionError: oops" in caplog.text

    @pytest.mark.parametrize("code", Code, ids=lambda code: code.value)
    def test_every_code_has_a_status_and_the_head_of_an_answer(self, code: Code):
        class Sample(MartletError):
            pass

        Sample.code = code
        response = failed(Sample("a sentence"))
        assert 400 <= response.status < 600
        assert response.status == HTTP_STATUS[code]
        assert response.status in replies.HEADS
        assert json.loads(response.body) == {"error": "a sentence"}

    def test_a_message_that_quotes_what_is_no_text_is_still_json(self):
        assert json.loads(failure(404, "no \udcff").body) == {"error": "no ?"}


class TestDrain:
    def test_what_is_under_way_is_finished_and_then_closed(self):
        @over_sockets()
        async def run(place: Place) -> None:
            busy, idle = await place.client(), await place.client()
            busy.send("GET /slow/a HTTP/1.1\r\n\r\nGET /echo HTTP/1.1\r\n\r\n")
            await place.until(lambda: place.echo.began == ["a"])
            await idle.ask("GET", "/echo")
            draining = asyncio.ensure_future(place.server.drain(5.0, quiet_s=0.0))
            assert await idle.closed()
            place.echo.gate.set()
            assert (await busy.answer()).body == b"a"
            last = await busy.answer()
            assert (last.status, last.headers["connection"]) == (200, "close")
            assert await busy.closed()
            assert await draining is True

        run()

    def test_a_request_that_was_on_its_way_is_answered(self):
        @over_sockets()
        async def run(place: Place) -> None:
            client = await place.client()
            await client.ask("GET", "/echo")
            draining = asyncio.ensure_future(place.server.drain(5.0, quiet_s=2.0))
            await asyncio.sleep(0)
            answer = await client.ask("GET", "/echo")
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert await draining is True

        run()

    def test_no_new_connection_is_taken(self):
        @over_sockets()
        async def run(place: Place) -> None:
            assert await place.server.drain(1.0, quiet_s=0.0) is True
            with pytest.raises(OSError):
                await place.client()

        run()

    def test_what_does_not_finish_in_time_is_cut_off_and_told(self):
        @over_sockets()
        async def run(place: Place) -> None:
            client = await place.client()
            client.send("GET /slow/a HTTP/1.1\r\n\r\n")
            await place.until(lambda: place.echo.began == ["a"])
            assert await place.server.drain(0.05, quiet_s=0.0) is False
            assert await client.closed()

        run()


class TestPorts:
    def test_workers_share_a_port_and_a_stranger_is_refused(self):
        with http.reserve("127.0.0.1", 0) as holder:
            port = holder.getsockname()[1]
            with http.bound("127.0.0.1", port) as worker:
                worker.listen()
                with pytest.raises(NotAvailable, match=rf"cannot listen on 127.0.0.1:{port}"):
                    http.reserve("127.0.0.1", port)
