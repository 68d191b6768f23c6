"""Columns as tensors: what a tensor of each kind of column is, and how it comes and goes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.errors import InvalidInput
from martlet.formats.stages.stage import Kind, Port
from martlet.formats.stages.vectors import Dense, Vector
from martlet.tensors import DType, Spec, Tensor

Column = NDArray[Any] | Vector
"""Numbers [rows], text (object) [rows], word lists (object of lists) [rows], or vectors."""

DTYPES = {
    Kind.NUMBER: DType.FLOAT64,
    Kind.WHOLE: DType.FLOAT64,
    Kind.TRUTH: DType.FLOAT64,
    Kind.EITHER: DType.FLOAT64,
    Kind.INTEGER: DType.INT32,
    Kind.LONG: DType.INT64,
    Kind.SINGLE: DType.FLOAT32,
    Kind.TEXT: DType.STRING,
    Kind.CATEGORY: DType.STRING,
    Kind.ANY: DType.FLOAT64,
    Kind.VECTOR: DType.FLOAT64,
    Kind.WORDS: DType.STRING,
    Kind.HASHES: DType.FLOAT64,
}


def spec(port: Port, given: bool) -> Spec:
    """Return what a signature says of *port*, as an input (*given*) or as an output."""
    shape: tuple[int, ...] | None = (-1,)
    if port.kind is Kind.VECTOR:
        shape = (-1, port.width)
    elif port.kind is Kind.WORDS:
        shape = (-1, -1)
    elif port.kind is Kind.HASHES:
        shape = (-1, port.width, 1)
    elif port.kind is Kind.ANY:
        shape = None
    dtype = DTYPES[port.kind]
    described = ""
    if port.kind is Kind.WORDS:
        described = "a row's words, filled up with missing values"
    elif port.kind is Kind.CATEGORY and given:
        described = "text, or numbers that stand for it"
    elif port.kind is Kind.ANY:
        described = "one number a row, or a vector of them"
    nullable = port.kind not in (Kind.INTEGER, Kind.LONG)
    return Spec(
        port.name,
        dtype,
        shape,
        nullable=nullable,
        description=described,
        takes_numbers=given and port.kind is Kind.CATEGORY,
    )


def _read_text(values: Tensor) -> Column:
    flat = values.tolist()
    if bytes not in set(map(type, flat)):
        return values
    out = np.empty(len(flat), dtype=object)
    out[:] = [decoded(value) for value in flat]
    return out


def decoded(value: object) -> object:
    """Return *value*, as text where it is UTF-8 bytes."""
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError as exc:
        raise InvalidInput(f"text holds bytes that are not UTF-8: {exc}") from None


def _read_words(values: Tensor) -> Column:
    out = np.empty(len(values), dtype=object)
    for i, row in enumerate(values.tolist()):
        out[i] = [decoded(word) for word in row if word is not None]
    return out


def _read_any(values: Tensor) -> Column:
    if values.ndim == 1:
        return values
    if values.ndim == 2:
        return Dense(values)
    raise InvalidInput(f"shape {list(values.shape)} is neither [rows] nor [rows, width]")


READERS: dict[Kind, Callable[[Tensor], Column]] = {
    Kind.TEXT: _read_text,
    Kind.CATEGORY: _read_text,
    Kind.WORDS: _read_words,
    Kind.VECTOR: Dense,
    Kind.ANY: _read_any,
}


def written(column: Any) -> Tensor:
    """Return *column* as an array; a vector's blocks are spread out, [rows, width]."""
    return column if isinstance(column, np.ndarray) else np.asarray(column.dense())


def _write_words(column: Any) -> Tensor:
    words = column.tolist()
    longest = max(map(len, words), default=0)
    out = np.full((len(words), longest), None, dtype=object)
    for i, row in enumerate(words):
        out[i, : len(row)] = row
    return out


def _typed(dtype: type) -> Callable[[Any], Tensor]:
    return lambda column: np.asarray(column, dtype=dtype)


WRITERS: dict[Kind, Callable[[Any], Tensor]] = {
    Kind.WORDS: _write_words,
    Kind.HASHES: lambda column: np.asarray(column.dense())[:, :, None],
    **dict.fromkeys((Kind.NUMBER, Kind.WHOLE, Kind.TRUTH, Kind.EITHER), _typed(np.float64)),
    Kind.INTEGER: _typed(np.int32),
    Kind.SINGLE: _typed(np.float32),
}
