"""The cross part of a split ranker gives what the whole net gives, by either of its twins.

Expected: the whole net, unsplit, computed in float64.
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from martlet import native
from martlet.formats.package.cross import Cross
from martlet.formats.package.dense import Activation, Dense

compiled = native.find("cross")


FUNCTIONS = {
    Activation.IDENTITY: lambda x, _: x,
    Activation.RELU: lambda x, _: np.maximum(x, 0),
    Activation.SIGMOID: lambda x, _: 1 / (1 + np.exp(-x)),
    Activation.TANH: lambda x, _: np.tanh(x),
    Activation.LEAKY: lambda x, slope: np.where(x < 0, slope * x, x),
    Activation.SILU: lambda x, _: x / (1 + np.exp(-x)),
    Activation.GELU: lambda x, _: x * (1 + np.vectorize(math.erf)(x / math.sqrt(2))) / 2,
}


class Net:
    """A whole net over ``[user; item]``: layers, pairs across the two sides, a linear part."""

    def __init__(self, seed, user, item, widths, dot, linear, activation, mixed=0):
        rng = np.random.default_rng(seed)

        def made(*shape):
            return rng.standard_normal(shape).astype(np.float32) / np.float32(2)

        self.user, self.item, self.dot, self.linear = user, item, dot, linear
        self.activation, self.slope = activation, 0.2
        sizes = [user + item + mixed, *widths]
        self.layers = [(made(a, b) / np.float32(np.sqrt(a)), made(b)) for a, b in pairwise(sizes)]
        self.du, self.di = made(user, dot), made(item, dot)
        self.lu, self.li = made(user, 1), made(item, 1)
        self.mu, self.mi = made(user, mixed), made(item, mixed)

    def score(self, users, items):
        """The net as it was trained, a candidate a row, in float64."""
        users, items = users.astype(float), items.astype(float)
        extra = ((users @ self.du) * (items @ self.di)).sum(1, keepdims=True)
        if self.linear:
            extra += users @ self.lu + items @ self.li
        if not self.layers:
            return FUNCTIONS[self.activation](extra, self.slope)
        found = np.hstack([users, items, (users @ self.mu) * (items @ self.mi)])
        for k, (weights, bias) in enumerate(self.layers):
            last = k + 1 == len(self.layers)
            found = found @ weights + bias + (extra if last else 0)
            used = Activation.SIGMOID if last else self.activation
            found = FUNCTIONS[used](found, self.slope)
        return found

    def split(self):
        """Its cross part, and the shares of users and items."""
        hidden = self.layers[0][1].shape[0] if self.layers else 0
        last = len(self.layers) - 1
        layers = tuple(
            Dense(w, b, Activation.SIGMOID if k == last else self.activation, self.slope)
            for k, (w, b) in enumerate(self.layers)
            if k
        )
        first, bias = self.layers[0] if self.layers else (np.zeros((self.user + self.item, 0)), 0)
        user, item = self.user, self.user + self.item
        about = self.layers and first[item:]
        part = Cross(
            hidden, self.dot, self.linear, layers, self.activation, self.slope,
            mixing=about if len(about) else None,
        )  # fmt: skip

        def share(rows, weights, dot, mixed, line, bias):
            parts = [rows @ weights + bias] if self.layers else []
            parts += [rows @ dot] + ([rows @ mixed] if self.layers else [])
            parts += [rows @ line] if self.linear else []
            return np.hstack(parts).astype(np.float32)

        return (
            part,
            lambda u: share(u, first[:user], self.du, self.mu, self.lu, bias),
            lambda i: share(i, first[user:item], self.di, self.mi, self.li, 0),
        )


_BOUNDED = ("SIGMOID", "TANH")


def features(seed, rows, width):
    return np.random.default_rng(seed).standard_normal((rows, width)).astype(np.float32)


class TestASplitNetScoresAsTheWholeOne:
    # The kernel stays the same for all examples, which is what is wanted.
    @settings(max_examples=25)
    @given(data=st.data())
    def test_whatever_its_sizes(self, kernel, data):
        deep = data.draw(st.booleans(), "deep")
        widths = data.draw(st.lists(st.integers(1, 90), min_size=2, max_size=4)) if deep else []
        dot = data.draw(st.integers(0 if deep else 1, 40), "dot")
        net = Net(
            data.draw(st.integers(0, 99)), 7, 5, widths, dot, data.draw(st.booleans()),
            data.draw(st.sampled_from(list(Activation))), data.draw(st.integers(0, 40), "mixed"),
        )  # fmt: skip
        part, user_share, item_share = net.split()
        users, items = features(1, 3, 7), features(2, 11, 5)
        count = data.draw(st.integers(0, 40), "candidates")
        rng = np.random.default_rng(3)
        rows, of_user = rng.integers(0, 11, count), rng.integers(0, 3, count)
        found = part.score(user_share(users), item_share(items), rows, of_user)
        assert found.dtype == np.float32
        assert found.shape == (count, part.outputs)
        np.testing.assert_allclose(found, net.score(users[of_user], items[rows]), 2e-5, 2e-5)

    def test_one_user_is_taken_once_for_all_candidates(self, kernel):
        part, user_share, item_share = Net(0, 7, 5, [32, 16, 1], 8, True, Activation.RELU).split()
        user, items, rows = features(1, 1, 7), features(2, 50, 5), np.arange(50)[::-1].copy()
        alone = part.score(user_share(user), item_share(items), rows)
        named = part.score(user_share(user), item_share(items), rows, np.zeros(50, np.int64))
        assert np.array_equal(alone, named)

    def test_a_candidate_scores_alike_wherever_it_stands(self, kernel):
        """No candidate sees its neighbours: any batch is its rows, one by one."""
        part, user_share, item_share = Net(4, 7, 5, [40, 24, 1], 3, True, Activation.TANH).split()
        user, items = user_share(features(1, 1, 7)), item_share(features(2, 20, 5))
        together = part.score(user, items, np.arange(20))
        singly = [part.score(user, items, np.array([row])) for row in range(20)]
        np.testing.assert_allclose(together, np.concatenate(singly), 1e-6, 1e-7)

    def test_row_minus_one_is_the_tables_last(self, kernel):
        part, user_share, item_share = Net(0, 7, 5, [8, 1], 2, False, Activation.RELU).split()
        user, items = user_share(features(1, 1, 7)), item_share(features(2, 6, 5))
        assert part.score(user, items, np.array([-1])) == part.score(user, items, np.array([5]))

    @pytest.mark.parametrize("activation", [Activation.RELU, Activation.IDENTITY])
    def test_nan_goes_through(self, kernel, activation):
        """A missing feature that the net does not treat makes its score NaN, and no other's."""
        part, user_share, item_share = Net(0, 7, 5, [20, 8, 1], 0, False, activation).split()
        items = item_share(features(2, 9, 5))
        items[4, 0] = np.nan
        found = part.score(user_share(features(1, 1, 7)), items, np.arange(9))
        assert np.isnan(found[:, 0]).tolist() == [row == 4 for row in range(9)]

    def test_nan_among_mixed_products_is_its_candidates_alone(self, kernel):
        layer = Dense(np.ones((3, 1), np.float32), np.zeros(1, np.float32))
        part = Cross(3, layers=(layer,), mixing=np.ones((2, 3), np.float32))
        user, items = np.ones((1, 5), np.float32), np.ones((20, 5), np.float32)
        items[0, 3] = np.nan
        found = part.score(user, items, np.arange(20))
        assert np.isnan(found[:, 0]).tolist() == [row == 0 for row in range(20)]

    @pytest.mark.parametrize("first", [each for each in Activation if each.name not in _BOUNDED])
    def test_a_sum_past_all_numbers_is_infinite(self, kernel, first):
        """The layer above makes it minus infinity, of which RELU is 0."""
        above = Dense(-np.ones((3, 2), np.float32), np.zeros(2, np.float32), Activation.RELU)
        last = Dense(np.ones((2, 1), np.float32), np.full(1, 0.5, np.float32))
        part = Cross(3, layers=(above, last), first=first)
        user, items = np.full((1, 3), np.inf, np.float32), np.ones((4, 3), np.float32)
        with np.errstate(invalid="ignore"):
            assert part.score(user, items, np.arange(4)).tolist() == [[0.5]] * 4


