"""Lookups are found whatever they became, and what is none stays as it was."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import DIM, FLOAT, INT32, INT64, ROWS, STRING, TABLE, Build, net, tower
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto

from martlet.convert.rewriting.graph import answer, session
from martlet.convert.rewriting.rewrite import Rewritten, rewrite
from martlet.errors import InvalidInput
from martlet.formats.package.ids import MODULO, REFUSE, WRAP, ZERO
from martlet.tensors import DType, Signature, Spec

ZEROS = np.zeros(DIM, np.float32)


def run(model: ModelProto, **inputs):
    found = answer(session(model), inputs)
    return None if found is None else found[0]


def ids(*values, dtype=np.int64):
    return {"id": np.array(values, dtype)}


def operators(rewritten: Rewritten) -> set[str]:
    return {node.op_type for node in rewritten.model.graph.node}


class TestOneIdARow:
    def test_a_plain_gather_is_a_lookup_whose_minus_one_is_the_last_row(self):
        build = Build(id=(INT64, ["n"]))
        model = tower(build, build("Gather", TABLE, "id"))
        found = rewrite(model, [ids(3, 4)])
        (lookup,) = found.lookups
        assert (lookup.input, lookup.ids.below, lookup.ids.above) == ("id", WRAP, REFUSE)
        np.testing.assert_allclose(run(found.model, **ids(-1, 5)), net(TABLE[[-1, 5]]), 1e-5)
        assert run(found.model, **ids(ROWS)) is None
        assert run(found.model, **ids(-ROWS - 1)) is None

    def test_a_one_hot_matrix_product_is_one(self):
        build = Build(id=(INT32, ["n", 1]))
        flat = build("Cast", build("Reshape", "id", np.array([-1])), to=INT64)
        hot = build("OneHot", flat, np.array([ROWS]), np.array([0, 1], np.float32))
        model = tower(build, build("MatMul", hot, TABLE))
        found = rewrite(model, [{"id": np.array([[3]], np.int32)}])
        assert "OneHot" not in operators(found)
        given_ids = np.array([[0], [ROWS - 1], [ROWS], [-1]], np.int32)
        expected = run(model, id=given_ids)
        np.testing.assert_array_equal(run(found.model, id=given_ids), expected)
        np.testing.assert_allclose(expected[2], 0)  # beyond the depth: all cold

    def test_unique_and_back_is_one(self):
        build = Build(id=(INT64, ["n"]))
        values, _, back, _ = build("Unique", "id", outputs=4)
        model = tower(build, build("Gather", build("Gather", TABLE, values), back))
        found = rewrite(model, [ids(3, 4)])
        assert "Unique" not in operators(found)
        np.testing.assert_allclose(run(found.model, **ids(5, 5, 1)), net(TABLE[[5, 5, 1]]), 1e-5)

    def test_an_offset_moves_the_ids(self):
        build = Build(id=(INT64, ["n"]))
        model = tower(build, build("Gather", TABLE, build("Sub", "id", np.array(1000))))
        (lookup,) = rewrite(model, [ids(1003)]).lookups
        assert (lookup.ids.first, lookup.ids.last) == (1000, 999 + ROWS)

    def test_a_masked_id_inside_the_table_gets_zeros(self):
        build = Build(id=(INT64, ["n"]))
        vectors = build("Gather", TABLE, "id")
        zero = build("Unsqueeze", build("Equal", "id", np.array(0)), np.array([1]))
        model = tower(build, build("Where", zero, np.zeros((1, DIM), np.float32), vectors))
        found = rewrite(model, [ids(3)])
        (lookup,) = found.lookups
        assert lookup.ids.special == {0: ZERO}
        np.testing.assert_allclose(run(found.model, **ids(0, 2)), net(np.stack([ZEROS, TABLE[2]])))

    @pytest.mark.parametrize("by", ["a number", "a difference"])
    def test_one_id_deep_inside_a_large_table_is_found(self, by):
        table = np.random.default_rng(0).standard_normal((300_000, DIM)).astype(np.float32)
        build = Build(id=(INT64, ["n"]))
        apart = build("Equal", "id", np.array(234_567))
        if by == "a difference":  # no constant of the graph is the id
            apart = build("Equal", build("Sub", "id", np.array(10**6)), np.array(234_567 - 10**6))
        zero = build("Unsqueeze", apart, np.array([1]))
        none = np.zeros((1, DIM), np.float32)
        model = tower(build, build("Where", zero, none, build("Gather", table, "id")))
        (lookup,) = rewrite(model, [ids(3)]).lookups
        assert lookup.ids.special == {234_567: ZERO}
        assert lookup.asked >= len(table) - 1

    def test_hashing_to_the_rows_is_kept(self):
        build = Build(id=(INT64, ["n"]))
        model = tower(build, build("Gather", TABLE, build("Mod", "id", np.array(ROWS))))
        found = rewrite(model, [ids(3)])
        (lookup,) = found.lookups
        assert (lookup.ids.below, lookup.ids.above) == (MODULO, MODULO)
        given_ids = ids(-1, 10**12 + 7, ROWS)
        np.testing.assert_array_equal(run(found.model, **given_ids), run(model, **given_ids))

    def test_clipping_to_the_ends_is_kept(self):
        build = Build(id=(INT64, ["n"]))
        clipped = build("Clip", "id", np.array(0), np.array(ROWS - 1))
        found = rewrite(tower(build, build("Gather", TABLE, clipped)), [ids(3)])
        (lookup,) = found.lookups
        assert (lookup.ids.below, lookup.ids.above) == (0, ROWS - 1)
        expected = net(TABLE[[0, ROWS - 1]])
        np.testing.assert_allclose(run(found.model, **ids(-5, 9 * ROWS)), expected, 1e-5)

    def test_ids_that_come_as_floats(self):
        build = Build(id=(FLOAT, ["n"]))
        model = tower(build, build("Gather", TABLE, build("Cast", "id", to=INT64)))
        found = rewrite(model, [{"id": np.array([3], np.float32)}])
        assert len(found.lookups) == 1
        given_ids = np.array([0.0, 7.9, -1.0], np.float32)
        np.testing.assert_array_equal(run(found.model, id=given_ids), run(model, id=given_ids))

    def test_one_column_of_several(self):
        build = Build(id=(INT64, ["n", 3]))
        columns = build("Split", "id", np.array([1, 1, 1]), axis=1, outputs=3)
        flat = [build("Squeeze", each, np.array([1])) for each in columns]
        other = build.constant(TABLE[::-1].copy(), "other")
        table = build.constant(TABLE, "table")
        model = tower(build, build("Gather", table, flat[2]), build("Gather", other, flat[0]))
        found = rewrite(model, [{"id": np.array([[1, 2, 3]])}])
        assert {(each.column, each.table) for each in found.lookups} == {(2, "table"), (0, "other")}
        rows = np.array([[1, 2, 3], [0, 0, 39]])
        expected = net(TABLE[rows[:, 2]], TABLE[::-1][rows[:, 0]])
        np.testing.assert_allclose(run(found.model, id=rows), expected, 1e-5)


class TestAGatherOfSeveralInputs:
    """What is not a lookup of one input keeps the original's refusals all the same."""

    def model(self):
        build = Build(one=(INT64, ["n", 1]), other=(INT64, ["n", 1]))
        ids = build("Concat", "one", "other", axis=1)
        vectors = build("ReduceSum", build("Gather", TABLE, ids), np.array([1]), keepdims=0)
        return tower(build, vectors)

    def rows(self, one, other):
        return {"one": np.array([[one]]), "other": np.array([[other]])}

    def rewritten(self, lowest):
        class Strict:
            def __init__(self):
                specs = [Spec(name, DType.INT64, (-1, 1)) for name in ("one", "other")]
                outputs = [Spec("score", DType.FLOAT32, (-1, 1))]
                self.signatures = {"serving_default": Signature.of(specs, outputs)}

            def predict(self, inputs, signature_name="serving_default"):
                if min(each.min() for each in inputs.values()) < lowest:
                    raise InvalidInput("an id is below zero")
                return {}

        return rewrite(self.model(), [self.rows(3, 4)], Strict())

    def test_refuses_what_the_original_refuses(self):
        found = self.rewritten(lowest=0)
        assert found.guarded == 1
        assert run(found.model, **self.rows(-1, 4)) is None
        assert run(found.model, **self.rows(4, -ROWS)) is None
        expected = net(TABLE[[3]] + TABLE[[ROWS - 1]])
        np.testing.assert_allclose(run(found.model, **self.rows(3, ROWS - 1)), expected, 1e-5)

    def test_answers_what_the_original_answers(self):
        found = self.rewritten(lowest=-ROWS)
        assert found.guarded == 0
        expected = net(TABLE[[3]] + TABLE[[-1]])
        np.testing.assert_allclose(run(found.model, **self.rows(3, -1)), expected, 1e-5)


