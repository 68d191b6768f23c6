"""The recommender over tables small enough to work out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from expected import (
    HOUR,
    POPULAR_SOURCE,
    expected,
    keys,
)
from films_by_hand import ITEMS, POPULAR, WHOLE, Place

from martlet.errors import (
    InvalidInput,
    ModelNotFound,
)
from martlet.names import ModelRef
from martlet.recommend.recommender import Ask
from martlet.recommend.subject import Subject


class TestRanked:
    def test_scores_are_a_plain_join_of_every_item(self, place: Place):
        slate = place.open().recommend(Ask(1, size=20, context=HOUR))
        assert slate.step == "ranker"
        found = dict(zip(slate.items.tolist(), slate.scores.tolist(), strict=True))
        # 10 and 11 are seen; 17 is in no table of items. All others come, to fill the slate.
        assert set(found) == {12, 13, 14, 15, 16}
        for item in (12, 13, 14, 16):
            assert found[item] == pytest.approx(expected(1, item), abs=1e-12)
        # A price that is missing is NaN for the model, and what has no score comes last.
        assert np.isnan(found[15]) and slate.items.tolist()[-1] == 15
        finite = slate.scores[:-1]
        assert finite.tolist() == sorted(finite.tolist(), reverse=True)

    def test_the_reply_names_its_parts(self, place: Place):
        slate = place.open().recommend(Ask(1, context=HOUR))
        assert slate.versions == {"films": 4, "people": 2, "ranker": 1}
        assert slate.relaxed == ()
        for at, item in enumerate(slate.items.tolist()):
            assert slate.features["year"][at] == ITEMS[item][0]
            assert slate.features["genres"][at] == ITEMS[item][1]

    def test_each_source_is_named(self, place: Place):
        slate = place.open().recommend(Ask(1, size=20, context=HOUR))
        by_item = dict(zip(slate.items.tolist(), slate.sources, strict=True))
        # The four nearest to [1, 0] of what user 1 has not seen: 13, 16, 15, 12.
        assert [by_item[i] for i in (13, 16, 15, 12)] == ["neighbours"] * 4
        assert by_item[14] == "popular"

    def test_the_model_is_asked_once_with_each_shape_its_signature_wants(self, place: Place):
        place.open().recommend(Ask(1, context=HOUR))
        (asked,) = place.ranker.asked
        n = len(asked["age"])
        assert {name: (v.dtype.name, v.shape) for name, v in asked.items()} == {
            "age": ("int64", (n,)),
            "year": ("int64", (n, 1)),
            "price": ("float32", (n,)),
            "near": ("float64", (n, 1)),
            "hour": ("float32", (n,)),
        }

    def test_the_request_knows_better_than_the_table(self, place: Place):
        place.open().recommend(Ask(1, context={**HOUR, "age": 99}))
        assert set(place.ranker.asked[0]["age"].tolist()) == {99}

    @pytest.mark.parametrize(
        ("context", "says"),
        [
            ({}, "comes from the request: give 'hour' in 'context'"),
            ({"hour": "x"}, "'x' is given for the model's input 'hour'; float32 [-1] is wanted"),
            ({"hour": True}, "True is given for the model's input 'hour'"),
            ({"hour": [1.0, 2.0]}, "[1.0, 2.0] is given"),
            ({"hour": []}, "[] is given"),
            ({"hour": {"a": 1}}, "{'a': 1} is given"),
            ({"hour": [[1.0]]}, "[[1.0]] is given"),
            ({"hour": 1e300}, "1e+300 is given"),
            ({"hour": 1, "age": 1.5}, "1.5 is given for the model's input 'age'; int64"),
            ({"hour": 1, "age": [1.5]}, "[1.5] is given for the model's input 'age'"),
            ({"hour": 1, "age": 2**70}, "is given for the model's input 'age'"),
            ({"hour": 1, "age": None}, "None is given for the model's input 'age'"),
        ],
    )
    def test_a_value_that_the_client_must_mend_is_told(
        self, place: Place, context: dict[str, Any], says: str
    ):
        with pytest.raises(InvalidInput) as caught:
            place.open().recommend(Ask(1, context=context))
        assert says in str(caught.value)


class TestWhoIsUnknown:
    def test_gets_the_popular_list_in_its_order(self, place: Place):
        slate = place.open().recommend(Ask(99, size=4))
        assert slate.step == "popular"
        # 17 is on the list and in no table of items: it is filtered.
        assert slate.items.tolist() == [12, 10, 13, 16]
        assert slate.scores.tolist() == [POPULAR[i] for i in (12, 10, 13, 16)]
        assert set(slate.sources) == {"popular"}

    def test_so_does_nobody_in_particular(self, place: Place):
        assert place.open().recommend(Ask(None)).step == "popular"

    def test_is_refused_where_the_declaration_says_so(self, place: Place):
        text = WHOLE.replace("[recommender]", '[recommender]\ncold = "refuse"\nunit = "viewer"')
        with pytest.raises(ModelNotFound, match="nothing is known of viewer 99"):
            place.open(text).recommend(Ask(99))

    def test_is_known_by_the_history_that_the_request_brings(self, place: Place):
        slate = place.open().recommend(Ask(99, size=20, context={**HOUR, "age": 1},
                                           history=keys(10)))  # fmt: skip
        assert slate.step == "ranker"
        assert 10 not in slate.items
        by_item = dict(zip(slate.items.tolist(), slate.sources, strict=True))
        assert (by_item[11], by_item[13]) == ("similar", "similar")

    def test_is_no_one_whom_only_a_ranking_table_knows(self, place: Place):
        text = (
            '[tables]\npeople = "person_vectors"\nfilms = "film_vectors"\npopular = "popular"\n'
            + POPULAR_SOURCE
            + '[[ranking]]\ndot = ["people", "films"]\n'
        )
        assert place.open(text).recommend(Ask(1)).step == "dot"
        assert place.open(text).recommend(Ask(99)).step == "popular"

    def test_a_key_of_another_kind_is_told(self, place: Place):
        with pytest.raises(
            InvalidInput, match="the key 'anna' cannot be in the tables: their keys are whole"
        ):
            place.open().recommend(Ask("anna", context=HOUR))


class TestRequests:
    @pytest.mark.parametrize("size", [0, -1, 21])
    def test_a_size_beyond_the_limits_is_told(self, place: Place, size: int):
        with pytest.raises(InvalidInput, match=f"size is {size}; 1 to 20 is allowed"):
            place.open().recommend(Ask(1, size=size, context=HOUR))

    @pytest.mark.parametrize("size", range(1, 9))
    def test_a_slate_is_as_long_as_it_can_be(self, place: Place, size: int):
        slate = place.open().recommend(Ask(1, size=size, context=HOUR))
        assert len(slate.items) == min(size, 5)
        assert len(set(slate.items.tolist())) == len(slate.items)

    @pytest.mark.parametrize("name", ["history", "exclude"])
    def test_keys_of_another_kind_are_told(self, place: Place, name: str):
        ask = Ask(1, context=HOUR, **{name: keys(*map(str, range(40)))})
        with pytest.raises(InvalidInput, match=f"'{name}' holds text; the keys of items are whole"):
            place.open().recommend(ask)

    def test_items_that_nobody_knows_do_no_harm(self, place: Place):
        slate = place.open().recommend(
            Ask(1, context=HOUR, history=keys(1000, -5), exclude=keys(2**62))
        )
        assert slate.step == "ranker" and len(slate.items) == 3


class TestRank:
    def test_features_are_joined_as_for_a_slate(self, place: Place):
        items = [16, 10, 12]
        scores, version = place.open().rank(ModelRef("ranker"), Subject(2, HOUR), keys(*items))
        assert version == 1
        assert scores.tolist() == pytest.approx([expected(2, i) for i in items], abs=1e-12)

    def test_an_unknown_unit_is_not_found(self, place: Place):
        with pytest.raises(ModelNotFound, match="no user 99 in 'people'"):
            place.open().rank(ModelRef("ranker"), Subject(99, HOUR), keys(10))

    def test_nobody_is_a_mistake(self, place: Place):
        with pytest.raises(InvalidInput, match="'user' is missing: 'ranker' needs it"):
            place.open().rank(ModelRef("ranker"), Subject(None, HOUR), keys(10))

    def test_a_model_that_does_not_rank_here_is_told(self, place: Place):
        with pytest.raises(InvalidInput, match="does not rank by 'other'; it ranks by: ranker"):
            place.open().rank(ModelRef("other"), Subject(1, HOUR), keys(10))

    def test_the_version_that_belongs_to_the_tables_answers(self, place: Place):
        recommender = place.open(pinned={"ranker": 7})
        with pytest.raises(ModelNotFound, match="no version 7"):
            recommender.rank(ModelRef("ranker"), Subject(1, HOUR), keys(10))
        _, version = recommender.rank(ModelRef("ranker", 1), Subject(1, HOUR), keys(10))
        assert version == 1

    def test_items_of_another_kind_are_told(self, place: Place):
        with pytest.raises(InvalidInput, match="'items' holds text"):
            place.open().rank(ModelRef("ranker"), Subject(1, HOUR), keys("a"))
