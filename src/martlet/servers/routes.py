"""Requests, responses, and the table that finds who answers a path."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol
from urllib.parse import unquote

import orjson

from martlet.errors import Overloaded, Unimplemented
from martlet.wire import compression

MAX_PATHS_REMEMBERED = 4096

JSON = b"application/json"


@dataclass(slots=True)
class Request:
    """
    One HTTP request, read whole.

    Args:
        method: In capitals.
        target: Path and query as they came, not decoded.
        headers: Names in lower case; of repeated ones the last.
        body: After any chunked framing; the router undoes its Content-Encoding.
        id: Set by ``identity.id_of``; empty before its first call.
    """

    method: str
    target: str
    headers: Mapping[bytes, bytes]
    body: bytes
    id: bytes = b""


@dataclass(slots=True)
class Response:
    """What goes back. ``headers`` are beside Content-Type and Content-Length."""

    status: int
    body: bytes
    content_type: bytes = JSON
    headers: tuple[tuple[bytes, bytes], ...] = ()


Handler = Callable[[Request], Response | Awaitable[Response]]
"""Answers at once, or as a coroutine where it must wait. May raise any MartletError."""


@dataclass(frozen=True, slots=True)
class Route:
    """
    The paths that one handler answers.

    *pattern* matches a whole path (without the query). Its named groups, percent-decoded, are the
    keyword arguments of *make*, which returns the handler. A handler is made once for each path and
    kept, so *make* does what depends on the path alone; it must not hold on to a version.
    """

    method: str
    pattern: re.Pattern[str]
    make: Callable[..., Handler]
    query: bool = True
    """Whether the route also answers paths with a query."""


class Dialect(Protocol):
    """One protocol's paths. Asked in the order in which they are mounted."""

    routes: list[Route]

    def unmatched(self, request: Request) -> Response | None:
        """Answer a path that no route of any dialect has; None: it is not this dialect's path."""
        ...


@dataclass(slots=True)
class Router:
    """
    Finds the handler of a request; remembers the paths that it has seen.

    Args:
        dialects: Asked in this order.
        body_bytes: Of a body once its Content-Encoding is undone; more is 413.
    """

    dialects: list[Dialect] = field(default_factory=list)
    body_bytes: int = 64 << 20
    _seen: dict[tuple[str, str], Handler] = field(default_factory=dict)

    def mount(self, dialect: Dialect) -> None:
        """Ask *dialect* too, after those already mounted."""
        self.dialects.append(dialect)
        self._seen.clear()

    def answer(self, request: Request) -> Response | Awaitable[Response]:
        """
        Return the response, or a coroutine of it, from the handler of the path.

        Raises:
            MartletError: what the handler raised.
        """
        if b"content-encoding" in request.headers:
            refusal = self._unpack(request)
            if refusal is not None:
                return refusal
        handler = self._seen.get((request.method, request.target))
        if handler is None:
            handler = self._find(request)
        return handler(request)

    def _unpack(self, request: Request) -> Response | None:
        """Undo the body's Content-Encoding in place; return the refusal if that cannot be."""
        encoding = request.headers[b"content-encoding"]
        try:
            request.body = compression.inflate(request.body, encoding, self.body_bytes)
        except Unimplemented as exc:
            return failure(415, str(exc), ((b"Accept-Encoding", b"gzip, deflate"),))
        except Overloaded as exc:
            return failure(413, str(exc))
        return None

    def _find(self, request: Request) -> Handler:
        path, _, query = request.target.partition("?")
        allowed: list[str] = []
        get: Handler | None = None
        for dialect in self.dialects:
            for route in dialect.routes:
                match = route.pattern.fullmatch(path)
                if match is None or (query and not route.query):
                    continue
                heading = request.method == "HEAD" and route.method == "GET"
                if route.method != request.method and not heading:
                    allowed += ("GET", "HEAD") if route.method == "GET" else (route.method,)
                    continue
                parts = {k: unquote(v) for k, v in match.groupdict().items() if v is not None}
                handler = route.make(**parts)
                if heading:
                    get = get or handler
                    continue
                if not query:
                    self._remember(request, handler)
                return handler
        return partial(self._unmatched, allowed, get)

    def _remember(self, request: Request, handler: Handler) -> None:
        # Paths come from outside: a bounded memory, emptied when a scanner fills it.
        if len(self._seen) >= MAX_PATHS_REMEMBERED:
            self._seen.clear()
        self._seen[request.method, request.target] = handler

    def _unmatched(
        self, allowed: list[str], get: Handler | None, request: Request
    ) -> Response | Awaitable[Response]:
        for dialect in self.dialects:
            response = dialect.unmatched(request)
            if response is not None:
                return response
        if get is not None:
            # RFC 9110, 9.3.2: HEAD is GET without the body, which the door leaves out.
            return get(request)
        if allowed:
            allow = ", ".join(sorted(set(allowed)))
            text = f"{request.method} is not allowed on {request.target}; allowed: {allow}"
            return failure(405, text, ((b"Allow", allow.encode()),))
        return failure(404, f"nothing answers {request.method} {request.target}")


_AUTHORITY = re.compile("https?://[^/?]*", re.IGNORECASE)


def origin_form(target: str) -> str:
    """
    Return the path and query of *target*, which may be a whole URL as those for proxies are.

    Source:
        RFC 9112, 3.2.2: a server must accept the absolute form.

    >>> origin_form("http://host:80/v1/models/m"), origin_form("HTTPS://host?x"), origin_form("/a")
    ('/v1/models/m', '/?x', '/a')
    """
    if target.startswith("/"):
        return target
    found = _AUTHORITY.match(target)
    if found is None:
        return target
    rest = target[found.end() :]
    return rest if rest.startswith("/") else "/" + rest


def failure(status: int, message: str, headers: tuple[tuple[bytes, bytes], ...] = ()) -> Response:
    """Return the error body that every dialect shares: ``{"error": "<one sentence>"}``."""
    # A sentence may quote bytes of the request that are no UTF-8; orjson refuses lone surrogates.
    safe = message.encode("utf-8", "replace").decode()
    return Response(status, orjson.dumps({"error": safe}), headers=headers)
