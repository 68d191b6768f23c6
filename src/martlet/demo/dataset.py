"""Who rated what and when, and what is known of the users and the films: arrays, nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Vectors = NDArray[np.float32]
"""What is looked up online is float32 from the start, so that no store can change it."""

LIKED = 4.0
"""A rating from here up says that the film was liked: the relevance that all measures use."""


@dataclass(frozen=True, slots=True)
class Ratings:
    """
    One row a rating, in order of time (then user, then item).

    Args:
        user, item: Row numbers into `Users` and `Items`, not ids. Shape [n].
        value: In stars, 0.5 to 5. Shape [n].
        time: Unix seconds. Shape [n].
    """

    user: Ints
    item: Ints
    value: Floats
    time: Ints

    def __len__(self) -> int:
        return len(self.user)

    @property
    def liked(self) -> NDArray[np.bool_]:
        """Which of them are of `LIKED` stars or more."""
        return self.value >= LIKED

    def where(self, mask: NDArray[np.bool_]) -> Ratings:
        """Return the rows that *mask* keeps, in the same order."""
        return Ratings(self.user[mask], self.item[mask], self.value[mask], self.time[mask])


@dataclass(frozen=True, slots=True)
class Users:
    """
    The users, by ascending id.

    Args:
        ids: External ids. Shape [users].
        age: Years, or the lower end of a bracket; NaN where unknown.
        gender: 1.0 for F, 0.0 for M; NaN where unknown.
        occupation: The code of the data set; NaN where unknown.
    """

    ids: Ints
    age: Floats
    gender: Floats
    occupation: Floats

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True)
class Items:
    """
    The films, by ascending id.

    Args:
        ids: External ids. Shape [items].
        titles: As in the file, mostly with the year in parentheses.
        year: Of release; NaN where the data does not say.
        genre_names: The columns of *genres*, in alphabetical order.
        genres: Which film is of which genre. Shape [items, genres].
    """

    ids: Ints
    titles: tuple[str, ...]
    year: Floats
    genre_names: tuple[str, ...]
    genres: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)

    def genres_of(self, row: int) -> list[str]:
        """Return the names of the genres of the film in *row*."""
        return [self.genre_names[g] for g in np.flatnonzero(self.genres[row])]


@dataclass(frozen=True, slots=True)
class Dataset:
    """A data set, and the layout that it was read from."""

    layout: str
    users: Users
    items: Items
    ratings: Ratings
