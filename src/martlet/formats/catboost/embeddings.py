"""The sizes of a CatBoost model's embeddings, which its own reader takes whatever comes for."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from martlet.formats.catboost.file import parts_of
from martlet.formats.flatbuffers import Table

_PART, _CALCER = b"embed_process_1\0", b"EmbedCalcerV1\0\0\0"
_LDA, _KNN = 1, 2


def dimensions(content: bytes) -> list[int]:
    """
    Return the size of each embedding that a ``.cbm`` reads, by its number.

    Raises:
        ValueError, struct.error: the file does not say, or its numbers do not fit each other.

    Source:
        CatBoost ``private/libs/embedding_features``: ``embedding_processing_collection.cpp``,
        ``flatbuffers/embedding_feature_calcers.fbs``.
    """
    at = content.find(_PART, parts_of(content))
    if at < 0:
        raise ValueError("it does not say how its embeddings are read")
    at += len(_PART)
    (size,) = struct.unpack_from("<Q", content, at)
    header = Table.root(memoryview(content)[at + 8 : at + 8 + size])
    sizes = []
    for _ in range(header.array(0, "V16").size):  # calcers, in the order of their ids
        at = content.find(_CALCER, at)
        if at < 0:
            raise ValueError("its embeddings are cut short")
        at += len(_CALCER)
        _, size = struct.unpack_from("<IQ", content, at)
        calcer = Table.root(memoryview(content)[at + 12 : at + 12 + size])
        sizes.append(_size(calcer))
        if calcer.number(2, "B", 0) == _KNN:
            _check_neighbours(content, at + 12 + size, calcer)
    found: list[int] = []
    for each in header.tables(1):
        of = {sizes[calcer] for calcer in each.array(0, "<u4") if calcer < len(sizes)}
        if len(of) != 1:
            raise ValueError(f"an embedding is read as of sizes {sorted(of)}")
        found += of
    return found


def _size(calcer: Table) -> int:
    kind, of = calcer.number(2, "B", 0), calcer.table(3)
    if kind not in (_LDA, _KNN) or of is None:
        raise ValueError("its embeddings are read in a way that is not known")
    size, classes = of.number(0, "i", 0), of.number(1, "i", 0)
    made = classes
    if kind == _LDA:
        made = projected = of.number(2, "i", 0)
        if of.number(3, "b", 0):
            made += classes
        if len(of.array(4, "<f4")) != projected * size:
            raise ValueError("the projection of an embedding does not fit its size")
    active = calcer.array(1, "<u4").astype(np.int64)
    if size < 1 or made < 1 or active.max(initial=0) >= made:
        raise ValueError("an embedding's numbers do not fit each other")
    return int(size)


def _check_neighbours(content: bytes, at: int, calcer: Table) -> None:
    """Check what stands behind *calcer*: the classes of known vectors, and the graph of them."""
    of = calcer.table(3)
    assert of is not None, "its size was read"
    size, classes, known = of.number(0, "i", 0), of.number(1, "I", 0), of.number(3, "I", 0)
    targets, at = _longs(content, at)
    graph, at = _longs(content, at, each=1)
    (numbers,) = struct.unpack_from("<I", content, at)
    fits = (
        len(targets) == known and numbers == known * size and at + 4 + 4 * numbers <= len(content)
    )
    are_classes = of.number(4, "b", 1)  # else they are numbers
    if not fits or (are_classes and targets.max(initial=-1) >= classes):
        raise ValueError("an embedding's known vectors do not fit each other")
    # The most neighbours of a vector, the levels of the graph, the vectors of each, then, level by
    # level, each one's neighbours.
    most, levels = (int(each) for each in graph[:2])
    counts = graph[2 : 2 + levels].tolist()
    if known and (len(counts) != levels or not counts or counts[0] != known):
        raise ValueError("the graph of an embedding is cut short")
    at = 2 + levels
    for count in counts:
        end = at + count * min(most, count - 1)
        if count < 1 or end > len(graph) or graph[at:end].max(initial=0) >= count:
            raise ValueError("the graph of an embedding points outside of it")
        at = end
    if known and at != len(graph):
        raise ValueError("the graph of an embedding does not fit its size")


def _longs(content: bytes, at: int, each: int = 4) -> tuple[NDArray[np.int64], int]:
    """Return the numbers of 32 bits that come at *at* after their count, and where they end."""
    (count,) = struct.unpack_from("<I", content, at)
    end = at + 4 + count * each
    if end > len(content) or count * each % 4:
        raise ValueError("its embeddings are cut short")
    return np.frombuffer(content, "<u4", count * each // 4, at + 4).astype(np.int64), end
