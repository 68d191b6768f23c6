"""An inverted file (faiss): rows lie in cells, and a search visits the nearest cells."""

from __future__ import annotations

import hashlib
import json
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from uuid import uuid4

import numpy as np

from martlet.errors import MissingExtra, ModelNotFound, NotAvailable, UnsupportedModel
from martlet.retrieval.exact import Exact, nothing, ranked
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

# The file is faiss's own, so that faiss can map it, and behind it what faiss does not keep: JSON,
# then its length, the length of the whole, and the JSON's sha256. faiss reads only its own part.
_FOOTER = struct.Struct("<QQ32s8s")
_MAGIC = b"MARTLETI"

_TUNING_QUERIES = 200
_TUNING_K = 100
_TRAINING_PER_CELL = 40
# Below this share of allowed rows it is cheaper to compare them all than to visit every cell.
_FEW_ALLOWED = 0.05


class Ivf:
    """
    Searches the cells nearest to a query; how many was chosen by measurement when it was built.

    One more component brings all vectors to one length. Then the nearest by dot product are the
    nearest by distance, and k-means can form the cells. Scores are computed from the table itself.

    Args:
        table: The vectors that it was built over.
        path: As ``build_ivf`` wrote it.

    Raises:
        ModelNotFound: there is no such file.
        UnsupportedModel: it is not an index, is damaged, or was built over another table.
        MissingExtra: faiss is not installed.

    Source:
        Bachrach et al., "Speeding up the Xbox recommender system using a Euclidean transformation
        for inner-product spaces", RecSys 2014, section 3.
    """

    def __init__(self, table: Embeddings, path: Path) -> None:
        faiss = _faiss()
        notes = _notes(path)
        if notes["table"] != table.digest:
            raise UnsupportedModel(
                f"the index {path} was built over another table than {table.path}"
            )
        self._metric = Metric(notes["metric"])
        self._probes: int = notes["probes"]
        self.recall: float = notes["recall"]
        """Of the nearest 100, as measured when it was built."""
        self._table = table
        self._exact = Exact(table, self._metric)
        self._faiss = faiss
        try:
            self._index = faiss.read_index(str(path), faiss.IO_FLAG_MMAP)
            # Otherwise each search starts 32 threads to read ahead, which cost more than the
            # search.
            faiss.downcast_InvertedLists(self._index.invlists).prefetch_nthread = 0
        except RuntimeError as exc:
            raise UnsupportedModel(f"the index {path} cannot be opened: {exc}") from exc

    @property
    def metric(self) -> Metric:
        """What it ranks by."""
        return self._metric

    @property
    def probes(self) -> int:
        """How many cells a search visits at first."""
        return self._probes

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
        if not len(queries):
            return nothing(0, k)
        if allowed is not None and allowed.mean() < _FEW_ALLOWED:
            return self._exact.search(queries, k, exclude=exclude, allowed=allowed)
        if self._metric is Metric.COSINE:
            queries = normalised(queries)
        found = [
            self._search(query, k, None if exclude is None else exclude[i], allowed)
            for i, query in enumerate(queries)
        ]
        return Found(
            np.concatenate([each.rows for each in found]),
            np.concatenate([each.scores for each in found]),
        )

    def _search(self, query: Floats, k: int, exclude: Rows | None, allowed: Mask | None) -> Found:
        refused = 0 if exclude is None else len(exclude)
        # Fetch k more than may be refused. Beyond a quarter of all rows the exact search is no
        # slower.
        fetch = k + refused
        # The cells were counted for the nearest 100; what lies deeper is spread over more.
        probes = min(self._index.nlist, self._probes * -(-fetch // _TUNING_K))
        while fetch <= len(self) // 4:
            rows = self._nearest(query, fetch, probes, allowed)
            if exclude is not None:
                rows = rows[~np.isin(rows, exclude)]
            if len(rows) >= k:
                return ranked(rows[None], self._exact.score(query, rows)[None], k)
            if probes == self._index.nlist:
                break
            # The visited cells held too few rows: visit more.
            probes = min(probes * 4, self._index.nlist)
        exclusions = None if exclude is None else [exclude]
        return self._exact.search(query[None], k, exclude=exclusions, allowed=allowed)

    def _nearest(self, query: Floats, fetch: int, probes: int, allowed: Mask | None) -> Rows:
        faiss = self._faiss
        options: dict[str, Any] = {"nprobe": probes}
        if allowed is not None:
            bits = np.packbits(allowed, bitorder="little")
            options["sel"] = faiss.IDSelectorBitmap(len(allowed), faiss.swig_ptr(bits))
        parameters = faiss.SearchParametersIVF(**options)
        longer = np.append(query, np.float32(0))[None]
        _, rows = self._index.search(longer, fetch, params=parameters)
        found: Rows = rows[0]
        return found[found >= 0]


def build_ivf(
    table: Embeddings,
    path: Path,
    *,
    metric: Metric = Metric.DOT,
    recall: float = 0.98,
    queries: Floats | None = None,
    seed: int = 0,
) -> None:
    """
    Build an index over *table* and write it at once: *path* is the old index or the whole new one.

    Args:
        table: The vectors.
        path: Where it will be.
        metric: What it ranks by.
        recall: The share of the true nearest 100 that a search must find. Searches will visit the
            fewest cells that reach it on *queries*.
        queries: float32 [n, dim], like those that will come (user vectors). None: a sample of
            the table's own vectors, which fall short where queries lie elsewhere.
        seed: Of the sample and of k-means.

    Raises:
        MissingExtra: faiss is not installed.
        NotAvailable: the disk is full, or refuses.
    """
    faiss = _faiss()
    random = np.random.default_rng(seed)
    rows = len(table.vectors)
    vectors = table.take(np.arange(rows))
    if metric is Metric.COSINE:
        vectors = normalised(vectors)
    squares = np.einsum("rd,rd->r", vectors, vectors)
    last = np.sqrt(np.maximum(squares.max() - squares, 0))
    longer = np.column_stack([vectors, last]).astype(np.float32)
    cells = max(1, min(round(2 * rows**0.5), rows // _TRAINING_PER_CELL))
    index = faiss.IndexIVFFlat(faiss.IndexFlatL2(table.dim + 1), table.dim + 1, cells)
    index.cp.seed = seed
    index.cp.niter = 10
    index.train(longer[random.permutation(rows)[: cells * _TRAINING_PER_CELL]])
    index.add(longer)
    if queries is None:
        queries = vectors[random.permutation(rows)[:_TUNING_QUERIES]]
    probes, reached = _tuned(index, Exact(table, metric), queries[:_TUNING_QUERIES], recall)
    notes = {
        "table": table.digest,
        "metric": metric.value,
        "probes": probes,
        "recall": round(reached, 4),
    }
    _write(path, faiss, index, json.dumps(notes).encode())


def _tuned(index: Any, exact: Exact, queries: Floats, recall: float) -> tuple[int, float]:
    k = min(_TUNING_K, len(exact))
    true = exact.search(queries, k).rows
    if exact.metric is Metric.COSINE:
        queries = normalised(queries)
    longer = np.column_stack([queries, np.zeros(len(queries), np.float32)])
    probes = 1
    while True:
        index.nprobe = probes
        _, found = index.search(longer, k)
        hits = sum(len(np.intersect1d(f, t)) for f, t in zip(found, true, strict=True))
        reached = hits / true.size
        if reached >= recall or probes == index.nlist:
            return probes, reached
        probes = min(index.nlist, max(probes + 1, probes * 5 // 4))


def _write(path: Path, faiss: ModuleType, index: Any, notes: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        faiss.write_index(index, str(temporary))
        with temporary.open("ab") as file:
            size = file.tell() + len(notes) + _FOOTER.size
            digest = hashlib.sha256(notes).digest()
            file.write(notes + _FOOTER.pack(len(notes), size, digest, _MAGIC))
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
    except (OSError, RuntimeError) as exc:
        raise NotAvailable(f"the index {path} cannot be written: {exc}; it is as it was") from exc
    finally:
        temporary.unlink(missing_ok=True)


def _notes(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - _FOOTER.size))
            footer = file.read(_FOOTER.size)
            if len(footer) < _FOOTER.size or not footer.endswith(_MAGIC):
                raise UnsupportedModel(f"{path} is not an index, or is cut short")
            length, size, digest, _ = _FOOTER.unpack(footer)
            if size != end or length > end - _FOOTER.size:
                raise UnsupportedModel(f"the index {path} is cut short or damaged")
            file.seek(end - _FOOTER.size - length)
            text = file.read(length)
    except FileNotFoundError:
        raise ModelNotFound(f"there is no index at {path}") from None
    except OSError as exc:
        raise NotAvailable(f"the index {path} cannot be read: {exc.strerror}") from exc
    if hashlib.sha256(text).digest() != digest:
        raise UnsupportedModel(f"the index {path} is damaged")
    notes: dict[str, Any] = json.loads(text)
    return notes


def _faiss() -> ModuleType:
    try:
        import faiss
    except ModuleNotFoundError:
        raise MissingExtra("an index over a large table", "ann") from None
    # A worker has one core: threads of one search would wait for those of its neighbours.
    faiss.omp_set_num_threads(1)
    return faiss
