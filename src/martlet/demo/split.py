"""Holds the last part of the ratings out, so that nothing is learnt from what it is judged by.

Why two rules, and which is used when: docs/decisions/0080-split-by-time.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from martlet.demo.dataset import Ints, Ratings

WARM = 5
"""With fewer earlier ratings than this a user has, for `auto`, no past to learn from."""


class Rule(Enum):
    """Where the past ends."""

    AT_TIME = "at-time"
    """At one moment for everybody, as on the day of a deployment."""
    EACH_USER = "each-user"
    """At each user's own moment: everybody has a past and a future."""
    AUTO = "auto"
    """`AT_TIME` if most of those active later have a past, else `EACH_USER`."""


@dataclass(frozen=True, slots=True)
class Split:
    """
    The past and the held-out future.

    Args:
        rule: The one that made it, never AUTO.
        cutoff: For AT_TIME the first second that is held out, else None.
    """

    rule: Rule
    past: Ratings
    future: Ratings
    cutoff: int | None = None


def split(ratings: Ratings, share: float = 0.2, rule: Rule = Rule.AUTO) -> Split:
    """Hold the last *share* of *ratings* out, by *rule*. Draws nothing at random."""
    if rule is Rule.EACH_USER:
        return _each_user(ratings, share)
    at_time = _at_time(ratings, share)
    if rule is Rule.AT_TIME or _mostly_warm(at_time):
        return at_time
    return _each_user(ratings, share)


def _at_time(ratings: Ratings, share: float) -> Split:
    place = min(int(len(ratings) * (1 - share)), len(ratings) - 1)
    cutoff = int(np.sort(ratings.time)[place])
    later = ratings.time >= cutoff
    return Split(Rule.AT_TIME, ratings.where(~later), ratings.where(later), cutoff)


def _mostly_warm(split: Split) -> bool:
    active = np.unique(split.future.user)
    before = np.bincount(split.past.user, minlength=int(active.max()) + 1)[active]
    return bool((before >= WARM).mean() > 0.5)


def _each_user(ratings: Ratings, share: float) -> Split:
    order = np.lexsort((ratings.item, ratings.time, ratings.user))
    user, time = ratings.user[order], ratings.time[order]
    _, start, inverse, count = np.unique(
        user, return_index=True, return_inverse=True, return_counts=True
    )
    # What shares a second with the last kept rating is kept too: its order says nothing.
    last_kept = start + np.ceil(count * (1 - share)).astype(np.int64) - 1
    held = np.empty(len(ratings), dtype=np.bool_)
    held[order] = time > time[last_kept][inverse]
    return Split(Rule.EACH_USER, ratings.where(~held), ratings.where(held))


def judges(split: Split, most: int | None = None, seed: int = 0) -> Ints:
    """
    Return the users to judge by: those with a past who later liked a film that they had not rated.

    Args:
        split: What they are judged on.
        most: Draw that many of them, the same for the same *seed*. None takes all.
        seed: Of the draw.

    Returns:
        Row numbers, ascending.
    """
    liked = split.future.where(split.future.liked)
    users = np.intersect1d(liked.user, split.past.user)
    if most is None or len(users) <= most:
        return users
    rng = np.random.Generator(np.random.PCG64(seed))
    return np.sort(rng.permutation(users)[:most])
