"""A table file from a plain one, whatever it holds: vectors, lists or features."""

from __future__ import annotations

from pathlib import Path

from martlet.stores.sources import make_embeddings, make_features, make_lists

PLAIN = (".csv", ".json", ".npz", ".parquet")


def make_table(source: Path, path: Path, *, generation: str = "") -> str:
    """
    Write the table that *source* holds to *path*; return its kind.

    ``.npz`` is embeddings (keys and vectors), ``.json`` lists by key, ``.csv`` and ``.parquet``
    features, the key column first.

    Raises:
        ModelNotFound: there is nothing at *source*.
        InvalidInput: it cannot be read as that; the text says where.
        MissingExtra: it is Parquet, and pyarrow is not installed.
    """
    if source.suffix == ".npz":
        make_embeddings(source, path, generation=generation)
        return "embeddings"
    if source.suffix == ".json":
        make_lists(source, path, generation=generation)
        return "lists"
    make_features(source, path, generation=generation)
    return "features"
