"""A client that asks at a fixed rate, in a process of its own.

``asking.py PORT MODEL RATE CONNECTIONS``

For each line on its standard input, so many seconds, it writes a line of JSON: of each request the
status and how long it took, in microseconds. The loop is open: time counts from when a request was
due, so one that is held up counts what it holds up. Its requests cost it little, so that it takes
the cores that the server needs as seldom as it can.
"""

from __future__ import annotations

import gc
import json
import selectors
import socket
import sys
import time
from collections import deque

BODY = b'{"instances":[5.0]}'
RIGHT = b"1005.0"


def answer(raw: bytes) -> int:
    """Return the status of a whole answer (0: a wrong one), or -1 while it is not whole."""
    head, _, body = raw.partition(b"\r\n\r\n")
    at = head.find(b"Content-Length: ")
    if at < 0 or len(body) < int(head[at + 16 :].partition(b"\r")[0]):
        return -1
    status = int(head[9:12])
    return 0 if status == 200 and RIGHT not in body else status


class Client:
    """Connections of which each has one request under way."""

    def __init__(self, port: int, model: str, connections: int) -> None:
        head = f"POST /v1/models/{model}:predict HTTP/1.1\r\nHost: x\r\n"
        self._request = b"%bContent-Length: %d\r\n\r\n%b" % (head.encode(), len(BODY), BODY)
        self._selector = selectors.DefaultSelector()
        self._idle: deque[socket.socket] = deque()
        self._due: dict[socket.socket, float] = {}
        self._partial: dict[socket.socket, bytes] = {}
        for _ in range(connections):
            sock = socket.create_connection(("127.0.0.1", port), 20)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(sock, selectors.EVENT_READ)
            self._idle.append(sock)

    def ask(self, rate: float, seconds: float) -> list[tuple[int, int]]:
        """Ask *rate* times a second; those that no connection is free for wait for one."""
        found: list[tuple[int, int]] = []
        total, sent, start = int(rate * seconds), 0, time.monotonic() + 0.01
        while len(found) < total:
            now = time.monotonic()
            while sent < total and self._idle and (due := start + sent / rate) <= now:
                sock = self._idle.popleft()
                sock.sendall(self._request)
                self._due[sock] = due
                sent += 1
            waits = self._idle and sent < total
            timeout = max(0.0, start + sent / rate - time.monotonic()) if waits else None
            for key, _ in self._selector.select(timeout):
                found += self._read(key.fileobj)
        return found

    def _read(self, sock: socket.socket) -> list[tuple[int, int]]:
        more = sock.recv(65536)
        if not more:
            raise ConnectionResetError("the server closed a connection under a request")
        raw = self._partial.pop(sock, b"") + more
        status = answer(raw)
        if status < 0:
            self._partial[sock] = raw
            return []
        self._idle.append(sock)
        return [(status, round(1e6 * (time.monotonic() - self._due[sock])))]


def main(port: int, model: str, rate: float, connections: int) -> None:
    """Ask as often and as long as told, until the input ends."""
    client = Client(port, model, connections)
    gc.disable()
    for line in sys.stdin:
        print(json.dumps(client.ask(rate, float(line))), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], float(sys.argv[3]), int(sys.argv[4]))
