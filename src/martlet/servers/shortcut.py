"""The common predict, answered in one compiled call: from the bytes that came to those that go.

Who answers a path the long way says what a call of it needs, once for each table in force; then
``native/shortcut.c`` walks through it without a frame between. It declines whatever is not common,
before anything has happened, and the long way answers that. So this knows no error, and without
the compiled part there is no shortcut.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from martlet.native import find
from martlet.servable import Servable
from martlet.servers.identity import current
from martlet.serving.traffic import Variant
from martlet.tensors import Tensors
from martlet.wire.rows import Found

MOST_KNOWN = 4096

APART = (b"content-encoding",)
"""Requests with one of these fields are answered the long way."""


class Form(NamedTuple):
    """
    How a dialect reads and writes the common calls of one signature.

    Args:
        signature_name: That is called.
        decode: Reads a body; None: it is not a common one. What it gives needs no check.
        rows, columns: What a reply by row, or by column, begins with, where its rest is the
            numbers of the only output and a brace.
        write_rows, write_columns: Write any reply.
        fields: More lines of the reply's head.
    """

    signature_name: str
    decode: Callable[[bytes], Found | None]
    rows: bytes
    write_rows: Callable[[Tensors], bytes]
    columns: bytes
    write_columns: Callable[[Tensors], bytes]
    fields: bytes = b""


class Short(NamedTuple):
    """
    What the compiled call needs to answer one path. Its order is known to ``native/shortcut.c``.

    Args:
        force, number: The shortcut holds while ``force[0] == number``: a table is in force.
        variant: Who answers the path in that table. Its servable is asked for at each call, so
            that a version which has left is not kept in memory.
        note: Hears rows, and nanoseconds in all and in the model, of each answer.
        slow: Hears the model's nanoseconds of an answer that took more than *slow_ns*.
        late_ns: What took longer is not given out.

    The rest is the ``Form``.
    """

    force: Sequence[int] | memoryview
    number: int
    variant: Variant[Servable]
    note: Callable[[int, int, int], None]
    slow: Callable[[int], None]
    slow_ns: int
    late_ns: int
    signature_name: str
    decode: Callable[[bytes], Found | None]
    rows: bytes
    write_rows: Callable[[Tensors], bytes]
    columns: bytes
    write_columns: Callable[[Tensors], bytes]
    fields: bytes


class Shortcuts:
    """The paths of one process that have one."""

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
        Return what answers one request, given as it came.

        It returns the whole response, or None: the long way must answer.
        """
        if self._native is None:
            return lambda _: None
        # Of its own: the ids made there are counted there.
        prefix = os.urandom(4).hex().encode()
        return partial(
            self._native.answer, self._known, APART, current, prefix, header_bytes, body_bytes
        )


NONE = Shortcuts()
"""To which nobody adds."""
