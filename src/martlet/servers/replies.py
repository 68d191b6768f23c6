"""A response as the bytes of HTTP/1.1."""

from __future__ import annotations

import logging
from http import HTTPStatus

from martlet.servers.routes import Response

log = logging.getLogger(__name__)

HEADS = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: ".encode()
    for status in HTTPStatus
}


def written(
    response: Response,
    method: str,
    target: str,
    request_id: bytes,
    *,
    keep_alive: bool,
    last: bool = False,
) -> bytes:
    """
    Return the bytes of *response* to *method* of *target*; a server's own error is logged.

    Args:
        keep_alive: Whether the client asked for the connection to be kept. A client of HTTP/1.0
            waits for the connection's end unless the answer says that it is kept.
        last: Whether the connection ends with this answer.
    """
    if response.status == 500:
        log.error("%s %s: %s", method, target, response.body.decode()[:2000])
    more = b"X-Request-Id: %b\r\n" % request_id
    if last:
        more += b"Connection: close\r\n"
    elif keep_alive:
        more += b"Connection: keep-alive\r\n"
    for name, value in response.headers:
        more += b"%b: %b\r\n" % (name, value)
    body = response.body
    return b"%b%b\r\nContent-Length: %d\r\n%b\r\n%b" % (
        HEADS[response.status],
        response.content_type,
        len(body),
        more,
        b"" if method == "HEAD" else body,
    )
