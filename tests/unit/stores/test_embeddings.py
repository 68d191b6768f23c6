"""Embedding tables give back what was written, by key, and zeros where there is nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from martlet.errors import InvalidInput
from martlet.stores import Embeddings, write_embeddings

ANYWHERE = settings(
    max_examples=60,
)
INT64 = st.integers(-(2**63), 2**63 - 1)
CLOSE = st.integers(-500, 500)
KEYS = st.one_of(
    st.lists(INT64, unique=True),
    st.lists(CLOSE, unique=True),
    st.lists(
        st.text(max_size=12).filter(lambda s: not any("\ud800" <= c < "\ue000" for c in s)),
        unique=True,
        min_size=1,
    ),
)


def written(path, keys, vectors, **options):
    write_embeddings(path, keys, vectors, **options)
    return Embeddings(path)


class TestRoundTrip:
    @ANYWHERE
    @given(data=st.data(), keys=KEYS, dim=st.integers(1, 5))
    def test_every_key_has_its_vector_and_no_other_key_has_one(self, tmp_path, data, keys, dim):
        finite = st.floats(-(2.0**99), 2.0**99, width=32)
        vectors = data.draw(hnp.arrays(np.float32, (len(keys), dim), elements=finite))
        table = written(tmp_path / "t", keys, vectors, generation="g7")
        order = data.draw(st.permutations(range(len(keys))))
        others = data.draw(st.lists(INT64 if not keys or isinstance(keys[0], int) else st.text()))
        asked = [keys[i] for i in order] + [key for key in others if key not in set(keys)]
        found, known = table.get_many(asked)
        assert known.tolist() == [True] * len(order) + [False] * (len(asked) - len(order))
        assert np.array_equal(found[: len(order)], vectors[list(order)])
        assert not found[len(order) :].any()
        assert table.generation == "g7"
        assert table.keys.all.tolist() == keys
        assert np.array_equal(table.vectors, vectors)
        table.verify()
        scanned = [(k.tolist(), v.vectors) for k, v in table.scan(batch=3)]
        assert [key for part, _ in scanned for key in part] == keys

    def test_many_keys_that_hash_alike_are_all_found(self, tmp_path):
        rng = np.random.default_rng(0)
        for keys in (
            np.unique(rng.integers(-(2**63), 2**63 - 1, 20_000)),
            np.arange(20_000) << 40,
            [f"user-{i}" for i in range(20_000)],
        ):
            table = written(tmp_path / "t", keys, np.arange(20_000, dtype=np.float32)[:, None])
            assert table.rows_of(keys).tolist() == list(range(20_000))
        # Both have the CRC-32 4ddb0c25.
        table = written(tmp_path / "t", ["plumless", "buckeroo"], [[1.0], [2.0]])
        assert table.rows_of(["buckeroo", "plumless", "buckeroo!"]).tolist() == [1, 0, -1]

    def test_the_ends_of_64_bits_are_keys_like_others(self, tmp_path):
        low, high = -(2**63), 2**63 - 1
        close = written(tmp_path / "a", [high - 1, high], [[1.0], [2.0]])
        assert close.rows_of([low, high, 0, high - 1, high - 2]).tolist() == [-1, 1, -1, 0, -1]
        far = written(tmp_path / "b", [low, high], [[1.0], [2.0]])
        assert far.rows_of([high, low, 0]).tolist() == [1, 0, -1]

    @pytest.mark.parametrize(("precision", "error"), [("float16", 2**-11), ("int8", 1 / 254)])
    def test_a_smaller_precision_errs_by_no_more_than_it_says(self, tmp_path, precision, error):
        vectors = np.random.default_rng(1).standard_normal((500, 16)).astype(np.float32)
        vectors[3] = 0
        table = written(tmp_path / "t", np.arange(500), vectors, precision=precision)
        found = table.take(np.arange(500))
        assert table.precision == precision
        assert found.dtype == np.float32
        largest = np.abs(vectors).max(axis=1, keepdims=True)
        assert (np.abs(found - vectors) <= largest * error * 1.0001).all()
        assert not table.get_many([-5, 3]).vectors.any()

    def test_what_is_open_stays_as_it_was_when_the_file_is_replaced(self, tmp_path):
        old = written(tmp_path / "t", [1], [[1.0]])
        new = written(tmp_path / "t", [1], [[2.0]])
        assert old.take(np.array([0])).item() == 1.0
        assert new.take(np.array([0])).item() == 2.0

    def test_the_rows_cannot_be_written(self, tmp_path):
        table = written(tmp_path / "t", [1], [[1.0]])
        with pytest.raises(ValueError, match="read-only"):
            table.vectors[0, 0] = 5


class TestRefusals:
    @pytest.mark.parametrize(
        ("keys", "vectors", "says"),
        [
            ([1, 2, 1], np.ones((3, 2)), "key 1 comes twice, in rows 0 and 2"),
            (["a", "b", "b"], np.ones((3, 2)), "key 'b' comes twice, in rows 1 and 2"),
            ([1, 2], np.ones((3, 2)), "2 keys came with 3 vectors"),
            ([1, 2], [[1.0, 2.0], [1.0]], "all of one length"),
            ([1, 2], [["a"], ["b"]], "vectors are numbers"),
            ([5, 6], [[1.0], [np.nan]], r"key 6 \(row 1\) is not finite"),
            (["x"], [[np.inf]], r"key 'x' \(row 0\) is not finite"),
            ([1, 2], [1.0, 2.0], r"\[rows, dim\]"),
            ([1], np.ones((1, 0)), r"\[rows, dim\]"),
            ([1.5], [[1.0]], "flat list of integers"),
            ([True], [[1.0]], "flat list of integers"),
            (["a", 1], np.ones((2, 1)), "flat list of strings"),
            ([2**63], [[1.0]], "64 signed bits|flat list"),
            (["\ud800"], [[1.0]], "UTF-8"),
        ],
    )
    def test_what_does_not_fit_is_named(self, tmp_path, keys, vectors, says):
        with pytest.raises(InvalidInput, match=says):
            write_embeddings(tmp_path / "t", keys, vectors)
        assert not list(tmp_path.iterdir())

    def test_float16_does_not_overflow_silently(self, tmp_path):
        with pytest.raises(InvalidInput, match="65504"):
            write_embeddings(tmp_path / "t", [1], [[1e6]], precision="float16")

    @pytest.mark.parametrize("asked", [["a"], [1.5], [[1]], 3, "1", [2**64], [None]])
    def test_keys_of_another_kind_are_refused(self, tmp_path, asked):
        for keys in ([1, 2], [1, 2**50]):
            with pytest.raises(InvalidInput):
                written(tmp_path / "t", keys, np.ones((2, 1))).get_many(asked)

    @pytest.mark.parametrize("asked", [[1], [b"\xff"], [None], 3, [["a"]]])
    def test_keys_that_are_no_strings_are_refused(self, tmp_path, asked):
        with pytest.raises(InvalidInput):
            written(tmp_path / "t", ["a"], [[1.0]]).get_many(asked)

    def test_half_a_surrogate_pair_is_an_unknown_key(self, tmp_path):
        table = written(tmp_path / "t", ["a"], [[1.0]])
        assert table.rows_of(["\ud800", "a"]).tolist() == [-1, 0]
