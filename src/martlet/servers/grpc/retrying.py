"""When a call that was turned away may come again, as gRPC's clients and Google's read it."""

from __future__ import annotations

from functools import cache
from typing import Any

import grpc

from martlet.errors import Code
from martlet.servers.status import RETRY_AFTER_S, RETRYABLE
from martlet.wire.protos import message

LONGEST_TEXT = 1000
"""Of an error that is told twice: HTTP/2 limits a header block to about 8 KiB."""


def hints(code: Code, text: str) -> tuple[tuple[str, str | bytes], ...]:
    """
    Return the trailing metadata that say when a call that failed with *code* may come again.

    Source:
        gRFC A6, "Pushback": a client that retries waits as long. AIP-193 and google.rpc.RetryInfo,
        in the status that ``grpc_status.rpc_status.from_call`` reads: its text is the call's.
    """
    if code not in RETRYABLE:
        return ()
    status = message("google.rpc.Status")(code=grpc.StatusCode[code.name].value[0], message=text)
    status.details.add().CopyFrom(_retry_info())
    return (
        ("grpc-retry-pushback-ms", str(1000 * RETRY_AFTER_S)),
        ("grpc-status-details-bin", status.SerializeToString()),
    )


@cache
def _retry_info() -> Any:
    info = message("google.rpc.RetryInfo")()
    info.retry_delay.seconds = RETRY_AFTER_S
    packed = message("google.protobuf.Any")(value=info.SerializeToString())
    packed.type_url = f"type.googleapis.com/{info.DESCRIPTOR.full_name}"
    return packed
