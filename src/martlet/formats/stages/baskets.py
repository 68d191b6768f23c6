"""Rules over baskets: what is bought with what a basket holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from martlet.formats.stages.stage import Kind, Port, Stage
from martlet.formats.stages.text import Words

Basket = frozenset[str]


@dataclass(frozen=True, slots=True)
class Rules:
    """
    What follows from a basket that holds all of a rule's items, without what it holds already.

    Args:
        by_item: Of one item of each rule: the rule's number, its items, and what follows.
    """

    by_item: Mapping[str, Sequence[tuple[int, Basket, str]]]

    def __call__(self, baskets: Words) -> Words:
        out = np.empty(len(baskets), dtype=object)
        for i, words in enumerate(baskets.tolist()):
            held = frozenset(words)
            found = sorted(
                (number, item)
                for word in held
                for number, needed, item in self.by_item.get(word, ())
                if item not in held and needed <= held
            )
            out[i] = list(dict.fromkeys(item for _, item in found))
        return out


def association_rules(
    name: str, items: str, prediction: str, sets: Mapping[Basket, int], confidence: float
) -> Stage:
    """
    Return the stage that adds what baskets with the same items mostly hold too.

    Args:
        sets: How many baskets hold all of each set's items.
        confidence: The least share, of the baskets that hold a rule's items, that hold what
            follows as well.

    Source: Agrawal and Srikant, "Fast algorithms for mining association rules", VLDB 1994.
    """
    by_item: dict[str, list[tuple[int, Basket, str]]] = {}
    number = 0
    for basket, count in sets.items():
        for item in sorted(basket) if len(basket) > 1 else ():
            needed = basket - {item}
            if needed in sets and count / sets[needed] >= confidence:
                by_item.setdefault(min(needed), []).append((number, needed, item))
                number += 1
    run: Any = Rules(by_item)
    return Stage(
        name, (Port(items, Kind.WORDS),), (Port(prediction, Kind.WORDS),), run, predicts=True
    )
