"""The steps between candidates and slate, by hand and by invariant."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from martlet.recommend import stages

NAN, INF = float("nan"), float("inf")
NO_NUMBERS = [NAN, INF, -INF]
ROWS = st.shared(st.integers(0, 9), key="rows")


def order(*places: int) -> stages.Order:
    return np.array(places, dtype=np.intp)


def words(*values: str | None) -> np.ndarray:  # type: ignore[type-arg]
    return np.array(values, dtype=object)


class TestMerge:
    def test_of_an_item_that_several_found_the_first_counts(self):
        pool = stages.merge(
            [
                (np.array([5, 3]), np.array([0.9, 0.8])),
                (np.empty(0, np.int64), np.empty(0)),
                (np.array([3, 7, 5]), np.array([9.0, 8.0, 7.0])),
            ]
        )
        assert pool.items.tolist() == [5, 3, 7]
        assert pool.scores.tolist() == [0.9, 0.8, 8.0]
        assert pool.sources.tolist() == [0, 0, 2]

    def test_of_nothing_is_nothing(self):
        assert len(stages.merge([])) == 0

    @given(st.lists(st.lists(st.integers(0, 20), unique=True), max_size=4))
    def test_it_keeps_every_item_once_in_the_order_of_the_sources(self, found: list[list[int]]):
        pool = stages.merge([(np.array(k, np.int64), np.ones(len(k))) for k in found])
        assert pool.items.tolist() == list(dict.fromkeys(item for keys in found for item in keys))


class TestAddUp:
    def test_scores_of_one_item_add_up(self):
        keys, sums = stages.add_up(np.array([4, 2, 4, 9]), np.array([1.0, 2.5, 2.0, 0.5]), 2)
        assert (keys.tolist(), sums.tolist()) == ([4, 2], [3.0, 2.5])

    def test_ties_stay_as_they_came(self):
        keys, _ = stages.add_up(words("b", "a", "c"), np.ones(3), 3)
        assert keys.tolist() == ["b", "a", "c"]

    @given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9)), max_size=20))
    def test_it_is_a_plain_sum_by_key(self, pairs: list[tuple[int, int]]):
        sums: dict[int, int] = {}
        for key, score in pairs:
            sums[key] = sums.get(key, 0) + score
        keys, found = stages.add_up(
            np.array([k for k, _ in pairs], np.int64), np.array([s for _, s in pairs], float), 99
        )
        best = sorted(sums, key=lambda key: -sums[key])
        assert dict(zip(keys.tolist(), found.tolist(), strict=True)) == sums
        assert found.tolist() == [sums[key] for key in best]


class TestSatisfies:
    @pytest.mark.parametrize(
        ("symbol", "value", "passes"),
        [
            (">=", 2, [False, True, True, False]),
            ("<=", 2, [True, True, False, False]),
            (">", 2, [False, False, True, False]),
            ("<", 2, [True, False, False, False]),
            ("==", 2, [False, True, False, False]),
            ("!=", 2, [True, False, True, True]),
        ],
    )
    def test_numbers_and_a_missing_one(self, symbol: str, value: float, passes: list[bool]):
        assert stages.satisfies(np.array([1, 2, 3, NAN]), symbol, value).tolist() == passes

    @pytest.mark.parametrize(
        ("symbol", "value", "passes"),
        [
            ("==", "War", [True, True, False, False, False]),
            ("!=", "War", [False, False, True, True, True]),
            (">=", "Drama|War", [True, True, False, False, False]),
            ("<", "War", [False, True, True, False, False]),
        ],
    )
    def test_text_of_several_values_and_missing_ones(
        self, symbol: str, value: str, passes: list[bool]
    ):
        values = words("War", "Drama|War", "Comedy", None, "")
        assert stages.satisfies(values, symbol, value).tolist() == passes


class TestDedupe:
    def test_of_one_value_the_best_stays_and_missing_values_all_do(self):
        values = words("a", "b", "a", None, None, "", "")
        kept = stages.dedupe(order(2, 0, 6, 1, 5, 3, 4), values)
        assert kept.tolist() == [2, 6, 1, 5, 3, 4]

    def test_numbers_too(self):
        assert stages.dedupe(order(0, 1, 2, 3), np.array([NAN, 1.0, NAN, 1.0])).tolist() == [
            0, 1, 2,
        ]  # fmt: skip


GENRES = st.lists(
    st.lists(st.sampled_from(["A", "B", "C"]), unique=True, max_size=2).map("|".join), max_size=12
)


class TestCap:
    def test_at_most_so_many_of_a_value_come_first_and_the_rest_follow(self):
        values = words("A", "A|B", "A", "B", "C", "", "A")
        kept = stages.cap(order(0, 1, 2, 3, 4, 5, 6), values, most=2, size=5)
        assert kept.tolist() == [0, 1, 3, 4, 5, 2, 6]

    @given(GENRES, st.integers(1, 3), st.integers(1, 12))
    def test_it_moves_items_and_loses_none_and_keeps_the_cap_as_long_as_it_can(
        self, genres: list[str], most: int, size: int
    ):
        kept = stages.cap(order(*range(len(genres))), words(*genres), most, size).tolist()
        assert sorted(kept) == list(range(len(genres)))
        counts: dict[str, int] = {}
        within = 0
        for place in kept[:size]:
            for part in filter(None, genres[place].split("|")):
                counts[part] = counts.get(part, 0) + 1
            if max(counts.values(), default=0) > most:
                break
            within += 1
        # What breaks the cap breaks it because nothing that keeps it was left.
        for place in kept[within:]:
            own = dict.fromkeys(filter(None, genres[place].split("|")))
            used = [p for k in kept[:within] for p in genres[k].split("|")]
            assert within >= size or any(used.count(part) >= most for part in own)


class TestDiversify:
    VECTORS = np.array([[1, 0], [1, 0], [0, 2], [0, 0]], np.float32)
    SCORES = np.array([4.0, 3.0, 2.0, 0.0])

    def test_weight_0_is_relevance_alone(self):
        found = stages.diversify(order(0, 1, 2, 3), self.SCORES, self.VECTORS, 0.0, 4)
        assert found.tolist() == [0, 1, 2, 3]

    def test_a_twin_waits_behind_what_is_different(self):
        # After 0: item 1 gains 0.5 * 0.75 - 0.5 * 1, item 2 0.5 * 0.5 - 0, item 3 0 - 0.
        found = stages.diversify(order(0, 1, 2, 3), self.SCORES, self.VECTORS, 0.5, 4)
        assert found.tolist() == [0, 2, 3, 1]

    def test_beyond_the_size_the_order_stays(self):
        found = stages.diversify(order(0, 1, 2, 3), self.SCORES, self.VECTORS, 0.5, 1)
        assert found.tolist() == [0, 1, 2, 3]

    @pytest.mark.parametrize(
        ("scores", "best"),
        [
            ([NAN, 1.0, 2.0, 0.0], [2, 1]),
            ([-INF, 1.0, INF, NAN], [2, 1]),
            ([NAN, NAN, NAN, NAN], [0, 1]),
            ([NAN, INF, -INF, NAN], [1, 0]),
        ],
    )
    def test_a_score_that_is_no_number_never_leads(self, scores: list[float], best: list[int]):
        found = stages.diversify(order(0, 1, 2, 3), np.array(scores), self.VECTORS, 0.0, 2)
        assert found.tolist()[:2] == best

    @given(
        hnp.arrays(np.float64, ROWS, elements=st.floats(-1e9, 1e9) | st.sampled_from(NO_NUMBERS)),
        hnp.arrays(np.float32, st.tuples(ROWS, st.just(3)), elements=st.floats(-9, 9, width=32)),
        st.floats(0, 1),
        st.integers(1, 12),
    )
    def test_it_loses_nothing_whatever_the_scores(
        self,
        scores: np.ndarray,  # type: ignore[type-arg]
        vectors: np.ndarray,  # type: ignore[type-arg]
        weight: float,
        size: int,
    ):
        start = order(*range(len(scores)))
        found = stages.diversify(start, scores, vectors, weight, size)
        assert sorted(found.tolist()) == start.tolist()
