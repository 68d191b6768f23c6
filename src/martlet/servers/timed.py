"""Calls of a model behind a REST path: timed, counted, and given up at their deadline."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import partial
from time import perf_counter_ns
from typing import Any

from martlet.deadline import HeldUp
from martlet.errors import DeadlineExceeded, MartletError
from martlet.events import Sink
from martlet.names import ModelRef
from martlet.servable import Servable
from martlet.servers.failures import crashed, failed
from martlet.servers.offload import SLOW_NS, Pace, run
from martlet.servers.replies import written
from martlet.servers.routes import Handler, Request, Response
from martlet.servers.shortcut import NONE, Form, Reading, Short, Shortcuts
from martlet.servers.timeouts import timeout_of
from martlet.serving.engine import Engine
from martlet.serving.lane import LaneClosed
from martlet.serving.traffic import Table, Variant
from martlet.tensors import Tensors

Answer = tuple[Response, int, int, int]
"""What a call gave: the response, the version that answered (0: none), the rows scored, and how
many nanoseconds the model took. A plain tuple: it is made for every request."""

Call = Callable[[Request], Answer]
"""Answers one request. Any thread may call it."""


class Timed:
    """
    Makes handlers of calls.

    Args:
        engine: Knows which version answers.
        sink: Is told of every answer.
        timeout_s: An answer that takes longer becomes DeadlineExceeded.
        shortcuts: Gets the paths whose calls are quick and of the common form.
    """

    def __init__(
        self, engine: Engine, sink: Sink, timeout_s: float, shortcuts: Shortcuts = NONE
    ) -> None:
        self._engine = engine
        self._shortcuts = shortcuts
        self._sink = sink
        self._timeout_s = timeout_s
        self._timeout_ns = round(timeout_s * 1e9)

    def handler(
        self,
        call: Call,
        api: str,
        ref: ModelRef,
        form: Callable[[Variant[Servable]], Form | None] = lambda _: None,
    ) -> Handler:
        """
        Return the handler that answers by *call*: on the loop, or in the lane of a slow version.

        Args:
            call: Answers one request.
            api: The method, as events name it.
            ref: The model that the path names.
            form: Returns how the common call of a variant is read and written; None: it has no
                common form, and so no shortcut.
        """
        pace, model, engine = Pace(), ref.name, self._engine
        answered = self._sink.answered
        table, lane, here = engine.table, engine.lane(ref), True
        shortened: Table | None = None

        def handler(request: Request) -> Response | Coroutine[Any, Any, Response]:
            nonlocal table, lane, here, shortened
            if engine.table is not table:
                table, lane = engine.table, engine.lane(ref)
                here = lane is None or lane.on_loop
            if lane is not None and (pace.slow or not here):
                if lane.full:
                    # Before the body is read: in an overload most requests end here.
                    refused = lane.overloaded()
                    self._failed(api, model, refused, 0)
                    raise refused
                return self._later(call, api, ref, pace, request)
            started = perf_counter_ns()
            try:
                answer = call(request)
            except HeldUp:
                pace.held_up()
                return self._later(call, api, ref, pace, request)
            except MartletError as exc:
                self._failed(api, model, exc, perf_counter_ns() - started)
                raise
            took_ns = perf_counter_ns() - started
            if took_ns > SLOW_NS or pace.uneven:
                return self._done(answer, api, model, pace, took_ns)
            response, version, rows, model_ns = answer
            answered("REST", api, model, version, None, rows, took_ns, model_ns)
            if shortened is not table and lane is not None:
                shortened = table
                self._shorten(request.target, api, ref, table, pace, forget, form)
            return response

        def forget() -> None:
            nonlocal shortened
            shortened = None

        here = lane is None or lane.on_loop
        return handler

    def _shorten(
        self,
        target: str,
        api: str,
        ref: ModelRef,
        table: Table,
        pace: Pace,
        forget: Callable[[], None],
        form: Callable[[Variant[Servable]], Form | None],
    ) -> None:
        """Have a shortcut answer *target*, whose calls run on the loop, while *table* holds."""
        shortcuts, engine, number = self._shortcuts, self._engine, self._engine.number
        # The number is read first: if the table is still in force afterwards, it is its number.
        if shortcuts is NONE or engine.table is not table:
            return
        variant = table.variant(ref)
        found = form(variant)
        if found is None:
            return
        finish = self._finisher(target, api, ref.name, variant.version, pace, forget, found.write)
        note = partial(self._sink.answered, "REST", api, ref.name, variant.version, None)
        shortcuts.add(
            target,
            Short(
                engine.force,
                number,
                variant,
                note,
                SLOW_NS,
                finish,
                found.signature_name,
                found.decode,
                (b"content-encoding", *found.apart),
                found.length_field,
                found.replies,
                found.fields,
            ),
        )

    def _finisher(
        self,
        target: str,
        api: str,
        model: str,
        version: int,
        pace: Pace,
        forget: Callable[[], None],
        write: Callable[[Tensors, Reading], Response],
    ) -> Callable[[Tensors | Exception, Reading, int, int, int, bytes, bool], bytes | None]:
        """Return the ``finish`` of *target*'s shortcut: see ``Short``."""
        shortcuts = self._shortcuts

        def finish(
            outcome: Tensors | Exception,
            reading: Reading,
            rows: int,
            took_ns: int,
            model_ns: int,
            request_id: bytes,
            keep_alive: bool,
        ) -> bytes | None:
            if took_ns > SLOW_NS:
                shortcuts.forget(target)
                forget()
            if isinstance(outcome, HeldUp):
                pace.held_up()
                return None
            try:
                if isinstance(outcome, Exception):
                    raise outcome
                response = write(outcome, reading)
            except MartletError as exc:
                self._failed(api, model, exc, took_ns)
                response = failed(exc)
            except Exception:
                response = crashed(Request("POST", target, {}, b"", request_id))
            else:
                try:
                    answer = response, version, rows, model_ns
                    response = self._done(answer, api, model, pace, took_ns)
                except MartletError as exc:
                    response = failed(exc)
            finally:
                del outcome  # an error holds this frame, by its traceback
            return written(response, "POST", target, request_id, keep_alive=keep_alive)

        return finish

    async def _later(
        self, call: Call, api: str, ref: ModelRef, pace: Pace, request: Request
    ) -> Response:
        started = perf_counter_ns()
        asked_s = timeout_of(request.headers)
        limit_s = self._timeout_s if asked_s is None else min(asked_s, self._timeout_s)
        try:
            answer = await self._in_lane(ref, lambda: call(request), limit_s)
        except MartletError as exc:
            self._failed(api, ref.name, exc, perf_counter_ns() - started)
            raise
        return self._done(answer, api, ref.name, pace, perf_counter_ns() - started)

    async def _in_lane(self, ref: ModelRef, work: Callable[[], Answer], limit_s: float) -> Answer:
        for last in (False, True):
            lane = self._engine.lane(ref)
            if lane is None:
                return work()
            try:
                return await run(lane, work, limit_s)
            except LaneClosed:
                # The version was replaced between the two lines: the table names its successor.
                if last:
                    raise
        raise AssertionError

    def _done(self, answer: Answer, api: str, model: str, pace: Pace, took_ns: int) -> Response:
        response, version, rows, model_ns = answer
        pace.note(model_ns)
        if took_ns > self._timeout_ns:
            late = DeadlineExceeded(
                f"the answer took {took_ns / 1e6:.0f} ms; the limit is {self._timeout_s * 1e3:g} ms"
            )
            self._failed(api, model, late, took_ns)
            raise late
        self._sink.answered("REST", api, model, version, None, rows, took_ns, model_ns)
        return response

    def _failed(self, api: str, model: str, exc: MartletError, took_ns: int) -> None:
        # Counting unknown names would make a counter of every typo of every client.
        if model in self._engine.table.models:
            self._sink.answered("REST", api, model, 0, exc.code, 0, took_ns, 0)
