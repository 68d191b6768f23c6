"""What CatBoost makes of what it counted of categories: each ctr, of each key, at load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.formats.catboost.content import Combination, Content, Counted, Ctr, Kind
from martlet.formats.catboost.ctrs import Ctrs, Floats, Table, alone, places

_MOST_KEYS = 1 << 22  # of all ctrs: each takes up to 70 bytes


@dataclass(frozen=True, slots=True, eq=False)
class Widened:
    """
    What makes the columns that trees test of categories.

    Args:
        ctrs: That.
        equal, places: The column of each value tested for; of each ctr. In the order of the file.
    """

    ctrs: Ctrs
    equal: list[int]
    places: list[int]


def widened(content: Content, features: int) -> Widened | None:
    """
    Return what makes the columns that the trees of a file test; None where there are too many keys.

    Args:
        content: Of the file.
        features: Columns of a row as it comes.

    Raises:
        KeyError: something is tested that is not there.
    """
    together: dict[Combination, list[int]] = {}
    for i, ctr in enumerate(content.ctrs):
        together.setdefault(ctr.base[0], []).append(i)
    above = list(dict.fromkeys(test for each in together for test in each.above))
    equal = [(category, each) for category, hashes in content.equal for each in hashes.tolist()]
    tested = list(dict.fromkeys([*equal, *(test for each in together for test in each.equal)]))
    if sum(len(content.counted[ctr.base].keys) for ctr in content.ctrs) > _MOST_KEYS:
        return None
    number = {each: i for i, each in enumerate(sorted(content.categories))}
    test = {("above", *each): i for i, each in enumerate(above)}
    test |= {("equal", *each): len(above) + i for i, each in enumerate(tested)}
    tables = [
        _table(
            [
                *(number[each] for each in combination.categories),
                *(~test["above", *each] for each in combination.above),
                *(~test["equal", *each] for each in combination.equal),
            ],
            [content.ctrs[i] for i in of],
            content,
        )
        for combination, of in together.items()
    ]
    equal_at = {each: features + i for i, each in enumerate(tested)}
    first = features + len(tested)
    place = {i: first + at for at, i in enumerate(i for of in together.values() for i in of)}
    numbers = content.numbers
    ctrs = Ctrs(
        features,
        np.array([content.categories[each] for each in number], np.int32),
        np.array(
            [(numbers[n].column, numbers[n].nan_is_above) for n, _ in above], np.int32
        ).reshape(-1, 2),
        np.array([border for _, border in above], np.float32),
        np.array([(number[category], each) for category, each in tested], np.int32).reshape(-1, 2),
        tables,
    )
    return Widened(
        ctrs,
        [equal_at[each] for each in equal],
        [place[i] for i in range(len(content.ctrs))],
    )


def _table(elements: list[int], ctrs: list[Ctr], content: Content) -> Table:
    some = {ctr.base: content.counted[ctr.base] for ctr in ctrs}
    keys = np.unique(np.concatenate([each.keys for each in some.values()]))
    columns = [_values(ctr, some[ctr.base], keys) for ctr in ctrs]
    return Table(tuple(elements), keys, np.stack(columns, axis=1))


def _values(ctr: Ctr, counted: Counted, keys: NDArray[np.uint64]) -> Floats:
    """Return what *ctr* is without a key, then for each of *keys*, in CatBoost's arithmetic."""
    order = np.argsort(counted.keys)
    part, total = _parts(ctr, counted)
    part, total = (np.concatenate([each[:1], each[1:][order]]) for each in (part, total))
    at = places(counted.keys[order], keys)
    one = np.float32
    with np.errstate(all="ignore"):
        share = (part + one(ctr.prior)) / (total + one(ctr.weight))
        values = ((share + one(ctr.shift)) * one(ctr.scale)).astype(one)
    return np.concatenate([values[:1], values[at]])


def _parts(ctr: Ctr, counted: Counted) -> tuple[Floats, Floats]:
    """Return the part and the whole that *ctr* divides: without a key, then of each key."""
    kind, counts = ctr.base[1], counted.counts
    if kind.is_count:
        total = np.full(len(counts) + 1, counted.total, np.int32)
        return _after(0, counts[:, 0]), total.astype(np.float32)
    if kind.is_mean:
        return _after(0, counted.sums), _after(0, counts[:, 0])
    classes = counts.shape[1]
    target = 0 if kind is Kind.Borders and classes == 2 else ctr.target
    part = counts[:, target] if kind is Kind.Buckets else counts[:, target + 1 :].sum(axis=1)
    return _after(0, part), _after(0, counts.sum(axis=1))


def _after(first: int, rest: NDArray[Any]) -> Floats:
    return np.concatenate([[first], rest]).astype(np.float32)


def known_categories(content: Content) -> dict[int, NDArray[np.int32]]:
    """Return hashes of categories that training saw, by the category's number."""
    found: dict[int, list[NDArray[np.int32]]] = {at: [] for at in content.categories}
    for category, hashes in content.equal:
        found[category].append(hashes)
    for (combination, _, _), counted in content.counted.items():
        if combination == Combination(combination.categories[:1]):
            found[combination.categories[0]].append(alone(counted.keys))
    none = np.zeros(0, np.int32)
    return {at: np.unique(np.concatenate([none, *each])) for at, each in found.items()}
