"""The index protocol: finds the nearest vectors of a table."""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from martlet.errors import InvalidInput

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]


class Metric(Enum):
    """How near two vectors are: the larger the nearer."""

    DOT = "dot"
    COSINE = "cosine"
    """A vector of zeros has 0 with every other."""


class Found(NamedTuple):
    """The nearest rows of each query, nearest first; of equal ones the lower row comes first."""

    rows: Rows
    """[queries, k]; -1 after the last where fewer than k rows may be found."""
    scores: Floats
    """[queries, k]; -inf where the row is -1."""


class Index(Protocol):
    """
    Finds the rows of one embedding table that are nearest to a query.

    Any thread may search; nothing of a search is kept. Scores are the metric of the table's own
    vectors, whichever way the rows were found.
    """

    @property
    def metric(self) -> Metric:
        """What it ranks by."""
        ...

    def __len__(self) -> int:
        """How many rows it searches."""
        ...

    def search(
        self,
        queries: Floats,
        k: int,
        *,
        exclude: Sequence[Rows] | None = None,
        allowed: Mask | None = None,
    ) -> Found:
        """
        Return the *k* nearest rows of each query.

        k rows are found whenever k rows may be, however many of the nearest are excluded.

        Args:
            queries: float32 [q, dim], finite.
            k: At least 1. More than there are rows is not an error: the rest is -1.
            exclude: For each query the rows it must not find (seen items). -1 is ignored, so that
                the ``rows_of`` of unknown keys can be passed as it is.
            allowed: bool [rows]: the rows that any query may find.

        Raises:
            InvalidInput: a shape does not fit, a query is not finite, or k is below 1.
        """
        ...


def checked(queries: Floats, k: int, dim: int, exclude: Sequence[Rows] | None) -> Floats:
    """
    Return *queries* as float32 [q, dim] if a search can take them.

    Raises:
        InvalidInput: it cannot.
    """
    found = np.ascontiguousarray(queries, dtype=np.float32)
    if found.ndim != 2 or found.shape[1] != dim:
        raise InvalidInput(f"queries have shape {list(found.shape)}; [any, {dim}] is wanted")
    if not np.isfinite(found).all():
        raise InvalidInput("a query is not finite")
    if k < 1:
        raise InvalidInput(f"k is {k}; at least 1 is wanted")
    if exclude is not None and len(exclude) != len(found):
        raise InvalidInput(f"{len(exclude)} lists to exclude came with {len(found)} queries")
    return found


def check_mask(allowed: Mask | None, rows: int) -> None:
    """
    Refuse a mask that is not one bool a row.

    Raises:
        InvalidInput: it is not.
    """
    if allowed is not None and (allowed.shape != (rows,) or allowed.dtype != np.bool_):
        raise InvalidInput(
            f"allowed is {allowed.dtype} {list(allowed.shape)}; bool [{rows}] wanted"
        )


def normalised(vectors: Floats) -> Floats:
    """Return *vectors* [n, dim] of length 1; zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: Floats = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)
    return found
