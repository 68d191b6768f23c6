"""What comes back: a prediction, or the error that the server raised."""

from __future__ import annotations

from dataclasses import dataclass

import orjson

from martlet.errors import BY_CODE, Code, MartletError
from martlet.tensors import Tensor


@dataclass(frozen=True, slots=True)
class Prediction:
    """A model's outputs, and the version that gave them; 0: the server did not say."""

    outputs: dict[str, Tensor]
    version: int


_CODES = {
    400: Code.INVALID_ARGUMENT,
    404: Code.NOT_FOUND,
    405: Code.UNIMPLEMENTED,
    409: Code.ALREADY_EXISTS,
    413: Code.RESOURCE_EXHAUSTED,
    415: Code.UNIMPLEMENTED,
    429: Code.RESOURCE_EXHAUSTED,
    501: Code.UNIMPLEMENTED,
    503: Code.UNAVAILABLE,
    504: Code.DEADLINE_EXCEEDED,
}


def error_of(code: Code, message: str) -> MartletError:
    """Return the error of *code*."""
    return BY_CODE[code](message)


def error_of_status(status: int, body: bytes) -> MartletError:
    """Return the error that an HTTP reply of *status* tells."""
    try:
        message = str(orjson.loads(body)["error"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        message = f"HTTP {status}: {body[:200]!r}"
    return error_of(_CODES.get(status, Code.INTERNAL), message)
