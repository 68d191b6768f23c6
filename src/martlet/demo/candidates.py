"""The retrieval stage as the recommender does it online.

The ranker must learn on what it will be asked to rank, and be judged on nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from martlet.demo.dataset import Floats, Ints
from martlet.demo.tables import Tables


@dataclass(frozen=True, slots=True)
class Sources:
    """
    How many films each source proposes that the user has not seen.

    Args:
        nearest: With the highest dot product with the user's vector.
        neighbours: Alike the last *recent* films of the history, by the sum of similarities.
        popular: From the popular list.
        recent: How much of a history counts as recent.
    """

    nearest: int = 200
    neighbours: int = 100
    popular: int = 50
    recent: int = 10


@dataclass(frozen=True, slots=True)
class Candidates:
    """
    Pairs of a user and a film to rank; each pair once.

    Args:
        users: Whom they are for: rows of the users. Shape [asked].
        row: Which of *users* each pair is for. Ascending. Shape [n].
        item: Rows of the films. Shape [n].
    """

    users: Ints
    row: Ints
    item: Ints

    @property
    def user(self) -> Ints:
        """The row of each pair's user. Shape [n]."""
        return self.users[self.row]

    def of(self, users: Ints) -> Candidates:
        """Return the pairs of *users* (rows) alone, in the same order."""
        kept = np.isin(self.users, users)
        renumbered = np.cumsum(kept) - 1
        mine = kept[self.row]
        return Candidates(self.users[kept], renumbered[self.row[mine]], self.item[mine])


def retrieve(tables: Tables, users: Ints, sources: Sources = Sources()) -> Candidates:
    """Return what *sources* propose to *users*, without what they have seen."""
    rows: list[Ints] = []
    items: list[Ints] = []
    step = 1024
    for start in range(0, len(users), step):
        part = users[start : start + step]
        proposed = _proposed(tables, part, sources)
        row, item = np.nonzero(proposed)
        rows.append(row + start)
        items.append(item)
    empty = [np.zeros(0, dtype=np.int64)]
    return Candidates(users, np.concatenate(rows or empty), np.concatenate(items or empty))


def _proposed(tables: Tables, users: Ints, sources: Sources) -> NDArray[np.bool_]:
    seen = tables.seen(users) | ~tables.rated
    found = np.zeros(seen.shape, dtype=np.bool_)
    nearest = tables.user_vectors[users] @ tables.item_vectors.T
    _take(found, np.where(seen, -np.inf, nearest), sources.nearest)
    alike = np.where(seen, 0.0, neighbour_scores(tables, users, sources.recent))
    _take(found, np.where(alike > 0, alike, -np.inf), sources.neighbours)
    place = np.empty(seen.shape[1])
    place[tables.popular] = np.arange(seen.shape[1])
    _take(found, np.where(seen | (tables.liked <= 0), -np.inf, -place), sources.popular)
    return found


def neighbour_scores(tables: Tables, users: Ints, recent: int) -> Floats:
    """Return the sum of each film's similarities to the *recent* last films of each user."""
    scores = np.zeros((len(users), len(tables.item_vectors)))
    for row, user in enumerate(users):
        last = tables.history(int(user))[-recent:]
        np.add.at(scores[row], tables.neighbours[last], tables.similarities[last])
    return scores


def _take(found: NDArray[np.bool_], score: Floats, count: int) -> None:
    """Mark the *count* best of each row in *found*; a score of -inf is never taken."""
    count = min(count, score.shape[1])
    if count == 0:
        return
    top = np.argpartition(-score, count - 1, axis=1)[:, :count]
    good = np.isfinite(np.take_along_axis(score, top, axis=1))
    row, place = np.nonzero(good)
    found[row, top[row, place]] = True
