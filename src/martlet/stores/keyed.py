"""What embeddings, lists and features have in common: rows under keys, in one mapped file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from numpy.typing import ArrayLike

from martlet.stores.keys import Keys, Rows, open_keys
from martlet.stores.tablefile import TableFile


class Keyed:
    """
    An open table file. Every process that opens it shares one copy in memory.

    Args:
        path: As it was written.
        kind: What it must hold.

    Raises:
        ModelNotFound, UnsupportedModel: there is no such file, or it holds something else.
    """

    def __init__(self, path: Path, kind: str) -> None:
        self._file = TableFile(path, kind)
        self.keys: Keys = open_keys(self._file)

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    @property
    def generation(self) -> str:
        """The id shared by all that was trained together; "" for none."""
        return self._file.generation

    def __len__(self) -> int:
        return len(self.keys)

    def rows_of(self, keys: ArrayLike | Sequence[str]) -> Rows:
        """
        Return the row of each key, -1 where there is none.

        Raises:
            InvalidInput: *keys* are not of the table's kind.
        """
        return self.keys.rows_of(keys)

    def verify(self) -> None:
        """
        Read the whole file.

        Raises:
            UnsupportedModel: it is damaged; the text says where.
        """
        self._file.verify()
