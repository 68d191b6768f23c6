"""Murmur3 as Spark uses it; the hashing of words and of features; locality-sensitive hashes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from martlet.errors import InvalidInput
from martlet.formats.stages.categories import number_text
from martlet.formats.stages.stage import Kind, Port, Stage
from martlet.formats.stages.text import counts
from martlet.formats.stages.vectors import Dense, Floats, Ints, Sparse, Vector

_SEED = 42
_MINHASH_PRIME = 2038074743


def murmur3(data: bytes, seed: int = _SEED, *, legacy: bool = False) -> int:
    """
    Return the 32-bit hash of *data*, signed.

    Args:
        legacy: As Spark 2 computed it: each byte after the last whole word is mixed alone.

    Source: Appleby, MurmurHash3_x86_32.

    >>> murmur3(b"", 0), murmur3(b"hello", 0)
    (0, 613153351)
    """
    mask = 0xFFFFFFFF
    h = seed
    whole = len(data) & ~3

    def mixed(k: int) -> int:
        k = (k * 0xCC9E2D51) & mask
        k = ((k << 15) | (k >> 17)) & mask
        return (k * 0x1B873593) & mask

    def folded(h: int, k: int) -> int:
        h ^= mixed(k)
        h = ((h << 13) | (h >> 19)) & mask
        return (h * 5 + 0xE6546B64) & mask

    for i in range(0, whole, 4):
        h = folded(h, int.from_bytes(data[i : i + 4], "little"))
    tail = data[whole:]
    if legacy:
        for byte in tail:
            h = folded(h, (byte - 256 if byte > 127 else byte) & mask)
    elif tail:
        h ^= mixed(int.from_bytes(tail, "little"))
    h ^= len(data)
    h ^= h >> 16
    h = (h * 0x85EBCA6B) & mask
    h ^= h >> 13
    h = (h * 0xC2B2AE35) & mask
    h ^= h >> 16
    return h - (1 << 32) if h >> 31 else h


def hasher(width: int, *, legacy: bool = False) -> Callable[[str], int]:
    """Return the function from text to its place in a vector of *width*; it remembers some."""

    @lru_cache(maxsize=1 << 16)
    def place(text: str) -> int:
        return murmur3(text.encode(), legacy=legacy) % width

    return place


def hashing_tf(
    name: str, source: str, output: str, width: int, binary: bool, *, legacy: bool = False
) -> Stage:
    """Return the stage that counts words by hashed place."""
    place = hasher(width, legacy=legacy)
    return counts(name, source, output, width, lambda words: map(place, words), binary=binary)


def feature_hasher(
    name: str,
    inputs: Sequence[str],
    output: str,
    width: int,
    categorical: Sequence[str],
    whole: Sequence[str] = (),
    truth: Sequence[str] = (),
    raw: Sequence[str] = (),
) -> Stage:
    """
    Return the stage that hashes named features into one vector.

    Text, truth values and the columns in *categorical* add 1 at the place of ``name=value``;
    numbers add themselves at the place of their name. Missing values add nothing.

    Args:
        whole, truth: The columns that a stage has made as float64, of whole numbers and of truth.
        raw: The columns that no stage has made. As float64, since another stage takes them as
            numbers, a whole one of *categorical* was whole: ids and codes are.
    """
    place = hasher(width)
    listed = frozenset(categorical) | frozenset(truth)
    codes = frozenset(categorical) & frozenset(raw)
    types: dict[str, Callable[[float], Any]] = {
        **dict.fromkeys(whole, int), **dict.fromkeys(truth, bool)
    }  # fmt: skip

    def entries(name: str, column: Any, own: int) -> tuple[Any, Any]:
        if column.dtype.kind in "fiu" and name not in listed:
            return own, np.where(np.isnan(column), 0.0, column)
        values = column.tolist()
        if column.dtype.kind == "f" and name in codes:
            values = [int(value) if value.is_integer() else value for value in values]
        kinds = set(map(type, values))
        if kinds == {str}:
            return [place(f"{name}={value}") for value in values], 1.0
        pairs = [entry(name, value, own) for value in values]
        return [each[0] for each in pairs], [each[1] for each in pairs]

    def entry(name: str, value: Any, own: int) -> tuple[int, float]:
        if value is None or value != value:
            return 0, 0.0
        if isinstance(value, str):
            return place(f"{name}={value}"), 1.0
        if isinstance(value, bool) or name in listed:
            value = types[name](value) if name in types else value
            return place(f"{name}={number_text(value)}"), 1.0
        return own, float(value)

    own = [place(each) for each in inputs]

    def run(*columns: Any) -> Vector:
        rows = len(columns[0])
        places = np.empty((rows, len(columns)), dtype=np.int64)
        values = np.empty((rows, len(columns)))
        for j, (source, column) in enumerate(zip(inputs, columns, strict=True)):
            places[:, j], values[:, j] = entries(source, column, own[j])
        return summed(places, values, width)

    return Stage(
        name,
        tuple(Port(each, Kind.CATEGORY) for each in inputs),
        (Port(output, Kind.VECTOR, width),),
        run,
    )


def summed(places: Ints, values: Floats, width: int) -> Sparse:
    """Return the vectors with *values* [rows, n] added at *places* [rows, n]."""
    rows = len(places)
    flat = (places + np.arange(rows)[:, None] * width).ravel()
    keys, inverse = np.unique(flat, return_inverse=True)
    sums: Floats = np.bincount(inverse, values.ravel(), len(keys)).astype(np.float64)
    here = sums != 0
    keys = keys[here]
    return Sparse(keys // width, keys % width, sums[here], rows, width)


def random_projection(
    name: str, source: str, output: str, directions: Floats, length: float
) -> Stage:
    """Return the stage that numbers the bucket, *length* long, of each row along *directions*."""
    return Stage(
        name,
        (Port(source, Kind.VECTOR, directions.shape[0]),),
        (Port(output, Kind.HASHES, directions.shape[1]),),
        lambda column: Dense(np.floor(column.dot(directions) / length)),
    )


def min_hash(name: str, source: str, output: str, coefficients: Sequence[tuple[int, int]]) -> Stage:
    """Return the stage that gives the least hash of the places that are not 0, for each pair."""
    a = np.array([pair[0] for pair in coefficients], dtype=np.int64)
    b = np.array([pair[1] for pair in coefficients], dtype=np.int64)

    def run(column: Vector) -> Vector:
        entries = column.sparse()
        active = np.bincount(entries.at, minlength=entries.rows)
        if not active.all():
            raise InvalidInput(f"column {source!r} holds a vector of zeros, which has no hash")
        hashes = ((1 + entries.column)[:, None] * a + b) % _MINHASH_PRIME
        starts = np.concatenate([[0], np.cumsum(active)[:-1]])
        least = np.minimum.reduceat(hashes, starts) if len(hashes) else hashes
        return Dense(least.astype(np.float64))

    return Stage(name, (Port(source, Kind.VECTOR),), (Port(output, Kind.HASHES, len(a)),), run)
