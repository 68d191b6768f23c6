"""Which request this is: the client's own id for it, its trace's, or one made here."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from contextvars import ContextVar
from itertools import count

from martlet.servers.routes import Request

_GIVEN = re.compile(rb"[\x21-\x7e]{1,128}")
_TRACEPARENT = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-.*)?"
)

current: ContextVar[bytes] = ContextVar("request", default=b"")
"""The id of the request that is worked on, for whoever logs: on the loop, and in the lanes."""

_numbers = count(1)
_prefix = (0, b"")


def id_of(request: Request) -> bytes:
    """
    Return *request*'s id: its ``X-Request-Id``, its trace's id (``traceparent``), or a new one.

    What cannot be an id (control characters, too long) is taken for none: it is written to
    headers and logs.

    Source:
        W3C Trace Context, 3.2.2: an id of zeros, or version ff, is invalid; 4.3: more fields may
        follow in versions to come, but not in 00.
    """
    if not request.id:
        request.id = id_in(request.headers)
    return request.id


def id_in(headers: Mapping[bytes, bytes]) -> bytes:
    """Return the id that *headers*, with names in lower case, give; a new one where they do not."""
    return _given(headers) or _made()


def _given(headers: Mapping[bytes, bytes]) -> bytes:
    if b"x-request-id" in headers:
        value = headers[b"x-request-id"]
        if _GIVEN.fullmatch(value):
            return value
    if b"traceparent" in headers:
        found = _TRACEPARENT.fullmatch(headers[b"traceparent"])
        if found is not None and not (found[1] == b"00" and found[3]):
            return found[2]
    return b""


def _made() -> bytes:
    global _prefix
    pid = os.getpid()
    if _prefix[0] != pid:
        # Eight random digits for a process: ids of other workers and other lives differ.
        _prefix = pid, os.urandom(4).hex().encode()
    return b"%b-%x" % (_prefix[1], next(_numbers))
