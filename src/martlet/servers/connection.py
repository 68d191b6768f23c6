"""One HTTP/1.1 connection on httptools: framing, limits, answers in their order.

A handler that answers at once runs inside ``data_received``: for a model of microseconds a thread
hop would cost more than the answer.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable
from typing import TYPE_CHECKING, cast

import httptools

from martlet.errors import MartletError
from martlet.native import find
from martlet.servers.failures import crashed, failed
from martlet.servers.identity import current, id_of
from martlet.servers.replies import HEADS, written
from martlet.servers.routes import JSON, Request, Response, failure, origin_form

if TYPE_CHECKING:
    from martlet.servers.http import HttpServer

_native = find("http")

LINGER_S = 2.0
SOUND_S, SOUNDINGS = 0.02, 2


class Connection(asyncio.Protocol):
    """One client. Requests that it pipelines are answered in their order."""

    __slots__ = (
        "_body_bytes",
        "_busy",
        "_choked",
        "_chunks",
        "_ended",
        "_expects",
        "_head_bytes",
        "_headers",
        "_in_head",
        "_limits",
        "_offers",
        "_parser",
        "_refusal",
        "_server",
        "_target",
        "_task",
        "_transport",
        "_unsent",
        "_waiting",
        "closing",
        "parting",
        "since",
        "started",
    )

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._limits = server.limits
        self._parser = httptools.HttpRequestParser(self)
        self._transport: asyncio.Transport = cast(asyncio.Transport, None)
        self._waiting: deque[tuple[Request, bool]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._busy = False
        self._choked = False
        self._unsent = 0
        self._ended = False
        self._refusal: Response | None = None
        self.closing = False
        self.parting = False
        """Whether the next answer is its last."""
        self.since = server.clock
        self._begin()

    def _begin(self) -> None:
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._chunks: list[bytes] = []
        self._body_bytes = 0
        self._head_bytes = 0
        self._in_head = True
        self._expects = False
        self._offers = False
        self.started = False

    # -- the loop calls these --------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            # Without it a reply in two segments waits 40 ms for the client's delayed ACK.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self._waiting.clear()
        if self._task is not None:
            # The client has gone: what it asked for is not worth finishing.
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        if self._refusal is not None or self._ended:
            return
        if _native is not None and not (self.started or self._busy or self._choked):
            server, limits = self._server, self._limits
            answer = None if self.leaving else server.shortcut(data)
            if answer is not None:
                server.served += 1
                self.since = server.clock
                self._transport.write(answer)
                return
            whole = _native.parse(data, limits.header_bytes, limits.body_bytes)
            if whole is not None:
                # Most requests come whole and plain; every other is the parser's.
                method, target, headers, body, keep = whole
                self._serve(Request(method, target, headers, body), keep)
                return
        if self._in_head:
            self._head_bytes += len(data)
        try:
            self._feed(data)
        except httptools.HttpParserError as exc:
            # Some clients send a newline after their last request; there is nobody to answer.
            if not self._ended:
                self._refuse(400, f"this is not HTTP/1.1 that can be read: {exc}")
            return
        if self._in_head and self._head_bytes > self._limits.header_bytes:
            self._refuse_head()

    def _feed(self, data: bytes) -> None:
        while data:
            try:
                self._parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as exc:
                # We upgrade to nothing: what follows is HTTP/1.1 still.
                data = data[exc.args[0] :]
                if self._offers:
                    data = self._without_offer() + data

    def _without_offer(self) -> bytes:
        """Start a new parser; return the head that was read, less its Upgrade field, to feed it."""
        # After an Upgrade field the old parser would take the body for another protocol. Java's
        # HttpClient sends that field with the first request of a connection, whatever its method.
        method, target, headers = self._parser.get_method(), self._target, self._headers
        self._parser = httptools.HttpRequestParser(self)
        self._begin()
        fields = [b"%b: %b\r\n" % each for each in headers.items() if each[0] != b"upgrade"]
        return b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, b"".join(fields))

    def eof_received(self) -> bool:
        # A client may half-close after its last request, so what is under way is finished. A client
        # that has gone looks the same until something is sent to it.
        self.closing = True
        under_way = self._busy or bool(self._waiting)
        if under_way and self._parser.get_http_version() != "1.0":
            self._sound(SOUNDINGS)
        return under_way

    def _sound(self, more: int) -> None:
        """
        Send interim responses while the answer is being made, to find out whether the client is
        there.

        A client that still reads skips them (RFC 9110, 15.2). If it has gone, its machine resets
        the connection at the first, and writing the next fails: the call is then cancelled.
        """
        if self._busy and not self._transport.is_closing():
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            if more:
                self._server.loop.call_later(SOUND_S, self._sound, more - 1)

    def pause_writing(self) -> None:
        # The client asks and does not read: take nothing more from it until it has.
        self._choked = True
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._choked = False
        self._go_on()

    # -- the parser calls these ------------------------------------------------------------

    def on_message_begin(self) -> None:
        self.started = True
        self.since = self._server.clock

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        # A trailer of a chunked body comes here too: it may not change what the headers said.
        if self._in_head:
            self._headers[name.lower()] = value.rstrip(b" \t")

    def on_headers_complete(self) -> None:
        self._in_head = False
        headers = self._headers
        # The parser has refused a length that is not a number, and two that differ.
        # It may have more zeros in front than Python reads digits.
        length = int(headers.get(b"content-length", b"").lstrip(b"0") or 0)
        most = self._limits.header_bytes
        if self._head_bytes > most and self._head_size() > most:
            self._refuse_head()
        elif length > self._limits.body_bytes:
            self._refuse(413, self._too_large(f"{length} bytes"))
        elif b"upgrade" in headers and self._parser.should_upgrade():
            self._offers = length > 0 or b"transfer-encoding" in headers
        elif b"expect" in headers and headers[b"expect"].lower() == b"100-continue":
            # RFC 9110, 10.1.1: a client of HTTP/1.0 does not know what 100 means.
            self._expects = self._parser.get_http_version() != "1.0"
            self._continue()

    def _head_size(self) -> int:
        # The first read may have held part of the body too; only now is the head's end known.
        fields = sum(len(name) + len(value) + 4 for name, value in self._headers.items())
        return len(self._target) + fields

    def _continue(self) -> None:
        """Ask for the body that the client holds back, once earlier requests are answered."""
        if self._expects and not (self._busy or self._waiting or self._choked):
            self._expects = False
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, chunk: bytes) -> None:
        if self._refusal is not None:
            return
        self._body_bytes += len(chunk)
        if self._body_bytes > self._limits.body_bytes:
            self._chunks.clear()
            self._refuse(413, self._too_large("larger"))
            return
        self._chunks.append(chunk)

    def on_message_complete(self) -> None:
        if self._refusal is not None or self._ended or self._offers:
            return
        chunks = self._chunks
        request = Request(
            self._parser.get_method().decode(),
            origin_form(self._target.decode("latin-1")),
            self._headers,
            chunks[0] if len(chunks) == 1 else b"".join(chunks),
        )
        keep = self._parser.should_keep_alive()
        self._begin()
        if self._busy or self._choked:
            self._waiting.append((request, keep))
            self._transport.pause_reading()
        else:
            self._serve(request, keep)

    # -- answering -------------------------------------------------------------------------

    def _serve(self, request: Request, keep: bool) -> None:
        current.set(id_of(request))
        try:
            answer = self._server.router.answer(request)
        except MartletError as exc:
            answer = failed(exc)
        except Exception:
            answer = crashed(request)
        if isinstance(answer, Response):
            self._reply(request, answer, keep)
        else:
            self._busy = True
            self._task = self._server.loop.create_task(self._later(request, answer, keep))

    async def _later(self, request: Request, answer: Awaitable[Response], keep: bool) -> None:
        try:
            response = await answer
        except MartletError as exc:
            response = failed(exc)
        except Exception:
            response = crashed(request)
        self._task = None
        self._busy = False
        if self._transport.is_closing():
            return  # the client went away, or the drain gave up on it
        self._reply(request, response, keep)
        self._go_on()

    def _go_on(self) -> None:
        """Answer the requests that wait; when none does, take more."""
        while self._waiting and not (self._busy or self._choked):
            self._serve(*self._waiting.popleft())
        if self._busy or self._choked or self._ended:
            return
        if self._refusal is not None:
            self._send_refusal()
            return
        self._continue()
        self._transport.resume_reading()

    def _reply(self, request: Request, response: Response, keep: bool) -> None:
        self._server.served += 1
        last = (not keep or (self.leaving and not self._waiting)) and self._refusal is None
        keep_alive = request.headers.get(b"connection", b"").lower() == b"keep-alive"
        self._transport.write(
            written(
                response,
                request.method,
                request.target,
                request.id,
                keep_alive=keep_alive,
                last=last,
            )
        )
        self.since = self._server.clock
        if last:
            self._ended = self.closing = True
            self._waiting.clear()
            self._transport.close()

    @property
    def leaving(self) -> bool:
        """Whether the next answer is the last, if no request waits behind it."""
        return self.closing or self.parting or self._server.draining

    def _refuse(self, status: int, message: str) -> None:
        """Take nothing more from this client; tell it why once what it is owed has gone out."""
        if self._refusal is not None:
            return
        self._refusal = failure(status, message)
        self.closing = True
        self.since = self._server.clock
        if not (self._busy or self._waiting):
            self._send_refusal()

    def _refuse_head(self) -> None:
        self._refuse(431, f"the headers exceed {self._limits.header_bytes} bytes")

    def _send_refusal(self) -> None:
        self._ended = True
        response = cast(Response, self._refusal)
        self._transport.write(
            b"%b%b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
            % (HEADS[response.status], JSON, len(response.body), response.body)
        )
        if self._transport.can_write_eof():
            self._transport.write_eof()
        # Closing with unread input resets the connection, and the client may lose the answer:
        # so what still comes is read and dropped for a while.
        self._server.loop.call_later(LINGER_S, self._transport.close)

    def _too_large(self, size: str) -> str:
        return f"the body is {size}; the limit is {self._limits.body_bytes} bytes"

    # -- the server's sweep ----------------------------------------------------------------

    @property
    def idle(self) -> bool:
        """Whether nothing of a request has come and none is being answered."""
        return not (self._busy or self._waiting or self.started or self.closing)

    def expire(self, now: float) -> None:
        """Close the connection if it has idled, dripped, or left its answers unread too long."""
        if self._busy:
            return
        age = now - self.since
        if self.closing or self._choked:
            left = self._transport.get_write_buffer_size()
            if left < self._unsent:
                # It reads, however slowly.
                self.since = now
            elif age > self._limits.idle_s:
                self._transport.abort()
            self._unsent = left
        elif self.started and age > self._limits.request_s:
            self._refuse(408, f"the request did not arrive within {self._limits.request_s:g} s")
        elif not self.started and age > self._limits.idle_s:
            self._transport.close()

    def close(self) -> None:
        """Close at once."""
        self._transport.close()
