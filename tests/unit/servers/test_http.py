"""The HTTP server over real sockets of the loopback: framing, what is no HTTP, errors."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from dataclasses import replace

import pytest
from over_sockets import LIMITS, WAIT_S, Place, over_sockets

from martlet.errors import Code, MartletError, NotAvailable
from martlet.servers import http, newcomers, replies
from martlet.servers.failures import failed
from martlet.servers.routes import failure
from martlet.servers.status import HTTP_STATUS


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
                assert newcomers.turn_away(listening)
                early.sendall(b"ping")
                accepted, _ = listening.accept()
                with accepted:
                    assert accepted.recv(4) == b"ping"
                late.settimeout(0.1)
                with pytest.raises(TimeoutError):
                    late.connect(listening.getsockname())

    def test_the_sockets_that_a_library_listens_on_are_found_by_their_port(self):
        with http.bound("127.0.0.1", 0) as ours, http.bound("127.0.0.1", 0) as silent:
            ours.listen()
            ports = {each.getsockname()[1] for each in (ours, silent)}
            (found,) = newcomers.listening(ports)
            with found:
                assert found.getsockname() == ours.getsockname()
            assert ours.fileno() >= 0
            assert list(newcomers.listening(set())) == []

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

    def test_a_length_of_more_digits_than_python_reads_is_read(self):
        @over_sockets(replace(LIMITS, header_bytes=9000))
        async def run(place: Place) -> None:
            client = await place.client()
            client.send(f"POST /echo HTTP/1.1\r\nContent-Length: {'0' * 5000}2\r\n\r\nhi")
            assert (await client.answer()).status == 200

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


class TestPorts:
    def test_workers_share_a_port_and_a_stranger_is_refused(self):
        with http.reserve("127.0.0.1", 0) as holder:
            port = holder.getsockname()[1]
            with http.bound("127.0.0.1", port) as worker:
                worker.listen()
                with pytest.raises(NotAvailable, match=rf"cannot listen on 127.0.0.1:{port}"):
                    http.reserve("127.0.0.1", port)

    def test_a_second_server_is_refused_before_the_first_ones_workers_listen(self):
        with http.reserve("127.0.0.1", 0) as holder:
            port = holder.getsockname()[1]
            with pytest.raises(NotAvailable, match=rf"cannot listen on 127.0.0.1:{port}"):
                http.reserve("127.0.0.1", port)