class TestWhatDoesNotFitIsRefused:
    part = Cross(4, 2, True, (Dense(np.ones((4, 1), np.float32), np.zeros(1, np.float32)),))
    user, items = np.ones((1, 7), np.float32), np.ones((3, 7), np.float32)

    @pytest.mark.parametrize("row", [3, -2, 2**62, -(2**63)])
    def test_a_row_outside_its_table(self, kernel, row):
        with pytest.raises(IndexError, match="3 rows"):
            self.fresh().score(self.user, self.items, np.array([0, row]))

    def test_several_users_and_nobody_says_whose(self, kernel):
        with pytest.raises(ValueError, match="of_user"):
            self.fresh().score(np.ones((2, 7), np.float32), self.items, np.array([0]))

    def fresh(self):
        return Cross(4, 2, True, self.part.layers)

    def test_layers_that_do_not_follow_each_other(self, kernel):
        layer = Dense(np.ones((5, 1), np.float32), np.zeros(1, np.float32))
        with pytest.raises(ValueError, match="takes 4"):
            Cross(4, layers=(layer,))

    def test_more_layers_than_are_taken(self, kernel):
        layer = Dense(np.ones((4, 4), np.float32), np.zeros(4, np.float32))
        with pytest.raises(ValueError, match="16 layers"):
            Cross(4, layers=(layer,) * 17)

    @pytest.mark.parametrize("sizes", [(0, 0, False), (4, 0, False), (0, 0, True, True)])
    def test_sizes_without_sense(self, kernel, sizes):
        layers = self.part.layers if len(sizes) == 4 else ()
        with pytest.raises(ValueError, match="do not fit"):
            Cross(*sizes[:3], layers)


