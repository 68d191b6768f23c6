"""Clients that connect to a worker that is about to leave."""

from __future__ import annotations

import ctypes
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path


def turn_away(sock: socket.socket) -> bool:
    """
    Have the kernel ignore new connections to *sock*; return False where it cannot.

    A client that is ignored tries again after a second and reaches another worker. Without this, a
    client that connects between our last accept and the close is reset at its first request.

    Source:
        socket(7), SO_ATTACH_FILTER; the kernel's networking/filter.rst. A filter of a TCP socket
        sees packets from the TCP header on, whose byte 13 has the flags (RFC 9293, 3.1).
    """
    so_attach_filter = 26
    syn, syn_or_ack, pass_all = 0x02, 0x12, 0xFFFFFFFF
    program = (
        (0x30, 0, 0, 13),  # load the flags
        (0x54, 0, 0, syn_or_ack),  # of them SYN and ACK
        (0x15, 0, 1, syn),  # SYN alone opens a connection:
        (0x06, 0, 0, 0),  # drop it
        (0x06, 0, 0, pass_all),  # and nothing else
    )
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *each) for each in program))
    told = struct.pack("HL", len(program), ctypes.addressof(code))
    try:
        sock.setsockopt(socket.SOL_SOCKET, so_attach_filter, told)
    except OSError:
        return False
    return True


def listening(ports: set[int]) -> Iterator[socket.socket]:
    """
    Return a handle on each TCP socket of this process that listens on one of *ports*.

    For a library that keeps its sockets to itself. The caller closes the handles, which leaves the
    sockets open.
    """
    sockets = [each for each in Path("/proc/self/fd").iterdir() if each.is_socket()]
    for descriptor in sockets:
        try:
            sock = socket.socket(fileno=os.dup(int(descriptor.name)))
        except OSError:
            # It has gone meanwhile.
            continue
        if _listens(sock) and sock.getsockname()[1] in ports:
            yield sock
        else:
            sock.close()


def _listens(sock: socket.socket) -> bool:
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
