"""Lines as they come: from a file that grows, from a pipe, from producers that connect."""

from __future__ import annotations

import os
import selectors
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from martlet.errors import InvalidInput, ModelNotFound, NotAvailable

IDLE_S: Final = 0.02
"""How long after its writing a line may wait to be read."""

_READ_BYTES = 1 << 18
_LONGEST_LINE = 16 << 20


class Lines(NamedTuple):
    """Whole lines that were read together; none if nothing came for a moment."""

    lines: list[bytes]
    cursor: str
    """Where to begin again after them; "" where the source cannot."""


def file_lines(path: Path, cursor: str = "", *, once: bool = False) -> Iterator[Lines]:
    """
    Give the lines of *path* and then those that are appended to it, for ever.

    A file that is replaced by another of its name (log rotation) is read to its end, then the
    other from its beginning; so is one that was cut to nothing.

    Args:
        cursor: As an earlier call gave it: what was read by then is passed over.
        once: End at the end of the file; a last line need not be ended.

    Raises:
        ModelNotFound: there is no such file.
    """
    try:
        file = path.open("rb")
    except OSError as exc:
        raise ModelNotFound(f"{path} cannot be followed: {exc.strerror}") from None
    while True:
        inode = os.fstat(file.fileno()).st_ino
        at = _offset(cursor, inode, os.fstat(file.fileno()).st_size)
        rest = b""
        with file:
            file.seek(at)
            while True:
                chunk = file.read(_READ_BYTES)
                if chunk:
                    lines, rest = _split(rest + chunk)
                    at += sum(map(len, lines)) + len(lines)
                    yield Lines(lines, f"file:{inode}:{at}")
                    continue
                if once:
                    yield Lines([rest] if rest else [], f"file:{inode}:{at + len(rest)}")
                    return
                yield Lines([], f"file:{inode}:{at}")
                if _moved(path, inode, at):
                    break
                time.sleep(IDLE_S)
        cursor = ""
        file = path.open("rb")


def pipe_lines(descriptor: int) -> Iterator[Lines]:
    """Give the lines of a pipe until its other end is closed; a last line need not be ended."""
    rest = b""
    with selectors.DefaultSelector() as ready:
        waits = True
        try:
            ready.register(descriptor, selectors.EVENT_READ)
        except PermissionError:
            waits = False  # a plain file as standard input is always ready
        while True:
            if waits and not ready.select(IDLE_S):
                yield Lines([], "")
                continue
            chunk = os.read(descriptor, _READ_BYTES)
            if not chunk:
                yield Lines([rest] if rest else [], "")
                return
            lines, rest = _split(rest + chunk)
            yield Lines(lines, "")


def socket_lines(listening: socket.socket) -> Iterator[Lines]:
    """Give the lines of all clients that connect, for ever; a line of 16 MB ends its connection."""
    listening.setblocking(False)
    rests: dict[socket.socket, bytes] = {}
    with selectors.DefaultSelector() as ready:
        ready.register(listening, selectors.EVENT_READ)
        while True:
            lines: list[bytes] = []
            for key, _ in ready.select(IDLE_S):
                if key.fileobj is listening:
                    connection, _ = listening.accept()
                    connection.setblocking(False)
                    ready.register(connection, selectors.EVENT_READ)
                    rests[connection] = b""
                    continue
                assert isinstance(key.fileobj, socket.socket)
                whole, open_still = _received(key.fileobj, rests)
                lines += whole
                if not open_still:
                    ready.unregister(key.fileobj)
                    key.fileobj.close()
            yield Lines(lines, "")


def listen(address: str) -> socket.socket:
    """
    Return a listening socket: ``HOST:PORT``, or ``unix:PATH``.

    Raises:
        InvalidInput: *address* is neither.
        NotAvailable: it cannot be listened on.
    """
    try:
        if address.startswith("unix:"):
            path = Path(address.removeprefix("unix:"))
            path.unlink(missing_ok=True)
            found = socket.socket(socket.AF_UNIX)
            found.bind(str(path))
            found.listen()
            return found
        host, _, port = address.rpartition(":")
        if not port.isdecimal():
            raise InvalidInput(f"{address!r} is neither HOST:PORT nor unix:PATH")
        return socket.create_server((host or "127.0.0.1", int(port)))
    except OSError as exc:
        raise NotAvailable(f"{address} cannot be listened on: {exc.strerror or exc}") from exc


def _received(
    connection: socket.socket, rests: dict[socket.socket, bytes]
) -> tuple[list[bytes], bool]:
    try:
        chunk = connection.recv(_READ_BYTES)
    except BlockingIOError:
        return [], True
    except OSError:
        chunk = b""
    if not chunk:
        last = rests.pop(connection)
        return ([last] if last else []), False
    lines, rest = _split(rests[connection] + chunk)
    rests[connection] = rest
    if len(rest) > _LONGEST_LINE:
        del rests[connection]
        return lines, False
    return lines, True


def _split(data: bytes) -> tuple[list[bytes], bytes]:
    *lines, rest = data.split(b"\n")
    return lines, rest


def _offset(cursor: str, inode: int, size: int) -> int:
    kind, _, where = cursor.partition(":")
    known, _, at = where.partition(":")
    if kind == "file" and known == str(inode) and at.isdecimal() and int(at) <= size:
        return int(at)
    return 0


def _moved(path: Path, inode: int, at: int) -> bool:
    try:
        about = path.stat()
    except OSError:
        return False  # the next one of its name is still to come
    return about.st_ino != inode or about.st_size < at
