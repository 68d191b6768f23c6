"""Clients that ask and are gone, in a process of their own: ``vanishing.py PORT COUNT RATE``."""

from __future__ import annotations

import socket
import sys
import time

BODY = b'{"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[1]}]}'
REQUEST = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (
    len(BODY),
    BODY,
)


def vanish(port: int, count: int, rate: float) -> None:
    """Have *count* clients ask and leave, *rate* a second."""
    started = time.monotonic()
    for number in range(count):
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.send(REQUEST)
        time.sleep(max(0.0, started + number / rate - time.monotonic()))


if __name__ == "__main__":
    vanish(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
