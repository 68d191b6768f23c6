"""What is known of users and films before a moment: columns, each by the name the ranker reads.

Every column can be looked up online by one id. What depends on both user and film is a dot of two
vectors, so that too needs nothing but two look-ups.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from martlet.demo.dataset import Dataset, Floats, Ints, Ratings, Vectors

_YEAR_S = 365.25 * 86_400
_DAY_S = 86_400.0
_RECENT_DAYS = 365.0
_NEW_DAYS = 45.0
_PRIOR = 10.0
"""Means are shrunk as if this many average ratings had come before."""


@dataclass(frozen=True, slots=True)
class Columns:
    """
    Named features of users or of items.

    Args:
        values: NaN where unknown. Shape [rows], by name.
    """

    values: dict[str, Vectors]

    @property
    def names(self) -> list[str]:
        return list(self.values)

    def __getitem__(self, name: str) -> Vectors:
        return self.values[name]


def user_columns(dataset: Dataset, past: Ratings) -> Columns:
    """Return what *past* and the data set's users say of each user."""
    rows, users = len(dataset.users), dataset.users
    ratings = count(past.user, rows)
    seen = np.where(ratings > 0, ratings, np.nan)
    year = np.nan_to_num(dataset.items.year, nan=float(np.nanmean(dataset.items.year)))
    popularity = np.log1p(count(past.item, len(dataset.items)))
    last = np.full(rows, np.nan)
    last[past.user] = past.time  # in order of time: the last one stays
    return _columns({
        "user_age": users.age,
        "user_gender": users.gender,
        "user_occupation": users.occupation,
        "user_ratings": np.log1p(ratings),
        "user_mean_rating": _mean(past.user, past.value, rows),
        "user_liked_share": _mean(past.user, past.liked.astype(float), rows),
        "user_last_year": 1970 + last / _YEAR_S,
        "user_film_year": count(past.user, rows, year[past.item]) / seen,
        "user_film_popularity": count(past.user, rows, popularity[past.item]) / seen,
    })  # fmt: skip


def item_columns(dataset: Dataset, past: Ratings) -> Columns:
    """Return what *past* and the data set's films say of each film."""
    rows, items = len(dataset.items), dataset.items
    ratings = count(past.item, rows)
    seen = np.where(ratings > 0, ratings, np.nan)
    first = np.full(rows, np.nan)
    first[past.item[::-1]] = past.time[::-1]  # in order of time: the first one stays
    now = past.time.max(initial=0)
    return _columns({
        "item_year": items.year,
        "item_genres": items.genres.sum(axis=1).astype(float),
        "item_ratings": np.log1p(ratings),
        "item_recent_ratings": np.log1p(count(past.item, rows, recency(past))),
        "item_new_ratings": np.log1p(count(past.item, rows, recency(past, _NEW_DAYS))),
        "item_days": (now - first) / _DAY_S,
        "item_liked": np.log1p(count(past.item, rows, past.liked.astype(float))),
        "item_mean_rating": _mean(past.item, past.value, rows),
        "item_liked_share": _mean(past.item, past.liked.astype(float), rows),
        "item_rated_year": 1970 + count(past.item, rows, past.time / _YEAR_S) / seen,
    })  # fmt: skip


def user_genres(dataset: Dataset, past: Ratings, weight: Floats) -> Floats:
    """
    Return how much more of each genre a user chose than all users did. Shape [users, genres].

    Its dot with `item_genres` is how well a film's genres suit.
    """
    rows, genres = len(dataset.users), item_genres(dataset)
    found = np.zeros((rows, genres.shape[1]))
    np.add.at(found, past.user, genres[past.item] * weight[:, None])
    everybody = found.sum(axis=0) / max(weight.sum(), 1e-12)
    own = count(past.user, rows, weight)[:, None]
    return np.asarray((found + _PRIOR * everybody) / (own + _PRIOR) - everybody)


def item_genres(dataset: Dataset) -> Floats:
    """Return each film's genres as a vector of length 1, or of 0 where it has none."""
    flags = dataset.items.genres.astype(float)
    return np.asarray(flags / np.sqrt(flags.sum(axis=1, keepdims=True).clip(min=1)))


def recency(past: Ratings, half_life_days: float = _RECENT_DAYS) -> Floats:
    """Return the weight of each rating by its age: 1 for the newest, half for a half-life older."""
    age_days = (past.time.max(initial=0) - past.time) / _DAY_S
    return np.asarray(0.5 ** (age_days / half_life_days))


def _columns(values: dict[str, Floats]) -> Columns:
    return Columns({name: column.astype(np.float32) for name, column in values.items()})


def count(index: Ints, rows: int, weight: Floats | None = None) -> Floats:
    """Return how often each of *rows* is in *index*, or the sum of its *weight*s there."""
    return np.bincount(index, weight, minlength=rows).astype(float)


def _mean(index: Ints, value: Floats, rows: int) -> Floats:
    everybody = float(value.mean()) if len(value) else 0.0
    total = count(index, rows, value)
    return np.asarray((total + _PRIOR * everybody) / (count(index, rows) + _PRIOR))
