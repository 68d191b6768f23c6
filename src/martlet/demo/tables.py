"""All that is served beside the models: made of the ratings before a moment, nothing later."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from martlet.demo import embeddings, features
from martlet.demo.dataset import Dataset, Floats, Ints, Ratings, Vectors

NEIGHBOURS = 30
RECENT = 10
"""A user's recent vector is the mean of the vectors of the last this many films."""


@dataclass(frozen=True, slots=True)
class Tables:
    """
    What is looked up to recommend. Rows are those of the data set's users and items.

    Args:
        item_vectors, user_vectors: Their dot is the feature ``affinity``. [items | users, dim]
        recent_vectors: Dotted with *item_vectors* it is ``recent_affinity``. [users, dim]
        item_genres, user_genres: Their dot is ``genre_match``. [items | users, genres]
        neighbours, similarities: The films most alike each, best first. [items, NEIGHBOURS]
        popular: Every film, from the one that most have liked lately. [items]
        liked: How often each was liked, the recent counting more. [items]
        items, users: Features by name.
    """

    item_vectors: Vectors
    user_vectors: Vectors
    recent_vectors: Vectors
    item_genres: Vectors
    user_genres: Vectors
    neighbours: Ints
    similarities: Vectors
    popular: Ints
    liked: Vectors
    items: features.Columns
    users: features.Columns
    rated: NDArray[np.bool_]
    """Which films have a rating in *past*: no other is recommended. [items]"""
    starts: Ints
    """Where each user's history starts in *past_items*; one more for the end. [users + 1]"""
    past_items: Ints
    """The films of every history, by user, each in order of time. [ratings]"""

    def history(self, user: int) -> Ints:
        """Return the films that *user* has rated, the latest last."""
        return self.past_items[self.starts[user] : self.starts[user + 1]]

    def seen(self, users: Ints) -> NDArray[np.bool_]:
        """Return which films each of *users* has rated. Shape [users, items]."""
        found = np.zeros((len(users), len(self.item_vectors)), dtype=np.bool_)
        for row, user in enumerate(users):
            found[row, self.history(int(user))] = True
        return found


def build(dataset: Dataset, past: Ratings, dim: int, decayed: bool) -> Tables:
    """
    Return the tables that *past* makes.

    Args:
        dataset: Whose users and films they describe.
        past: The ratings that may be known.
        dim: Length of the vectors.
        decayed: Whether what was liked lately counts for more in the popular list.
    """
    users, items = len(dataset.users), len(dataset.items)
    weight = embeddings.interest(past.value)
    interests = embeddings.matrix(past, users, items, weight)
    item_vectors = _single(embeddings.item_vectors(interests, dim))
    alike, similarities = embeddings.neighbours(interests, NEIGHBOURS)
    order = np.argsort(past.user, kind="stable")  # past is in order of time
    starts = np.searchsorted(past.user[order], np.arange(users + 1))
    fresh = features.recency(past) if decayed else np.ones(len(past))
    liked = features.count(past.item, items, past.liked * fresh)
    count = np.bincount(past.item, minlength=items)
    return Tables(
        item_vectors=item_vectors,
        user_vectors=_single(embeddings.user_vectors(interests, item_vectors)),
        recent_vectors=_single(_recent(item_vectors, past.item[order], starts)),
        item_genres=_single(features.item_genres(dataset)),
        user_genres=_single(features.user_genres(dataset, past, weight)),
        neighbours=alike,
        similarities=_single(similarities),
        popular=np.lexsort((np.arange(items), -count, -liked)),
        liked=_single(liked),
        items=features.item_columns(dataset, past),
        users=features.user_columns(dataset, past),
        rated=count > 0,
        starts=starts,
        past_items=past.item[order],
    )


def _single(vectors: Floats | Vectors) -> Vectors:
    # As they are stored: what is computed of them here is then what is computed online.
    return vectors.astype(np.float32)


def _recent(item_vectors: Vectors, past_items: Ints, starts: Ints) -> Floats:
    found = np.zeros((len(starts) - 1, item_vectors.shape[1]))
    for user, (start, end) in enumerate(pairwise(starts)):
        if end > start:
            found[user] = item_vectors[past_items[max(start, end - RECENT) : end]].mean(axis=0)
    return found
