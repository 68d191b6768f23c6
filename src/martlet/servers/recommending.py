"""Where a recommender's requests are answered: on the loop, or in a lane if that would block it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from time import perf_counter_ns
from typing import Any

from martlet.deadline import HeldUp
from martlet.errors import MartletError
from martlet.names import ModelRef
from martlet.recommend.recommender import Recommender
from martlet.servers.offload import SLOW_NS, Pace, run
from martlet.servers.routes import Handler, Request, Response
from martlet.servers.timeouts import timeout_of
from martlet.serving.engine import Engine
from martlet.serving.lane import Lane, LaneClosed

Call = Callable[[Request, bool], Response]
"""Answers one request; the flag says whether to ask ranking models in their own lanes. Any thread
may call it."""


class Recommending:
    """
    Makes handlers of calls.

    A recommender waits for its ranking models, so it may run on the loop only while all of them
    may. In its lane it asks each model in that model's lane, and steps down the ladder if one is
    late.

    Args:
        timeout_s: An answer that takes longer is DeadlineExceeded.
    """

    def __init__(self, engine: Engine, timeout_s: float) -> None:
        self._engine = engine
        self._timeout_s = timeout_s

    def handler(self, call: Call, ref: ModelRef) -> Handler:
        """Return the handler that answers by *call* for the recommender that *ref* names."""
        engine, pace = self._engine, Pace()
        table, here = engine.table, self._here(ref)

        def handler(request: Request) -> Response | Coroutine[Any, Any, Response]:
            nonlocal table, here
            if engine.table is not table:
                table, here = engine.table, self._here(ref)
            if pace.slow or not here:
                return self._later(call, ref, pace, request)
            try:
                response, took_ns = _timed(call, request, False)
            except HeldUp:
                pace.held_up()
                return self._later(call, ref, pace, request)
            if took_ns > SLOW_NS or pace.uneven:
                pace.note(took_ns)
            return response

        return handler

    def _here(self, ref: ModelRef) -> bool:
        """Return whether every model that ranks may be called on the loop."""
        try:
            variant = self._engine.table.recommender(ref)
        except MartletError:
            return True
        found = variant.servable
        if not isinstance(found, Recommender):
            return True
        lanes = [self._engine.lane(each) for each in found.ranked_by]
        return all(lane is None or lane.on_loop for lane in lanes)

    async def _later(self, call: Call, ref: ModelRef, pace: Pace, request: Request) -> Response:
        asked_s = timeout_of(request.headers)
        limit_s = self._timeout_s if asked_s is None else min(asked_s, self._timeout_s)
        for last in (False, True):
            lane = self._lane(ref)
            if lane is None:
                return call(request, False)
            try:
                response, took_ns = await run(lane, lambda: _timed(call, request, True), limit_s)
            except LaneClosed:
                # It was replaced between the two lines: the table names its successor.
                if last:
                    raise
            else:
                pace.note(took_ns)
                return response
        raise AssertionError

    def _lane(self, ref: ModelRef) -> Lane | None:
        try:
            return self._engine.table.recommender(ref).lane
        except MartletError:
            return None


def _timed(call: Call, request: Request, apart: bool) -> tuple[Response, int]:
    started = perf_counter_ns()
    response = call(request, apart)
    return response, perf_counter_ns() - started
