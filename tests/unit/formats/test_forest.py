"""Trees, evaluated: compiled and pure, against a walk node by node and the native libraries."""

from __future__ import annotations

import math

import numpy as np
import pytest
from three_valued import holds

from martlet.errors import InvalidInput, UnsupportedModel
from martlet.formats.trees.builder import Arithmetic, Trees
from martlet.formats.trees.questions import Compare, Member

pytestmark = pytest.mark.usefixtures("walks")
NAN = math.nan


def random_forest(rng, trees_wanted, features, depth, arithmetic=Arithmetic.FLOAT64, sets=True):
    """A forest and the same as nested tuples, for the walk."""
    trees = Trees(features, arithmetic)
    shapes, answers = [], 0

    def grow(level):
        nonlocal answers
        if level == 0 or rng.random() < 0.1:
            answers += 1
            return trees.leaf(answers - 1), answers - 1
        yes, yes_shape = grow(level - 1)
        no, no_shape = grow(level - 1)
        missing, missing_shape = ((yes, yes_shape), (no, no_shape), (trees.leaf(), -1))[
            rng.integers(3)
        ]
        feature = int(rng.integers(features))
        if sets and rng.random() < 0.3:
            codes = tuple(int(c) for c in rng.integers(0, 150, 5))
            node = trees.member(feature, codes, yes=yes, no=no, missing=missing)
            return node, (Member(feature, codes), yes_shape, no_shape, missing_shape)
        test = Compare(feature, ("<", "<=", ">", ">=")[rng.integers(4)], float(rng.normal() * 50))
        node = trees.compare(feature, test.operator, test.value, yes=yes, no=no, missing=missing)
        return node, (test, yes_shape, no_shape, missing_shape)

    for _ in range(trees_wanted):
        root, shape = grow(depth)
        trees.add(root)
        shapes.append(shape)
    return trees.build(), shapes, answers


def walk(shape, row):
    while isinstance(shape, tuple):
        test, yes, no, missing = shape
        shape = {True: yes, False: no, None: missing}[holds(test, row)]
    return shape


def table(rng, rows, features):
    x = rng.integers(-20, 160, (rows, features)) + rng.choice([0.0, 0.5], (rows, features))
    x[rng.random(x.shape) < 0.15] = NAN
    return x


