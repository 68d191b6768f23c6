"""How long a REST client says that it waits: three headers in common use, read alike."""

from __future__ import annotations

import re
from collections.abc import Mapping

GRPC, ENVOY, PLAIN = b"grpc-timeout", b"x-envoy-expected-rq-timeout-ms", b"x-request-timeout"

_GRPC = re.compile(rb"(\d{1,8})([HMSmun])")
_UNITS = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_NUMBER = re.compile(rb"\d{1,12}(?:\.\d{1,9})?")


def timeout_of(headers: Mapping[bytes, bytes]) -> float | None:
    """
    Return the seconds that the client waits for its answer; None: it does not say.

    Of several headers the least counts. One that cannot be read is ignored: a header that some
    proxy wrote must not cost the client its answer.

    Source:
        ``Grpc-Timeout``: gRPC over HTTP/2, Requests, and grpc-gateway for HTTP/1.1 (``100m`` is
        100 ms). ``X-Envoy-Expected-Rq-Timeout-Ms``: what Envoy and Istio tell whom they forward
        to; 0 means no limit. ``X-Request-Timeout``: seconds, maybe with a fraction.

    >>> timeout_of({b"grpc-timeout": b"250m"}), timeout_of({b"x-request-timeout": b"1.5"})
    (0.25, 1.5)
    """
    found = []
    if GRPC in headers:
        match = _GRPC.fullmatch(headers[GRPC])
        if match is not None:
            found.append(int(match[1]) * _UNITS[match[2]])
    if ENVOY in headers and _NUMBER.fullmatch(headers[ENVOY]):
        milliseconds = float(headers[ENVOY])
        if milliseconds:
            found.append(milliseconds / 1000)
    if PLAIN in headers and _NUMBER.fullmatch(headers[PLAIN]):
        found.append(float(headers[PLAIN]))
    return min(found, default=None)
