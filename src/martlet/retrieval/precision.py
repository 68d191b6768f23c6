"""What storing a table in fewer bits does to its rankings, measured on the table itself."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from martlet.errors import InvalidInput
from martlet.rankings import spearman
from martlet.retrieval.index import Floats, Rows
from martlet.stores.embeddings import PRECISIONS, Embeddings, rounded, write_embeddings

_DEPTH = 1000
_TIMED_ROWS, _TIMED = 200, 50_000


@dataclass(frozen=True, slots=True)
class Damage:
    """
    What one precision does, beside the vectors as they are.

    Args:
        precision: One of PRECISIONS.
        bytes: Of all rows, scales included.
        largest_error: The largest of a component.
        score_error: The largest of an inner product with a query.
        overlap: The share of the first k that stay among the first k, 0 to 1.
        ndcg: Of the new order, with gains from the place in the old one, 0 to 1.
        spearman: Rank correlation over the old order's first thousand, -1 to 1.
        gather_us: Microseconds of CPU to gather 200 rows.
    """

    precision: str
    bytes: int
    largest_error: float
    score_error: float
    overlap: float
    ndcg: float
    spearman: float
    gather_us: float


def sample(table: Embeddings, count: int, seed: int = 0) -> Floats:
    """Return the vectors of *count* rows of *table*, drawn at random. float32 [count, dim]."""
    rows = table.all_rows
    picked = np.random.default_rng(seed).permutation(len(rows))[:count]
    return table.take(rows[np.sort(picked)])


def compare_precisions(table: Embeddings, queries: Floats, *, k: int = 10) -> list[Damage]:
    """
    Return what each of PRECISIONS would do to the rankings that *queries* ask for.

    They are compared with the table as it is read now, live rows included. This takes memory for
    the vectors twice.

    Args:
        queries: float32 [q, dim], as user vectors are.
        k: The length of the lists that are shown.

    Raises:
        InvalidInput: there are no rows or no queries.

    Source:
        Jarvelin and Kekalainen, "Cumulated gain-based evaluation of IR techniques", TOIS 2002
        (NDCG, with a linear gain).
    """
    vectors = table.take(table.all_rows)
    if not len(vectors) or not len(queries):
        raise InvalidInput("there are no rows to rank, or no queries to rank them by")
    k = min(k, len(vectors))
    found = []
    for precision in PRECISIONS:
        try:
            after = rounded(vectors, precision)
        except InvalidInput:
            continue  # a component that float16 cannot hold
        judged = np.array([_judged(vectors @ query, after @ query, k) for query in queries])
        overlap, ndcg, spearman = judged[:, :3].mean(axis=0)
        scale_bytes = 4 * len(vectors) if precision == "int8" else 0
        found.append(
            Damage(
                precision,
                vectors.size * np.dtype(precision).itemsize + scale_bytes,
                float(np.abs(after - vectors).max()),
                float(judged[:, 3].max()),
                float(overlap),
                float(ndcg),
                float(spearman),
                _gather_us(vectors[:_TIMED], precision),
            )
        )
    return found


def _judged(before: Floats, after: Floats, k: int) -> tuple[float, float, float, float]:
    """Return overlap, NDCG, Spearman and the largest error of a ranking by *after*."""
    deep, top = _first(before, max(_DEPTH, k)), _first(after, k)
    worth = np.arange(k, 0, -1.0)
    of = dict(zip(deep[:k].tolist(), worth.tolist(), strict=True))
    gained = np.array([of.get(row, 0.0) for row in top.tolist()])
    discounts = 1 / np.log2(np.arange(2, k + 2))
    return (
        float((gained > 0).mean()),
        float(gained @ discounts / (worth @ discounts)),
        spearman(before[deep], after[deep]),
        float(np.abs(after - before).max()),
    )


def _first(scores: Floats, k: int) -> Rows:
    k = min(k, len(scores))
    some = np.argpartition(-scores, k - 1)[:k]
    found: Rows = some[np.lexsort((some, -scores[some]))]
    return found


def _gather_us(vectors: Floats, precision: str) -> float:
    with tempfile.TemporaryDirectory(prefix="martlet-") as folder:
        path = Path(folder) / "table"
        write_embeddings(path, np.arange(len(vectors)), vectors, precision=precision)
        table = Embeddings(path)
        rows = np.random.default_rng(0).integers(0, len(vectors), _TIMED_ROWS)
        rounds = []
        for _ in range(20):
            began = time.process_time_ns()
            for _ in range(50):
                table.take(rows)
            rounds.append((time.process_time_ns() - began) / 50e3)
    return min(rounds)