class TestLeaves:
    @pytest.mark.parametrize("rows", [0, 1, 7, 8, 9, 300])
    @pytest.mark.parametrize("trees", [1, 8, 21])
    def test_equal_a_walk_node_by_node(self, rows, trees):
        rng = np.random.default_rng(rows * 100 + trees)
        forest, shapes, _ = random_forest(rng, trees, 6, 6)
        x = table(rng, rows, 6)
        expected = [[walk(shape, row) for shape in shapes] for row in x]
        assert forest.leaves(x).tolist() == expected
        assert [forest.leaves_of(row.tolist()) for row in x] == expected

    def test_many_features_and_rows_go_in_blocks(self):
        rng = np.random.default_rng(5)
        forest, shapes, _ = random_forest(rng, 5, 6000, 8, Arithmetic.FLOAT32, sets=False)
        x = table(rng, 50, 6000)  # halves are exact in float32, thresholds may round between
        expected = [[walk(shape, row) for shape in shapes] for row in x]
        assert forest.leaves(x).tolist() == expected
        assert forest.leaves_of(x[3]) == expected[3]
        assert forest.leaves(x.astype(np.float32)).tolist() == expected

    @pytest.mark.parametrize("features", [3, 700, 6000])
    @pytest.mark.parametrize("rows", [1, 17, 40])
    def test_sets_are_asked_in_float32_too_and_in_wide_rows(self, features, rows):
        rng = np.random.default_rng(features + rows)
        forest, shapes, _ = random_forest(rng, 9, features, 7, Arithmetic.FLOAT32)
        x = table(rng, rows, features)
        expected = [[walk(shape, row) for shape in shapes] for row in x]
        assert forest.leaves(x).tolist() == expected
        assert forest.leaves(x.astype(np.float32)).tolist() == expected
        assert forest.leaves_of(x[0].tolist()) == expected[0]
        assert forest.leaves_of(x[0].astype(np.float32)) == expected[0]

    def test_views_and_other_dtypes_are_taken(self):
        rng = np.random.default_rng(6)
        forest, shapes, _ = random_forest(rng, 3, 4, 4)
        x = rng.integers(0, 100, (20, 8))[::2, ::2]
        assert forest.leaves(x).tolist() == [[walk(s, row) for s in shapes] for row in x]

    @pytest.mark.parametrize("dtype", [np.float32, np.float64])
    def test_rows_may_lie_unaligned(self, dtype):
        rng = np.random.default_rng(8)
        forest, _, _ = random_forest(rng, 3, 4, 4)
        x = table(rng, 20, 4).astype(dtype)
        odd = np.frombuffer(b"\0" + x.tobytes(), np.uint8)[1:].view(dtype).reshape(x.shape)
        assert not odd.flags.aligned
        assert forest.leaves(odd).tolist() == forest.leaves(x).tolist()
        assert forest.leaves_of(odd[3]) == forest.leaves_of(x[3])

    def test_a_forest_of_no_trees_and_a_tree_of_one_leaf(self):
        assert Trees(0).build().leaves(np.empty((2, 0))).shape == (2, 0)
        trees = Trees(0)
        trees.add(trees.leaf(4))
        trees.add(trees.leaf())
        assert trees.build().leaves(np.empty((3, 0))).tolist() == [[4, -1]] * 3
        assert trees.build().leaves_of([]) == [4, -1]

    def test_a_deep_chain_is_walked(self):
        trees = Trees(1)
        target = trees.leaf(0)
        for depth in range(5000):
            target = trees.compare(
                0, ">", float(depth), yes=trees.leaf(depth), no=target, missing=target
            )
        trees.add(target)
        assert trees.build().leaves(np.array([[-1.0], [0.5], [4999.5], [NAN]]))[:, 0].tolist() == [
            0, 0, 4999, 0,
        ]  # fmt: skip


class TestArithmetic:
    def x(self):
        return np.array([[0.1], [np.float32(0.1)], [0.1 + 1e-12], [1e300], [-1e300]])

    @pytest.mark.parametrize(
        ("arithmetic", "operator", "expected"),
        [
            (Arithmetic.FLOAT64, "<=", [1, 0, 0, 0, 1]),
            (Arithmetic.FLOAT64, "<", [0, 0, 0, 0, 1]),
            (Arithmetic.FLOAT32, "<=", [1, 1, 1, 0, 1]),
            (Arithmetic.FLOAT32, "<", [0, 0, 0, 0, 1]),
            (Arithmetic.FLOAT32, "==", [1, 1, 1, 0, 0]),
            # float32(0.1) is above 0.1
            (Arithmetic.FLOAT32_VALUES, "<=", [0, 0, 0, 0, 1]),
            (Arithmetic.FLOAT32_VALUES, "==", [0, 0, 0, 0, 0]),
            (Arithmetic.FLOAT32_VALUES, ">=", [1, 1, 1, 1, 0]),
        ],
    )
    def test_values_are_compared_in_the_precision_of_the_forest(
        self, arithmetic, operator, expected
    ):
        trees = Trees(1, arithmetic)
        trees.add(
            trees.compare(
                0, operator, 0.1, yes=trees.leaf(1), no=trees.leaf(0), missing=trees.leaf()
            )
        )
        forest = trees.build()
        assert forest.leaves(self.x())[:, 0].tolist() == expected
        assert [forest.leaves_of(list(row))[0] for row in self.x()] == expected


