"""Declarations: what is wrong with one is said with its place and its remedy."""

from __future__ import annotations

from dataclasses import replace

import pytest

from martlet.errors import InvalidInput
from martlet.names import ModelRef
from martlet.recommend.declaration import (
    ByDot,
    ByModel,
    Cap,
    Column,
    Dedupe,
    Diversity,
    Dot,
    DropSeen,
    DropUnknown,
    Given,
    KeepWhere,
    Key,
    Neighbours,
    Popular,
    Similar,
    Stored,
    Vector,
)
from martlet.recommend.reading import parse

SMALL = """
[recommender]
{head}
[tables]
films = "films"
people = "people"
lists = "lists"
{tables}
[[candidates]]
from = "popular"
lists = "lists"
{candidates}
{more}
"""


def small(head: str = "", tables: str = "", candidates: str = "", more: str = "") -> str:
    return SMALL.format(head=head, tables=tables, candidates=candidates, more=more)


def test_the_smallest_declaration_has_defaults_for_all_else():
    declared = parse(small(), "x.toml")
    assert (declared.unit, declared.size, declared.max_size) == ("user", 10, 100)
    assert (declared.cold, declared.items, declared.reply) == ("popular", "", ())
    assert declared.candidates == (Popular("popular", "lists", "all", 100),)
    assert declared.filters == declared.ranking == declared.rerank == declared.models == ()


def test_a_whole_declaration_is_read_key_by_key():
    declared = parse(
        small(
            head='unit = "session"\nsize = 5\nmax_size = 9\ncold = "refuse"\nitems = "films"\n'
            'reply = ["title"]',
            candidates='key = 7\ncount = 3\nname = "loved"',
            more="""
[[candidates]]
from = "neighbours"
query = "people"
items = "films"
[[candidates]]
from = "similar"
lists = "lists"
history = "lists"
recent = 4
[[candidates]]
from = "stored"
lists = "lists"
[[filters]]
drop = "seen"
history = "lists"
[[filters]]
drop = "unknown"
[[filters]]
keep = "year >= 1990"
[[filters]]
keep = "genres != 'Horror'"
items = "people"
[[ranking]]
model = "ranker@stable"
output = "p"
units = "people"
items = "films"
[ranking.features]
a = "people.age"
b = "films.year"
c = "request.hour"
d = "unit"
e = "item"
f = { dot = ["people", "films"] }
g = { unit = "people" }
h = { item = "films" }
i = { request = "device", default = "tv" }
[[ranking]]
dot = ["people", "films"]
[[rerank]]
by = "dedupe"
feature = "title"
[[rerank]]
by = "cap"
feature = "genres"
most = 2
[[rerank]]
by = "diversity"
vectors = "films"
weight = 0.25
""",
        ),
        "x.toml",
    )
    assert (declared.unit, declared.size, declared.max_size) == ("session", 5, 9)
    assert (declared.cold, declared.items, declared.reply) == ("refuse", "films", ("title",))
    assert declared.candidates == (
        Popular("loved", "lists", 7, 3),
        Neighbours("neighbours", "people", "films", 100),
        Similar("similar", "lists", "lists", 4, 100),
        Stored("stored", "lists", 100),
    )
    assert declared.filters == (
        DropSeen("lists"),
        DropUnknown("films"),
        KeepWhere("films", "year", ">=", 1990),
        KeepWhere("people", "genres", "!=", "Horror"),
    )
    ranker = ModelRef("ranker", label="stable")
    assert declared.ranking == (
        ByModel(
            ranker,
            "p",
            "people",
            "films",
            {
                "a": Column("unit", "age"),
                "b": Column("item", "year"),
                "c": Given("hour"),
                "d": Key("unit"),
                "e": Key("item"),
                "f": Dot("people", "films"),
                "g": Vector("unit", "people"),
                "h": Vector("item", "films"),
                "i": Given("device", "tv"),
            },
        ),
        ByDot("people", "films"),
    )
    assert declared.models == (ranker,)
    assert declared.rerank == (Dedupe("title"), Cap("genres", 2), Diversity("films", 0.25))


