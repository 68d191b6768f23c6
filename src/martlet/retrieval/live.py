"""Rows set since an index was built: compared one by one, and merged with what it finds."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Final

import numpy as np

from martlet.retrieval.exact import padded, ranked
from martlet.retrieval.index import Floats, Found, Index, Mask, Metric, Rows, checked, normalised
from martlet.stores import Embeddings
from martlet.stores.live import Live

FRESH_S: Final = 0.1
"""A search sees rows as they were at most this long ago, seconds."""


class LiveIndex:
    """
    Finds what *inner* finds over the table's file, and the rows that were set since.

    A row that was set is found by its new vector and no longer by its old one. Rows that were set
    are compared one by one, so the index over the file pays while they are the smaller part.
    ``allowed`` is about the file's rows: with it, keys that the file does not have are not found.

    Args:
        inner: Over *table*'s own file.
    """

    def __init__(self, inner: Index, table: Embeddings) -> None:
        self.inner = inner
        self._table = table
        self._side: _Side | None = None

    @property
    def metric(self) -> Metric:
        """What it ranks by."""
        return self.inner.metric

    def __len__(self) -> int:
        return len(self._table)

    def search(
        self,
        queries: Floats,
        k: int,
        *,
        exclude: Sequence[Rows] | None = None,
        allowed: Mask | None = None,
    ) -> Found:
        """See Index."""
        live = self._table.live
        if live is None:
            return self.inner.search(queries, k, exclude=exclude, allowed=allowed)
        side = self._side
        if side is None or side.live is not live:
            side = self._side = _Side(self._table, live, self.metric)
        queries = checked(queries, k, self._table.dim, exclude)
        rows, scores, replaced = side.scores(queries, time.monotonic())
        scores = (
            scores.copy() if allowed is None else np.where(_allows(allowed, rows), scores, -np.inf)
        )
        for query, refused in enumerate(exclude or ()):
            scores[query, np.isin(rows, refused)] = -np.inf
        found = self._unchanged(queries, k, replaced, exclude, allowed)
        every = np.broadcast_to(rows, scores.shape)
        both = ranked(np.hstack([found.rows, every]), np.hstack([found.scores, scores]), k)
        return padded(both, k)

    def _unchanged(
        self,
        queries: Floats,
        k: int,
        replaced: Mask,
        exclude: Sequence[Rows] | None,
        allowed: Mask | None,
    ) -> Found:
        """Return at least the *k* nearest of the rows that are as the file has them."""
        rows_in_all, some = len(self.inner), int(replaced.sum())
        fetch = k + min(k, some)
        while True:
            found = self.inner.search(queries, fetch, exclude=exclude, allowed=allowed)
            gone = (found.rows >= 0) & replaced[found.rows]
            kept = (found.rows >= 0) & ~gone
            enough = kept.sum(axis=1) >= k
            if fetch >= min(rows_in_all, k + some) or bool(
                (enough | (found.rows[:, -1] < 0)).all()
            ):
                return Found(np.where(kept, found.rows, -1), np.where(kept, found.scores, -np.inf))
            # Many of the nearest were set since: fetch more, up to as many as can ever be needed.
            fetch = min(fetch * 4, k + some)


class _Side:
    """The live vectors of one table, kept ready to compare; a search of any thread."""

    def __init__(self, table: Embeddings, live: Live, metric: Metric) -> None:
        self.live = live
        self._table = table
        self._metric = metric
        self._lock = threading.Lock()
        self._fresh_until = 0.0
        self._words = np.empty(0, np.uint32)
        self._rows: Rows = np.empty(0, np.int64)
        self._vectors: Floats = np.empty((0, table.dim), np.float32)
        self._replaced: Mask = np.zeros(len(table.vectors) + 1, bool)

    def scores(self, queries: Floats, now: float) -> tuple[Rows, Floats, Mask]:
        """
        Return the live rows [n], their scores [queries, n], and which of the file's rows they
        replace.

        The last has one entry more than the file has rows, which is False: for row -1.
        """
        with self._lock:
            if now > self._fresh_until:
                self._refresh()
                self._fresh_until = now + FRESH_S
            if self._metric is Metric.COSINE:
                queries = normalised(queries)
            present = self._rows >= 0
            scores = queries @ self._vectors.T
            return self._rows[present], scores[:, present], self._replaced

    def _refresh(self) -> None:
        rows, words = self.live.owners()
        known = len(self._words)
        moved = np.ones(len(words), bool)
        moved[:known] = words[:known] != self._words
        changed = np.flatnonzero(moved)
        if not len(changed):
            return
        present = (rows >= 0) & self.live.file.slots.present(np.arange(1, len(rows) + 1))
        rows = np.where(present, rows, -1)
        vectors = self._vectors
        if len(rows) > len(vectors):
            vectors = np.zeros((len(rows), self._table.dim), np.float32)
            vectors[:known] = self._vectors[:known]
        taken = self._table.take(rows[changed])
        vectors[changed] = normalised(taken) if self._metric is Metric.COSINE else taken
        replaced = np.zeros_like(self._replaced)
        replaced[rows[(rows >= 0) & (rows < len(replaced) - 1)]] = True
        self._words, self._rows, self._vectors, self._replaced = words, rows, vectors, replaced


def _allows(allowed: Mask, rows: Rows) -> Mask:
    inside = rows < len(allowed)
    found = np.zeros(len(rows), bool)
    found[inside] = allowed[rows[inside]]
    return found
