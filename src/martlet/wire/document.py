"""A body of martlet's own API: one JSON object."""

from __future__ import annotations

from typing import Any

import orjson

from martlet.errors import InvalidInput

Document = dict[str, Any]


def parse(body: bytes) -> Document:
    """
    Return the JSON object of *body*.

    Raises:
        InvalidInput: it is not JSON, or no object.
    """
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as exc:
        raise InvalidInput(f"the body is not JSON: {exc}") from None
    if not isinstance(document, dict):
        raise InvalidInput("the body is JSON, but not an object")
    return document
