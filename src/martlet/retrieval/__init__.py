"""Nearest neighbours: exact for small tables, an index beside the file for large ones."""

from __future__ import annotations

from martlet.retrieval.choice import EXACT_UP_TO, build_index, index_path, open_index
from martlet.retrieval.exact import Exact
from martlet.retrieval.index import Found, Index, Metric
from martlet.retrieval.ivf import Ivf, build_ivf
from martlet.retrieval.live import LiveIndex

__all__ = [
    "EXACT_UP_TO",
    "Exact",
    "Found",
    "Index",
    "Ivf",
    "LiveIndex",
    "Metric",
    "build_index",
    "build_ivf",
    "index_path",
    "open_index",
]
