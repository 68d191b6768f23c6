"""What one client may take of an HTTP server: bytes, time, answers that it does not read."""

from __future__ import annotations

import asyncio

import pytest
from over_sockets import LIMITS, Place, over_sockets

from martlet.servers.limits import Limits


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
            place.pass_time(LIMITS.request_s - 60)
            client.send("l")
            await asyncio.sleep(0.01)
            place.pass_time(LIMITS.request_s + 60)
            answer = await client.answer()
            assert (answer.status, answer.headers["connection"]) == (408, "close")
            assert "did not arrive within 300 s" in answer.json()["error"]

        run()

    def test_a_connection_that_idles_is_closed_and_one_that_works_is_not(self):
        @over_sockets()
        async def run(place: Place) -> None:
            idle, fresh, working = [await place.client() for _ in range(3)]
            await idle.ask("GET", "/echo")
            working.send("GET /slow/a HTTP/1.1\r\n\r\n")
            await place.until(lambda: place.echo.began == ["a"])
            place.pass_time(LIMITS.idle_s - 60)
            assert len(place.server.connections) == 3
            place.pass_time(LIMITS.idle_s + 60)
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
            place.pass_time(LIMITS.idle_s + 60)
            await place.until(lambda: not place.server.connections)

        run()
