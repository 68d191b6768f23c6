"""Which index a table gets: by its size, and by the index file beside it."""

from __future__ import annotations

from pathlib import Path

from martlet.retrieval.exact import Exact
from martlet.retrieval.index import Floats, Metric
from martlet.retrieval.ivf import Ivf, build_ivf
from martlet.retrieval.live import LiveIndex
from martlet.stores import Embeddings

EXACT_UP_TO = 20_000
"""Rows up to which every row is compared. Measured: docs/decisions/0032."""


def index_path(table: Embeddings, metric: Metric = Metric.DOT) -> Path:
    """Return where the index of *table* lies: beside it."""
    return table.path.with_name(f"{table.path.name}.{metric.value}.index")


def build_index(
    table: Embeddings,
    *,
    metric: Metric = Metric.DOT,
    recall: float = 0.98,
    queries: Floats | None = None,
) -> Path | None:
    """
    Write an index beside *table* if it is large enough to need one; None if it is not.

    Args:
        table: The vectors to search.
        metric: What to rank by.
        recall: The share of the true nearest 100 that a search must find.
        queries: float32 [n, dim], like those that will come; None: the table's own vectors.

    Raises:
        MissingExtra: it needs one, and faiss is not installed.
        NotAvailable: the disk is full, or refuses.
    """
    if len(table.vectors) <= EXACT_UP_TO:
        return None
    path = index_path(table, metric)
    build_ivf(table, path, metric=metric, recall=recall, queries=queries)
    return path


def open_index(table: Embeddings, *, metric: Metric = Metric.DOT) -> LiveIndex:
    """
    Return the index that lies beside *table*, or the exact search where there is none.

    Either way rows that are set while the table is open are found by their new vectors.

    Raises:
        UnsupportedModel: it is damaged, or was built over another table.
        MissingExtra: there is one, and faiss is not installed.
    """
    path = index_path(table, metric)
    inner = Ivf(table, path) if path.exists() else Exact(table, metric)
    return LiveIndex(inner, table)
