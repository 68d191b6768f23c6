"""Messages between two processes: tensors in memory that both map, and a bell for each."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import mmap
import os
import select
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from martlet.native import find
from martlet.tensors import Tensor

_FIRST_SIZE = 1 << 20
_ALIGNED = 64
_NOTICE = 64  # bytes at the start of each memory, where the compiled bell has its words
_WORD = struct.Struct("<QQ")  # the layout's number, and the length of its text, 0 where known
_LAYOUTS = 256
_PLAIN = 0  # the number of a message whose layout is not kept


@dataclass(frozen=True, slots=True)
class _Layout:
    """What a kind of message says, and where its tensors lie: views of the memory itself."""

    number: int
    header: dict[str, Any]
    tensors: dict[str, Tensor]


class Channel:
    """
    One message at a time between two processes: a header and tensors.

    A message is described in JSON the first time. The next one with the same header, names,
    dtypes and shapes is its numbers alone: a bell says which it is, and so wakes the other side.
    Text is described every time.

    Args:
        other: The socket to the other side.
        given, taken: Files in memory (``memory()``), each written by one side.
        spins_s: How long at most to spin for a message before sleeping (``native/bell.c``).
        answers: Whether this side answers the other's questions.
    """

    def __init__(
        self,
        other: socket.socket,
        given: int,
        taken: int,
        spins_s: float = 0.0,
        answers: bool = False,
    ) -> None:
        self._other = other
        self._given, self._taken = _Memory(given), _Memory(taken)
        compiled = find("bell")
        self._bell: Any = (
            _Bell(other)
            if compiled is None
            else compiled.Bell(
                *(self._given.upto(_NOTICE), self._taken.upto(_NOTICE), other.fileno()),
                *(spins_s if cores_to_spare() else 0.0, answers),
            )
        )
        self._sent: dict[tuple[Any, ...], _Layout] = {}
        self._number = 0
        self._received: dict[int, _Layout] = {}

    def send(self, header: Mapping[str, str], tensors: Mapping[str, Tensor]) -> None:
        """
        Send *tensors* under a header that often comes again.

        Raises:
            OSError: the other side is gone.
        """
        key = (
            *header.items(),
            *[(name, value.dtype, value.shape) for name, value in tensors.items()],
        )
        layout = self._sent.get(key)
        if layout is None:
            if any(value.dtype.kind in "OSU" for value in tensors.values()):
                self._write(_PLAIN, header, tensors)
                return
            self._number += 1
            if self._number % _LAYOUTS == 0:  # both sides forget at the same message
                self._sent.clear()
            views = self._write(self._number, header, tensors)
            self._sent[key] = _Layout(self._number, {}, views)
            return
        for name, view in layout.tensors.items():
            view[...] = tensors[name]
        self._bell.ring(layout.number, 0)

    def tell(self, header: Mapping[str, Any]) -> None:
        """
        Send a header alone, of anything that JSON has.

        Raises:
            OSError: the other side is gone.
        """
        self._write(_PLAIN, header, {})

    def receive(self, timeout_s: float | None = None) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """
        Return the next header, and tensors that are views: copy what must outlive the next call.

        Raises:
            TimeoutError: none came in *timeout_s* seconds (None: wait for ever).
            EOFError, OSError: the other side is gone, or sent what is no message.
        """
        number, length = self._bell.wait(timeout_s)
        layout = self._received.get(number)
        if layout is None or length:
            try:
                layout = self._read(number, length)
            except (ArithmeticError, KeyError, TypeError, ValueError) as exc:
                raise OSError(f"the other process sent what is no message: {exc}") from exc
            if number and number % _LAYOUTS == 0:
                self._received.clear()
            if number != _PLAIN:
                self._received[number] = layout
        return layout.header, dict(layout.tensors)

    def _write(
        self, number: int, header: Mapping[str, Any], tensors: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        described, places, at = [], [], 0
        for name, value in tensors.items():
            entry: dict[str, Any] = {"name": name, "shape": value.shape}
            if value.dtype.kind in "OSU":
                entry["text"] = [_text(each) for each in value.ravel().tolist()]
            else:
                entry |= {"dtype": value.dtype.str, "at": at}
                places.append((name, value, at))
                at += _aligned(value.nbytes)
            described.append(entry)
        text = orjson.dumps([dict(header), described])
        start = _aligned(_NOTICE + len(text))
        area = self._given.grown(start + at)
        area[_NOTICE : _NOTICE + len(text)] = text
        views = {}
        for name, value, place in places:
            view = np.ndarray(value.shape, value.dtype, area, start + place)
            view[...] = value
            views[name] = view
        self._bell.ring(number, len(text))
        return views

    def _read(self, number: int, length: int) -> _Layout:
        area = self._taken.upto(_NOTICE + length)
        header, described = orjson.loads(area[_NOTICE : _NOTICE + length])
        start = _aligned(_NOTICE + length)
        tensors: dict[str, Tensor] = {}
        for entry in described:
            shape = tuple(map(int, entry["shape"]))
            if "text" in entry:
                value = np.empty(len(entry["text"]), object)
                value[:] = list(map(_told, entry["text"]))
                tensors[entry["name"]] = value.reshape(shape)
                continue
            dtype = np.dtype(entry["dtype"])
            if dtype.hasobject:
                raise ValueError(f"a tensor of {dtype}")
            place = start + int(entry["at"])
            if min(place, *shape, 0) < 0:  # numpy would look before the map
                raise ValueError(f"a tensor of shape {shape} at {place}")
            area = self._taken.upto(place + dtype.itemsize * int(np.prod(shape, dtype=object)))
            tensors[entry["name"]] = np.ndarray(shape, dtype, area, place)
        return _Layout(number, header, tensors)

    def close(self) -> None:
        """Close the socket and let go of the memory, which lives while views of it do."""
        self._other.close()
        self._given.close()
        self._taken.close()


class _Bell:
    """The compiled bell's pure twin: each message is two numbers over the socket."""

    def __init__(self, other: socket.socket) -> None:
        self._other = other
        self._poll = select.poll()
        self._poll.register(other, select.POLLIN)

    def ring(self, number: int, length: int) -> None:
        self._other.sendall(_WORD.pack(number, length))

    def wait(self, timeout_s: float | None) -> tuple[int, int]:
        if timeout_s is not None and not self._poll.poll(timeout_s * 1e3):
            raise TimeoutError(f"no message in {timeout_s} s")
        word = self._other.recv(_WORD.size, socket.MSG_WAITALL)
        if len(word) != _WORD.size:
            raise EOFError("the other process closed the channel")
        number, length = _WORD.unpack(word)
        return number, length


