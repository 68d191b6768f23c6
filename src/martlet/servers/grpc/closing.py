"""Closing a gRPC port under load without failing a call."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import grpc

from martlet.servers.grpc.threads import Threads

QUIET_S, MOST_S = 0.05, 0.5
"""If no call has come for the first, no client is about to ask; the second is the longest wait."""

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
        self._come_at = 0.0
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
                self._come_at = time.monotonic()
            found = answer(raw, context)
            if self._holds:
                with self._threads.waiting():
                    self._released.wait(MOST_S + TOLD_S)
            return found

        return call

    def hold(self) -> float:
        """Hold answers from now on; return until when to wait for calls at most."""
        self._come_at = time.monotonic()
        self._holds = True
        return self._come_at + MOST_S

    @property
    def quiet(self) -> bool:
        """Whether no call has come for a while."""
        return time.monotonic() - self._come_at >= QUIET_S

    def release(self) -> None:
        """Let all answers go."""
        self._holds = False
        self._released.set()
