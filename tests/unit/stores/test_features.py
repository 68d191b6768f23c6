"""Feature tables: typed columns, and a default for what is unknown or missing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from martlet.errors import InvalidInput
from martlet.stores import Features, write_features
from martlet.tensors import DType

ROWS = st.lists(
    st.tuples(
        st.integers(-(2**63), 2**63 - 1),
        st.booleans(),
        st.floats(allow_nan=False),
        st.none() | st.text("abcé", max_size=4),
        st.tuples(st.floats(0, 1, width=32), st.floats(0, 1, width=32)),
        st.none() | st.integers(0, 9),
    ),
    min_size=1,
)


class TestRoundTrip:
    @settings(max_examples=60)
    @given(rows=ROWS)
    def test_columns_come_back_with_their_types(self, tmp_path, rows):
        big, flag, real, text, pair, small = (list(column) for column in zip(*rows, strict=True))
        keys = [f"k{i}" for i in range(len(rows))]
        write_features(
            tmp_path / "t",
            keys,
            {
                "big": big,
                "flag": flag,
                "real": real,
                "text": text,
                "pair": np.array(pair, np.float32),
                "small": small if any(s is not None for s in small) else [0] * len(small),
            },
            defaults={"big": -1, "text": "?", "small": 7, "real": 0.5},
        )
        table = Features(tmp_path / "t")
        found = table.get_many([*keys, "nobody"])
        assert found["big"].tolist() == [*big, -1]
        assert found["flag"].tolist() == [*flag, False]
        assert found["real"].tolist() == [*real, 0.5]
        assert found["text"].tolist() == ["?" if t is None else t for t in text] + ["?"]
        assert found["pair"][:-1].tolist() == [list(p) for p in pair]
        assert np.isnan(found["pair"][-1]).all()
        if any(s is not None for s in small):
            assert found["small"].tolist() == [7 if s is None else s for s in small] + [7]
        assert {name: values.dtype.name for name, values in found.items()} == {
            "big": "int64",
            "flag": "bool",
            "real": "float64",
            "text": "object",
            "pair": "float32",
            "small": "int64",
        }
        assert table.columns["pair"].width == 2
        table.verify()

    def test_only_the_named_columns_are_read(self, tmp_path):
        write_features(tmp_path / "t", [1], {"a": [1], "b": ["x"]})
        table = Features(tmp_path / "t")
        assert list(table.get_many([1], ["b"])) == ["b"]
        with pytest.raises(InvalidInput, match="no column 'c'; it has: a, b"):
            table.get_many([1], ["c"])

    def test_missing_numbers_are_filled_by_the_default(self, tmp_path):
        write_features(
            tmp_path / "t", [1, 2], {"a": [None, 2.0], "b": [math.nan, 1.0]}, defaults={"b": 9.0}
        )
        found = Features(tmp_path / "t").get_many([1, 2])
        assert math.isnan(found["a"][0])
        assert found["b"].tolist() == [9.0, 1.0]

    def test_defaults_without_a_word_are_false_zero_nan_and_nothing(self, tmp_path):
        write_features(tmp_path / "t", [1], {"i": [5], "f": [1.0], "b": [True], "s": ["x"]})
        table = Features(tmp_path / "t")
        assert table.columns["s"].dtype is DType.STRING
        found = {name: values.tolist()[0] for name, values in table.get_many([2]).items()}
        assert math.isnan(found.pop("f"))
        assert found == {"i": 0, "b": False, "s": ""}

    def test_a_large_dictionary_is_read_where_it_lies(self, tmp_path):
        names = [f"title {i}" for i in range(100_002)]
        write_features(tmp_path / "t", np.arange(len(names)), {"title": names})
        found = Features(tmp_path / "t").get_many([100_001, -1, 5])
        assert found["title"].tolist() == ["title 100001", "", "title 5"]


class TestRefusals:
    @pytest.mark.parametrize(
        ("columns", "defaults", "says"),
        [
            ({"a": [1]}, {}, "column 'a' has 1 values for 2 keys"),
            ({"a": ["x", 1]}, {}, "column 'a' mixes int, str"),
            ({"a": [True, 1.5, None]}, {}, "mixes bool, float"),
            ({"a": [[1], [1, 2]]}, {}, "different lengths"),
            ({"a": [1, 2]}, {"b": 1}, "'b', which is not a column"),
            ({"a": [1, 2]}, {"a": "x"}, "int64, so its default cannot be 'x'"),
            ({"a": [1, 2]}, {"a": 0.5}, "int64, so its default cannot be 0.5"),
            ({"a": ["x", "y"]}, {"a": 1}, "string, so its default cannot be 1"),
            ({"a": [1, None, 2**70]}, {}, "64 signed bits"),
            ({"a": np.array([1j, 2j])}, {}, "complex"),
            ({"a": np.ones((2, 1, 1))}, {}, "shape"),
        ],
    )
    def test_what_does_not_fit_is_named(self, tmp_path, columns, defaults, says):
        with pytest.raises(InvalidInput, match=says):
            columns = {
                n: np.array(v, object) if says.startswith("col") and "mixes" in says else v
                for n, v in columns.items()
            }
            write_features(tmp_path / "t", [1, 2], columns, defaults=defaults)
