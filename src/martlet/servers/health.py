"""``/healthz``: the process lives. ``/readyz``: every model that should answer does."""

from __future__ import annotations

import re
from typing import Any

import orjson

from martlet.servers.routes import Request, Response, Route
from martlet.serving.engine import Engine
from martlet.serving.traffic import Model


class Health:
    """
    The probes of an orchestrator.

    ``/readyz`` is 503 while some name has no version that answers, and says which. A worker listens
    only once everything that was wanted at the start answers; before, there is no ``/readyz``.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.routes = [
            Route("GET", re.compile("/healthz"), lambda: self._live),
            Route("GET", re.compile("/readyz"), lambda: self._ready),
        ]

    def unmatched(self, request: Request) -> None:
        """Leave other paths to other dialects."""

    def _live(self, request: Request) -> Response:
        return Response(200, b'{"live":true}')

    def _ready(self, request: Request) -> Response:
        table = self._engine.table
        everything: list[Model[Any]] = [*table.models.values(), *table.recommenders.values()]
        silent = sorted(each.name for each in everything if each.silent)
        if silent:
            return Response(503, orjson.dumps({"ready": False, "waiting_for": silent}))
        return Response(200, b'{"ready":true}')
