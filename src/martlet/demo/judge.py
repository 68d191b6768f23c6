"""Judges what was trained, beside simpler ways to recommend, by the part that was held out."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from martlet.demo.candidates import Candidates
from martlet.demo.dataset import Dataset, Floats, Ints, Ratings
from martlet.demo.evaluate import Progress, Quality, evaluate, silent
from martlet.demo.generate import Planted
from martlet.demo.tables import Tables

LIST_LENGTH = 50
Recommend = Callable[[int], Sequence[int]]
Slates = dict[int, tuple[Ints, Floats]]
"""By user id: the ids of the films, best first, and their scores."""


def liked_later(dataset: Dataset, future: Ratings, users: Ints) -> dict[int, set[int]]:
    """Return what each of *users* (rows) liked in *future*: ids of films by id of user."""
    found: dict[int, set[int]] = {int(dataset.users.ids[user]): set() for user in users}
    liked = future.where(future.liked & np.isin(future.user, users))
    user_ids, item_ids = dataset.users.ids[liked.user], dataset.items.ids[liked.item]
    for user, item in zip(user_ids.tolist(), item_ids.tolist(), strict=True):
        found[user].add(item)
    return found


def slates(dataset: Dataset, pairs: Candidates, scores: Floats) -> Slates:
    """Return each user's `LIST_LENGTH` best candidates."""
    found: Slates = {}
    edges = np.searchsorted(pairs.row, np.arange(len(pairs.users) + 1))
    for row, user in enumerate(pairs.users):
        part = slice(edges[row], edges[row + 1])
        best = np.argsort(-scores[part], kind="stable")[:LIST_LENGTH]
        items = dataset.items.ids[pairs.item[part][best]]
        found[int(dataset.users.ids[user])] = items, scores[part][best]
    return found


def by_slates(ranked: Slates) -> Recommend:
    """Return the recommender that shows each user the slate in *ranked*."""
    return lambda user: ranked[user][0].tolist()


def by_scores(dataset: Dataset, tables: Tables, users: Ints, scores: Floats) -> Recommend:
    """
    Return the recommender that shows the best unseen of all films.

    Args:
        users: Whom it knows: rows.
        scores: Shape [users, items]; -inf is never shown.
    """
    hidden = np.where(tables.seen(users), -np.inf, scores)
    top = np.argsort(-hidden, axis=1, kind="stable")[:, :LIST_LENGTH]
    shown = {
        int(dataset.users.ids[user]): dataset.items.ids[best[np.isfinite(row[best])]].tolist()
        for user, row, best in zip(users, hidden, top, strict=True)
    }
    return shown.__getitem__


def popularity(dataset: Dataset, tables: Tables, users: Ints) -> Recommend:
    """Return the baseline: the popular list without what each user has seen."""
    place = np.argsort(tables.popular, kind="stable")
    return by_scores(dataset, tables, users, np.tile(-place.astype(float), (len(users), 1)))


def embeddings(dataset: Dataset, tables: Tables, users: Ints) -> Recommend:
    """Return the recommender that goes by the dot of the vectors alone."""
    scores = tables.user_vectors[users] @ tables.item_vectors.T
    return by_scores(dataset, tables, users, np.where(tables.rated, scores, -np.inf))


def oracle(dataset: Dataset, tables: Tables, users: Ints, planted: Planted) -> Recommend:
    """Return the recommender that knows the truth behind generated data: none can be better."""
    # Generated ids count from 1 in the order of the planted rows.
    scores = planted.oracle()[np.ix_(dataset.users.ids[users] - 1, dataset.items.ids - 1)]
    return by_scores(dataset, tables, users, scores)


def judge(
    recommenders: dict[str, Recommend],
    liked: dict[int, set[int]],
    catalogue: int,
    progress: Progress = silent,
) -> dict[str, Quality]:
    """Return how good each of *recommenders* is; all are asked for the same users."""
    found: dict[str, Quality] = {}
    for done, (name, recommend) in enumerate(recommenders.items(), start=1):
        found[name] = evaluate(recommend, liked, catalogue)
        progress("evaluate", done / len(recommenders))
    return found
