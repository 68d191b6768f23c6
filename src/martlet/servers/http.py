"""HTTP/1.1 on uvloop: a listening socket, its connections, their clock and drain.

One process, one loop, one listening socket. It knows no dialect.
"""

from __future__ import annotations

import asyncio
import fcntl
import resource
import socket
from collections.abc import Coroutine
from typing import Any, cast

from martlet import deadline
from martlet.errors import NotAvailable
from martlet.servers.connection import Connection
from martlet.servers.limits import Limits
from martlet.servers.newcomers import turn_away
from martlet.servers.routes import Router
from martlet.servers.shortcut import NONE, Shortcuts

_HIGHEST_FD = (1 << 16) - 1
"""The kernel keeps a table as long as the highest descriptor of a process: half a megabyte here."""

TURN_S = 0.01
"""How often a drain looks for connections that are still open, seconds."""

QUIET_S = 1.0
"""How long a drain keeps idle connections, seconds: their clients may be about to ask again."""

HANDSHAKE_S = 0.01
"""How long a drain waits for handshakes that had begun before it, seconds."""


class HttpServer:
    """
    The connections of one listening socket.

    Args:
        router: Answers the requests.
        host, port: Where to listen; the workers share the port (see ``bound``).
        limits: What a client may ask of one connection.
        shortcuts: Answer the paths that they know; the router answers all others.
    """

    def __init__(
        self,
        router: Router,
        host: str,
        port: int,
        limits: Limits = Limits(),
        shortcuts: Shortcuts = NONE,
    ) -> None:
        self.router = router
        self.shortcut = shortcuts.answering(limits.header_bytes, limits.body_bytes)
        self._address = (host, port)
        self.limits = limits
        self.connections: set[Connection] = set()
        self.draining = False
        self.served = 0
        self.clock = 0.0
        """The loop's time at the last sweep, seconds: limits are kept to the second."""
        self.loop: asyncio.AbstractEventLoop = cast(asyncio.AbstractEventLoop, None)
        self._server: asyncio.Server | None = None
        self._socket: socket.socket | None = None
        self._sweep: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        """Bind and listen."""
        sock = bound(*self._address)
        self.loop = asyncio.get_running_loop()
        self.clock = self.loop.time()
        loop = self.loop
        deadline.spare(lambda: asyncio._get_running_loop() is loop)
        # A second handle on the same queue: see _accept_pending.
        self._socket = _last_of_all(sock)
        self._server = await self.loop.create_server(
            lambda: Connection(self), sock=sock, backlog=1024
        )
        self._sweep = self.loop.call_later(1.0, self._expire)

    def _expire(self) -> None:
        self.clock = self.loop.time()
        for connection in list(self.connections):
            connection.expire(self.clock)
        self._sweep = self.loop.call_later(1.0, self._expire)

    def part(self, share: float) -> None:
        """Answer the next request of *share* of the connections with ``Connection: close``."""
        kept = 0.0
        for connection in list(self.connections):
            kept += share
            if kept >= 1.0:
                kept -= 1.0
                connection.parting = True

    async def drain(self, timeout_s: float, quiet_s: float = QUIET_S) -> bool:
        """
        Stop listening, finish what is under way, close; True if nothing was cut off.

        Idle connections are kept *quiet_s* longer: a request may be on its way, and would be lost
        if the connection were closed. Such a request is answered with ``Connection: close``.
        """
        self.draining = True
        if self._server is not None:
            if self._socket is not None and turn_away(self._socket):
                await asyncio.sleep(HANDSHAKE_S)
            self._server.close()
            await self._accept_pending()
        end = self.loop.time() + timeout_s
        # Counted in turns, not by the clock: while the machine stalls, its clients stall too.
        turns = round(min(quiet_s, timeout_s) / TURN_S)
        while self.connections and self.loop.time() < end:
            if turns <= 0:
                for connection in [c for c in self.connections if c.idle]:
                    connection.close()
            turns -= 1
            await asyncio.sleep(TURN_S)
        clean = not self.connections
        for connection in list(self.connections):
            connection.close()
        if self._sweep is not None:
            self._sweep.cancel()
        return clean

    async def _accept_pending(self) -> None:
        # The queue holds clients whose handshake is done; closing the socket would reset them.
        if self._socket is None:
            return
        self._socket.setblocking(False)
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                break
            client.setblocking(False)
            await self.loop.connect_accepted_socket(lambda: Connection(self), client)
        self._socket.close()
        self._socket = None


def bound(host: str, port: int) -> socket.socket:
    """
    Return a bound socket that shares its port with the other workers' (SO_REUSEPORT).

    The kernel spreads connections over the workers' own queues; from one shared queue some workers
    would take more than others. A bound socket that does not listen takes no connections: that is
    how the supervisor holds the port.
    """
    sock = _socket(host)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((host, port))
    return sock


def _last_of_all(sock: socket.socket) -> socket.socket:
    """
    Return *sock* under a second descriptor, above those of all connections.

    When a process dies, Linux closes its files by their descriptors, the highest first. The
    listening socket must go before the connections: else the clients that are cut off connect to it
    again, and are cut off twice.

    Source:
        fs/file.c (close_files) and kernel/task_work.c (task_work_run: last in, first out).
    """
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    highest = _HIGHEST_FD if most == resource.RLIM_INFINITY else min(_HIGHEST_FD, most - 1)
    return socket.socket(fileno=fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, highest))


def reserve(host: str, port: int) -> socket.socket:
    """
    Return a socket that holds *port* (0: a free one) for the workers to come.

    Raises:
        NotAvailable: another process listens there. SO_REUSEPORT alone would not reveal it: two
            servers of one user would share the port, and each get half of the requests.
    """
    sock = _socket(host)
    try:
        sock.bind((host, port))
    except OSError as exc:
        sock.close()
        raise NotAvailable(f"cannot listen on {host}:{port}: {exc.strerror}") from None
    # From here on only sockets with SO_REUSEPORT (our workers') may bind the port. Another server's
    # ``reserve`` binds without it first, so it fails even before our workers listen.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    return sock


def _socket(host: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return sock


def run(main: Coroutine[Any, Any, int]) -> int:
    """Run *main* on a uvloop loop and return its result."""
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(main)
