"""What the recommender of `films_by_hand` should answer, worked out plainly."""

from __future__ import annotations

from typing import Any

import numpy as np
from films_by_hand import ITEMS, USERS, plain_score

HOUR = {"hour": 20.0}


def keys(*items: Any) -> np.ndarray:  # type: ignore[type-arg]
    return np.array(items, dtype=object if items and isinstance(items[0], str) else np.int64)


def near(user: int, item: int) -> float:
    # Vectors are kept as float32.
    vectors = np.array([USERS[user][1], ITEMS[item][3]], np.float32).astype(np.float64)
    return float(vectors[0] @ vectors[1])


def expected(user: int, item: int, hour: float = 20.0) -> float:
    year, _, price, _ = ITEMS[item]
    return plain_score(USERS[user][0], year, float(np.float32(price)), near(user, item), hour)


def without(text: str, *parts: str) -> str:
    for part in parts:
        assert part in text
        text = text.replace(part, "")
    return text


SEEN_FILTER = '[[filters]]\ndrop = "seen"\nhistory = "seen"\n'


UNKNOWN_FILTER = '[[filters]]\ndrop = "unknown"\n'


POPULAR_SOURCE = '[[candidates]]\nfrom = "popular"\nlists = "popular"\ncount = 2\n'
