"""Messages between two processes: tensors in memory that both map, and a bell for each."""

from __future__ import annotations

import contextlib
import fcntl
import math
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

from martlet.formats.isolated.texts import Codes, Decoder, Encoder, dumped, packed, unpacked
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
    """
    What a kind of message says, and where its tensors lie.

    Attributes:
        tensors: Views of the memory itself; of the *texts*, their codes.
        end: Where they end: there follows what has to be learnt of new texts.
    """

    number: int
    header: dict[str, Any]
    tensors: dict[str, Tensor]
    texts: tuple[str, ...]
    end: int


class Channel:
    """
    One message at a time between two processes: a header and tensors.

    A message is described in JSON the first time. The next one with the same header, names,
    dtypes and shapes is its numbers alone: a bell says which it is, and so wakes the other side.
    Text is codes of values, each told once; long or ever new text is described every time.

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
        self._encoder, self._decoder = Encoder(), Decoder()

    def send(self, header: Mapping[str, str], tensors: Mapping[str, Tensor]) -> None:
        """
        Send *tensors* under a header that often comes again.

        Raises:
            OSError: the other side is gone.
            UnicodeError: a text is none: it holds half of a character.
        """
        key = (
            *header.items(),
            *[(name, value.dtype, value.shape) for name, value in tensors.items()],
        )
        layout = self._sent.get(key)
        texts: dict[str, Codes] = {}
        told = b""
        if layout is None or layout.texts:
            given = {n: v for n, v in tensors.items() if v.dtype.kind in "OSU"}
            if given:
                encoded = self._encoder.encode(given)
                if encoded is None:
                    self._write(_PLAIN, header, tensors)
                    return
                texts, told = encoded
                tensors = {**tensors, **texts}
        if layout is None:
            self._number += 1
            if self._number % _LAYOUTS == 0:  # both sides forget at the same message
                self._sent.clear()
            self._sent[key] = self._write(self._number, header, tensors, tuple(texts), told)
            return
        for name, view in layout.tensors.items():
            view[...] = tensors[name]
        if told:
            end = layout.end + len(told)
            self._given.grown(end)[layout.end : end] = told
        self._bell.ring(layout.number, len(told))

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
        try:
            if layout is None:
                layout = self._read(number, length)
                if number and number % _LAYOUTS == 0:
                    self._received.clear()
                if number != _PLAIN:
                    self._received[number] = layout
            elif length:
                end = layout.end + length
                self._decoder.learn(orjson.loads(self._taken.upto(end)[layout.end : end]))
            tensors = dict(layout.tensors)
            for name in layout.texts:
                tensors[name] = self._decoder.decode(tensors[name])
        except (ArithmeticError, LookupError, TypeError, ValueError) as exc:
            raise OSError(f"the other process sent what is no message: {exc}") from exc
        return layout.header, tensors

    def _write(
        self,
        number: int,
        header: Mapping[str, Any],
        tensors: Mapping[str, Tensor],
        texts: tuple[str, ...] = (),
        told: bytes = b"null",
    ) -> _Layout:
        described, places, at = [], [], 0
        for name, value in tensors.items():
            entry: dict[str, Any] = {"name": name, "shape": value.shape}
            if value.dtype.kind in "OSU":
                entry["text"] = list(map(packed, value.ravel().tolist()))
            else:
                entry |= {"dtype": value.dtype.str, "at": at, "coded": name in texts}
                places.append((name, value, at))
                at += _aligned(value.nbytes)
            described.append(entry)
        text = dumped([dict(header), described, orjson.Fragment(told or b"null")])
        start = _aligned(_NOTICE + len(text))
        area = self._given.grown(start + at)
        area[_NOTICE : _NOTICE + len(text)] = text
        views = {}
        for name, value, place in places:
            view = np.ndarray(value.shape, value.dtype, area, start + place)
            view[...] = value
            views[name] = view
        self._bell.ring(number, len(text))
        return _Layout(number, {}, views, texts, start + at)

    def _read(self, number: int, length: int) -> _Layout:
        area = self._taken.upto(_NOTICE + length)
        header, described, told = orjson.loads(area[_NOTICE : _NOTICE + length])
        if told is not None:
            self._decoder.learn(told)
        start = end = _aligned(_NOTICE + length)
        tensors: dict[str, Tensor] = {}
        texts = []
        for entry in described:
            shape = tuple(map(int, entry["shape"]))
            if "text" in entry:
                value = np.empty(len(entry["text"]), object)
                value[:] = list(map(unpacked, entry["text"]))
                tensors[entry["name"]] = value.reshape(shape)
                continue
            dtype = np.dtype(entry["dtype"])
            if entry["coded"]:
                texts.append(entry["name"])
            if dtype.hasobject or (entry["coded"] and dtype != np.uint32):
                raise ValueError(f"a tensor of {dtype}")
            place = start + int(entry["at"])
            if min(place, *shape, 0) < 0:  # numpy would look before the map
                raise ValueError(f"a tensor of shape {shape} at {place}")
            view_end = place + dtype.itemsize * math.prod(shape)
            area = self._taken.upto(view_end)
            tensors[entry["name"]] = np.ndarray(shape, dtype, area, place)
            end = max(end, _aligned(view_end))
        return _Layout(number, header, tensors, tuple(texts), end)

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
