"""Clients that leave an HTTP server, and a server that leaves its clients."""

from __future__ import annotations

import asyncio

import pytest
from over_sockets import Place, over_sockets


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


class TestDrain:
    def test_what_is_under_way_is_finished_and_then_closed(self):
        @over_sockets()
        async def run(place: Place) -> None:
            busy, idle = await place.client(), await place.client()
            busy.send("GET /slow/a HTTP/1.1\r\n\r\nGET /echo HTTP/1.1\r\n\r\n")
            await place.until(lambda: place.echo.began == ["a"])
            await idle.ask("GET", "/echo")
            draining = asyncio.ensure_future(place.server.drain(60.0, quiet_s=0.0))
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
            draining = asyncio.ensure_future(place.server.drain(60.0, quiet_s=30.0))
            await asyncio.sleep(0)
            answer = await client.ask("GET", "/echo")
            assert (answer.status, answer.headers["connection"]) == (200, "close")
            assert await draining is True

        run()

    def test_no_new_connection_is_taken(self):
        @over_sockets()
        async def run(place: Place) -> None:
            assert await place.server.drain(30.0, quiet_s=0.0) is True
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
