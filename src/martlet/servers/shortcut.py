"""The common call of a model, answered in one compiled call: from the bytes that came to those
that go.

Who answers a path the long way says what a call of it needs, once for each table in force; then
``native/shortcut.c`` walks through it without a frame between. It declines whatever is not common
before anything has happened, and the long way answers that. What is not common about the outcome
(the model raised, it was slow, its outputs are unusual) it hands to who answers the long way. So
this knows no error, and without the compiled part there is no shortcut.
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
    The body of a reply whose only output is an array of floats, in its parts.

    Args:
        begin: Then comes what the reader of the body said, if anything.
        shape: What stands before the output's shape; None: it is not told.
        numbers: What stands before the numbers (of RAW: before their size in bytes).
        end: The rest of the JSON.
        layout: Of the numbers.
        kind: The buffer format of the output, where only that is told rightly; b"": any float's.
    """

    begin: bytes
    shape: bytes | None
    numbers: bytes
    end: bytes
    layout: Layout
    kind: bytes = b""


Reading = tuple[dict[str, Tensor], bool] | tuple[dict[str, Tensor], bool, bytes]
"""Inputs that need no check, which of two replies is wanted, and what follows its ``begin``."""


class Form(NamedTuple):
    """
    How a dialect reads and writes the common calls of one signature.

    Args:
        signature_name: That is called.
        decode: Reads a body; None: it is not a common one. It gets *length_field* too, where
            that came.
        replies: By what *decode* said.
        write: Writes the reply to any outputs of a call that *decode* has read.
        fields: More lines of the reply's head.
        apart: Requests with one of these fields are answered the long way.
        length_field: In lower case; b"": none.
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
        force, number: The shortcut holds while ``force[0] == number``: a table is in force.
        variant: Who answers the path in that table. Its servable is asked for at each call, so
            that a version which has left is not kept in memory.
        note: Hears rows, and nanoseconds in all and in the model, of each answer.
        slow_ns: What took longer is not common.
        finish: Makes the whole response of an outcome that is not common: ``finish(outputs or
            exception, reading, rows, took_ns, model_ns, id, whether to say keep-alive)``.

    The rest is of the ``Form``.
    """

    force: Sequence[int] | memoryview
    number: int
    variant: Variant[Servable]
    note: Callable[[int, int, int], None]
    slow_ns: int
    finish: Callable[[Tensors | Exception, Reading, int, int, int, bytes, bool], bytes]
    signature_name: str
    decode: Callable[..., Reading | None]
    apart: tuple[bytes, ...]
    length_field: bytes
    replies: tuple[Reply, Reply]
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
        return partial(self._native.answer, self._known, current, prefix, header_bytes, body_bytes)


NONE = Shortcuts()
"""To which nobody adds."""
