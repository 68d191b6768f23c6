"""What errors become over HTTP: responses."""

from __future__ import annotations

import logging

from martlet.errors import MartletError
from martlet.servers.identity import id_of
from martlet.servers.routes import Request, Response, failure
from martlet.servers.status import HTTP_STATUS, RETRY_AFTER_S, RETRYABLE

log = logging.getLogger(__name__)


def failed(exc: MartletError) -> Response:
    """Return the response that one of our errors becomes."""
    retry = ((b"Retry-After", b"%d" % RETRY_AFTER_S),) if exc.code in RETRYABLE else ()
    return failure(HTTP_STATUS[exc.code], str(exc), retry)


def crashed(request: Request) -> Response:
    """Return the response to an unexpected error, which is a fault of ours, and log it."""
    log.exception("%s %s failed", request.method, request.target)
    request_id = id_of(request).decode()
    return failure(500, f"the server failed on this request; its log says why, under {request_id}")
