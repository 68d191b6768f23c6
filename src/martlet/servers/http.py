"""HTTP/1.1 on uvloop and httptools: sockets, framing, limits and drain. It knows no dialect.

One process, one loop, one listening socket. A handler that answers at once runs inside
``data_received``: for a model of microseconds a thread hop would cost more than the answer.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Coroutine
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, cast

import httptools

from martlet.errors import MartletError, NotAvailable
from martlet.servers.routes import JSON, Request, Response, Router, failure
from martlet.servers.status import HTTP_STATUS

log = logging.getLogger(__name__)

LINGER_S = 2.0


@dataclass(frozen=True, slots=True)
class Limits:
    """
    What one connection may ask of us.

    Args:
        body_bytes: Of one request, after chunked framing. More is 413.
        header_bytes: Request line and headers together. More is 431.
        idle_s: A connection with no request under way is closed after this.
        request_s: A request must have arrived whole after this, however slowly it drips.
    """

    body_bytes: int = 64 << 20
    header_bytes: int = 64 << 10
    idle_s: float = 75.0
    request_s: float = 60.0


_HEADS = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: ".encode()
    for status in HTTPStatus
}


class Connection(asyncio.Protocol):
    """One client. Requests that it pipelines are answered in their order."""

    __slots__ = (
        "_body_bytes",
        "_busy",
        "_chunks",
        "_head_bytes",
        "_headers",
        "_in_head",
        "_limits",
        "_parser",
        "_refusal",
        "_server",
        "_target",
        "_task",
        "_transport",
        "_waiting",
        "closing",
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
        self._refusal: Response | None = None
        self.closing = False
        self.since = server.clock
        self._begin()

    def _begin(self) -> None:
        self._target = b""
        self._headers: dict[bytes, bytes] = {}
        self._chunks: list[bytes] = []
        self._body_bytes = 0
        self._head_bytes = 0
        self._in_head = True
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
        if self._refusal is not None:
            return
        if not self.started:
            self.started = True
            self.since = self._server.clock
        if self._in_head:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self.closing = True
        except httptools.HttpParserError as exc:
            self._refuse(400, f"this is not HTTP/1.1 that can be read: {exc}")
            return
        if self._in_head and self._head_bytes > self._limits.header_bytes:
            self._refuse(431, f"the headers exceed {self._limits.header_bytes} bytes")

    def eof_received(self) -> bool:
        # A client may half-close after its last request: finish what is under way.
        self.closing = True
        return self._busy

    # -- the parser calls these ------------------------------------------------------------

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.lower()] = value

    def on_headers_complete(self) -> None:
        self._in_head = False
        headers = self._headers
        # The parser has refused a length that is no number, and two that differ.
        length = int(headers.get(b"content-length", 0))
        if length > self._limits.body_bytes:
            self._refuse(413, self._too_large(f"{length} bytes"))
        elif b"expect" in headers and headers[b"expect"].lower() == b"100-continue":
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
        if self._refusal is not None:
            return
        chunks = self._chunks
        request = Request(
            self._parser.get_method().decode(),
            self._target.decode("latin-1"),
            self._headers,
            chunks[0] if len(chunks) == 1 else b"".join(chunks),
        )
        keep = self._parser.should_keep_alive()
        self._begin()
        if self._busy:
            self._waiting.append((request, keep))
            self._transport.pause_reading()
        else:
            self._serve(request, keep)

    # -- answering -------------------------------------------------------------------------

    def _serve(self, request: Request, keep: bool) -> None:
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
        self._reply(request, response, keep)
        while self._waiting and not self._busy:
            self._serve(*self._waiting.popleft())
        if not self._busy:
            self._transport.resume_reading()
            if self._refusal is not None:
                self._send_refusal()

    def _reply(self, request: Request, response: Response, keep: bool) -> None:
        self._server.served += 1
        last = not keep or (self.closing and not self._waiting) or self._server.draining
        last = last and self._refusal is None
        more = b"Connection: close\r\n" if last else b""
        for name, value in response.headers:
            more += b"%b: %b\r\n" % (name, value)
        body = response.body
        self._transport.write(
            b"%b%b\r\nContent-Length: %d\r\n%b\r\n%b"
            % (
                _HEADS[response.status],
                response.content_type,
                len(body),
                more,
                b"" if request.method == "HEAD" else body,
            )
        )
        self.since = self._server.clock
        if last:
            self._waiting.clear()
            self._transport.close()

    def _refuse(self, status: int, message: str) -> None:
        """Take nothing more from this client; tell it why once what it is owed has gone out."""
        if self._refusal is not None:
            return
        self._refusal = failure(status, message)
        self.closing = True
        if not self._busy:
            self._send_refusal()

    def _send_refusal(self) -> None:
        response = cast(Response, self._refusal)
        self._transport.write(
            b"%b%b\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b"
            % (_HEADS[response.status], JSON, len(response.body), response.body)
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
        return not (self._busy or self.started or self.closing)

    def expire(self, now: float) -> None:
        """Close the connection if it has idled, or dripped, too long."""
        if self._busy or self.closing:
            return
        age = now - self.since
        if self.started and age > self._limits.request_s:
            self._refuse(408, f"the request did not arrive within {self._limits.request_s:g} s")
        elif not self.started and age > self._limits.idle_s:
            self._transport.close()

    def close(self) -> None:
        """Close at once."""
        self._transport.close()


def failed(exc: MartletError) -> Response:
    """Return the response that one of our errors becomes."""
    retry = ((b"Retry-After", b"1"),) if HTTP_STATUS[exc.code] in (429, 503) else ()
    return failure(HTTP_STATUS[exc.code], str(exc), retry)


def crashed(request: Request) -> Response:
    """Return the response to an error that is nobody's but ours, and log it."""
    log.exception("%s %s failed", request.method, request.target)
    return failure(500, "the server failed on this request; its log says why")


