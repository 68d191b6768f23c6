"""Embedding tables: one vector a key, in a mapped file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from martlet.errors import InvalidInput
from martlet.stores.keys import Rows, open_keys, pack_keys
from martlet.stores.tablefile import Array, TableFile, write_table

KIND = "embeddings"
PRECISIONS = ("float32", "float16", "int8")


class Gathered(NamedTuple):
    """Vectors of the keys that were asked for."""

    vectors: NDArray[np.float32]
    """[n, dim]; zeros where the key is unknown."""
    known: NDArray[np.bool_]
    """[n]."""


class Embeddings:
    """
    An open table. Every process that opens it shares one copy in memory.

    Args:
        path: As ``write_embeddings`` wrote it.

    Raises:
        ModelNotFound, UnsupportedModel: there is no such file, or it is no embedding table.
    """

    def __init__(self, path: Path) -> None:
        self._file = TableFile(path, KIND)
        # One row more than there are keys: zeros, so that row -1 needs no test.
        self._stored = self._file["vectors"]
        self._scales = self._file.find("scales")
        self.keys = open_keys(self._file)
        self._plain = self._stored.dtype == np.float32

    @property
    def path(self) -> Path:
        """The file."""
        return self._file.path

    @property
    def generation(self) -> str:
        """The id shared by all that was trained together; "" for none."""
        return self._file.generation

    @property
    def digest(self) -> str:
        """The sha256 of the stored vectors, in hex, as it was when they were written."""
        return self._file.digest("vectors")

    @property
    def dim(self) -> int:
        """How long a vector is."""
        return int(self._stored.shape[1])

    @property
    def precision(self) -> str:
        """What is stored: one of PRECISIONS. What is gathered is float32 always."""
        return str(self._stored.dtype)

    @property
    def vectors(self) -> Array:
        """The stored rows, not copied. [rows, dim], of dtype ``precision``."""
        return self._stored[:-1]

    def __len__(self) -> int:
        return len(self._stored) - 1

    def rows_of(self, keys: ArrayLike | Sequence[str]) -> Rows:
        """
        Return the row of each key, -1 where there is none.

        Raises:
            InvalidInput: *keys* are not of the table's kind.
        """
        return self.keys.rows_of(keys)

    def take(self, rows: Array) -> NDArray[np.float32]:
        """Return the vectors of *rows* [n], zeros for -1. Shape [n, dim]."""
        found = self._stored.take(rows, axis=0, mode="wrap")
        if self._plain:
            return found
        vectors = found.astype(np.float32)
        if self._scales is not None:
            vectors *= self._scales.take(rows, mode="wrap")[:, None]
        return vectors

    def get_many(self, keys: ArrayLike | Sequence[str]) -> Gathered:
        """
        Return the vectors of *keys* and which of them are known.

        Raises:
            InvalidInput: *keys* are not of the table's kind.
        """
        rows = self.keys.rows_of(keys)
        return Gathered(self.take(rows), rows >= 0)

    gather = get_many

    def scan(self, batch: int = 8192) -> Iterator[tuple[Array, Gathered]]:
        """Give every key once with its vector, in the order of the rows."""
        for start in range(0, len(self), batch):
            rows = np.arange(start, min(start + batch, len(self)))
            yield self.keys.at(rows), Gathered(self.take(rows), np.ones(len(rows), bool))

    def verify(self) -> None:
        """
        Read the whole file.

        Raises:
            UnsupportedModel: it is damaged; the text says where.
        """
        self._file.verify()


def write_embeddings(
    path: Path,
    keys: ArrayLike | Sequence[str],
    vectors: ArrayLike,
    *,
    precision: str = "float32",
    generation: str = "",
) -> None:
    """
    Write an embedding table; who opens *path* finds the old file or the whole new one.

    Args:
        path: Where it will be.
        keys: One a row, all integers or all strings, none twice.
        vectors: [rows, dim], finite. Rows keep their order.
        precision: "float32"; "float16" (half the size, relative error 2**-11); "int8" (a
            quarter, each row scaled by its largest component, error at most 1/254 of it).
        generation: The id shared by all that was trained together.

    Raises:
        InvalidInput: what comes does not fit together; the text names the key.
        NotAvailable: the disk is full, or refuses.
    """
    meta, sections = pack_keys(keys)
    matrix = _matrix(vectors)
    count = len(sections["keys.offsets"]) - 1 if meta["keys"] == "string" else len(sections["keys"])
    if len(matrix) != count:
        raise InvalidInput(f"{count} keys came with {len(matrix)} vectors; one each is wanted")
    bad = ~np.isfinite(matrix).all(axis=1)
    if bad.any():
        row = int(bad.argmax())
        key = list(np.asarray(keys, dtype=object))[row]
        raise InvalidInput(f"the vector of key {key!r} (row {row}) is not finite: {matrix[row]}")
    stored, scales = _stored(matrix, precision)
    if scales is not None:
        sections = {**sections, "scales": np.append(scales, np.float32(0))}
    rows = np.zeros((len(stored) + 1, stored.shape[1]), stored.dtype)
    rows[:-1] = stored
    write_table(path, KIND, {"vectors": rows, **sections}, generation=generation, meta=meta)


def _matrix(vectors: ArrayLike) -> NDArray[np.float32]:
    try:
        given = np.asarray(vectors)
        with np.errstate(over="ignore"):
            matrix = np.asarray(given, np.float32)
    except (TypeError, ValueError) as exc:
        raise InvalidInput(f"vectors are numbers, all of one length: {exc}") from None
    if matrix.ndim != 2 or matrix.shape[1] == 0:
        raise InvalidInput(f"vectors are [rows, dim], not of shape {list(matrix.shape)}")
    return matrix


def _stored(
    matrix: NDArray[np.float32], precision: str
) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
    match precision:
        case "float32":
            return matrix, None
        case "float16":
            if np.abs(matrix).max(initial=0) > np.finfo(np.float16).max:
                raise InvalidInput("a component is beyond 65504, the largest float16; use float32")
            return matrix.astype(np.float16), None
        case "int8":
            scales = np.abs(matrix).max(axis=1) / np.float32(127)
            safe = np.where(scales > 0, scales, 1)
            return np.rint(matrix / safe[:, None]).astype(np.int8), scales.astype(np.float32)
        case _:
            known = ", ".join(PRECISIONS)
            raise InvalidInput(f"precision {precision!r} is not one of {known}")