@cache
def cores_to_spare() -> bool:
    """
    Return whether there may be a core to spin on: several, and no quota that spinning would use up.

    Source:
        The kernel's documentation, admin-guide/cgroup-v2.rst ("cpu.max"), scheduler/sched-bwc.rst.
    """
    if len(os.sched_getaffinity(0)) < 2:
        return False
    for name, free in (("cpu.max", "max"), ("cpu/cpu.cfs_quota_us", "-1")):
        with contextlib.suppress(OSError):
            return Path("/sys/fs/cgroup", name).read_text().split()[:1] == [free]
    return True


def memory() -> int:
    """Return the descriptor of a new file in memory that may grow, and never shrink."""
    found = os.memfd_create("martlet", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(found, _FIRST_SIZE)
    # Whoever made it smaller would have the other side die of reading it.
    fcntl.fcntl(found, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    return found


class _Memory:
    """A file in memory, mapped anew when it has grown: views of an older map stay true."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._map = mmap.mmap(descriptor, os.fstat(descriptor).st_size)

    def grown(self, size: int) -> mmap.mmap:
        """Return a map of at least *size* bytes: for who writes."""
        if size > len(self._map):
            os.ftruncate(self._descriptor, max(size, 2 * len(self._map)))
        return self.upto(size)

    def upto(self, size: int) -> mmap.mmap:
        """Return a map of at least *size* bytes, or of all that there is: for who reads."""
        if size > len(self._map):
            self._map = mmap.mmap(self._descriptor, os.fstat(self._descriptor).st_size)
        return self._map

    def close(self) -> None:
        os.close(self._descriptor)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED


def _text(value: Any) -> Any:
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return [base64.b64encode(value).decode()]
    return value if value is None or isinstance(value, str) else None


def _told(value: Any) -> Any:
    """Return what ``_text`` was given; of bytes that are UTF-8, the text."""
    if not isinstance(value, list):
        return value
    (packed,) = value
    return base64.b64decode(packed, validate=True)
