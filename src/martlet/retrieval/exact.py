"""The exact search: every row is compared. For small tables; the reference of other indexes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from martlet.retrieval.index import (
    Floats,
    Found,
    Mask,
    Metric,
    Rows,
    check_mask,
    checked,
    normalised,
)
from martlet.stores import Embeddings

# Scores held at a time, queries x rows of one block: 4 MiB of float32.
_BLOCK_SCORES = 1 << 20
_LENGTHS_ROWS = 1 << 14


class Exact:
    """
    Searches a table as it lies, without an index file.

    Args:
        table: The vectors.
        metric: What to rank by.
    """

    def __init__(self, table: Embeddings, metric: Metric = Metric.DOT) -> None:
        self._table = table
        self._metric = metric
        self._plain = table.precision == "float32"
        self._scales: Floats | None = None

    @property
    def metric(self) -> Metric:
        """What it ranks by."""
        return self._metric

    def __len__(self) -> int:
        return len(self._table.vectors)

    def search(
        self,
        queries: Floats,
        k: int,
        *,
        exclude: Sequence[Rows] | None = None,
        allowed: Mask | None = None,
    ) -> Found:
        """See Index."""
        queries = checked(queries, k, self._table.dim, exclude)
        check_mask(allowed, len(self))
        if self._metric is Metric.COSINE:
            queries = normalised(queries)
        refused = [] if exclude is None else [rows[(rows >= 0)] for rows in exclude]
        best = nothing(len(queries), 0)
        step = max(1, _BLOCK_SCORES // max(1, len(queries)))
        for start in range(0, len(self), step):
            scores = self._scores(queries, start, start + step)
            if allowed is not None:
                scores[:, ~allowed[start : start + step]] = -np.inf
            for query, rows in enumerate(refused):
                inside = rows[(rows >= start) & (rows < start + scores.shape[1])]
                scores[query, inside - start] = -np.inf
            best = _merged(best, _top(scores, k, start), k)
        return padded(best, k)

    def score(self, query: Floats, rows: Rows) -> Floats:
        """Return the metric of one *query* [dim] (normalised by the caller) with *rows* [n]."""
        vectors = self._table.take(rows)
        if self._metric is Metric.COSINE:
            vectors = normalised(vectors)
        return vectors @ query

    def _scores(self, queries: Floats, start: int, stop: int) -> Floats:
        scores: Floats = queries @ self._block(start, stop).T
        if self._metric is Metric.COSINE:
            if self._scales is None:
                self._scales = self._inverse_lengths()
            scores *= self._scales[start:stop]
        return scores

    def _inverse_lengths(self) -> Floats:
        scales = np.empty(len(self), np.float32)
        for start in range(0, len(self), _LENGTHS_ROWS):
            lengths = np.linalg.norm(self._block(start, start + _LENGTHS_ROWS), axis=1)
            part = scales[start : start + _LENGTHS_ROWS]
            np.divide(1, lengths, out=part, where=lengths > 0)
            part[lengths == 0] = 0
        return scales

    def _block(self, start: int, stop: int) -> Floats:
        if self._plain:
            return self._table.vectors[start:stop]
        return self._table.take(np.arange(start, min(stop, len(self))))


def nothing(queries: int, k: int) -> Found:
    """Return an answer of *k* places in which nothing was found."""
    return Found(np.full((queries, k), -1, np.int64), np.full((queries, k), -np.inf, np.float32))


def padded(found: Found, k: int) -> Found:
    """Return *found* with k places, and -1 for whatever was refused."""
    rows = np.where(found.scores > -np.inf, found.rows, -1)
    if rows.shape[1] == k:
        return Found(rows, found.scores)
    rest = nothing(len(rows), k - rows.shape[1])
    return Found(np.hstack([rows, rest.rows]), np.hstack([found.scores, rest.scores]))


def ranked(rows: Rows, scores: Floats, k: int) -> Found:
    """Return the *k* best of *rows* and *scores*, both [q, n], in the order that Found promises."""
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    which = np.arange(len(rows))[:, None]
    return Found(rows[which, order], scores[which, order])


def _top(scores: Floats, k: int, start: int) -> Found:
    if k >= scores.shape[1]:
        rows = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
        return ranked(rows + start, scores, k)
    # Of equal scores argpartition would keep any; Found promises the lowest rows. So find the k-th
    # best score first, and then all rows that reach it.
    last = scores.shape[1] - k
    kth = np.partition(scores, last, axis=1)[:, last, None]
    _, rows = np.nonzero(scores >= kth)
    if len(rows) > k * len(scores):
        rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return Found(rows + start, np.take_along_axis(scores, rows, 1))
    rows = rows.reshape(-1, k)
    return ranked(rows + start, np.take_along_axis(scores, rows, 1), k)


def _merged(one: Found, other: Found, k: int) -> Found:
    if not one.rows.shape[1]:
        return other
    return ranked(np.hstack([one.rows, other.rows]), np.hstack([one.scores, other.scores]), k)
