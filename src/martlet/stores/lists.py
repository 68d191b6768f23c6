"""Stored lists: for each key the items that were computed for it, best first, with scores."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from martlet.errors import InvalidInput
from martlet.stores.keyed import Keyed
from martlet.stores.keys import Rows, integers, is_text, pack_keys, texts
from martlet.stores.strings import Strings, pack
from martlet.stores.tablefile import Array, write_table

KIND = "lists"


class Listed(NamedTuple):
    """Lists of the keys that were asked for, end to end: that of key i is ``offsets[i:i+2]``."""

    items: Array
    """int64 [items], or an object array of str."""
    scores: NDArray[np.float32] | None
    """[items]; None where the table has none."""
    offsets: NDArray[np.int64]
    """[n + 1]; an unknown key has an empty list."""


class Lists(Keyed):
    """
    An open table of lists.

    Args:
        path: As ``write_lists`` wrote it.

    Raises:
        ModelNotFound, UnsupportedModel: there is no such file, or it is not a table of lists.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, KIND)
        self._offsets = self._file["offsets"]
        self._items = self._file["items"]
        self._scores = self._file.find("scores")
        names = self._file.find("names")
        self._names = None if names is None else Strings(names, self._file["names.offsets"])

    @property
    def scored(self) -> bool:
        """Whether every item has a score."""
        return self._scores is not None

    @property
    def text_keys(self) -> bool:
        """Whether keys are text."""
        return bool(self.keys.at(np.arange(min(1, len(self)))).dtype == object)

    @property
    def kinds(self) -> Array:
        """At most one of the items, to tell whether they are integers or text."""
        return self._named(self._items[:1])

    def get(self, key: int | str) -> tuple[Array, NDArray[np.float32] | None] | None:
        """
        Return the items and scores of *key*, or None if it is unknown.

        Raises:
            InvalidInput: *key* is not of the table's kind.
        """
        row = int(self.keys.rows_of([key])[0])
        if row < 0:
            return None
        part = slice(self._offsets[row], self._offsets[row + 1])
        return self._named(self._items[part]), None if self._scores is None else self._scores[part]

    def get_many(self, keys: ArrayLike | Sequence[str], limit: int | None = None) -> Listed:
        """
        Return the lists of *keys*, each cut to its first *limit* items.

        Raises:
            InvalidInput: *keys* are not of the table's kind.
        """
        return self.take(self.keys.rows_of(keys), limit)

    def take(self, rows: Rows, limit: int | None = None) -> Listed:
        """Return the lists of *rows* [n], empty for -1."""
        starts = self._offsets.take(rows, mode="wrap")
        # Row -1 wraps to the last offset here and to the first below: a length below zero.
        lengths = np.maximum(self._offsets.take(rows + 1) - starts, 0)
        if limit is not None:
            lengths = np.minimum(lengths, limit)
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        places = np.arange(offsets[-1]) + np.repeat(starts - offsets[:-1], lengths)
        scores = None if self._scores is None else self._scores.take(places)
        return Listed(self._named(self._items.take(places)), scores, offsets)

    def scan(self, batch: int = 8192) -> Iterator[tuple[Array, Listed]]:
        """Give every key once with its list, in the order of the rows."""
        for start in range(0, len(self), batch):
            rows = np.arange(start, min(start + batch, len(self)))
            yield self.keys.at(rows), self.take(rows)

    def _named(self, items: Array) -> Array:
        return items if self._names is None else self._names.take(items)


def write_lists(
    path: Path,
    lists: Mapping[Any, Sequence[Any]],
    scores: Mapping[Any, Sequence[float]] | None = None,
    *,
    generation: str = "",
) -> None:
    """
    Write a table of lists; who opens *path* finds the old file or the whole new one.

    Args:
        path: Where it will be.
        lists: The items of each key, best first. Keys are all integers or all strings, and so
            are items; an item comes at most once in a list.
        scores: As many for each key, none of them NaN.
        generation: The id shared by all that was trained together.

    Raises:
        InvalidInput: what comes does not fit together; the text names the key.
        NotAvailable: the disk is full, or refuses.
    """
    meta, sections = pack_keys(list(lists))
    for key, items in lists.items():
        if len(set(items)) != len(items):
            raise InvalidInput(f"the list of key {key!r} has an item twice")
    offsets = np.zeros(len(lists) + 1, np.int64)
    np.cumsum([len(items) for items in lists.values()], out=offsets[1:])
    every = [item for items in lists.values() for item in items]
    sections = {"offsets": offsets, **sections, **_items(every)}
    if scores is not None:
        sections = {**sections, "scores": _scores(lists, scores)}
    write_table(path, KIND, sections, generation=generation, meta=meta)


def _items(items: list[Any]) -> dict[str, Array]:
    if not is_text(items):
        return {"items": integers(items)}
    names = dict.fromkeys(texts(items))
    numbers = {name: number for number, name in enumerate(names)}
    codes = np.fromiter((numbers[item] for item in texts(items)), np.int32, len(items))
    return {"items": codes, **pack(list(names), "names")}


def _scores(
    lists: Mapping[Any, Sequence[Any]], scores: Mapping[Any, Sequence[float]]
) -> NDArray[np.float32]:
    every: list[float] = []
    for key, items in lists.items():
        found = scores.get(key, ())
        if len(found) != len(items):
            raise InvalidInput(f"key {key!r} has {len(items)} items and {len(found)} scores")
        every.extend(found)
    array = np.asarray(every, np.float32)
    if np.isnan(array).any():
        owner = int(
            np.repeat(np.arange(len(lists)), [len(i) for i in lists.values()])[
                np.isnan(array).argmax()
            ]
        )
        raise InvalidInput(f"a score of key {list(lists)[owner]!r} is NaN")
    return array