@pytest.mark.skipif(compiled is None, reason="the compiled part was not built")
class TestTheCompiledPartTrustsNobody:
    """Whatever it is handed, it refuses; the checks are its own."""

    layer = (np.ones((4, 1), np.float32), np.zeros(1, np.float32), 0, 0.0)
    mixing = np.zeros((0, 4), np.float32)

    def test_mixing_of_another_shape(self):
        for shape in ((3, 5), (3,), (2, 2, 4)):
            with pytest.raises(ValueError, match="mixing"):
                compiled.Plan(4, 0, 0, 0, 0.0, (self.layer,), np.zeros(shape, np.float32))

    @pytest.mark.parametrize(
        "given",
        [
            (-1, 0, 1, 0, 0.0, ()),
            (4, 0, 0, 9, 0.0, (layer,)),
            (4, 0, 0, 0, 0.0, ()),
            (4, 0, 0, 0, 0.0, (layer,) * 17),
            (4, 0, 0, 0, 0.0, ((np.ones((4, 1)), *layer[1:]),)),
            (4, 0, 0, 0, 0.0, ((layer[0], np.zeros((1, 5), np.float32), 0, 0.0),)),
            (4, 0, 0, 0, 0.0, ((np.ones((3, 1), np.float32), *layer[1:]),)),
            (4, 0, 0, 0, 0.0, (layer[:3],)),
            (4, 0, 0, 0, 0.0, (None,)),
            (2**60, 0, 0, 0, 0.0, (layer,)),
        ],
    )
    def test_a_plan_that_does_not_fit(self, given):
        with pytest.raises((ValueError, TypeError)):
            compiled.Plan(*given, self.mixing)

    @pytest.mark.parametrize(
        "changed",
        [
            {"users": np.ones((1, 5), np.float32)},
            {"users": np.ones((1, 4))},
            {"users": np.ones((0, 4), np.float32)},
            {"items": np.ones((4, 3), np.float32).T},
            {"items": b"1234" * 4},
            {"rows": np.zeros(2, np.int32)},
            {"of": np.zeros(3, np.int64)},
            {"out": np.zeros((3, 1), np.float32)},
            {"out": b"\0" * 8},
        ],
    )
    def test_arrays_that_do_not_fit(self, changed):
        plan = compiled.Plan(4, 0, 0, 0, 0.0, (self.layer,), self.mixing)
        given = {
            "users": np.ones((1, 4), np.float32),
            "of": None,
            "items": np.ones((3, 4), np.float32),
            "rows": np.zeros(2, np.int64),
            "out": np.zeros((2, 1), np.float32),
        }
        with pytest.raises((ValueError, BufferError, TypeError)):
            plan.score(*(given | changed).values())
