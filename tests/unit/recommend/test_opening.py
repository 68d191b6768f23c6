"""What does not fit is found when a recommender is opened."""

from __future__ import annotations

import pytest
from expected import (
    HOUR,
    SEEN_FILTER,
)
from films_by_hand import WHOLE, Place

from martlet.errors import (
    UnsupportedModel,
)
from martlet.recommend.recommender import Ask

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
    "a reply that is not a column": ('["year", ', '["title", ', "'films' has no column 'title'"),
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
