"""What a slate must not hold, and in what order it is shown."""

from __future__ import annotations

import pytest
from expected import (
    HOUR,
    POPULAR_SOURCE,
    SEEN_FILTER,
    keys,
    without,
)
from films_by_hand import ITEMS, SEEN, WHOLE, Place

from martlet.errors import (
    ModelNotFound,
)
from martlet.recommend.recommender import Ask, Slate
from martlet.stores.features import write_features


class TestFilters:
    def test_what_is_excluded_never_comes(self, place: Place):
        slate = place.open().recommend(Ask(1, size=20, context=HOUR, exclude=keys(13, 12)))
        assert set(slate.items.tolist()) == {14, 15, 16}

    def test_who_has_seen_everything_sees_it_again_and_is_told(self, place: Place):
        slate = place.open().recommend(Ask(3, size=20, context=HOUR))
        assert slate.relaxed == ("seen",)
        assert set(slate.items.tolist()) == set(SEEN[3])

    def test_also_where_no_list_is_popular(self, place: Place):
        text = without(WHOLE, POPULAR_SOURCE)
        slate = place.open(text).recommend(Ask(3, size=20, context=HOUR))
        assert slate.relaxed == ("seen",)
        assert len(slate.items) >= 4

    def test_what_is_seen_is_given_up_before_a_rule_however_they_are_ordered(self, place: Place):
        rule = '[[filters]]\nkeep = "year >= 2015"\n'
        for filters in (rule + SEEN_FILTER, SEEN_FILTER + rule):
            slate = place.open(WHOLE.replace(SEEN_FILTER, filters)).recommend(Ask(3, context=HOUR))
            assert slate.relaxed == ("seen",)
            assert set(slate.items.tolist()) == {15, 16}

    def test_a_rule_that_nothing_meets_is_given_up_rather_than_answer_nothing(self, place: Place):
        rule = '[[filters]]\nkeep = "year >= 2500"\n'
        slate = place.open(WHOLE.replace(SEEN_FILTER, rule)).recommend(Ask(1, context=HOUR))
        assert slate.relaxed == ("year >= 2500",)
        assert len(slate.items) == 3 and 17 not in slate.items

    def test_two_filters_of_one_kind_both_hold(self, place: Place):
        both = SEEN_FILTER + '[[filters]]\ndrop = "seen"\nhistory = "liked"\n'
        text = WHOLE.replace(SEEN_FILTER, both).replace("[tables]", '[tables]\nliked = "liked"')
        from martlet.stores.lists import write_lists

        write_lists(place.folder / "liked", {1: [13]})
        slate = place.open(text).recommend(Ask(1, size=20, context=HOUR))
        assert set(slate.items.tolist()) == {12, 14, 15, 16}

    @pytest.mark.parametrize(
        ("rule", "items"),
        [
            ("genres == 'Drama'", {10, 11, 13}),
            ("genres != 'Drama'", {12, 14, 15, 16}),
            ("price < 3.0", {10, 11}),
            ("price != 3.0", {10, 11, 13, 14, 15, 16}),
        ],
    )
    def test_a_rule_keeps_what_meets_it(self, place: Place, rule: str, items: set[int]):
        text = WHOLE.replace(SEEN_FILTER, f'[[filters]]\nkeep = "{rule}"\n')
        slate = place.open(text).recommend(Ask(1, size=20, context=HOUR))
        assert set(slate.items.tolist()) == items

    def test_where_everything_is_excluded_it_says_so(self, place: Place):
        with pytest.raises(ModelNotFound, match="no source has an item for user 1 that is not"):
            place.open().recommend(Ask(1, context=HOUR, exclude=keys(*ITEMS, 17)))

    def test_where_no_source_knows_the_unit_it_says_so(self, place: Place):
        with pytest.raises(ModelNotFound, match="no source has an item for user 99"):
            place.open(without(WHOLE, POPULAR_SOURCE)).recommend(Ask(99))


class TestReRanking:
    def reranked(self, place: Place, rerank: str, size: int = 3, user: int = 2) -> Slate:
        return place.open(WHOLE + rerank).recommend(Ask(user, size=size, context=HOUR))

    def test_a_cap_holds_while_others_are_left(self, place: Place):
        slate = self.reranked(place, '[[rerank]]\nby = "cap"\nfeature = "genres"\nmost = 1\n', 3)
        genres = [g for text in slate.features["genres"] for g in text.split("|") if g]
        assert len(set(genres)) == len(genres)

    def test_missing_values_are_not_one_value(self, place: Place):
        films = {"year": [2000] * 7, "genres": [""] * 7, "price": [1.0] * 7}
        write_features(place.folder / "films", list(ITEMS), films)
        plain = self.reranked(place, "")
        for by in ('"dedupe"', '"cap"\nmost = 1'):
            slate = self.reranked(place, f'[[rerank]]\nby = {by}\nfeature = "genres"\n')
            assert slate.items.tolist() == plain.items.tolist()

    def test_dedupe_leaves_the_best_of_each(self, place: Place):
        films = {"year": [2000] * 7, "genres": ["A"] * 6 + ["B"], "price": [1.0] * 7}
        write_features(place.folder / "films", list(ITEMS), films)
        slate = self.reranked(place, '[[rerank]]\nby = "dedupe"\nfeature = "genres"\n')
        assert sorted(slate.features["genres"].tolist()) == ["A", "B"]

    def test_diversity_of_nothing_changes_nothing(self, place: Place):
        rerank = '[[rerank]]\nby = "diversity"\nvectors = "film_vectors"\nweight = 0\n'
        assert (
            self.reranked(place, rerank).items.tolist() == self.reranked(place, "").items.tolist()
        )

    def test_where_nothing_ranked_the_order_of_the_sources_is_the_relevance(self, place: Place):
        rerank = '[[rerank]]\nby = "diversity"\nvectors = "film_vectors"\nweight = 0\n'
        cold = self.reranked(place, rerank, 4, user=99)
        assert cold.items.tolist() == [12, 10, 13, 16]
