"""Embedding tables: one vector a key, in a mapped file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from martlet.errors import InvalidInput
from martlet.stores.keyed import Keyed
from martlet.stores.keys import (
    KeyIndex,
    Rows,
    concatenated,
    index_of,
    integers,
    pack_keys,
    texts,
)
from martlet.stores.live import Live, LiveKeys
from martlet.stores.livefile import LiveFile, Shape, live_path
from martlet.stores.livewatch import watched
from martlet.stores.livewriter import LiveWriter
from martlet.stores.tablefile import Array, write_table

KIND = "embeddings"
PRECISIONS = ("float32", "float16", "int8")


class Gathered(NamedTuple):
    """Vectors of the keys that were asked for."""

    vectors: NDArray[np.float32]
    """[n, dim]; zeros where the key is unknown."""
    known: NDArray[np.bool_]
    """[n]."""


class Embeddings(Keyed):
    """
    An open table. Every process that opens it shares one copy in memory.

    Rows may be set while any number of processes read: they lie in a file beside the table (see
    stores/livefile.py), which an open table finds by itself within a fraction of a second.

    Args:
        path: As ``write_embeddings`` wrote it.

    Raises:
        ModelNotFound, UnsupportedModel: there is no such file, or it is not an embedding table, or
            the live rows beside it are those of another.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, KIND)
        # One row more than there are keys: zeros, so that row -1 needs no test.
        self._stored = self._file["vectors"]
        self._scales = self._file.find("scales")
        self._base_keys = self.keys
        self._plain = self._stored.dtype == np.float32
        self._text: bool = self._file.meta["keys"] == "string"
        row_bytes = self._stored.dtype.itemsize * self.dim
        self._shape = Shape.of(
            self._file.identity, len(self._stored) - 1, row_bytes, text=self._text
        )
        self._live: Live | None = None
        self._writer: LiveWriter | None = None
        self.look()
        watched(self)

    @property
    def digest(self) -> str:
        """The sha256 of the stored vectors, in hex, as it was when they were written."""
        return self._file.digest("vectors")

    @property
    def identity(self) -> bytes:
        """The sha256 of the file's header, hence of all that is in it. 32 bytes."""
        return self._file.identity

    @property
    def dim(self) -> int:
        """How long a vector is."""
        return int(self._stored.shape[1])

    @property
    def precision(self) -> str:
        """What is stored: one of PRECISIONS. What is gathered is float32 always."""
        return str(self._stored.dtype)

    @property
    def text_keys(self) -> bool:
        """Whether keys are strings."""
        return self._text

    @property
    def vectors(self) -> Array:
        """The rows as the file has them, not copied. [rows, dim], of dtype ``precision``."""
        return self._stored[:-1]

    @property
    def mapped(self) -> tuple[Array, KeyIndex] | None:
        """
        The rows as the file has them, zeros for -1 behind them, and the index of their keys.

        None where they are packed, or the keys are text. What was set since is not among them.
        """
        index = index_of(self._base_keys)
        return None if index is None or not self._plain else (self._stored, index)

    @property
    def live(self) -> Live | None:
        """The rows that were set since; None where none ever was."""
        return self._live

    def take(self, rows: Array) -> NDArray[np.float32]:
        """Return the vectors of *rows* [n], zeros for -1. Shape [n, dim]."""
        live = self._live
        if live is not None:
            found, scales = live.gather(self._stored, self._scales, rows)
            return self._unpacked(found, scales)
        found = self._stored.take(rows, axis=0, mode="wrap")
        if self._plain:
            return found
        scales = None if self._scales is None else self._scales.take(rows, mode="wrap")
        return self._unpacked(found, scales)

    def _unpacked(self, stored: Array, scales: NDArray[np.float32] | None) -> NDArray[np.float32]:
        if self._plain:
            return stored
        vectors = stored.astype(np.float32)
        if scales is not None:
            vectors *= scales[:, None]
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
        every = self.all_rows
        for start in range(0, len(every), batch):
            rows = every[start : start + batch]
            yield self.keys.at(rows), Gathered(self.take(rows), np.ones(len(rows), bool))

    @property
    def all_rows(self) -> Rows:
        """The row of every key: the file's, then those of keys that were set since."""
        every = np.arange(len(self._stored) - 1)
        return every if self._live is None else np.concatenate([every, self._live.new_rows()])

    @property
    def live_rows(self) -> Rows:
        """The rows that are otherwise than in the file: the file's own, then of new keys."""
        if self._live is None:
            return np.empty(0, np.int64)
        return np.concatenate([self._live.replaced(), self._live.new_rows()])

    # -- rows that change ------------------------------------------------------------------

    def look(self) -> None:
        """
        See whether live rows lie beside the table now.

        Raises:
            UnsupportedModel: they are damaged, or those of another table.
            NotAvailable: the machine stopped since they were written, and they cannot be written
                to take back what did not reach the disk.
        """
        path = live_path(self.path)
        try:
            about = path.stat()
        except OSError:
            # What was found once stays: rows of new keys may be in somebody's hands.
            return
        if self._live is None or self._live.file.inode != (about.st_dev, about.st_ino):
            if self._file.replaced:
                return  # they are those of the table that took this one's place
            live = Live(LiveFile(path, self._shape.identity), text=self._text)
            if not live.file.whole:
                with self._live_writer.held():
                    pass  # who holds it first after the machine stopped looks it over
            # In this order: a row that the keys give must be one that ``take`` knows.
            self._live = live
            self.keys = LiveKeys(self._base_keys, live, text=self._text)

    def put_many(self, keys: ArrayLike | Sequence[str], vectors: ArrayLike) -> None:
        """
        Let each of *keys* have its vector from now on, in every process that has the table open.

        A reader sees each vector whole, old or new. What was written outlives this process;
        ``sync`` makes it outlive a loss of power. Of a key that comes twice the last one stays.

        Args:
            keys: Of the table's kind; they need not be in it.
            vectors: [n, dim], finite. They are kept in the table's precision.

        Raises:
            InvalidInput: what comes does not fit the table; the text names the key.
            Overloaded: there is no room for so many new keys.
            WrongState: the rows were folded into a newer version.
            NotAvailable: the disk is full or refuses, or another process keeps writing.
        """
        wanted, stored, scales = self._packed(keys, vectors)
        if not wanted:
            return
        if scales is None:
            scales = np.ones(len(wanted), np.float32)
        rows = self._base_keys.rows_of(concatenated(wanted))
        with self.writing() as live:
            self._live_writer.set(live, wanted, rows, stored, scales)

    def check(self, keys: ArrayLike | Sequence[str], vectors: ArrayLike) -> None:
        """
        See that ``put_many`` could set these.

        Raises:
            InvalidInput: what comes does not fit the table; the text names the key.
        """
        self._packed(keys, vectors)

    def _packed(
        self, keys: ArrayLike | Sequence[str], vectors: ArrayLike
    ) -> tuple[list[int | str], Array, NDArray[np.float32] | None]:
        wanted = self._keys_to_set(keys)
        matrix = _matrix(vectors)
        if matrix.shape != (len(wanted), self.dim):
            raise InvalidInput(
                f"vectors of shape {list(matrix.shape)} came for {len(wanted)} keys; "
                f"[{len(wanted)}, {self.dim}] is wanted"
            )
        _check_finite(wanted, matrix)
        return wanted, *_stored(matrix, self.precision)

    def remove_many(self, keys: ArrayLike | Sequence[str]) -> NDArray[np.bool_]:
        """
        Let each of *keys* be again as the table's own file has it; return which were not. [n].

        A key that the file does not have is unknown again.

        Raises:
            InvalidInput: *keys* are not of the table's kind.
            WrongState, NotAvailable: as of ``put_many``.
        """
        wanted = self._keys_to_set(keys)
        if not wanted or (self._live is None and not live_path(self.path).exists()):
            return np.zeros(len(wanted), bool)
        rows = self._base_keys.rows_of(concatenated(wanted))
        with self.writing() as live:
            return self._live_writer.unset(live, wanted, rows, self._stored[:0])

    @contextmanager
    def writing(self) -> Iterator[Live]:
        """
        Hold the one writer's place for the block, and give the live rows.

        Raises:
            NotAvailable: another process has held it for five seconds.
        """
        with self._live_writer.held() as live:
            self.look()
            yield live

    def sync(self) -> None:
        """Return once what this process has set is on disk, where a loss of power leaves it."""
        if self._writer is not None:
            self._writer.sync()

    @property
    def _live_writer(self) -> LiveWriter:
        if self._writer is None:
            self._writer = LiveWriter(self.path, self._shape, text=self._text)
        return self._writer

    def _keys_to_set(self, keys: ArrayLike | Sequence[str]) -> list[int | str]:
        if not self._text:
            found: list[int | str] = integers(keys).tolist()
            return found
        strings = texts(keys)
        for key in strings:
            if not key.isascii() and any("\ud800" <= char < "\ue000" for char in key):
                raise InvalidInput(f"key {key!r} cannot be written as UTF-8")
        return list(strings)


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
    _check_finite(keys, matrix)
    stored, scales = _stored(matrix, precision)
    if scales is not None:
        sections = {**sections, "scales": np.append(scales, np.float32(0))}
    rows = np.zeros((len(stored) + 1, stored.shape[1]), stored.dtype)
    rows[:-1] = stored
    write_table(path, KIND, {"vectors": rows, **sections}, generation=generation, meta=meta)


def rounded(matrix: NDArray[np.float32], precision: str) -> NDArray[np.float32]:
    """
    Return *matrix* [rows, dim] as a table of *precision* gives it back.

    Raises:
        InvalidInput: it cannot be kept in that precision.
    """
    stored, scales = _stored(matrix, precision)
    vectors = stored.astype(np.float32)
    return vectors if scales is None else vectors * scales[:, None]


def _check_finite(keys: ArrayLike | Sequence[Any], matrix: NDArray[np.float32]) -> None:
    bad = ~np.isfinite(matrix).all(axis=1)
    if bad.any():
        row = int(bad.argmax())
        key = list(np.asarray(keys, dtype=object))[row]
        raise InvalidInput(f"the vector of key {key!r} (row {row}) is not finite: {matrix[row]}")


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
