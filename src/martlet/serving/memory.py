"""Memory of versions: what one takes, what a process holds, which to close for more."""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from martlet.stores.livefile import SUFFIX

_MB = 1 << 20

Key = TypeVar("Key")


def refusal(limit: int, held: Sequence[int], need: int) -> str:
    """
    Return why a version may not be opened; "" where there is room for it.

    Args:
        limit: Bytes that the workers may hold together; 0: as many as they like.
        held: Bytes that each worker holds now.
        need: Bytes that the version takes in each.

    >>> refusal(100 << 20, held=[30 << 20, 30 << 20], need=10 << 20)
    ''
    >>> refusal(100 << 20, held=[30 << 20, 30 << 20], need=25 << 20)
    'it takes about 25 MB in each of 2 workers, which hold 60 MB; the limit is 100 MB'
    """
    workers = max(1, len(held))
    if not limit or sum(held) + need * workers <= limit:
        return ""
    return (
        f"it takes about {need // _MB} MB in each of {workers} workers, which hold "
        f"{sum(held) // _MB} MB; the limit is {limit // _MB} MB"
    )


def leavers(unused: Sequence[tuple[Key, float, int]], need: int) -> list[Key]:
    """
    Return which of *unused* are closed for *need* more bytes: the longest unused first.

    All of them are returned where even they are not enough.

    Args:
        unused: Of each its key, when it was last used, and the bytes that closing it gives back.

    >>> leavers([("a", 3.0, 10), ("b", 1.0, 10), ("c", 2.0, 10)], need=15)
    ['b', 'c']
    """
    chosen: list[Key] = []
    for key, _, given_back in sorted(unused, key=lambda each: each[1]):
        if need <= 0:
            break
        chosen.append(key)
        need -= given_back
    return chosen


def size_of(path: Path) -> int:
    """Return the bytes of a version's files: what it takes at least, unless they are mapped."""
    try:
        if path.is_dir():
            files = [each for each in path.rglob("*") if each.is_file()]
            # A live file is sparse and mapped: its length says nothing.
            return sum(each.stat().st_size for each in files if each.suffix != SUFFIX)
        return path.stat().st_size
    except OSError:
        # Its opening will say what is the matter.
        return 0


def held_by(pid: int) -> int:
    """Return the bytes that a process holds for itself: mapped files, which are shared, not."""
    try:
        _, resident, shared, *_ = Path(f"/proc/{pid}/statm").read_text().split()
    except OSError:
        return 0
    return (int(resident) - int(shared)) * os.sysconf("SC_PAGESIZE")


def held_with_children(pid: int) -> int:
    """Return what a process holds with its children: models may live in processes of their own."""
    if pid == os.getpid() and not _has_children():
        return held_by(pid)
    return held_by(pid) + sum(map(held_with_children, _children(pid)))


def _has_children() -> bool:
    # One system call, where listing them reads a file for each thread.
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _children(pid: int) -> list[int]:
    found: list[int] = []
    # A child is its thread's, not its process's. Those that end meanwhile have none.
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            with suppress(OSError):
                found += map(int, (task / "children").read_text().split())
    return found


def one_arena() -> None:
    """
    Have all threads allocate from one arena, before they begin to: what is freed can be given back.

    glibc gives each of many threads an arena of its own, and ``malloc_trim`` leaves the top of all
    but the first as it is: megabytes in each.
    """
    m_arena_max = -8
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(m_arena_max, 1)


def give_back() -> None:
    """Give freed memory back to the system: the allocator would keep most of it."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def collect(freeze: bool) -> None:
    """
    Free what only the collector can, then ``give_back``.

    Args:
        freeze: What lives was put out of the collector's sight; look there too, and put it back.
    """
    if freeze:
        gc.unfreeze()
    gc.collect()
    if freeze:
        gc.freeze()
    give_back()