class TestText:
    WORDS = ("Action", "Comedy", "Drama", "Film-Noir")

    def model(self, default: int, table=TABLE) -> ModelProto:
        build = Build(genre=(STRING, ["n", 1]))
        numbers = build(
            "LabelEncoder",
            "genre",
            keys_strings=list(self.WORDS),
            values_int64s=[7, 8, 9, 1],
            default_int64=default,
        )
        vectors = build("Gather", table, numbers)
        return tower(build, build("Reshape", vectors, np.array([-1, DIM])))

    def test_a_vocabulary_is_found_and_its_unknown_word(self):
        model = self.model(default=0)
        probe = {"genre": np.array([["Drama"]], object)}
        (lookup,) = rewrite(model, [probe]).lookups
        assert lookup.ids.vocabulary == dict(zip(self.WORDS, [7, 8, 9, 1], strict=True))
        assert lookup.ids.below == 0

    def test_words_that_the_model_refuses_are_refused(self):
        model = self.model(default=ROWS + 3)
        found = rewrite(model, [{"genre": np.array([["Drama"]], object)}])
        assert found.lookups[0].ids.below == REFUSE
        assert run(found.model, genre=np.array([["drama"]], object)) is None

    def test_it_answers_the_same(self):
        model = self.model(default=0)
        found = rewrite(model, [{"genre": np.array([["Drama"]], object)}])
        words = np.array([["Comedy"], ["?"], [""], ["Film-Noir"]], object)
        np.testing.assert_allclose(run(found.model, genre=words), net(TABLE[[8, 0, 0, 1]]), 1e-5)


