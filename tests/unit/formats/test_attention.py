"""What a candidate makes of a history is what the whole attention unit gives, by either twin.

Expected: layers over ``[q, k, q - k, q * k]`` for every pair, as they were trained, in float64.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from martlet import native
from martlet.errors import UnsupportedModel
from martlet.formats.package.attention import Attention
from martlet.formats.package.cross import Cross
from martlet.formats.package.dense import Activation, Dense

compiled = native.find("attention")
FUNCTIONS = {
    Activation.IDENTITY: lambda x: x,
    Activation.RELU: lambda x: np.maximum(x, 0),
    Activation.SIGMOID: lambda x: 1 / (1 + np.exp(-x)),
    Activation.TANH: np.tanh,
    Activation.LEAKY: lambda x: np.where(x < 0, 0.2 * x, x),
    Activation.SILU: lambda x: x / (1 + np.exp(-x)),
    Activation.GELU: lambda x: x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2,
}


class Whole:
    """An attention unit as it was trained, and what a split makes of it."""

    def __init__(self, seed, dim, widths, activation, softmax, masked):
        rng = np.random.default_rng(seed)

        def made(*shape):
            return rng.standard_normal(shape).astype(np.float32) / np.float32(2)

        self.dim, self.activation, self.softmax, self.masked = dim, activation, softmax, masked
        sizes = [4 * dim, *widths, 1]
        self.layers = [(made(a, b) / np.float32(np.sqrt(a)), made(b)) for a, b in pairwise(sizes)]

    def pooled(self, query, keys, seen, values):
        """What one candidate makes of one history: the sum of the values by their weights."""
        found = np.concatenate(
            [np.broadcast_to(query, keys.shape), keys, query - keys, query * keys], axis=1
        ).astype(float)
        for at, (weights, bias) in enumerate(self.layers):
            found = found @ weights + bias
            if at + 1 < len(self.layers):
                found = FUNCTIONS[self.activation](found)
        scores = found[:, 0]
        if self.softmax:
            scores = np.where(seen, scores, -1e9) if self.masked else scores
            scores = np.exp(scores - scores.max())
            return scores / scores.sum() @ values
        return (scores * seen if self.masked else scores) @ values

    def split(self, out=None):
        """The unit, and what it takes of a history and of items."""
        d, weights = self.dim, self.layers[0][0]
        w1, w2, w3, w4 = (weights[k * d : (k + 1) * d] for k in range(4))
        last = len(self.layers) - 1
        layers = tuple(
            Dense(w4 if not k else w, b, *(() if k == last else (self.activation, 0.2)))
            for k, (w, b) in enumerate(self.layers)
        )
        gated = self.softmax and self.masked

        def history(keys, seen, values):
            rows = [keys, keys @ (w2 - w3)]
            if gated:
                rows += [seen[:, None] * 1.0, np.where(seen, 0.0, -1e9)[:, None]]
            elif self.masked:
                values = values * seen[:, None]
            return np.hstack([*rows, values]).astype(np.float32)

        def items(queries):
            return np.hstack([queries, queries @ (w1 + w3)]).astype(np.float32)

        return Attention(layers, softmax=self.softmax, gated=gated, out=out), history, items


def features(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


class TestAUnitGivesWhatTheWholeOneGives:
    # The kernel stays the same for all examples, which is what is wanted.
    @settings(max_examples=30)
    @given(data=st.data())
    def test_whatever_its_sizes(self, kernel, data):
        whole = Whole(
            data.draw(st.integers(0, 99)),
            data.draw(st.integers(1, 40), "dim"),
            data.draw(st.lists(st.integers(1, 50), max_size=3), "widths"),
            data.draw(st.sampled_from(list(Activation))),
            data.draw(st.booleans(), "softmax"),
            data.draw(st.booleans(), "masked"),
        )
        positions, width = data.draw(st.integers(1, 70)), data.draw(st.integers(1, 140))
        narrow = data.draw(st.none() | st.integers(1, 50), "narrow")
        out = None if narrow is None else features(7, narrow, width)
        unit, history, items = whole.split(out)
        users, count = data.draw(st.integers(1, 3), "users"), data.draw(st.integers(0, 20), "rows")
        rng = np.random.default_rng(5)
        keys, values = (
            features(1, users, positions, whole.dim),
            features(2, users, positions, narrow or width),
        )
        seen = rng.random((users, positions)) < data.draw(st.sampled_from([0.0, 0.4, 1.0]))
        queries = features(3, 11, whole.dim)
        rows, of_user = rng.integers(-1, 11, count), np.sort(rng.integers(0, users, count))
        shares = features(4, count, width)
        wide = np.eye(width) if out is None else out.astype(float)
        expected = [
            shares[n] + whole.pooled(queries[rows[n]], keys[u], seen[u], values[u] @ wide)
            for n, u in enumerate(of_user)
        ]
        given_rows = np.stack([history(*each) for each in zip(keys, seen, values, strict=True)])
        table = np.hstack([features(6, 11, 3), items(queries)])
        unit.add(shares, given_rows, table, 3, rows, None if users == 1 else of_user)
        np.testing.assert_allclose(shares, np.reshape(expected, shares.shape), 1e-4, 1e-4)

    def test_a_mask_by_infinity_hides_as_well(self, kernel):
        unit, history, items = Whole(0, 4, [5], Activation.RELU, True, True).split()
        seen = np.array([True, False, True, False])
        rows = history(features(1, 4, 4), seen, features(2, 4, 6))[None]
        infinite = rows.copy()
        infinite[0, ~seen, unit.width + 1] = -np.inf
        found = np.zeros((2, 3, 6), np.float32)
        for at, each in enumerate((rows, infinite)):
            unit.add(found[at], each, items(features(3, 3, 4)), 0, np.arange(3))
        assert np.array_equal(found[0], found[1])

    def test_a_candidate_is_weighed_alike_wherever_it_stands(self, kernel):
        unit, history, items = Whole(1, 8, [9], Activation.SIGMOID, False, True).split()
        rows = history(features(1, 30, 8), np.arange(30) < 20, features(2, 30, 17))[None]
        table, found = items(features(3, 20, 8)), np.zeros((20, 17), np.float32)
        unit.add(found, rows, table, 0, np.arange(20))
        for at in range(20):
            alone = np.zeros((1, 17), np.float32)
            unit.add(alone, rows, table, 0, np.array([at]))
            np.testing.assert_allclose(alone[0], found[at], 1e-6, 1e-6)


class TestWhatDoesNotFit:
    unit, _, items = Whole(0, 4, [5], Activation.RELU, False, False).split()
    table = items(features(0, 7, 4))

    def add(self, kernel, width=6, rows=(0, 1), of_user=None, users=1, dtype=np.float32):
        unit = Whole(0, 4, [5], Activation.RELU, False, False).split()[0]
        history = np.zeros((users, 3, unit.before_values + width), dtype)
        shares = np.zeros((len(rows), 6), np.float32)
        unit.add(shares, history, self.table, 0, np.array(rows), of_user)

    def test_a_history_of_another_width(self, kernel):
        with pytest.raises(ValueError, match="not those of this unit"):
            self.add(kernel, width=5)

    @pytest.mark.parametrize("row", [7, -2])
    def test_an_item_that_is_not_there(self, kernel, row):
        with pytest.raises(IndexError, match=f"{row}"):
            self.add(kernel, rows=(0, row))

    def test_a_user_who_is_not_there(self, kernel):
        with pytest.raises(IndexError, match="2"):
            self.add(kernel, of_user=np.array([0, 2]), users=2)

    def test_values_for_other_shares(self, kernel):
        whole = Whole(0, 4, [5], Activation.RELU, False, False)
        unit, history, _ = whole.split(np.zeros((3, 7), np.float32))
        rows = history(features(1, 2, 4), np.ones(2), features(2, 2, 3))[None]
        with pytest.raises(ValueError, match=r"not those of this unit|broadcast"):
            unit.add(np.zeros((2, 6), np.float32), rows, self.table, 0, np.arange(2))

    @pytest.mark.skipif(compiled is None, reason="numpy takes what it is given")
    def test_another_dtype(self):
        with pytest.raises(ValueError, match="history must be float32"):
            self.add("", dtype=np.float64)

    def test_layers_that_do_not_end_in_one_number(self, kernel):
        layer = Dense(np.zeros((2, 3), np.float32), np.zeros(3, np.float32))
        with pytest.raises(ValueError, match="one number"):
            Attention((layer,))

    def test_layers_that_do_not_go_together(self, kernel):
        one = Dense(np.zeros((2, 3), np.float32), np.zeros(3, np.float32))
        other = Dense(np.zeros((4, 1), np.float32), np.zeros(1, np.float32))
        with pytest.raises(ValueError, match="takes 3 and gives 1"):
            Attention((one, other))


class TestWithinACrossPart:
    def made(self):
        unit, history, items = Whole(2, 4, [5], Activation.TANH, True, True).split()
        rng = np.random.default_rng(0)
        layer = Dense(*(rng.random(each).astype(np.float32) for each in ((6, 1), 1)))
        cross = Cross(6, 2, True, (layer,), Activation.RELU, attention=(unit,))
        rows = history(features(1, 5, 4), np.arange(5) < 3, features(2, 5, 9))[None]
        table = np.hstack([features(3, 8, 9), items(features(4, 8, 4))])
        return cross, features(5, 1, 9), table, [rows]

    def test_each_candidate_has_a_share_of_its_own(self, kernel):
        cross, user, table, histories = self.made()
        found = cross.score(user, table, np.arange(8), histories=histories)
        shares = np.repeat(user, 8, axis=0)
        cross.attention[0].add(shares, histories[0], table, 9, np.arange(8))
        plain = Cross(6, 2, True, cross.layers, Activation.RELU)
        each = plain.score(shares, np.ascontiguousarray(table[:, :9]), np.arange(8), np.arange(8))
        np.testing.assert_allclose(found, each, 1e-6)

    def test_its_file_holds_it_whole(self, kernel, tmp_path):
        cross, user, table, histories = self.made()
        cross.save(tmp_path / "c.npz")
        found = Cross.load(tmp_path / "c.npz")
        assert (found.item_width, found.user_widths) == (cross.item_width, cross.user_widths)
        rows = np.arange(8)
        expected = cross.score(user, table, rows, histories=histories)
        assert np.array_equal(found.score(user, table, rows, histories=histories), expected)

    def test_a_file_without_one_of_its_layers_is_refused(self, kernel, tmp_path):
        cross, *_ = self.made()
        cross.save(tmp_path / "c.npz")
        arrays = dict(np.load(tmp_path / "c.npz"))
        del arrays["attention0_weights1"]
        np.savez(tmp_path / "c.npz", **arrays)
        with pytest.raises(UnsupportedModel, match="is not a cross part"):
            Cross.load(tmp_path / "c.npz")

    def test_a_history_that_is_missing(self, kernel):
        cross, user, table, _ = self.made()
        with pytest.raises(ValueError, match="1 units, and 0 histories"):
            cross.score(user, table, np.arange(8))
