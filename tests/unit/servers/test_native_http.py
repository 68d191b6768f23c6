"""The compiled reader of whole requests: what it reads, the complete parser reads the same."""

from __future__ import annotations

from typing import Any

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from martlet.native import find

native = find("http")
pytestmark = pytest.mark.skipif(native is None, reason="the compiled part is not built")

WHOLE = (
    b"POST /v1/models/ctr:predict?a=b HTTP/1.1\r\nHost: x:1\r\nContent-Type: application/json\r\n"
    b"Content-Length: 2\r\n\r\n{}"
)


class Heard:
    """What httptools says of one request."""

    def __init__(self) -> None:
        self.target = self.body = b""
        self.headers: dict[bytes, bytes] = {}
        self.whole = 0
        self.keep = True
        self.parser = httptools.HttpRequestParser(self)

    def on_url(self, url: bytes) -> None:
        self.target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # As the connection does: httptools leaves the space behind a value.
        self.headers[name.lower()] = value.rstrip(b" \t")

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.whole += 1
        self.keep = self.parser.should_keep_alive()


def by_httptools(data: bytes) -> tuple[Any, ...]:
    heard = Heard()
    heard.parser.feed_data(data)
    assert heard.whole == 1
    method = heard.parser.get_method().decode()
    return method, heard.target.decode(), heard.headers, heard.body, heard.keep


def parse(data: bytes, head: int = 65536, body: int = 65536) -> tuple[Any, ...] | None:
    assert native is not None
    found: tuple[Any, ...] | None = native.parse(data, head, body)
    return found


class TestWholeRequests:
    @pytest.mark.parametrize(
        "data",
        [
            WHOLE,
            b"GET /healthz HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            b"GET / HTTP/1.1\r\nConnection: Keep-Alive\r\nX: \t spaced out \t\r\n\r\n",
            b"POST /x HTTP/1.1\r\ncontent-length:0\r\nEmpty:\r\n\r\n",
            b"POST /x HTTP/1.1\r\nContent-Length: 3\r\nA: 1\r\nA: 2\r\n\r\n\r\n\0",
        ],
    )
    def test_are_read_as_httptools_reads_them(self, data: bytes):
        assert parse(data) == by_httptools(data)

    def test_longer_heads_and_bodies_than_allowed_are_left(self):
        assert parse(WHOLE, head=len(WHOLE) - 2) is not None
        assert parse(WHOLE, head=len(WHOLE) - 3) is None
        assert parse(WHOLE, body=2) is not None
        assert parse(WHOLE, body=1) is None


class TestTheRest:
    @pytest.mark.parametrize(
        "data",
        [
            WHOLE[:-1],
            WHOLE + b"x",
            WHOLE + WHOLE,
            b"",
            b"POST",
            b"DELETE / HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.0\r\n\r\n",
            b"GET  / HTTP/1.1\r\n\r\n",
            b"GET http://a/ HTTP/1.1\r\n\r\n",
            b"GET / HTTP/1.1\n\n",
            b"GET / HTTP/1.1\r\nA : b\r\n\r\n",
            b"GET / HTTP/1.1\r\n: b\r\n\r\n",
            b"GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n",
            b"GET / HTTP/1.1\r\nA: b\rc\r\n\r\n",
            b"GET / HTTP/1.1\r\nA: \x01\r\n\r\n",
            b"GET / HTTP/1.1\r\nA: \xe4\r\n\r\n",
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na",
            b"POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\na",
            b"POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\na",
            b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na",
            b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
            b"GET / HTTP/1.1\r\n" + b"n" * 65 + b": b\r\n\r\n",
        ],
    )
    def test_is_left_to_the_complete_parser(self, data: bytes):
        assert parse(data) is None

    @settings(max_examples=3000)
    @given(
        st.lists(
            st.tuples(st.integers(0, len(WHOLE)), st.binary(max_size=3), st.integers(0, 3)),
            max_size=3,
        )
    )
    def test_whatever_it_reads_httptools_reads_the_same(self, edits: list[tuple[int, bytes, int]]):
        data = WHOLE
        for place, inserted, dropped in edits:
            data = data[:place] + inserted + data[place + dropped :]
        found = parse(data)
        if found is not None:
            assert found == by_httptools(data)
