"""Follows a stream of updates into a table's live rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Final

from martlet.errors import InvalidInput, NotAvailable, WrongState
from martlet.stores.embeddings import Embeddings
from martlet.stores.lines import Lines
from martlet.stores.shared import SharedRows
from martlet.stores.updates import Applied, Update, apply_each, parse_update

SYNC_S: Final = 1.0
"""How much a loss of power may cost, unless told otherwise."""

_AGAIN_S = 1.0


def follow(
    table: Embeddings,
    stream: Iterator[Lines],
    *,
    sync_s: float = SYNC_S,
    reopened: Callable[[], Embeddings] | None = None,
    told: Callable[[Applied], None] = lambda _: None,
    shared: SharedRows | None = None,
) -> Applied:
    """
    Apply the lines of *stream* until it ends, and return what became of them.

    A line that is not an update, or does not fit the table, is counted and passed over. How far the
    stream was applied is noted with the rows, so that who follows next goes on from there; lines
    may be applied again after a crash, which changes nothing.

    Args:
        sync_s: How often the rows are brought to disk; 0 leaves it to the system.
        reopened: Gives the table anew once its rows were folded into a newer version.
        told: Hears what became of each batch.
        shared: By whom all machines are told, this one too; where a file was left is not kept.

    What cannot be written for a while, since the disk is full or another holds the place, is told
    of and tried again.

    Raises:
        Overloaded: as of ``Embeddings.put_many``.
        WrongState: the rows were folded, and *reopened* is None.
    """
    whole = Applied()
    synced, changed = time.monotonic(), False
    for lines, cursor in stream:
        if lines:
            updates, refused = _parsed(lines)
            while True:
                try:
                    if shared is not None:
                        applied = refused + _tell_all(shared, updates)
                    else:
                        applied = refused + _apply(table, updates, cursor)
                    break
                except WrongState:
                    newer = reopened() if reopened is not None and shared is None else table
                    if newer.path == table.path:
                        raise
                    table.sync()
                    table = newer
                except NotAvailable as exc:
                    # A full disk, or a fold that takes its time: what came is not lost.
                    told(Applied(why=f"{exc}; it is tried again"))
                    time.sleep(_AGAIN_S)
            whole, changed = whole + applied, True
            told(applied)
        now = time.monotonic()
        if changed and sync_s and now - synced >= sync_s:
            table.sync()
            synced, changed = now, False
    if changed and sync_s:
        table.sync()
    return whole


def keep_up(
    table: Embeddings,
    shared: SharedRows,
    *,
    sync_s: float = SYNC_S,
    told: Callable[[Applied], None] = lambda _: None,
) -> None:
    """
    Apply what all machines are told of *table*, for ever; while Redis is away, wait for it.

    Raises:
        Overloaded, WrongState: as of ``Embeddings.put_many``.
    """
    synced, changed = time.monotonic(), False
    while True:
        try:
            applied = shared.catch_up(wait_ms=200)
        except NotAvailable as exc:
            told(Applied(why=f"{exc}; it is tried again"))
            time.sleep(_AGAIN_S)
            continue
        if applied is not None:
            changed = True
            told(applied)
        now = time.monotonic()
        if changed and sync_s and now - synced >= sync_s:
            table.sync()
            synced, changed = now, False


def _tell_all(shared: SharedRows, updates: list[Update]) -> Applied:
    try:
        shared.reach(shared.publish(updates))
    except InvalidInput as exc:
        if len(updates) == 1:
            return Applied(refused=1, why=str(exc))
        middle = len(updates) // 2
        return _tell_all(shared, updates[:middle]) + _tell_all(shared, updates[middle:])
    removed = sum(update.vector is None for update in updates)
    return Applied(len(updates) - removed, removed)


def _parsed(lines: list[bytes]) -> tuple[list[Update], Applied]:
    updates, refused = [], Applied()
    for line in lines:
        if line.strip():
            try:
                updates.append(parse_update(line))
            except InvalidInput as exc:
                refused = refused + Applied(refused=1, why=str(exc))
    return updates, refused


def _apply(table: Embeddings, updates: list[Update], cursor: str) -> Applied:
    with table.writing() as live:
        applied = apply_each(table, updates) if updates else Applied()
        if cursor:
            live.file.move_cursor(cursor)
    return applied
