"""Small trees, which many rows go down by all their tests at once, beside a walk node by node."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from three_valued import holds

from martlet.formats.trees.builder import Arithmetic, Trees
from martlet.formats.trees.questions import Compare, Member

pytestmark = pytest.mark.usefixtures("walks")
NAN = math.nan


class Grown:
    """Trees, and the same as nested tuples, whose missing values go as YES or NO does."""

    def __init__(self, dice, features, arithmetic, *, sets=True, tests=200):
        self.dice, self.trees, self.answers = dice, Trees(features, arithmetic), 0
        self.shapes = []
        self._tests = [self._test(features, sets) for _ in range(tests)]

    def _test(self, features, sets):
        feature = int(self.dice.integers(features))
        if sets and self.dice.random() < 0.3:
            high = self.dice.choice([64, 150])  # past a mask
            return Member(feature, tuple(self.dice.integers(0, high, 5).tolist()))
        operator = ("<", "<=", ">", ">=")[self.dice.integers(4)]
        return Compare(feature, operator, float(self.dice.integers(-4, 8)) / 2)

    def tests_of(self, kind):
        self._tests = [test for test in self._tests if kind(test)]

    def tree(self, leaves):
        node, shape = self._grow(leaves)
        self.trees.add(node)
        self.shapes.append(shape)

    def _grow(self, leaves):
        if leaves == 1:
            self.answers += 1
            return self.trees.leaf(self.answers - 1), self.answers - 1
        below = int(self.dice.integers(1, leaves))
        yes, no = self._grow(below), self._grow(leaves - below)
        missing = (yes, no)[self.dice.integers(2)]
        test = self._tests[self.dice.integers(len(self._tests))]
        ways = {"yes": yes[0], "no": no[0], "missing": missing[0]}
        if isinstance(test, Member):
            node = self.trees.member(test.feature, test.codes, **ways)
        else:
            node = self.trees.compare(test.feature, test.operator, test.value, **ways)
        return node, (test, yes[1], no[1], missing[1])


def walk(shape, row):
    while isinstance(shape, tuple):
        test, yes, no, missing = shape
        shape = {True: yes, False: no, None: missing}[holds(test, row)]
    return shape


def table(dice, rows, features):
    x = dice.integers(-3, 160, (rows, features)) * dice.choice([0.5, 1.0], (rows, features))
    x[dice.random(x.shape) < 0.15] = dice.choice([NAN, math.inf, -math.inf, -0.0])
    return x


class TestCodes:
    @pytest.mark.parametrize("rows", [1, 50])
    def test_may_be_what_values_are_rounded_to(self, rows):
        dice = np.random.default_rng(rows)
        grown = Grown(dice, 4, Arithmetic.FLOAT64)
        grown.tests_of(lambda test: isinstance(test, Member))
        for leaves in (2, 30, 64, 90):
            grown.tree(leaves)
        forest = grown.trees.build()
        x = table(dice, rows, 4) + dice.choice([0.0, 0.3, -0.6, 0.999], (rows, 4))
        whole = np.trunc(x)
        truncating = dataclasses.replace(forest, truncates=True)
        assert truncating.leaves(x).tolist() == forest.leaves(whole).tolist()
        assert truncating.leaves_of(x[0]) == forest.leaves_of(whole[0])
        assert forest.leaves(x).tolist() == [[walk(s, row) for s in grown.shapes] for row in x]


class TestManyRows:
    @settings(deadline=None, max_examples=40,
              suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
    @given(
        seed=st.integers(0, 2**32 - 1),
        leaves=st.lists(st.sampled_from([1, 2, 5, 16, 31, 32, 33, 63, 64, 65]), max_size=9),
        rows=st.sampled_from([1, 2, 5, 15, 16, 17, 33, 60]),
        features=st.sampled_from([1, 3, 40]),
        float32=st.booleans(),
        sets=st.booleans(),
        tests=st.sampled_from([3, 200]),
    )
    def test_end_where_each_row_walks_to(self, seed, leaves, rows, features, float32, sets, tests):
        dice = np.random.default_rng(seed)
        arithmetic = Arithmetic.FLOAT32 if float32 else Arithmetic.FLOAT64
        grown = Grown(dice, features, arithmetic, sets=sets, tests=tests)
        for count in leaves:
            grown.tree(count)
        forest, x = grown.trees.build(), table(dice, rows, features)
        expected = np.array([[walk(s, row) for s in grown.shapes] for row in x], int)
        expected = expected.reshape(rows, len(leaves))
        for same in (x, x.astype(np.float32), np.asfortranarray(x), np.repeat(x, 2, 1)[:, ::2]):
            assert forest.leaves(same).tolist() == expected.tolist()

        values, weights = dice.normal(size=grown.answers + 1), dice.normal(size=len(leaves))
        target = dice.integers(0, 3, len(leaves))
        for single in (False, True):
            real = np.float32 if single else np.float64
            sums = np.full((rows, 3), 0.1, real)
            for tree, answers in enumerate(expected.T):
                added = (values[answers].astype(real) * real(weights[tree])).astype(real)
                sums[:, target[tree]] += added
            found = forest.sum(
                values, target=target, weights=weights, start=[0.1] * 3, float32=single
            )
            assert found(x).tolist() == sums.astype(float).tolist()
            assert found(np.asfortranarray(x)).tolist() == sums.astype(float).tolist()

    @pytest.mark.parametrize("arithmetic", [Arithmetic.FLOAT32, Arithmetic.FLOAT64])
    def test_of_thousands_of_features_of_which_few_are_tested(self, arithmetic):
        dice = np.random.default_rng(1)
        grown = Grown(dice, 9000, arithmetic, tests=30)
        for count in (31, 64, 8):
            grown.tree(count)
        x = table(dice, 70, 9000)
        expected = [[walk(s, row) for s in grown.shapes] for row in x]
        forest = grown.trees.build()
        assert forest.leaves(x).tolist() == expected
        assert forest.leaves(np.asfortranarray(x)).tolist() == expected
        grown.tree(300)  # too large to be kept so: then all features are laid out
        expected = [[walk(s, row) for s in grown.shapes] for row in x]
        assert grown.trees.build().leaves(np.asfortranarray(x)).tolist() == expected

    def test_of_trees_whose_nodes_have_several_parents(self):
        trees = Trees(2)
        shared = trees.compare(1, "<", 0.0, yes=trees.leaf(0), no=trees.leaf(1),
                               missing=trees.leaf(0))  # fmt: skip
        root = trees.compare(0, "<", 0.0, yes=shared, no=shared, missing=shared)
        for _ in range(8):  # 512 leaves if each had its own
            root = trees.compare(0, ">", 1.0, yes=root, no=root, missing=root)
        trees.add(root)
        trees.add(shared)
        x = np.array([[0.0, -1.0], [2.0, 1.0], [NAN, NAN]] * 8)
        assert trees.build().leaves(x).tolist() == [[0, 0], [1, 1], [0, 0]] * 8

    def test_of_answers_that_are_none(self):
        trees = Trees(1)
        none = trees.leaf()
        trees.add(trees.compare(0, "<", 0.0, yes=none, no=trees.leaf(0), missing=none))
        forest = trees.build()
        x = np.array([[-1.0], [1.0]] * 10)
        assert forest.leaves(x).tolist() == [[-1], [0]] * 10
        assert forest.sum([2.0], target=[0], no_answer=5.0)(x).tolist() == [[5.0], [2.0]] * 10
