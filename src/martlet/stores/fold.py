"""Folds the rows that were set beside a table into a new table file."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from martlet.stores.embeddings import Embeddings, write_embeddings
from martlet.stores.livefile import FOLDED


def write_folded(table: Embeddings, path: Path, precision: str = "") -> None:
    """
    Write *table* with its live rows to *path*: the same generation and order of rows, and behind
    them the keys that were set since.

    The vectors are held in memory meanwhile, as float32.

    Args:
        precision: One of PRECISIONS; "" for the table's own.

    Raises:
        InvalidInput: a component is too large for *precision*.
        NotAvailable: the disk is full, or refuses.
    """
    rows = table.all_rows
    write_embeddings(
        path,
        table.keys.at(rows),
        table.take(rows),
        precision=precision or table.precision,
        generation=table.generation,
    )


def fold(table: Embeddings, publish: Callable[[Path], int], precision: str = "") -> int:
    """
    Publish *table* with its live rows as a new version, and return its number.

    Nobody can set rows meanwhile, nor in this version afterwards: what was set is in the new one,
    and what is set next belongs there.

    Args:
        publish: Registers the file and returns its version.
        precision: Of the new version; "" for the table's own.

    Raises:
        NotAvailable: another process keeps writing, or the disk is full; nothing is changed.
    """
    with table.writing() as live, tempfile.TemporaryDirectory(prefix="martlet-") as scratch:
        path = Path(scratch) / table.path.name
        write_folded(table, path, precision)
        number = publish(path)
        live.file.slots.store(FOLDED, number)
    return number
