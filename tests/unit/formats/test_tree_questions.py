"""Tests of trees in three-valued logic, against its definitions."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from three_valued import holds

from martlet.errors import UnsupportedModel
from martlet.formats.trees.builder import Trees
from martlet.formats.trees.questions import And, Compare, Member, Missing, Not, Or, Surrogate, Xor

pytestmark = pytest.mark.usefixtures("walks")
NAN = math.nan


FEATURES = 3
VALUES = st.sampled_from(
    [-math.inf, -1.5, -0.0, 0.0, 0.1, 1.0, 2.0, 3.0, 63.0, 64.0, 200.0, math.inf]
)
features = st.integers(0, FEATURES - 1)
simple = st.one_of(
    st.booleans(),
    st.builds(Compare, features, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), VALUES),
    st.builds(
        Member, features, st.lists(st.sampled_from([0, 1, 2, 63, 64, 200]), max_size=4).map(tuple)
    ),
    st.builds(Missing, features),
)
predicates = st.recursive(
    simple,
    lambda inner: st.one_of(
        st.builds(Not, inner),
        *(st.builds(kind, st.lists(inner, min_size=1, max_size=3).map(tuple))
          for kind in (And, Or, Xor, Surrogate)),
    ),
    max_leaves=8,
)  # fmt: skip
rows = st.lists(st.one_of(VALUES, st.just(NAN)), min_size=FEATURES, max_size=FEATURES)


class TestPredicates:
    @settings(max_examples=100)
    @given(predicate=predicates, table=st.lists(rows, min_size=1, max_size=20))
    def test_every_predicate_is_decided_as_three_valued_logic_says(self, predicate, table):
        trees = Trees(FEATURES)
        yes, no, unknown = trees.leaf(1), trees.leaf(0), trees.leaf(2)
        trees.add(trees.decide(predicate, yes=yes, no=no, unknown=unknown))
        forest = trees.build()
        expected = [{True: 1, False: 0, None: 2}[holds(predicate, row)] for row in table]
        assert forest.leaves(np.array(table))[:, 0].tolist() == expected
        assert [forest.leaves_of(row)[0] for row in table] == expected

    @settings(max_examples=100)
    @given(
        cases=st.lists(predicates, max_size=4),
        stops=st.booleans(),
        contrary=st.booleans(),
        table=st.lists(rows, min_size=1, max_size=10),
    )
    def test_the_first_case_that_holds_is_taken(self, cases, stops, contrary, table):
        if contrary and cases:
            cases = [*cases, Not(cases[-1])]
        trees = Trees(FEATURES)
        start = trees.reserve()
        trees.first(
            [(each, trees.leaf(i)) for i, each in enumerate(cases)],
            otherwise=trees.leaf(90),
            unknown=trees.leaf(91) if stops else None,
            at=start,
        )
        trees.add(start)

        def expected(row):
            for i, each in enumerate(cases):
                found = holds(each, row)
                if found is None and stops:
                    return 91
                if found:
                    return i
            return 90

        assert trees.build().leaves(np.array(table))[:, 0].tolist() == [expected(r) for r in table]

    def test_two_contrary_cases_are_one_node(self):
        trees = Trees(1)
        trees.add(
            trees.first(
                [(Compare(0, "<=", 0.5), trees.leaf(0)), (Compare(0, ">", 0.5), trees.leaf(1))],
                otherwise=trees.leaf(),
            )
        )
        assert len(trees.build().feature) == 1

    def test_xor_nested_without_end_is_refused(self):
        predicate = Compare(0, "<", 0.0)
        for _ in range(40):
            predicate = Xor((predicate, Compare(0, ">", 1.0)))
        trees = Trees(1)
        with pytest.raises(UnsupportedModel, match="xor"):
            trees.decide(predicate, yes=trees.leaf(0), no=trees.leaf(1), unknown=trees.leaf())

    def test_nested_conjunctions_do_not_double_the_nodes(self):
        predicate = Compare(0, "<", 0.0)
        for depth in range(20):
            predicate = (And, Or)[depth % 2]((Compare(0, ">", float(depth)), predicate))
        trees = Trees(1)
        trees.add(
            trees.decide(predicate, yes=trees.leaf(0), no=trees.leaf(1), unknown=trees.leaf())
        )
        assert len(trees.build().feature) < 21 * 21