BAD = {
    "no TOML": ("[recommender", "x.toml is not TOML: "),
    "no candidates": ("[tables]\n", "x.toml has no [[candidates]]: say where items come from"),
    "a head that is not a table": ("recommender = 5", "[recommender] is int 5; a table of keys is"),
    "an unknown part": (small(more="[rankings]"), "x.toml does not take 'rankings'; it takes: "),
    "an unknown key": (small(head="sizes = 3"), "[recommender] does not take 'sizes'; it takes: "),
    "a size of the wrong type": (small(head='size = "x"'), "'size' is 'x'; a whole number of 1"),
    "a size that is a truth value": (small(head="size = true"), "'size' is True; a whole number"),
    "a size of none": (small(head="size = 0"), "'size' is 0; a whole number of 1 or more"),
    "a size beyond the largest": (small(head="size = 101"), "'size' is 101 and 'max_size' 100"),
    "a unit that is not text": (small(head="unit = 5"), "'unit' is 5; text is wanted"),
    "another cold": (small(head='cold = "hot"'), "'cold' is 'hot'; 'popular' or 'refuse' is"),
    "a reply that is not a list": (small(head='reply = "t"'), "'reply' is 't'; a list of text is"),
    "a reply without items": (small(head='reply = ["t"]'), "need 'items' in [recommender]"),
    "a reply of its own word": (
        small(head='items = "films"\nreply = ["score"]'),
        "'reply' names 'score', which every reply has of its own; call the column something else",
    ),
    "an undeclared table of items": (
        small(head='items = "movies"'),
        "[recommender] names the table 'movies'; [tables] has: films, people, lists",
    ),
    "a table that is not text": (small(tables="x = 5"), "[tables]: 'x' is 5; text is wanted"),
    "one bracket": ('[candidates]\nfrom = "stored"', "write [[candidates]], with two brackets"),
    "a source of no kind": ("[[candidates]]", "[[candidates]] number 1 lacks 'from': neighbours"),
    "a source of another kind": (
        '[[candidates]]\nfrom = "magic"',
        "number 1: 'from' is 'magic'; 'neighbours' or 'similar' or 'stored' or 'popular' is wanted",
    ),
    "a source without a list": (
        '[[candidates]]\nfrom = "stored"',
        "[[candidates]] number 1 lacks 'lists': text is wanted",
    ),
    "a source of an undeclared list": (
        '[[candidates]]\nfrom = "stored"\nlists = "l"',
        "number 1 names the table 'l'; [tables] has: none",
    ),
    "a count of none": (small(candidates="count = 0"), "'count' is 0; a whole number of 1"),
    "a key that is a list": (small(candidates="key = [1]"), "'key' is [1]; text, a number or a"),
    "another source's key": (small(candidates="recent = 3"), "does not take 'recent'"),
    "a filter of no kind": (small(more="[[filters]]"), "lacks 'drop' (seen, unknown) or 'keep'"),
    "a filter of another kind": (
        small(more='[[filters]]\ndrop = "all"'),
        "'drop' is 'all'; 'seen' or 'unknown' is wanted",
    ),
    "seen without a history": (small(more='[[filters]]\ndrop = "seen"'), "lacks 'history'"),
    "unknown without a table": (small(more='[[filters]]\ndrop = "unknown"'), "lacks 'items'"),
    "drop and keep": (
        small(more='[[filters]]\nkeep = "a > 1"\nitems = "films"\ndrop = "seen"'),
        "does not take 'drop'",
    ),
    "a rule that is none": (
        small(head='items = "films"', more='[[filters]]\nkeep = "year"'),
        "'year' is not a rule; write a feature, one of >= <= > < == != and a value",
    ),
    "a rule with a bare word": (
        small(head='items = "films"', more='[[filters]]\nkeep = "genres == War"'),
        "'War' is not a value; write a number, true, false or 'text'",
    ),
    "a rule with a date": (
        small(head='items = "films"', more='[[filters]]\nkeep = "day > 2020-01-01"'),
        "'2020-01-01' is not a value",
    ),
    "a step of no kind": (small(more="[[ranking]]"), "lacks 'model' (a registered one) or 'dot'"),
    "a model that cannot be one": (
        small(more='[[ranking]]\nmodel = "a b"'),
        "[[ranking]] number 1: 'a b' cannot name a model",
    ),
    "a dot of one": (
        small(more='[[ranking]]\ndot = ["films"]'),
        "'dot' is ['films']; two tables of vectors are wanted",
    ),
    "a model and a dot": (
        small(more='[[ranking]]\nmodel = "m"\ndot = ["films", "people"]'),
        "does not take 'dot'",
    ),
    "a feature from nowhere": (
        small(more='[[ranking]]\nmodel = "m"\n[ranking.features]\nx = "people.age"'),
        "[features] 'x' is 'people.age'; write 'unit', 'item', 'request.field', or a column of",
    ),
    "a feature of the wrong type": (
        small(more='[[ranking]]\nmodel = "m"\n[ranking.features]\nx = 5'),
        "[features] 'x' is int 5; a table of keys is wanted",
    ),
    "a feature of too much": (
        small(more='[[ranking]]\nmodel = "m"\n[ranking.features]\nx = {unit="films",item="films"}'),
        "does not take 'item'",
    ),
    "a re-ranking of no kind": (
        small(head='items = "films"', more="[[rerank]]"),
        "lacks 'by': dedupe, cap or diversity",
    ),
    "a cap of none": (
        small(head='items = "films"', more='[[rerank]]\nby = "cap"\nfeature = "g"'),
        "lacks 'most': a whole number of 1 or more is wanted",
    ),
    "a weight beyond 1": (
        small(
            head='items = "films"',
            more='[[rerank]]\nby = "diversity"\nvectors = "films"\nweight = 2',
        ),
        "'weight' is 2; a number from 0 to 1 is wanted",
    ),
    "a re-ranking without items": (
        small(more='[[rerank]]\nby = "dedupe"\nfeature = "t"'),
        "need 'items' in [recommender]",
    ),
}


@pytest.mark.parametrize(("text", "says"), BAD.values(), ids=BAD.keys())
def test_what_is_wrong_is_said_with_its_place(text: str, says: str):
    with pytest.raises(InvalidInput) as caught:
        parse(text, "x.toml")
    assert says in str(caught.value)
    assert "x.toml" in str(caught.value)


def test_bytes_that_are_no_text_are_told():
    with pytest.raises(InvalidInput, match=r"x\.toml is not UTF-8"):
        parse(b"\xff\xfe", "x.toml")


@pytest.mark.parametrize(
    ("literal", "value"),
    [("5", 5), ("-1.5", -1.5), ("true", True), ("'War'", "War"), ('"a b"', "a b")],
)
def test_a_rule_compares_with_any_plain_value(literal: str, value: object):
    text = small(head='items = "films"', more=f"[[filters]]\nkeep = '''a.b-c == {literal}'''")
    (found,) = parse(text, "x.toml").filters
    assert found == replace(KeepWhere("films", "a.b-c", "==", 0), value=value)
