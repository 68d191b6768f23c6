"""One worker process: takes orders, answers on its own socket, drains when told to stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Protocol

from martlet.fleet.mail import Mail
from martlet.serving.manager import Manager
from martlet.serving.roster import (
    Listening,
    ListenOrder,
    LoadOrder,
    PartOrder,
    Prepared,
    RosterOrder,
    Unloaded,
    UnloadOrder,
)
from martlet.serving.traffic import Variant

log = logging.getLogger(__name__)

BEAT_S = 0.25

LAST_DRAIN_S = 5.0
"""How long a worker with a call that never ends waits for the other calls."""


class Door(Protocol):
    """What listens: HTTP, gRPC."""

    async def open(self) -> None:
        """Bind and listen. Called once, when everything that should answer is ready."""
        ...

    async def drain(self, timeout_s: float) -> bool:
        """Take nothing new, finish what is under way; True if nothing was cut off."""
        ...

    def part(self, share: float) -> None:
        """Have *share* of the clients open their connections anew, where that loses nothing."""
        ...


class WorkerLoop:
    """
    The life of a worker.

    Args:
        manager: Opens and frees versions. One thread of ours calls it.
        doors: Opened at the ListenOrder, drained at SIGTERM.
        drain_s: How long that may take.
        beat: Called at every quarter of a second that the loop turns, with the calls that wait
            for a thread, and how full the fullest lane is.
        hang_s: A call that has worked longer in a thread will never end: the thread is lost, so
            the worker drains, and the supervisor starts another.
    """

    def __init__(
        self,
        pipe: Mail,
        manager: Manager,
        doors: list[Door],
        drain_s: float,
        beat: Callable[[int, float], None],
        hang_s: float,
    ) -> None:
        self._pipe = pipe
        self._manager = manager
        self._doors = doors
        self._drain_s = drain_s
        self._beat = beat
        self._hang_s = hang_s
        self._opened = False

    async def run(self) -> int:
        """Work until SIGTERM; return the exit status: 0 when every request was finished."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stop.set)

        def stir() -> None:
            self._beat(*self._manager.pressure())
            stuck = self._manager.stuck(self._hang_s, time.monotonic())
            if stuck and not stop.is_set():
                log.error("%s: this worker drains, for another to take its place", stuck)
                self._drain_s = min(self._drain_s, LAST_DRAIN_S)
                stop.set()
            loop.call_later(BEAT_S, stir)

        stir()

        def later(make: Callable[[], Awaitable[None]]) -> None:
            asyncio.run_coroutine_threadsafe(_as_coroutine(make), loop).result()

        # A daemon: it waits on the supervisor's pipe, and leaves with the process.
        threading.Thread(target=self._obey, args=(later,), name="orders", daemon=True).start()
        await stop.wait()
        if not self._opened:
            return 0
        clean = await asyncio.gather(*(door.drain(self._drain_s) for door in self._doors))
        return 0 if all(clean) else 1

    def _obey(self, later: Callable[[Callable[[], Awaitable[None]]], None]) -> None:
        while True:
            try:
                order = self._pipe.recv()
            except (EOFError, OSError):
                return
            match order:
                case LoadOrder():
                    self._pipe.send(self._manager.load(order))
                case RosterOrder(number):
                    self._manager.prepare(order)
                    self._pipe.send(Prepared(number))
                case UnloadOrder():
                    variant = self._manager.let_go(order)
                    # Its holders may take a while; the next order must not wait for them.
                    threading.Thread(target=self._free, args=(variant,), daemon=True).start()
                case ListenOrder():
                    later(self._open)
                    self._pipe.send(Listening())
                case PartOrder(share):
                    later(partial(self._part, share))

    def _free(self, variant: Variant[Any]) -> None:
        self._manager.free(variant)
        self._pipe.send(Unloaded(variant.name, variant.version))

    async def _open(self) -> None:
        for door in self._doors:
            await door.open()
        self._opened = True

    async def _part(self, share: float) -> None:
        for door in self._doors:
            door.part(share)


async def _as_coroutine(make: Callable[[], Awaitable[None]]) -> None:
    await make()
