"""How a part of a graph treats ids, found by running it: known, unknown, missing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from martlet.convert.rewriting.graph import Array
from martlet.convert.rewriting.region import Region
from martlet.formats.package.ids import MODULO, REFUSE, WRAP, ZERO, Ids, Outcome

Refuses = Callable[[Mapping[str, Array]], bool]
"""Whether the original model refuses this feed."""

_SAMPLE: Final = 24
_CHUNK: Final = 4096
_LONGEST_S: Final = 30.0
_BAG: Final = 2e-6
_DISTANCES: Final = 3
# Ids that may be treated otherwise than their neighbours (a mask, a default), each by itself.
_SPECIAL: Final = 8
_TOLERANCE: Final = 1e-5
STRANGE: Final = ("martlet: no such key", "", " ", "0", "-1", "nan")


class Treatment:
    """
    What the tensors of *region* hold for ids, asked once for each id.

    Args:
        region: The part.
        refuses: Asks the original, whose own refusals a conversion may have lost.
    """

    def __init__(self, region: Region, refuses: Refuses, seed: int) -> None:
        self._region = region
        self._refuses = refuses
        self._first = np.ascontiguousarray(region.vectors[:, 0])
        self._random = np.random.default_rng(seed)
        self._held: dict[Any, Mapping[str, Array] | None] = {}
        self._lost: dict[Any, bool] = {}
        self.named = region.constants_of_ids()
        self._strange = [key for key in STRANGE if key not in self.named]
        beside = region.base[region.name].reshape(-1)[:_SAMPLE].tolist()
        if region.is_text:
            self._sample = [*self.named, *self._strange]
        else:
            count = len(region.vectors)
            near = [int(each) + step for each in beside for step in (0, 1, -1, 2)]
            inside = self._random.integers(0, count, _SAMPLE).tolist()
            self._sample = [*near, 0, 1, 2, 3, *inside, count - 1]
            self._apart = region.numbers()

    def ids(self, tensor: str, scale: float) -> Ids | str:
        """
        Return how *tensor*, whose vectors are *scale* times the table's, treats ids.

        Where it is not a lookup in the table, return a text that says why.
        """
        if self._region.is_text:
            return self._by_vocabulary(self._seen(self._sample, tensor, scale))
        found = self._in_line(tensor, scale)
        if isinstance(found, Ids) or len(self.named) < 2:
            return found
        unknown = self._seen(self._edges(0), tensor, scale)
        self._strange = [key for key in unknown if key not in self.named]
        return self._by_vocabulary(self._seen([*self.named, *unknown], tensor, scale))

    def each(self, ids: Ids, tensor: str, scale: float) -> tuple[Ids | str, int]:
        """
        Ask every id that has a row, and return how many; of a huge table those that time allows.

        Returns *ids* with those that are treated otherwise among them; text where they are many.
        """
        region, special = self._region, dict(ids.special)
        keys, rows = ids.known
        step = max(1, _CHUNK // region.length)
        until, asked = time.monotonic() + _LONGEST_S, 0
        for at in range(0, len(keys), step):
            some = keys[at : at + step]
            found = region.run(region.same(some.tolist()))
            held = None if found is None else region.rows(found[tensor], len(some))
            odd = some
            if held is not None:
                expected = region.vectors[rows[at : at + step], None]
                off = np.abs(held / np.float32(scale) - expected) > _BAG * np.abs(expected)
                odd = some[off.any(axis=(1, 2))]
            for key, outcome in self._seen(odd.tolist(), tensor, scale).items():
                row = int(rows[at + int(np.flatnonzero(some == key)[0])])
                if isinstance(outcome, list) and row in outcome:
                    continue
                plain = self._plain(key, outcome)
                if plain is None or len(special) >= 2 * _SPECIAL:
                    return f"the id {key} gives no row of the table", asked
                special[key] = plain
            asked += len(some)
            if time.monotonic() > until:
                break
        return replace(ids, special=special), asked

    def _seen(self, keys: Iterable[Any], tensor: str, scale: float) -> dict[Any, Any]:
        """Return what becomes of each of *keys*: rows that it may be, ZERO, REFUSE or None."""
        region = self._region
        wanted = [
            key
            for key in dict.fromkeys(keys)
            if region.is_text or region.lowest <= key <= region.highest
        ]
        self._held.update(region.each([key for key in wanted if key not in self._held]))
        return {
            key: REFUSE if held is None else self._outcome(held.get(tensor), scale)
            for key in wanted
            for held in [self._held[key]]
        }

    def _edges(self, first: int) -> list[int]:
        count = len(self._region.vectors)
        near = [-1, -2, -3, -4, -count, -count - 1, count, count + 1, count + 2, 2 * count]
        far = [2 * count + 3, 10 * count + 7, -3 * count]
        other = self._random.integers(count + 3, 100 * count, 4).tolist()
        other += self._random.integers(1, 2 * count, 8).tolist()
        moved = [first + each for each in (*near, *far, *other, *(-each for each in other))]
        return [*moved, -1, self._region.lowest, self._region.highest]

    def _outcome(self, vectors: Array | None, scale: float) -> list[int] | str | None:
        """Return the rows that *vectors* may be, ZERO, or None where they are neither."""
        if vectors is None or not (vectors == vectors[:1]).all():
            return None
        vector, table = vectors[0] / np.float32(scale), self._region.vectors
        # By their first number first: a table is long, and few rows share it.
        if self._region.length == 1 or len(vectors) > 1:
            rows = np.flatnonzero(self._first == vector[0])
            rows = rows[(table[rows] == vector).all(axis=1)]
        else:
            rows = np.flatnonzero(np.isclose(self._first, vector[0], _TOLERANCE, 1e-7))
            rows = rows[np.isclose(table[rows], vector, _TOLERANCE, 1e-7).all(axis=1)]
        if len(rows):
            return [int(each) for each in rows[:64]]
        return ZERO if not vector.any() else None

    def _in_line(self, tensor: str, scale: float) -> Ids | str:
        seen = self._seen(self._sample, tensor, scale)
        rows = {key: found for key, found in seen.items() if isinstance(found, list)}
        distances = Counter(row - key for key, found in rows.items() for row in found)
        if not distances:
            return "it gives no rows of the table"
        # Where ids wrap, or rows are the same, several fit some: the best leaves fewest odd ids.
        tried = [
            self._at_distance(tensor, scale, distance, seen)
            for distance, _ in distances.most_common(_DISTANCES)
        ]
        found = [each for each in tried if isinstance(each, Ids)]
        return min(found, key=lambda each: (len(each.special), abs(each.first)), default=tried[0])

    def _at_distance(
        self, tensor: str, scale: float, distance: int, seen: Mapping[Any, Any]
    ) -> Ids | str:
        count = len(self._region.vectors)
        first = -distance
        inside = [first, first + count - 1, *(self._random.integers(0, count, 8) + first).tolist()]
        edges = [*self._edges(first), *self._apart]
        seen = {**seen, **self._seen([*inside, *edges], tensor, scale)}
        within = [key for key in seen if first <= key < first + count]
        special: dict[int, Outcome] = {}
        for key in within:
            if not (isinstance(seen[key], list) and key + distance in seen[key]):
                outcome = self._plain(key, seen[key])
                if outcome is None:
                    return f"the id {key} gives no row of the table"
                special[key] = outcome
        if len(special) > min(_SPECIAL, len(within) // 4):
            return "its rows do not lie in the order of the ids"
        ends = {
            key: self._plain(key, found, key + distance)
            for key, found in seen.items()
            if key not in within
        }
        below, odd = _end({k: v for k, v in ends.items() if k < first}, first, count)
        above, more = _end({k: v for k, v in ends.items() if k >= first + count}, first, count)
        special |= {**odd, **more}
        if below is None or above is None:
            return "ids beyond the table are treated in no known way"
        return Ids(count, first, None, below, above, special)

    def _by_vocabulary(self, seen: Mapping[Any, Any]) -> Ids | str:
        known: dict[Any, int] = {}
        special: dict[Any, Outcome] = {}
        unknown = {self._plain(key, seen[key]) for key in self._strange if key in seen}
        if len(unknown) != 1 or None in unknown:
            return "unknown ids are not treated alike"
        (rest,) = unknown
        for key in self.named:
            outcome = self._plain(key, seen.get(key))
            if outcome is None:
                return f"the id {key!r} gives no row of the table"
            if isinstance(outcome, int):
                known[key] = outcome
            elif outcome != rest:
                special[key] = outcome
        if len(known) < 2 or len(special) > _SPECIAL:
            return "it gives no rows of the table"
        assert rest is not None
        return Ids(len(self._region.vectors), 0, known, rest, rest, special)

    def _plain(self, key: Any, found: Any, liked: int = 0) -> Outcome | None:
        """Return one outcome of those *found* for *key*; a refusal where the original refuses."""
        if found is None or found == REFUSE:
            return REFUSE if found == REFUSE else None
        if key not in self._lost:
            beside = self._region.base[self._region.name].reshape(1, -1).astype(object)
            pair = np.concatenate([self._region.same([key]), beside])
            self._lost[key] = self._refuses(self._region.feed(pair))
        if self._lost[key]:
            return REFUSE
        if isinstance(found, list):
            count = len(self._region.vectors)
            wanted = (liked, liked % count)
            return next((row for row in wanted if row in found), found[0])
        return str(found)


def _end(
    seen: Mapping[int, Outcome | None], first: int, count: int
) -> tuple[Outcome | None, dict[int, Outcome]]:
    """Return how the ids of one end are treated, and those of them that are treated otherwise."""
    if not seen:
        return REFUSE, {}
    rules: list[Outcome] = [REFUSE, ZERO, WRAP, MODULO]
    rules += [v for v in seen.values() if isinstance(v, int)]
    best: tuple[int, Outcome | None, dict[int, Outcome]] = (_SPECIAL, None, {})
    for rule in rules:
        as_told = Ids(count, first, None, rule, rule)
        odd = {key: outcome for key, outcome in seen.items() if as_told.outcome(key) != outcome}
        if None not in odd.values() and len(odd) < min(best[0], len(seen) // 2):
            best = (len(odd), rule, {k: v for k, v in odd.items() if v is not None})
    return best[1], best[2]


def scales(length: int) -> Sequence[float]:
    """Return what a bag of *length* same vectors may be of one of them."""
    return (1.0,) if length == 1 else (1.0, float(length), float(np.sqrt(length)))
