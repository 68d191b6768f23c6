"""Nearest neighbours: martlet's two indexes beside faiss HNSW, hnswlib and usearch, one thread.

python benchmarks/retrieval.py [--rows 10000 100000] [--all]

Vectors are a mixture of 200 tastes of rank 16 in 64 dimensions, with log-normal lengths, ranked by
dot product; 200 queries of the same tastes. Recall is of the nearest 100.
"""

from __future__ import annotations

import os

from machine import machine

os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from martlet.retrieval import Exact, Ivf, build_ivf
from martlet.stores import Embeddings, write_embeddings

DIM, K, QUERIES = 64, 100, 200

Search = Callable[[Any], Any]


def draw(rows: int, queries: int, seed: int = 0) -> tuple[Any, Any, Any]:
    """Vectors, queries, and queries of the same kind to tune by."""
    random = np.random.default_rng(seed)
    tastes = random.standard_normal((200, 16))
    spread = random.standard_normal((16, DIM)) / 4

    def some(count: int) -> Any:
        latent = tastes[random.integers(0, 200, count)] + 0.7 * random.standard_normal((count, 16))
        return (latent @ spread + 0.3 * random.standard_normal((count, DIM))).astype(np.float32)

    lengths = random.lognormal(0, 0.25, (rows, 1)).astype(np.float32)
    return some(rows) * lengths, some(queries), some(queries)


def measure(search: Search, queries: Any, true: Any) -> tuple[float, float]:
    """Return the recall and the microseconds of one query: the median of five rounds."""
    found = [search(query[None]) for query in queries]
    hits = sum(len(np.intersect1d(f, t)) for f, t in zip(found, true, strict=True))
    rounds = []
    for _ in range(5):
        start = time.process_time()
        for query in queries[:50]:
            search(query[None])
        rounds.append((time.process_time() - start) / 50 * 1e6)
    return hits / true.size, sorted(rounds)[2]


def report(name: str, recall: float, us: float, build: float = 0, size: int = 0) -> None:
    """Print one row."""
    print(f"  {name:34} {recall:7.4f} {us:9.0f} {build:9.1f} {size / 2**20:9.1f}", flush=True)


def martlets(folder: Path, vectors: Any, queries: Any, like: Any) -> Any:
    """Measure martlet's own; return the true neighbours."""
    write_embeddings(folder / "table", np.arange(len(vectors)), vectors)
    table = Embeddings(folder / "table")
    exact = Exact(table)
    true = exact.search(queries, K).rows
    report("exact", *measure(lambda q: exact.search(q, K).rows[0], queries, true))
    for wanted in (0.9, 0.95, 0.98, 0.99):
        start = time.perf_counter()
        build_ivf(table, folder / "index", recall=wanted, queries=like)
        built = time.perf_counter() - start
        index = Ivf(table, folder / "index")
        name = f"ivf {wanted} ({index.probes} of {index._index.nlist} cells)"
        size = (folder / "index").stat().st_size

        def search(query: Any, index: Ivf = index) -> Any:
            return index.search(query, K).rows[0]

        report(name, *measure(search, queries, true), built, size)
    seen = [np.random.default_rng(1).integers(0, len(table), 100)]

    def unseen(query: Any, index: Ivf = index) -> Any:
        return index.search(query, K, exclude=seen).rows[0]

    without = exact.search(queries, K, exclude=seen * len(queries)).rows
    report("  the same, 100 seen", *measure(unseen, queries, without))
    return true


def others(folder: Path, vectors: Any, queries: Any, true: Any) -> None:
    """Measure graphs: M 16, construction 100, one thread."""
    import faiss
    import hnswlib
    from usearch.index import Index

    for name in ("faiss hnsw", "hnswlib", "usearch"):
        start = time.perf_counter()
        if name == "faiss hnsw":
            faiss.omp_set_num_threads(1)
            graph = faiss.IndexHNSWFlat(DIM, 16, faiss.METRIC_INNER_PRODUCT)
            graph.hnsw.efConstruction = 100
            graph.add(vectors)
        elif name == "hnswlib":
            graph = hnswlib.Index("ip", DIM)
            graph.init_index(len(vectors), ef_construction=100, M=16)
            graph.set_num_threads(1)
            graph.add_items(vectors)
        else:
            graph = Index(ndim=DIM, metric="ip", connectivity=16, expansion_add=100)
            graph.add(np.arange(len(vectors)), vectors, threads=1)
        built = time.perf_counter() - start
        path = folder / name
        if name == "faiss hnsw":
            faiss.write_index(graph, str(path))
        else:
            (graph.save_index if name == "hnswlib" else graph.save)(str(path))
        for breadth in (100, 400, 1600):
            search: Search
            if name == "faiss hnsw":
                graph.hnsw.efSearch = breadth
                search = lambda q, g=graph: g.search(q, K)[1][0]  # noqa: E731
            elif name == "hnswlib":
                graph.set_ef(breadth)
                search = lambda q, g=graph: g.knn_query(q, K)[0][0]  # noqa: E731
            else:
                graph.expansion_search = breadth
                search = lambda q, g=graph: g.search(q[0], K, threads=1).keys  # noqa: E731
            figures = measure(search, queries, true)
            report(f"{name} {breadth}", *figures, built, path.stat().st_size)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--all", action="store_true", help="also the libraries not chosen")
    options = parser.parse_args()
    print(machine())
    print(f"  {'':34} {'recall':>7} {'cpu us':>9} {'build s':>9} {'MiB':>9}")
    for rows in options.rows:
        print(f"{rows} x {DIM}, the nearest {K} by dot product")
        vectors, queries, like = draw(rows, QUERIES)
        with tempfile.TemporaryDirectory() as folder:
            true = martlets(Path(folder), vectors, queries, like)
            if options.all:
                others(Path(folder), vectors, queries, true)


if __name__ == "__main__":
    main()
