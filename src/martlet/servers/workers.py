"""``/workers``: how many processes answer, between which bounds, and why their number changed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from martlet.servers.routes import Request, Response, Route


class Workers:
    """
    What the supervisor wrote down of the number of workers, as JSON and for Prometheus.

    Args:
        read: Returns it; empty where their number is fixed.
    """

    def __init__(self, read: Callable[[], dict[str, Any]]) -> None:
        self._read = read
        self.routes = [Route("GET", re.compile("/workers"), lambda: self._tell)]

    def unmatched(self, request: Request) -> None:
        """Leave other paths to others."""

    def _tell(self, request: Request) -> Response:
        return Response(200, orjson.dumps(self._read() or {"fixed": True}))

    def lines(self) -> Iterator[str]:
        """Return the lines that Prometheus reads."""
        told = self._read()
        if not told:
            return
        measured = told["measured"] or {}
        for name, value in (
            ("workers", told["workers"]),
            ("workers_ready", told["ready"]),
            ("workers_least", told["least"]),
            ("workers_most", told["most"]),
            ("workers_p95_ms", measured.get("p95_ms")),
            ("workers_busy", measured.get("busy")),
            ("workers_waiting", measured.get("waiting")),
        ):
            if value is not None:
                yield f"# TYPE martlet_{name} gauge"
                yield f"martlet_{name} {value}"
        name = "martlet_workers_decisions_total"
        yield f"# TYPE {name} counter"
        for direction, count in told["decisions"].items():
            yield f'{name}{{direction="{direction}"}} {count}'
