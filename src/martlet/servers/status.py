"""The one place that turns our codes into HTTP's. TensorFlow Serving's table, where it has one.

Source: tensorflow_serving/util/net_http/public/response_code_enum.h and
model_servers/http_server.cc (ToHTTPStatusCode).
"""

from __future__ import annotations

from martlet.errors import Code

HTTP_STATUS: dict[Code, int] = {
    Code.INVALID_ARGUMENT: 400,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.UNAVAILABLE: 503,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.DEADLINE_EXCEEDED: 504,
    Code.FAILED_PRECONDITION: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
}

RETRYABLE = frozenset({Code.UNAVAILABLE, Code.RESOURCE_EXHAUSTED})
"""The same request may be answered a little later."""

RETRY_AFTER_S = 1
