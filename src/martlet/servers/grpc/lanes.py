"""Where a gRPC call of a model is made: in gRPC's own thread, or in the lane of its version."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from time import perf_counter_ns
from typing import TypeVar
from weakref import WeakKeyDictionary

import grpc

from martlet.names import ModelRef
from martlet.servers.grpc.method import check_wanted, time_left
from martlet.servers.grpc.threads import Threads
from martlet.servers.offload import Pace
from martlet.serving.engine import Engine
from martlet.serving.lane import GRACE_S, Lane, LaneClosed, late

Result = TypeVar("Result")

LONGEST_CALL_S = 600.0
"""The limit of a call if neither its client nor its model sets one."""

STUCK_S = 0.05
"""While some call has worked for longer, the next ones go to the lane, whose queue is bounded."""


class Lanes:
    """
    Makes calls of models where they delay no others.

    A call stays in gRPC's thread if its version is quick and may run there, as a REST call stays on
    the loop. Otherwise it runs in the version's lane, and the thread that waits for it tells its
    executor so.

    Args:
        threads: Those that gRPC answers in.
    """

    def __init__(self, engine: Engine, threads: Threads) -> None:
        self._engine = engine
        self._threads = threads
        self._paces: WeakKeyDictionary[Lane, Pace] = WeakKeyDictionary()

    def call(
        self, ref: ModelRef, work: Callable[[], Result], context: grpc.ServicerContext
    ) -> Result:
        """
        Return what *work*, which asks the variant that *ref* names, returns.

        Raises:
            DeadlineExceeded: the client's deadline, or the model's own limit, has passed.
            Overloaded: too many calls wait for the version.
            Gone: the client has cancelled.
        """
        for last in (False, True):
            lane = self._engine.lane(ref)
            if lane is None:
                return work()
            pace = self._paces.get(lane)
            if pace is None:
                pace = self._paces.setdefault(lane, Pace())
            if lane.on_loop and not pace.slow and lane.longest_s(time.monotonic()) < STUCK_S:
                return _paced(partial(lane.here, work), pace)
            try:
                return self._in_lane(lane, partial(_paced, work, pace), context)
            except LaneClosed:
                # It was replaced between the two lines: the table names the next one.
                if last:
                    raise
        raise AssertionError

    def _in_lane(
        self, lane: Lane, work: Callable[[], Result], context: grpc.ServicerContext
    ) -> Result:
        left = time_left(context)
        limit_s = lane.limit_s(LONGEST_CALL_S if left is None else max(0.0, left))
        ended = threading.Event()
        future = lane.submit(work, limit_s)
        future.add_done_callback(lambda _: ended.set())
        if context.add_callback(ended.set):
            with self._threads.waiting():
                ended.wait(limit_s + GRACE_S)
        if future.done():
            return future.result()
        # Nobody waits for it: what has not begun never will.
        future.cancel()
        check_wanted(context)
        raise late(limit_s)


def _paced(work: Callable[[], Result], pace: Pace) -> Result:
    started = perf_counter_ns()
    try:
        return work()
    finally:
        pace.note(perf_counter_ns() - started)
