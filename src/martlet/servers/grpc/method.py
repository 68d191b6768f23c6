"""One gRPC method: bytes in, a handler of ours, bytes out; our errors as gRPC's codes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from google.protobuf.message import DecodeError, EncodeError

from martlet import deadline
from martlet.errors import Code, DeadlineExceeded, InvalidInput, MartletError
from martlet.servers.grpc.retrying import LONGEST_TEXT, hints
from martlet.servers.grpc.threads import Threads
from martlet.servers.identity import current, id_in
from martlet.servers.status import RETRYABLE

log = logging.getLogger(__name__)

Answer = Callable[[Any, grpc.ServicerContext], Any]
"""Takes a request message and the call's context, gives the response message. May raise any
MartletError."""


class Gone(Exception):
    """The caller has cancelled, or its connection is lost: nobody waits for an answer."""


def unary(request_type: Any, answer: Answer, cut: int | None = None) -> grpc.RpcMethodHandler:
    """
    Return the handler of a unary method.

    Args:
        request_type: The request's message class.
        answer: Ours.
        cut: Characters of an error's text that are sent; None sends all that fit a header.
    """

    def call(raw: bytes, context: grpc.ServicerContext) -> bytes:
        name = identified(context)
        try:
            # It may have waited for a thread, and its client may have given up meanwhile.
            left = check_wanted(context)
            if left is None:
                return _answered(answer, _parsed(request_type, raw), context)
            with deadline.within(left):
                return _answered(answer, _parsed(request_type, raw), context)
        except MartletError as exc:
            return abort(context, exc, cut, name)
        except Gone:
            context.cancel()
            return b""
        except EncodeError as exc:
            return abort(context, MartletError(f"the answer cannot be written: {exc}"), cut, name)
        except Exception:
            return abort(context, _crashed(name), cut, name)

    return grpc.unary_unary_rpc_method_handler(call)


def _crashed(name: str) -> MartletError:
    """Return the error for an unexpected exception, which is a fault of ours, and log it."""
    log.exception("a gRPC call failed")
    return MartletError(f"the server failed on this call; its log says why, under {name}")


def _answered(answer: Answer, request: Any, context: grpc.ServicerContext) -> bytes:
    return bytes(answer(request, context).SerializeToString())


def stream(
    request_type: Any, answer: Callable[[Any, grpc.ServicerContext], Any], threads: Threads
) -> grpc.RpcMethodHandler:
    """
    Return the handler of a stream of requests, each with one response in its turn.

    Args:
        threads: Those that gRPC answers in: a stream that is silent holds up none of them.
    """

    def call(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        name = identified(context)
        while True:
            with threads.waiting():
                raw = next(requests, None)
            if raw is None:
                return
            try:
                with deadline.within(time_left(context)):
                    found = bytes(answer(_parsed(request_type, raw), context).SerializeToString())
            except MartletError as exc:
                abort(context, exc, None, name)
                return
            except Gone:
                return
            except Exception:
                abort(context, _crashed(name), None, name)
                return
            yield found

    return grpc.stream_stream_rpc_method_handler(call)


_ID = "x-request-id"
_NAMING = (_ID, "traceparent")


def identified(context: grpc.ServicerContext) -> str:
    """Return the call's id, as REST's; it goes back as trailing metadata, and into the logs."""
    headers = {}
    for key, value in context.invocation_metadata():
        if key in _NAMING:
            headers[key.encode()] = value if isinstance(value, bytes) else value.encode()
    found = id_in(headers)
    current.set(found)
    name = found.decode()
    context.set_trailing_metadata(((_ID, name),))
    return name


_FOR_EVER_S = 1e9


def time_left(context: grpc.ServicerContext) -> float | None:
    """Return the seconds that the caller still waits; None: for ever."""
    left = context.time_remaining()
    # Some clients write "for ever" as more seconds than any clock of the system holds.
    return None if left is None or left > _FOR_EVER_S else left


def check_wanted(context: grpc.ServicerContext) -> float | None:
    """
    Check that the caller still waits, and return how long, as ``time_left``.

    Raises:
        DeadlineExceeded: its deadline has passed.
        Gone: it has cancelled.
    """
    left = time_left(context)
    if left is not None and left <= 0:
        raise DeadlineExceeded("the deadline passed before the call was begun")
    if not context.is_active():
        raise Gone
    return left


def _parsed(request_type: Any, raw: bytes) -> Any:
    try:
        return request_type.FromString(raw)
    except DecodeError as exc:
        name = request_type.DESCRIPTOR.full_name
        raise InvalidInput(f"the request is no {name}: {exc}") from None


# HTTP/2 limits a header block to about 8 KiB, and the text travels percent-encoded.
_LONGEST = 2000


def abort(context: grpc.ServicerContext, exc: MartletError, cut: int | None, name: str) -> bytes:
    """End the call, which is called *name*, with *exc*'s code and text. Never returns."""
    text = str(exc).encode("utf-8", "replace").decode()
    if exc.code is Code.INTERNAL:
        log.error("a gRPC call: %s", text[:_LONGEST])
    retryable = exc.code in RETRYABLE
    limit = min(cut or _LONGEST, LONGEST_TEXT if retryable else _LONGEST)
    if len(text) > limit:
        text = text[:limit] + "...TRUNCATED"
    if retryable:
        context.set_trailing_metadata(((_ID, name), *hints(exc.code, text)))
    context.abort(grpc.StatusCode[exc.code.name], text)
    raise AssertionError("abort returned")
