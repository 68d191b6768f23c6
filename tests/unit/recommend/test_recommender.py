"""The recommender over tables small enough to work out by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from films_by_hand import ITEMS, POPULAR, SEEN, USERS, WHOLE, Place, Ranker, plain_score

from martlet.errors import (
    InvalidInput,
    MartletError,
    ModelNotFound,
    NotAvailable,
    Overloaded,
    ServableFailed,
    UnsupportedModel,
)
from martlet.names import ModelRef
from martlet.recommend.recommender import Ask, Slate
from martlet.recommend.subject import Subject
from martlet.servable import DEFAULT_SIGNATURE
from martlet.stores.features import write_features
from martlet.tensors import DType, Signature, Spec

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


class TestLadder:
    @pytest.mark.parametrize(
        "fails",
        [
            ServableFailed("it crashed"),
            InvalidInput("an id is outside my table"),
            NotAvailable("not now"),
            Overloaded("full"),
        ],
        ids=lambda exc: type(exc).__name__,
    )
    def test_a_model_that_cannot_answer_leaves_it_to_the_next_step(
        self, place: Place, fails: MartletError
    ):
        place.ranker.fails = fails
        slate = place.open().recommend(Ask(1, context=HOUR))
        assert slate.step == "dot"
        assert slate.scores.tolist() == pytest.approx([near(1, i) for i in slate.items.tolist()])
        assert slate.versions == {"films": 4, "people": 2}

    def test_a_model_that_is_not_there_does_too(self, place: Place):
        place.serve()
        assert place.open().recommend(Ask(1, context=HOUR)).step == "dot"

    def test_so_does_a_version_other_than_the_one_that_belongs_to_the_tables(self, place: Place):
        assert place.open(pinned={"ranker": 2}).recommend(Ask(1, context=HOUR)).step == "dot"

    @pytest.mark.parametrize(
        ("inputs", "output"),
        [
            ([Spec("age", DType.STRING, (-1,))], "score"),
            ([Spec("genres", DType.INT64, (-1,))], "score"),
            ([Spec("vector", DType.FLOAT32, (-1, 3))], "score"),
            ([Spec("year", DType.INT8, (-1,))], "score"),
            ([Spec("year", DType.INT64, (-1,))], "scores of three classes"),
        ],
        ids=["text for a number", "a number for text", "width", "range", "classes"],
    )
    def test_a_model_that_the_tables_cannot_feed_does_too(
        self, place: Place, inputs: list[Spec], output: str
    ):
        class Other(Ranker):
            def predict(self, inputs: Any, signature_name: str = DEFAULT_SIGNATURE) -> Any:
                n = len(next(iter(inputs.values())))
                return {"score": np.zeros((n, 3) if output != "score" else n)}

        other = Other()
        other.signatures = {
            DEFAULT_SIGNATURE: Signature.of(inputs, [Spec("score", DType.FLOAT64, None)])
        }
        place.serve(ranker=other)
        text = without(
            WHOLE,
            'near = { dot = ["person_vectors", "film_vectors"] }\n',
            'hour = "request.hour"\n',
        )
        assert place.open(text).recommend(Ask(1)).step == "dot"

    def test_a_model_without_the_signature_does_too(self, place: Place):
        place.ranker.signatures = {"other": place.ranker.signatures[DEFAULT_SIGNATURE]}
        assert place.open().recommend(Ask(1, context=HOUR)).step == "dot"

    def test_with_no_step_left_the_order_of_the_sources_stays(self, place: Place):
        text = WHOLE.replace('[[ranking]]\ndot = ["person_vectors", "film_vectors"]\n', "")
        place.ranker.fails = ServableFailed("it crashed")
        slate = place.open(text).recommend(Ask(1, size=20, context=HOUR))
        assert slate.step == "order"
        assert slate.items.tolist()[:2] == [13, 16]  # nearest first: 0.5, 0.3

    def test_of_two_classes_the_second_is_the_score(self, place: Place):
        class Classes(Ranker):
            def predict(self, inputs: Any, signature_name: str = DEFAULT_SIGNATURE) -> Any:
                year = inputs["year"][:, 0] / 3000.0
                return {"score": np.stack([1 - year, year], axis=1)}

        place.serve(ranker=Classes())
        slate = place.open().recommend(Ask(1, size=2, context=HOUR))
        assert (slate.step, slate.items.tolist()) == ("ranker", [16, 15])


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
        with pytest.raises(InvalidInput, match="nobody here has a key like 'anna'"):
            place.open().recommend(Ask("anna", context=HOUR))


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


UNOPENED = {
    "another generation": ("", "", "the tables were not trained together: "),
    "a list of something else": (
        'lists = "popular"',
        'lists = "films"',
        "table 'films' holds features; lists are wanted",
    ),
    "a popular list that is not there": (
        'lists = "popular"\ncount = 2',
        'lists = "popular"\nkey = 5\ncount = 2',
        "'popular' has no list under 5",
    ),
    "text among numbers": (
        'lists = "popular"\ncount = 2',
        'lists = "words"\ncount = 2',
        "the keys of items are text in 'words' and whole numbers in ",
    ),
    "a reply that is no column": ('["year", ', '["title", ', "'films' has no column 'title'"),
    "a rule on no column": (
        SEEN_FILTER,
        '[[filters]]\nkeep = "length > 3"\n',
        "the rule on 'length': 'films' has no such column; it has: year, genres, price, vector",
    ),
    "a rule that compares text with a number": (
        SEEN_FILTER,
        '[[filters]]\nkeep = "genres > 3"\n',
        "the rule on 'genres' compares it with 3; the column holds text",
    ),
    "a rule that compares a number with text": (
        SEEN_FILTER,
        '[[filters]]\nkeep = "year == \'x\'"\n',
        "the rule on 'year' compares it with 'x'; the column holds a number",
    ),
    "a rule on vectors": (
        SEEN_FILTER,
        '[[filters]]\nkeep = "vector > 3"\n',
        "the column holds a vector of 2",
    ),
    "a cap on no column": (
        "[[candidates]]",
        '[[rerank]]\nby = "cap"\nfeature = "x"\nmost = 1\n[[candidates]]',
        "'films' has no column 'x'",
    ),
    "a cap on vectors": (
        "[[candidates]]",
        '[[rerank]]\nby = "cap"\nfeature = "vector"\nmost = 1\n[[candidates]]',
        "[[rerank]] cannot go by 'vector': it holds vectors",
    ),
    "a dot of features": (
        'near = { dot = ["person_vectors", "film_vectors"] }',
        'near = { dot = ["people", "film_vectors"] }',
        "table 'people' holds features; embeddings are wanted",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("old", "new", "says"), UNOPENED.values(), ids=UNOPENED.keys())
def test_what_does_not_fit_is_found_when_it_is_opened(place: Place, old: str, new: str, says: str):
    if not old:
        place.generations = {"people": "a", "films": "b"}
        place.write()
    text = WHOLE.replace(old, new, 1) if old else WHOLE
    if "words" in new:
        text = text.replace("[tables]", '[tables]\nwords = "words"')
    with pytest.raises(UnsupportedModel) as caught:
        place.open(text)
    assert says in str(caught.value)


def test_one_generation_is_told_in_the_reply(place: Place):
    place.generations = {"people": "a", "films": "a"}
    place.write()
    assert place.open().recommend(Ask(1, context=HOUR)).generation == "a"
