"""Vectors of many elements, and of another width than a stage takes: refused, never a crash."""

from __future__ import annotations

import math
from itertools import combinations_with_replacement

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from martlet.errors import InvalidInput, UnsupportedModel
from martlet.formats.stages import classes, hashing, models, scaling, shaping, text
from martlet.formats.stages.invalid import Invalid
from martlet.formats.stages.plan import COLUMNS, PREDICTION, Plan
from martlet.formats.stages.stage import Kind, Port, Stage
from martlet.formats.stages.vectors import Blocks, Dense, OneHot, Sparse, picked

DOCUMENT = {"text": np.array(["red fox", "red"], dtype=object)}


def linear(source: str, width: int) -> Stage:
    weights = models.linear(np.arange(1.0, width + 1), 0.0)
    return classes.regressor("linear", source, width, "y", weights)


class TestVectorsThatAreTooWideToSpreadOut:
    HASHED = (text.tokenizer("t", "text", "words"),
              hashing.hashing_tf("h", "words", "tf", 1 << 31, binary=False))  # fmt: skip

    def test_are_refused_where_they_are_asked_for(self) -> None:
        plan = Plan("hashed", [*self.HASHED])
        with pytest.raises(InvalidInput, match=r"2 rows of 2147483648 numbers are too many"):
            plan.predict(DOCUMENT, COLUMNS)

    def test_answer_what_needs_few_of_them(self) -> None:
        place = hashing.hasher(1 << 31)("fox")
        plan = Plan("hashed", [*self.HASHED, shaping.slicer("s", "tf", "some", [place])])
        assert plan.predict(DOCUMENT, PREDICTION)["some"].tolist() == [[1.0], [0.0]]

    def test_are_normalised_as_they_are(self) -> None:
        place = hashing.hasher(1 << 31)("fox")
        stages = [*self.HASHED, scaling.normalizer("n", "tf", "norm", 2.0),
                  shaping.slicer("s", "norm", "some", [place])]  # fmt: skip
        found = Plan("hashed", stages).predict(DOCUMENT, PREDICTION)["some"]
        np.testing.assert_allclose(found, [[math.sqrt(0.5)], [0.0]])

    def test_of_a_product_are_refused_when_the_model_loads(self) -> None:
        ports = [Port(name, Kind.VECTOR, 1 << 11) for name in "abc"]
        with pytest.raises(UnsupportedModel, match="products are too many"):
            shaping.interaction("i", ports, "out", [None, None, None])
        with pytest.raises(UnsupportedModel, match="too many products of degree 4"):
            shaping.polynomial_expansion("p", "x", "out", 4, 500)


class TestPolynomialExpansion:
    def test_gives_every_product_in_sparks_order(self) -> None:
        """The order for (x, y) is of Spark's PolynomialExpansion's documentation."""
        stage = shaping.polynomial_expansion("p", "x", "out", 2, 2)
        assert stage.run(Dense(np.array([[2.0, 5.0]]))).dense().tolist() == [[2, 4, 5, 10, 25]]

    @given(st.integers(1, 6), st.integers(1, 5))
    def test_gives_each_product_once(self, size: int, degree: int) -> None:
        values = np.log([2.0, 3.0, 5.0, 7.0, 11.0, 13.0][:size])
        found = shaping.polynomial_expansion("p", "x", "out", degree, size).run(
            Dense(np.exp(values)[None, :])
        )
        wanted = [
            math.exp(sum(term))
            for most in range(1, degree + 1)
            for term in combinations_with_replacement(values.tolist(), most)
        ]
        np.testing.assert_allclose(np.sort(found.dense()[0]), np.sort(wanted))

    def test_takes_more_elements_than_functions_may_call_one_another(self) -> None:
        stage = shaping.polynomial_expansion("p", "x", "out", 2, 1500)
        found = stage.run(Dense(np.ones((1, 1500)))).dense()
        assert found.shape == (1, 1500 + 1500 * 1501 // 2)
        assert found.all()


class TestVectorsOfAnotherWidth:
    def test_that_a_request_gives_are_refused(self) -> None:
        """Blocks side by side would fit the first weights, and leave the rest out."""
        parts = [Port(name, Kind.ANY) for name in "ab"]
        assembler = shaping.assembler("va", ["a", "b"], "x", parts, Invalid.KEEP)
        plan = Plan("open", [assembler, linear("x", 5)])
        rows = {"a": np.ones((2, 3)), "b": np.ones((2, 2))}
        assert plan.predict(rows)["y"].tolist() == [15.0, 15.0]
        for a, b in ((2, 2), (3, 3), (5, 1)):
            rows = {"a": np.ones((2, a)), "b": np.ones((2, b))}
            with pytest.raises(InvalidInput, match=rf"'x' has {a + b} elements; 5 .* wanted"):
                plan.predict(rows)
        with pytest.raises(InvalidInput, match="'x' has 2 elements; 5 elements are wanted"):
            plan.predict({"a": np.ones(2), "b": np.ones(2)})

    def test_that_a_stage_makes_are_refused_when_the_model_loads(self) -> None:
        stages = [shaping.slicer("s", "x", "some", [0, 1]), linear("some", 3)]
        with pytest.raises(UnsupportedModel, match="linear takes 3 numbers; 'some' has 2"):
            Plan("wrong", stages)


@given(st.lists(st.integers(0, 5), max_size=8))
def test_elements_are_picked_alike_however_vectors_are_kept(columns: list[int]) -> None:
    at = np.array(columns, dtype=np.int64)
    one_hot = OneHot(np.array([2, -1, 0]), np.array([1.0, 0.0, 4.0]), 3)
    sparse = Sparse(np.array([0, 2, 2]), np.array([1, 0, 2]), np.array([7.0, 8.0, 9.0]), 3, 3)
    both = Blocks([one_hot, sparse])
    np.testing.assert_array_equal(picked(both, at), both.dense()[:, at])
    np.testing.assert_array_equal(picked(Dense(both.dense()), at), both.dense()[:, at])
