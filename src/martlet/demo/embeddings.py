"""User and item vectors whose dot product says how well they suit, and the films alike.

PureSVD: the item vectors are the leading right singular vectors of the ratings matrix, and a
user's vector is the weighted mean of the vectors of what the user rated. So it can be made online
from a history alone: a new user, or one who has just rated something, needs no training.
Why this one: docs/decisions/0081-embeddings-by-puresvd.md.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from martlet.demo.dataset import Floats, Ratings, Vectors

Matrix = Any  # scipy.sparse.csr_matrix: scipy ships no types, and is imported late


def interest(value: Floats) -> Floats:
    """
    Return how much a rating of *value* stars says of a taste: 0.1 up to two stars, 1 for five.

    >>> interest(np.array([1.0, 3.5, 5.0])).tolist()
    [0.1, 0.5, 1.0]
    """
    return np.maximum((value - 2) / 3, 0.1)


def matrix(ratings: Ratings, users: int, items: int, weight: Floats) -> Matrix:
    """Return *weight* as a sparse matrix. Shape [users, items]."""
    from scipy import sparse

    return sparse.csr_matrix((weight, (ratings.user, ratings.item)), shape=(users, items))


def unit_rows(interests: Matrix) -> Matrix:
    """Return *interests* with each row scaled to length 1; an empty row stays empty."""
    from scipy import sparse

    length = np.sqrt(np.asarray(interests.multiply(interests).sum(axis=1)).ravel())
    return sparse.diags(1 / np.where(length > 0, length, 1)) @ interests


def item_vectors(interests: Matrix, dim: int) -> Floats:
    """
    Return the leading *dim* right singular vectors of *interests*, rows scaled to length 1.

    Args:
        interests: Shape [users, items].
        dim: Length of the vectors.

    Returns:
        Shape [items, dim], fewer columns where the matrix is smaller than that. The sign of
        each column is set so that its sum is positive, which makes them the same every time.

    Source:
        Cremonesi, Koren and Turrin, "Performance of Recommender Algorithms on Top-N
        Recommendation Tasks", RecSys 2010, section 3.2.2.
    """
    from scipy.sparse.linalg import svds

    rows = unit_rows(interests)
    small = min(rows.shape)
    dim = min(dim, small - 1)
    _, _, right = svds(rows, k=dim, v0=np.ones(small), solver="arpack")
    found: Floats = np.asarray(right)[::-1].T
    return found * np.where(found.sum(axis=0) < 0, -1.0, 1.0)


def user_vectors(interests: Matrix, items: Vectors) -> Floats:
    """
    Return the sum of *items* weighted by each user's row of *interests*, scaled to length 1.

    The scaling is of the row of weights, not of the vector: who has a clear taste has a long one.

    Returns:
        Shape [users, dim].
    """
    return np.asarray(unit_rows(interests) @ items)


def neighbours(interests: Matrix, count: int, shrink: float = 10.0) -> tuple[Any, Floats]:
    """
    Return the *count* films most alike each film: those whom the same users care for.

    Args:
        interests: Shape [users, items].
        count: How many; fewer where there are not so many films.
        shrink: Added to the denominator of the cosine: few users in common are little proof.

    Returns:
        Row numbers and similarities, best first. Shape [items, count]; a similarity of 0 means
        that there are no more.

    Source:
        Sarwar et al., "Item-based Collaborative Filtering Recommendation Algorithms", WWW 2001.
    """
    columns = interests.tocsc()
    length = np.sqrt(np.asarray(columns.multiply(columns).sum(axis=0)).ravel())
    items = columns.shape[1]
    count = min(count, items - 1)
    best = np.zeros((items, count), dtype=np.int64)
    scores = np.zeros((items, count))
    step = 512  # rows at a time: the whole square would need gigabytes
    for start in range(0, items, step):
        rows = np.arange(start, min(start + step, items))
        block = (columns[:, rows].T @ columns).toarray()
        block /= length[rows, None] * length + shrink
        block[np.arange(len(rows)), rows] = 0
        top = np.argpartition(-block, count - 1, axis=1)[:, :count]
        top.sort(axis=1)  # ties go to the lower row, the same every time
        found = np.take_along_axis(block, top, axis=1)
        order = np.argsort(-found, axis=1, kind="stable")
        best[rows] = np.take_along_axis(top, order, axis=1)
        scores[rows] = np.take_along_axis(found, order, axis=1)
    return best, scores
