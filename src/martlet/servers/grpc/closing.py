"""Closing a gRPC port under load without failing a call."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import grpc

from martlet.servers.grpc.threads import Threads

TURN_S = 0.01
QUIET_TURNS, MOST_TURNS = 5, 50
"""If no call has come in so many turns on end, none of them late, no client is about to ask; the
second is the longest wait for that."""

LONGEST_S = 2.0
"""After which an answer goes, should the port's own loop be stuck."""

TOLD_S = 0.02
"""How long clients have to learn that the port closes, before they get their answers."""


class Closing:
    """
    Holds answers back while the port closes.

    grpcio's server cancels calls that arrive between its ``stop`` and the moment at which the
    client has received GOAWAY. A client that waits for an answer sends no new call. So answers are
    held until the clients have been told, on the same connection, to use another one next.

    Args:
        threads: Those that gRPC answers in: one that waits here lets another work.
    """

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self._holds = False
        self._come = 0
        self._released = threading.Event()

    def handler(self, handler: grpc.RpcMethodHandler) -> grpc.RpcMethodHandler:
        """Return *handler*, whose answers are held; a stream's are not: its client may go on."""
        answer = handler.unary_unary
        if answer is None:
            return handler
        return grpc.unary_unary_rpc_method_handler(self._held(answer))

    def _held(
        self, answer: Callable[[bytes, grpc.ServicerContext], bytes]
    ) -> Callable[[bytes, grpc.ServicerContext], bytes]:
        def call(raw: bytes, context: grpc.ServicerContext) -> Any:
            if self._holds:
                self._come += 1
            found = answer(raw, context)
            if self._holds:
                with self._threads.waiting():
                    self._released.wait(LONGEST_S)
            return found

        return call

    async def hold(self) -> None:
        """
        Hold answers from now on, and return when no client is about to ask.

        Counted in turns, of which a late one tells nothing: while a busy machine stalls this
        process, calls lie unread in its sockets.
        """
        self._holds = True
        clock = asyncio.get_running_loop().time
        quiet, come = 0, self._come
        for _ in range(MOST_TURNS):
            began = clock()
            await asyncio.sleep(TURN_S)
            silent, come = self._come == come, self._come
            quiet = quiet + 1 if silent and clock() - began < 2 * TURN_S else 0
            if quiet == QUIET_TURNS:
                return

    def release(self) -> None:
        """Let all answers go."""
        self._holds = False
        self._released.set()
