"""``/workers``: how many processes answer, between which bounds, and why their number changed."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import orjson

from martlet.servers.routes import Request, Response, Route


class Workers:
    """
    What the supervisor wrote about the number of workers, as JSON and for Prometheus.

    Args:
        read: Returns it; empty if the number is fixed.
        residents: Returns, for all workers together, how many versions on demand are open, their
            bytes, and how many were opened and closed for others so far.
    """

    def __init__(
        self, read: Callable[[], dict[str, Any]], residents: Callable[[], dict[str, int]]
    ) -> None:
        self._read = read
        self._residents = residents
        self.routes = [Route("GET", re.compile("/workers"), lambda: self._tell)]

    def unmatched(self, request: Request) -> None:
        """Leave other paths to other dialects."""

    def _tell(self, request: Request) -> Response:
        told = self._read() or {"fixed": True}
        return Response(200, orjson.dumps({**told, "on_demand": self._residents()}))

    def lines(self) -> Iterator[str]:
        """Return the lines that Prometheus reads."""
        yield from self._scaling()
        residents = self._residents()
        if residents["opened"]:
            for name, kind in (
                ("resident", "gauge"),
                ("resident_bytes", "gauge"),
                ("opened", "counter"),
                ("evicted", "counter"),
            ):
                suffix = "_total" if kind == "counter" else ""
                yield f"# TYPE martlet_on_demand_{name}{suffix} {kind}"
                yield f"martlet_on_demand_{name}{suffix} {residents[name]}"

    def _scaling(self) -> Iterator[str]:
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
