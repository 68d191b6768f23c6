"""Stored lists."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from martlet.errors import InvalidInput
from martlet.stores import Lists, write_lists

INTS = st.integers(-(2**40), 2**40)
TEXTS = st.text("abcdé", min_size=1, max_size=5)


def tables(keys, items):
    return st.dictionaries(keys, st.lists(items, unique=True, max_size=6), min_size=1)


class TestRoundTrip:
    @settings(max_examples=60)
    @given(
        lists=st.one_of(tables(INTS, INTS), tables(TEXTS, TEXTS), tables(INTS, TEXTS)),
        limit=st.none() | st.integers(0, 4),
        scored=st.booleans(),
    )
    def test_every_key_has_its_items_in_order(self, tmp_path, lists, limit, scored):
        scores = {key: [-i / 2 for i in range(len(items))] for key, items in lists.items()}
        write_lists(tmp_path / "t", lists, scores if scored else None, generation="g")
        table = Lists(tmp_path / "t")
        keys = list(lists)
        unknown = "zz" if isinstance(keys[0], str) else 2**50
        asked = [*reversed(keys), unknown, keys[0]]
        found = table.get_many(asked, limit)
        for i, key in enumerate(asked):
            part = slice(found.offsets[i], found.offsets[i + 1])
            assert found.items[part].tolist() == list(lists.get(key, []))[:limit]
            if scored:
                assert found.scores[part].tolist() == scores.get(key, [])[:limit]
        for key in keys:
            items, its_scores = table.get(key)
            assert items.tolist() == lists[key]
            assert (its_scores is not None) == scored
        assert table.get(unknown) is None
        assert (len(table), table.generation, table.scored) == (len(lists), "g", scored)
        table.verify()
        assert [key for part, _ in table.scan(batch=2) for key in part.tolist()] == keys


class TestRefusals:
    @pytest.mark.parametrize(
        ("lists", "scores", "says"),
        [
            ({1: [5, 6, 5]}, None, "key 1 has an item twice"),
            ({1: [5]}, {1: [0.1, 0.2]}, "key 1 has 1 items and 2 scores"),
            ({1: [5]}, {}, "key 1 has 1 items and 0 scores"),
            ({1: [5], 2: [6]}, {1: [1.0], 2: [float("nan")]}, "score of key 2 is NaN"),
            ({1: [5], "a": [6]}, None, "integers"),
            ({1: [5], 2: ["a"]}, None, "integers"),
        ],
    )
    def test_what_does_not_fit_is_named(self, tmp_path, lists, scores, says):
        with pytest.raises(InvalidInput, match=says):
            write_lists(tmp_path / "t", lists, scores)

    def test_no_lists_at_all_is_a_table_in_which_nothing_is_found(self, tmp_path):
        write_lists(tmp_path / "t", {})
        assert Lists(tmp_path / "t").get(1) is None
        assert Lists(tmp_path / "t").get_many(np.array([1, 2])).offsets.tolist() == [0, 0, 0]