class TestBags:
    LENGTH = 5

    def build(self) -> tuple[Build, str]:
        build = Build(id=(INT64, ["n", self.LENGTH]))
        return build, build("Gather", TABLE, "id")

    @pytest.mark.parametrize(
        ("operator", "bag"), [("ReduceMean", "mean"), ("ReduceSum", "sum"), ("ReduceMax", "max")]
    )
    def test_a_bag_becomes_one_vector(self, operator: str, bag: str):
        build, vectors = self.build()
        if operator == "ReduceSum":
            reduced = build(operator, vectors, np.array([1]), keepdims=0)
        else:
            reduced = build(operator, vectors, axes=[1], keepdims=0)
        found = rewrite(tower(build, reduced), [{"id": np.arange(self.LENGTH)[None]}])
        assert {each.bag for each in found.lookups} <= {bag, ""}
        assert found.lookups
        rows = np.random.default_rng(0).integers(0, ROWS, (6, self.LENGTH))
        expected = getattr(TABLE[rows], bag)(axis=1)
        np.testing.assert_allclose(run(found.model, id=rows), net(expected), 1e-5)

    def test_missing_ids_are_not_counted_in_a_mean(self):
        build, vectors = self.build()
        known = build("Cast", build("Not", build("Equal", "id", np.array(0))), to=FLOAT)
        held = build("Mul", vectors, build("Unsqueeze", known, np.array([2])))
        total = build("ReduceSum", held, np.array([1]), keepdims=0)
        count = build("Max", build("ReduceSum", known, np.array([1])), np.float32(1))
        model = tower(build, build("Div", total, count))
        found = rewrite(model, [{"id": np.arange(1, self.LENGTH + 1)[None]}])
        (lookup,) = found.lookups
        assert (lookup.bag, lookup.ids.special) == ("mean", {0: ZERO})
        rows = np.array([[0] * self.LENGTH, [1, 2, 0, 0, 0], [3, 3, 3, 0, 4]])
        expected = np.stack([ZEROS, TABLE[[1, 2]].mean(axis=0), TABLE[[3, 3, 3, 4]].mean(axis=0)])
        np.testing.assert_allclose(run(found.model, id=rows), net(expected), 1e-5)

    def test_every_vector_of_a_history_where_each_is_wanted(self):
        build, vectors = self.build()
        flat = build("Reshape", vectors, np.array([-1, DIM * self.LENGTH]))
        weights = (
            np.random.default_rng(3).standard_normal((DIM * self.LENGTH, 1)).astype(np.float32)
        )
        build("MatMul", flat, weights, gives="score")
        model = build.model(score=(FLOAT, ["n", 1]))
        found = rewrite(model, [{"id": np.arange(self.LENGTH)[None]}])
        assert [each.bag for each in found.lookups] == [""]


class TestWhatIsNone:
    def test_rows_that_were_scaled_stay_where_they_are_not_the_tables(self):
        build = Build(id=(INT64, ["n"]))
        scaled = build("Mul", build.constant(TABLE, "table"), np.float32(2))
        found = rewrite(tower(build, build("Gather", scaled, "id")), [ids(3)])
        assert found.lookups == ()
        assert "no tensor holds rows" in found.kept[0] or "table" in found.kept[0]

    def test_a_row_that_depends_on_the_batch_stays(self):
        build = Build(id=(INT64, ["n"]))
        most = build("ReduceMax", "id", axes=[0], keepdims=1)
        model = tower(build, build("Gather", TABLE, build("Sub", most, "id")))
        found = rewrite(model, [ids(3)])
        assert found.lookups == ()
        assert found.kept

    def test_a_weight_matrix_is_no_table(self):
        build = Build(x=(FLOAT, ["n", DIM]))
        found = rewrite(tower(build, "x"), [{"x": np.ones((1, DIM), np.float32)}])
        assert found.lookups == ()


@settings(max_examples=30)
@given(
    rows=st.integers(2, 60),
    dim=st.integers(1, 9),
    first=st.integers(-20, 20),
    asked=st.lists(st.integers(-100, 100), max_size=12),
)
def test_a_rewritten_graph_answers_and_refuses_as_before(rows, dim, first, asked):
    table = np.random.default_rng(rows).standard_normal((rows, dim)).astype(np.float32)
    build = Build(id=(INT64, ["n"]))
    vectors = build("Gather", table, build("Sub", "id", np.array(first)))
    build("ReduceSum", vectors, np.array([1]), gives="score")
    model = build.model(score=(FLOAT, ["n", 1]))
    found = rewrite(model, [ids(first, first + 1)])
    assert len(found.lookups) == 1
    before, after = run(model, **ids(*asked)), run(found.model, **ids(*asked))
    assert (before is None) == (after is None)
    if before is not None:
        np.testing.assert_array_equal(after, before)