class TestSum:
    @pytest.mark.parametrize("rows", [1, 40])
    @pytest.mark.parametrize("float32", [False, True])
    def test_adds_in_the_order_of_the_trees(self, rows, float32):
        rng = np.random.default_rng(rows)
        forest, shapes, answers = random_forest(rng, 13, 5, 5)
        x = table(rng, rows, 5)
        values, weights = rng.normal(size=(answers, 3)), rng.normal(size=13)
        real = np.float32 if float32 else np.float64
        expected = []
        for row in x:
            sums = np.array([0.5, -1.0, 0.1], real)
            for tree, shape in enumerate(shapes):
                answer = walk(shape, row)
                if answer >= 0:
                    sums = sums + real(weights[tree]) * values[answer].astype(real)
            expected.append(sums.astype(float).tolist())
        total = forest.sum(
            values, weights=weights, start=[0.5, -1.0, 0.1], no_answer=0.0, float32=float32
        )
        assert total(x).tolist() == expected
        assert [total.of(row.tolist()) for row in x] == expected

    def test_each_tree_may_add_to_an_output_of_its_own(self):
        rng = np.random.default_rng(2)
        forest, shapes, answers = random_forest(rng, 6, 4, 4)
        x, values = table(rng, 30, 4), rng.normal(size=answers)
        total = forest.sum(values, target=[0, 1, 2, 0, 1, 2], no_answer=0.0)
        expected = np.zeros((30, 3))
        for i, row in enumerate(x):
            for tree, shape in enumerate(shapes):
                answer = walk(shape, row)
                expected[i, tree % 3] += values[answer] if answer >= 0 else 0.0
        assert total(x).tolist() == expected.tolist()
        assert [total.of(row) for row in x] == expected.tolist()

    def test_no_answer_makes_the_sum_missing_unless_told_otherwise(self):
        trees = Trees(1)
        trees.add(trees.leaf(0))
        trees.add(
            trees.compare(0, "<", 0.0, yes=trees.leaf(1), no=trees.leaf(1), missing=trees.leaf())
        )
        forest = trees.build()
        x = np.array([[1.0], [NAN]])
        assert np.isnan(forest.sum([[1.0], [2.0]])(x)).tolist() == [[False], [True]]
        assert forest.sum([[1.0], [2.0]], no_answer=0.0)(x).tolist() == [[3.0], [1.0]]

    @pytest.mark.parametrize(
        "arguments",
        [
            {"values": [1.0]},
            {"values": [[1.0]]},
            {"values": [1.0, 2.0], "target": [0, 1]},
            {"values": [1.0, 2.0], "target": [-1]},
            {"values": [[1.0], [2.0]], "weights": [1.0, 2.0]},
            {"values": [[1.0], [2.0]], "start": [1.0, 2.0]},
            {"values": np.empty((2, 0))},
        ],
    )
    def test_values_that_do_not_fit_are_refused(self, arguments):
        trees = Trees(1)
        trees.add(trees.missing(0, yes=trees.leaf(0), no=trees.leaf(1)))
        with pytest.raises(UnsupportedModel):
            trees.build().sum(**arguments)


