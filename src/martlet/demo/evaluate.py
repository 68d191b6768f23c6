"""How good a recommender is: judged by what users liked in the part that was held out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from martlet import rankings
from martlet.errors import InvalidInput

Hits = NDArray[np.bool_]
PerUser = NDArray[np.float64]
Progress = Callable[[str, float], None]
"""Told the step and how much of it is done, 0.0 to 1.0."""


def silent(step: str, done: float) -> None:
    """Be the progress callback that says nothing."""


def ndcg(hits: Hits, relevant: ArrayLike, k: int) -> PerUser:
    """
    Return NDCG@k of each user, with binary gains.

    A user for whom nothing is relevant has no score: NaN.

    Args:
        hits: Whether the item at each place, best first, is relevant. Shape [users, places].
        relevant: How many items are relevant, found or not. Shape [users].
        k: How many places count.

    Source:
        Järvelin and Kekäläinen, "Cumulated Gain-Based Evaluation of IR Techniques", TOIS 2002,
        with the discount 1 / log2(place + 1).

    >>> ndcg(np.array([[False, True, False]]), [2], k=3).round(4).tolist()
    [0.3869]
    """
    best = np.asarray(relevant, dtype=np.int64)
    discounts = 1 / np.log2(np.arange(2, k + 2))
    top = hits[:, :k]
    gained = top @ discounts[: top.shape[1]]
    ideal = np.concatenate([[np.nan], np.cumsum(discounts)])[np.minimum(best, k)]
    return np.asarray(gained / ideal)


def recall(hits: Hits, relevant: ArrayLike, k: int) -> PerUser:
    """
    Return recall@k of each user: the share of the relevant items that are in the first *k* places.

    A user for whom nothing is relevant has no score: NaN.

    Source:
        Manning, Raghavan and Schütze, "Introduction to Information Retrieval", section 8.4.
    """
    count = np.asarray(relevant, dtype=np.float64)
    return np.asarray(hits[:, :k].sum(axis=1) / np.where(count > 0, count, np.nan))


def reciprocal_rank(hits: Hits) -> PerUser:
    """
    Return 1 / the place of each user's first hit, 0 where there is none; its mean is MRR.

    Source:
        Voorhees, "The TREC-8 Question Answering Track Report", 1999.
    """
    if hits.shape[1] == 0:
        return np.zeros(len(hits))
    return np.where(hits.any(axis=1), 1 / (1 + hits.argmax(axis=1)), 0.0)


def auc(label: ArrayLike, score: ArrayLike) -> float:
    """
    Return the chance that a positive scores above a negative; a tie counts half.

    NaN if the labels are all alike.

    >>> auc([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8])
    0.75
    """
    positive = np.asarray(label, dtype=np.bool_)
    values = np.asarray(score, dtype=np.float64)
    if positive.shape != values.shape or positive.ndim != 1:
        raise InvalidInput(
            f"labels of shape {list(positive.shape)} and scores of shape {list(values.shape)}: "
            "one of each for every row is wanted"
        )
    if positive.all() or not positive.any():
        return float("nan")
    return rankings.auc(values, positive)


@dataclass(frozen=True, slots=True)
class Quality:
    """
    What `evaluate` found: means over the users, each 0 to 1, higher is better.

    Args:
        ndcg_at_10: Is what is liked at the top?
        recall_at_50: How much of what is liked is found at all?
        mrr: How far up is the first hit?
        coverage: The share of the catalogue that anybody was shown in ten places.
        users: How many judged.
    """

    ndcg_at_10: float
    recall_at_50: float
    mrr: float
    coverage: float
    users: int


def evaluate(
    recommend: Callable[[int], Sequence[int]],
    liked: Mapping[int, Collection[int]],
    catalogue: int,
    progress: Progress = silent,
) -> Quality:
    """
    Ask *recommend* for each user's items, best first (50 are judged), and judge them by *liked*.

    It is called once a user, so it may as well be a request to a server.

    Args:
        recommend: Gives the ids of items for the id of a user; none that the user has seen.
        liked: By user id, the ids of the items that the user liked later; at least one each.
        catalogue: How many items there are.
        progress: Told after each user.

    Raises:
        InvalidInput: nobody judges, or a user was given an item twice.
    """
    if not liked:
        raise InvalidInput("nobody judges: no user with a past liked anything in the future")
    hits = np.zeros((len(liked), 50), dtype=np.bool_)
    shown: set[int] = set()
    for row, (user, wanted) in enumerate(liked.items()):
        items = list(recommend(user))[:50]
        if len(set(items)) < len(items):
            raise InvalidInput(f"user {user} was given an item twice")
        hits[row, : len(items)] = [item in wanted for item in items]
        shown.update(items[:10])
        progress("evaluate", (row + 1) / len(liked))
    relevant = [len(wanted) for wanted in liked.values()]
    return Quality(
        ndcg_at_10=float(ndcg(hits, relevant, 10).mean()),
        recall_at_50=float(recall(hits, relevant, 50).mean()),
        mrr=float(reciprocal_rank(hits).mean()),
        coverage=len(shown) / catalogue,
        users=len(liked),
    )
