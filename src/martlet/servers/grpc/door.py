"""The gRPC port of one worker: every service on it, opened and drained with the other doors."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2

from martlet.errors import NotAvailable
from martlet.servers.grpc.closing import TOLD_S, Closing
from martlet.servers.grpc.threads import Threads
from martlet.servers.newcomers import listening, turn_away
from martlet.wire.protos import pool
from martlet.wire.tfserving.config import Tls

HEALTH = "grpc.health.v1.Health"


@dataclass(frozen=True, slots=True)
class Limits:
    """
    What the port carries.

    Args:
        message_bytes: Of one request; more is RESOURCE_EXHAUSTED.
        calls: Open at a time, streams included; more are refused with RESOURCE_EXHAUSTED. A model's
            own queue is full long before.
        connection_s: A connection is closed after about this time, once its calls are finished,
            and its client opens another. 0: never.
    """

    message_bytes: int = 64 << 20
    calls: int = 4096
    connection_s: float = 0.0


class GrpcDoor:
    """
    One port, many services.

    The workers of a server bind the same port, and the kernel spreads connections over them
    (SO_REUSEPORT).

    Args:
        services: By full name: the methods of each.
        addresses: Each ``host:port``, or ``unix:path``.
        threads: Where calls are answered.
        tls: Certificates; None speaks plain text.
    """

    def __init__(
        self,
        services: Mapping[str, dict[str, grpc.RpcMethodHandler]],
        addresses: Sequence[str],
        limits: Limits,
        threads: Threads,
        tls: Tls | None = None,
    ) -> None:
        self._threads = threads
        self._server = grpc.server(
            # grpcio uses its pool's ``submit`` only, which every executor has.
            cast(Any, threads),
            options=[
                ("grpc.so_reuseport", 1),
                ("grpc.max_receive_message_length", limits.message_bytes),
                ("grpc.max_send_message_length", -1),
                *_ages(limits),
            ],
            maximum_concurrent_rpcs=limits.calls,
        )
        self._closing = Closing(threads)
        for name, methods in services.items():
            held = {method: self._closing.handler(each) for method, each in methods.items()}
            self._server.add_generic_rpc_handlers(
                (grpc.method_handlers_generic_handler(name, held),)
            )
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._reflect([*services, HEALTH])
        self._names = ["", *services, *(name.rpartition(".")[2] for name in services)]
        self._addresses = addresses
        self._ports: set[int] = set()
        self._credentials = None if tls is None else _credentials(tls)

    def _reflect(self, names: Sequence[str]) -> None:
        found = pool()
        for file in (health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
            try:
                found.FindFileByName(file.name)
            except KeyError:
                found.AddSerializedFile(file.serialized_pb)
        reflection.enable_server_reflection(
            [*names, reflection.SERVICE_NAME], self._server, pool=found
        )

    async def open(self) -> None:
        """
        Bind and listen.

        Raises:
            NotAvailable: the address is taken.
        """
        for address in self._addresses:
            try:
                if self._credentials is None or address.startswith("unix:"):
                    self._ports.add(self._server.add_insecure_port(address))
                else:
                    self._ports.add(self._server.add_secure_port(address, self._credentials))
            except RuntimeError as exc:
                raise NotAvailable(f"cannot listen on {address}: {exc}") from exc
        for name in self._names:
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        self._server.start()

    def part(self, share: float) -> None:
        """Do nothing: connections end by their age (``Limits.connection_s``)."""

    async def drain(self, timeout_s: float) -> bool:
        """Take nothing new, finish what is under way; True if nothing was cut off."""
        self._health.enter_graceful_shutdown()
        for sock in listening(self._ports):
            with sock:
                turn_away(sock)
        await self._closing.hold()
        stopped = self._server.stop(timeout_s)
        await asyncio.sleep(TOLD_S)
        self._closing.release()
        loop = asyncio.get_running_loop()
        clean = await loop.run_in_executor(None, stopped.wait, timeout_s)
        self._threads.shutdown(cancel_futures=True)
        return bool(clean)


def _ages(limits: Limits) -> list[tuple[str, int]]:
    if not limits.connection_s:
        return []
    return [("grpc.max_connection_age_ms", round(1000 * limits.connection_s))]


def threads_for(cores: int | None = None) -> int:
    """Return how many calls one worker answers at once: few, for they share one interpreter."""
    return max(4, 2 * (cores or os.cpu_count() or 1))


def _credentials(tls: Tls) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials(
        [(tls.server_key.encode(), tls.server_cert.encode())],
        root_certificates=tls.custom_ca.encode() or None,
        require_client_auth=tls.client_verify,
    )