class TestRefusals:
    @pytest.mark.parametrize("bad", [[1.0], [1.0, 2.0, 3.0], ["a", 2.0], [1.0, object()], "ab"])
    def test_a_row_that_does_not_fit(self, bad):
        forest, _, answers = random_forest(np.random.default_rng(1), 2, 2, 2)
        with pytest.raises(InvalidInput):
            forest.leaves_of(bad)
        with pytest.raises(InvalidInput):
            forest.sum(np.ones((answers, 1))).of(bad)

    @pytest.mark.parametrize("shape", [(3,), (3, 1), (3, 2, 1)])
    def test_a_matrix_that_does_not_fit(self, shape):
        forest, _, answers = random_forest(np.random.default_rng(1), 2, 2, 2)
        with pytest.raises(InvalidInput):
            forest.leaves(np.ones(shape))
        with pytest.raises(InvalidInput):
            forest.sum(np.ones((answers, 1)))(np.ones(shape))

    def test_nodes_that_lead_back_to_themselves(self):
        trees = Trees(1)
        one, two = trees.reserve(), trees.reserve()
        trees.compare(0, "<", 1.0, yes=two, no=two, missing=two, at=one)
        trees.compare(0, "<", 1.0, yes=one, no=one, missing=one, at=two)
        trees.add(one)
        with pytest.raises(UnsupportedModel, match="back to itself"):
            trees.build()

    def test_aliases_that_lead_back_to_themselves(self):
        trees = Trees(1)
        one, two = trees.reserve(), trees.reserve()
        trees.alias(two, at=one)
        trees.alias(one, at=two)
        trees.add(one)
        with pytest.raises(UnsupportedModel, match="back to itself"):
            trees.build()

    @pytest.mark.parametrize(
        "make",
        [
            lambda t: t.add(t.reserve()),
            lambda t: t.add(99),
            lambda t: t.add(t.missing(0, yes=99, no=99)),
            lambda t: t.add(t.missing(0, yes=-1, no=-1)),
            lambda t: t.compare(7, "<", 1.0, yes=0, no=0, missing=0),
            lambda t: t.compare(0, "<", NAN, yes=0, no=0, missing=0),
            lambda t: t.member(0, [-1], yes=0, no=0, missing=0),
            lambda t: t.leaf(-2),
            lambda t: t.leaf(3, at=t.leaf(2)),
        ],
    )
    def test_nodes_that_cannot_be(self, make):
        trees = Trees(1)
        with pytest.raises(UnsupportedModel):
            make(trees)
            trees.build()

    def test_answers_past_all_reason(self):
        trees = Trees(1)
        trees.add(trees.leaf(2**31 - 4))
        with pytest.raises(UnsupportedModel, match="too many"):
            trees.build()

    def test_sets_past_all_reason(self):
        trees = Trees(1)
        leaf = trees.leaf(0)
        trees.add(trees.member(0, [0, 2**31 - 1], yes=leaf, no=leaf, missing=leaf))
        with pytest.raises(UnsupportedModel, match="too large"):
            trees.build()


class TestBuilding:
    def test_trees_built_from_the_root_down_or_the_leaves_up_are_the_same(self):
        x = np.array([[0.2, 5.0], [0.2, NAN], [0.9, 5.0], [0.9, -5.0]])

        def down():
            trees = Trees(2)
            root, left, right = (trees.reserve() for _ in range(3))
            trees.compare(0, "<", 0.5, yes=left, no=right, missing=right, at=root)
            trees.leaf(0, at=left)
            trees.compare(1, ">", 0.0, yes=trees.leaf(1), no=trees.leaf(2), missing=left, at=right)
            trees.add(root)
            return trees.build()

        def up():
            trees = Trees(2)
            left = trees.leaf(0)
            right = trees.compare(1, ">", 0.0, yes=trees.leaf(1), no=trees.leaf(2), missing=left)
            trees.add(trees.compare(0, "<", 0.5, yes=left, no=right, missing=right))
            return trees.build()

        assert down().leaves(x).tolist() == up().leaves(x).tolist() == [[0], [0], [1], [2]]

    def test_nodes_made_in_no_order_are_sorted(self):
        rng = np.random.default_rng(9)
        trees, count = Trees(2), 200
        ids = [trees.reserve() for _ in range(count)]
        place = rng.permutation(count)
        for i in rng.permutation(count - 1):
            low, high = sorted(rng.integers(i + 1, count, 2))
            trees.compare(
                int(i) % 2, "<", float(rng.normal()),
                yes=ids[place[low]], no=ids[place[high]], missing=ids[place[high]],
                at=ids[place[i]],
            )  # fmt: skip
        trees.leaf(7, at=ids[place[count - 1]])
        trees.add(ids[place[0]])
        assert trees.build().leaves(rng.normal(size=(20, 2))).tolist() == [[7]] * 20

    def test_what_cannot_be_reached_is_left_out(self):
        trees = Trees(1)
        trees.reserve()
        trees.compare(0, "<", 0.0, yes=trees.leaf(5), no=trees.leaf(6), missing=trees.leaf(7))
        trees.add(trees.missing(0, yes=trees.leaf(0), no=trees.leaf(1)))
        forest = trees.build()
        assert (len(forest.feature), forest.answers) == (1, 2)
