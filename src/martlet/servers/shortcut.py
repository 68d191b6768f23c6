"""The shortcut: one compiled call from the bytes of a model's common request to those of its reply.

The handler that answers a path the long way registers a ``Short`` for it: all that a call needs
while one table is in force. ``native/shortcut.c`` then answers without a Python frame except the
model's own. It declines any request of another form before anything has happened, and one whose
model would hold up the loop; the long way answers those. If the outcome is unusual (the model
raised, was slow, or gave other outputs), it calls ``Short.finish``. So no error is worded here; and
where the compiled part is missing, there is no shortcut.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from enum import IntEnum
from functools import partial
from typing import Any, NamedTuple

from martlet.native import find
from martlet.servable import Servable
from martlet.servers.identity import current
from martlet.servers.routes import Response
from martlet.serving.traffic import Variant
from martlet.tensors import Tensor, Tensors

MOST_KNOWN = 4096


class Layout(IntEnum):
    """How the numbers of the only output are written. The values are those of the C."""

    NESTED = 0
    """JSON, in lists of its shape."""
    FLAT = 1
    """JSON, in one list."""
    COLUMN = 2
    """As FLAT, where it is one number for each row: ``[n]`` or ``[n, 1]``."""
    RAW = 3
    """As they lie in memory, behind the JSON, which tells their size."""


class Reply(NamedTuple):
    """
    The JSON of a reply whose only output is an array of floats, cut where the answer goes in.

    Args:
        begin: Up to where the third part of a ``Reading``, if any, is put in.
        shape: What stands before the output's shape; None: the reply does not tell the shape.
        numbers: What stands before the numbers (for RAW: before their size in bytes).
        end: The rest of the JSON.
        layout: How the numbers are written.
        kind: The only buffer format (``f``, ``d``) that this text describes; b"": any float.
    """

    begin: bytes
    shape: bytes | None
    numbers: bytes
    end: bytes
    layout: Layout
    kind: bytes = b""


Reading = tuple[dict[str, Tensor], bool] | tuple[dict[str, Tensor], bool, bytes]
"""Inputs that need no check; which of the two replies is wanted; what follows its ``begin``."""


class Form(NamedTuple):
    """
    How a dialect reads and writes the common calls of one signature.

    Args:
        signature_name: The signature that is called.
        decode: Reads a body, and returns None where it is not a common one. Its second argument is
            the value of *length_field*, where the request has it.
        replies: The reply for False, and for True, as the second part of a ``Reading`` says.
        write: Writes the reply where the outputs do not fit *replies*.
        fields: More lines of the reply's head.
        apart: Requests with one of these header fields are answered the long way.
        length_field: The header field that tells the length of the JSON, in lower case; b"": none.
    """

    signature_name: str
    decode: Callable[..., Reading | None]
    replies: tuple[Reply, Reply]
    write: Callable[[Tensors, Reading], Response]
    fields: bytes = b""
    apart: tuple[bytes, ...] = ()
    length_field: bytes = b""


class Short(NamedTuple):
    """
    What the compiled call needs to answer one path. Its order is known to ``native/shortcut.c``.

    Args:
        force, number: The shortcut holds while ``force[0] == number``: while its table is in force.
        variant: Answers the path in that table. Its servable is looked up at each call, so that a
            version which has been unloaded is not kept in memory.
        note: ``note(rows, took_ns, model_ns)``, called for each answer.
        slow_ns: A call that took longer is not common.
        finish: Makes the whole response of an outcome that is not common: ``finish(outputs or
            exception, reading, rows, took_ns, model_ns, request_id, keep_alive)``. None: the long
            way must answer.

    The rest is the ``Form``'s.
    """

    force: Sequence[int] | memoryview
    number: int
    variant: Variant[Servable]
    note: Callable[[int, int, int], None]
    slow_ns: int
    finish: Callable[[Tensors | Exception, Reading, int, int, int, bytes, bool], bytes | None]
    signature_name: str
    decode: Callable[..., Reading | None]
    apart: tuple[bytes, ...]
    length_field: bytes
    replies: tuple[Reply, Reply]
    fields: bytes


class Shortcuts:
    """The shortcuts of one process, by path."""

    def __init__(self) -> None:
        self._native: Any = find("shortcut")
        self._known: dict[bytes, Short] = {}

    def add(self, target: str, short: Short) -> None:
        """Answer *target* by *short* from now on, for as long as it holds."""
        if self._native is None:
            return
        # Targets come from outside: see Router._remember.
        if len(self._known) >= MOST_KNOWN:
            self._known.clear()
        self._known[target.encode("latin-1")] = short

    def forget(self, target: str) -> None:
        """Answer *target* the long way."""
        self._known.pop(target.encode("latin-1"), None)

    def answering(self, header_bytes: int, body_bytes: int) -> Callable[[bytes], bytes | None]:
        """
        Return the function that answers one request, given the bytes that came.

        It returns the whole response, or None: the long way must answer.
        """
        if self._native is None:
            return lambda _: None
        # Another prefix than ``identity`` has: the C counts the ids that it makes by itself.
        prefix = os.urandom(4).hex().encode()
        return partial(self._native.answer, self._known, current, prefix, header_bytes, body_bytes)


NONE = Shortcuts()
"""For servers without shortcuts; nothing is added to it."""
