"""Requests, responses, and the table that finds who answers a path."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

JSON = b"application/json"


@dataclass(slots=True)
class Request:
    """
    One HTTP request, read whole.

    Args:
        method: In capitals.
        target: Path and query as they came, not decoded.
        headers: Names in lower case; of repeated ones the last.
        body: After any chunked framing; Content-Encoding is not yet undone.
    """

    method: str
    target: str
    headers: Mapping[bytes, bytes]
    body: bytes


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
    *pattern* matches a whole path (no query); its named groups, percent-decoded, are keyword
    arguments of *make*, which returns the handler. A handler is made once a path and kept, so
    what depends on the path alone is done in *make*; it must not hold a version.
    """

    method: str
    pattern: re.Pattern[str]
    make: Callable[..., Handler]


class Dialect(Protocol):
    """One protocol's paths. Asked in the order in which they are mounted."""

    routes: list[Route]

    def unmatched(self, request: Request) -> Response | None:
        """Answer a path that no route of any dialect has; None: it is not this dialect's path."""
        ...


@dataclass(slots=True)
class Router:
    """Finds the handler of a request; remembers the paths that it has seen."""

    dialects: list[Dialect] = field(default_factory=list)
    _seen: dict[tuple[str, str], Handler] = field(default_factory=dict)
