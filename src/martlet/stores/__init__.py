"""What is looked up by key: embeddings, lists and features, in files that all workers share."""

from __future__ import annotations

from martlet.stores.embeddings import Embeddings, Gathered, write_embeddings
from martlet.stores.features import Column, Features, write_features
from martlet.stores.lists import Listed, Lists, write_lists
from martlet.stores.store import Store, Table, Writable

__all__ = [
    "Column",
    "Embeddings",
    "Features",
    "Gathered",
    "Listed",
    "Lists",
    "Store",
    "Table",
    "Writable",
    "write_embeddings",
    "write_features",
    "write_lists",
]