class HttpServer:
    """
    The connections of one listening socket.

    Args:
        router: Answers the requests.
        host, port: Where to listen; the workers share the port (see ``bound``).
        limits: Of every connection.
    """

    def __init__(self, router: Router, host: str, port: int, limits: Limits = Limits()) -> None:
        self.router = router
        self._address = (host, port)
        self.limits = limits
        self.connections: set[Connection] = set()
        self.draining = False
        self.served = 0
        self.clock = 0.0
        """The loop's time at the last sweep, seconds: limits are kept to the second."""
        self.loop: asyncio.AbstractEventLoop = cast(asyncio.AbstractEventLoop, None)
        self._server: asyncio.Server | None = None
        self._socket: socket.socket | None = None
        self._sweep: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Bind and listen."""
        sock = bound(*self._address)
        self.loop = asyncio.get_running_loop()
        self.clock = self.loop.time()
        # A second handle on the same queue: see _accept_pending.
        self._socket = sock.dup()
        self._server = await self.loop.create_server(
            lambda: Connection(self), sock=sock, backlog=1024
        )
        self._sweep = self.loop.call_later(1.0, self._expire)

    def _expire(self) -> None:
        self.clock = self.loop.time()
        for connection in list(self.connections):
            connection.expire(self.clock)
        self._sweep = self.loop.call_later(1.0, self._expire)

    async def drain(self, timeout_s: float, quiet_s: float = 0.3) -> bool:
        """
        Stop listening, finish what is under way, close; True if nothing was cut off.

        Connections that idle are kept *quiet_s* longer: a request may be on its way on one,
        and closing under it would lose it. It is answered with ``Connection: close``.
        """
        self.draining = True
        if self._server is not None:
            self._server.close()
            await self._accept_pending()
        now = self.loop.time
        end = now() + timeout_s
        quiet = now() + min(quiet_s, timeout_s)
        while self.connections and now() < end:
            if now() >= quiet:
                for connection in [c for c in self.connections if c.idle]:
                    connection.close()
            await asyncio.sleep(0.01)
        clean = not self.connections
        for connection in list(self.connections):
            connection.close()
        if self._sweep is not None:
            self._sweep.cancel()
        return clean

    async def _accept_pending(self) -> None:
        # Clients whose handshake is done wait in the queue; closing the socket would reset them.
        if self._socket is None:
            return
        self._socket.setblocking(False)
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                break
            client.setblocking(False)
            await self.loop.connect_accepted_socket(lambda: Connection(self), client)
        self._socket.close()
        self._socket = None


def bound(host: str, port: int) -> socket.socket:
    """
    Return a bound socket that shares its port with the other workers' (SO_REUSEPORT).

    The kernel spreads connections over the workers' own queues; on one shared queue they would
    be uneven. Bound but not listening, it takes no connections: so the supervisor holds the port.
    """
    sock = _socket(host)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((host, port))
    return sock


def reserve(host: str, port: int) -> socket.socket:
    """
    Return a socket that holds *port* (0: a free one) for the workers to come.

    Raises:
        NotAvailable: somebody else listens there. SO_REUSEPORT alone would not say so: two
            servers of one user would share the port, each with half of the requests.
    """
    with _socket(host) as probe:
        try:
            probe.bind((host, port))
        except OSError as exc:
            raise NotAvailable(f"cannot listen on {host}:{port}: {exc.strerror}") from None
        port = probe.getsockname()[1]
    return bound(host, port)


def _socket(host: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return sock


def run(main: Coroutine[Any, Any, int]) -> int:
    """Run *main* on a uvloop loop and return its result."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
