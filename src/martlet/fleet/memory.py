"""Whether there is room for one more version: decided before it is opened."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

_MB = 1 << 20


def refusal(limit: int, held: Sequence[int], need: int) -> str:
    """
    Return why a version may not be opened, or "": there is room.

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


def size_of(path: Path) -> int:
    """Return the bytes of a version's files: what it takes at least, unless they are mapped."""
    try:
        if path.is_dir():
            return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
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
