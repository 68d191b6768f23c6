"""Shrinking a net: what each way keeps, what it costs, and which one is chosen.

Expected answers come from the net as it was, run by onnxruntime, and from arithmetic done here.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

import martlet
from martlet.certificate import Comparison
from martlet.convert.asking.probes import Probe
from martlet.convert.shrinking.shrink import ORIGINAL, Trial, allowing, chosen, trials
from martlet.convert.shrinking.ways import KINDS, USUAL, Method, shrunk
from martlet.errors import InvalidInput, UnsupportedModel

WIDTH, HIDDEN = 12, 32


def net(seed=0, hidden=HIDDEN, idle=0, activation="Relu", gemm=True):
    """A net of two layers; *idle* of its hidden units are given no weight above."""
    rng = np.random.default_rng(seed)
    below = rng.standard_normal((WIDTH, hidden)).astype(np.float32)
    bias = rng.standard_normal(hidden).astype(np.float32)
    above = rng.standard_normal((hidden, 1)).astype(np.float32)
    above[rng.permutation(hidden)[:idle]] = 0
    constants = {"w0": below, "b0": bias, "w1": above, "b1": np.zeros(1, np.float32)}
    if gemm:
        constants["w0"] = below.T.copy()
        nodes = [helper.make_node("Gemm", ["x", "w0", "b0"], ["h"], transB=1)]
    else:
        nodes = [
            helper.make_node("MatMul", ["x", "w0"], ["xw"]),
            helper.make_node("Add", ["xw", "b0"], ["h"]),
        ]
    nodes += [
        helper.make_node(activation, ["h"], ["a"]),
        helper.make_node("MatMul", ["a", "w1"], ["aw"]),
        helper.make_node("Add", ["b1", "aw"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["score"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", WIDTH])],
        [helper.make_tensor_value_info("score", TensorProto.FLOAT, ["rows", 1])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)


def rows(count, seed=1):
    return np.random.default_rng(seed).standard_normal((count, WIDTH)).astype(np.float32)


def opened(model, folder):
    path = folder / "net.onnx"
    onnx.save(model, path)
    return martlet.load(path)


def answers(model, folder, x):
    return opened(model, folder).predict({"x": x})["score"]


def sizes(model):
    return sorted(tuple(each.dims) for each in model.graph.initializer if len(each.dims) == 2)


class TestAMethodIsWrittenAsOneWord:
    @pytest.mark.parametrize("text", ["int8", "int8-static", "fp16", "prune-units:0.25"])
    def test_and_read_back(self, text):
        assert str(Method.parse(text)) == text

    @pytest.mark.parametrize(
        "text", ["int4", "int8:0.5", "prune-units", "prune-units:2", "prune-weights:0", "fp16:",
                 "prune-weights:many", ""]
    )  # fmt: skip
    def test_what_is_none_is_refused(self, text):
        with pytest.raises(InvalidInput):
            Method.parse(text)


@pytest.mark.parametrize("method", USUAL, ids=str)
def test_whatever_is_done_the_signature_stays(method, tmp_path):
    model = net()
    found = opened(shrunk(model, method, [{"x": rows(100)}]), tmp_path)
    assert found.signatures == opened(model, tmp_path).signatures


@pytest.mark.parametrize("method", ["int8", "int8-static", "fp16"])
def test_fewer_bits_change_scores_by_little(method, tmp_path):
    model, x = net(), rows(200)
    smaller = shrunk(model, Method.parse(method), [{"x": rows(100, seed=2)}])
    off = np.abs(answers(smaller, tmp_path, x) - answers(model, tmp_path, x))
    # int8 keeps eight bits of each factor, fp16 eleven.
    assert 0 < off.mean() < (2**-9 if method == "fp16" else 2**-5)


class TestPruningUnits:
    @settings(max_examples=15)
    @given(
        seed=st.integers(0, 99),
        idle=st.integers(1, 20),
        activation=st.sampled_from(["Relu", "Tanh", "Sigmoid", "LeakyRelu"]),
        gemm=st.booleans(),
    )
    def test_units_that_pass_nothing_on_go_without_a_trace(
        self, seed, idle, activation, gemm, tmp_path_factory
    ):
        model = net(seed, idle=idle, activation=activation, gemm=gemm)
        smaller = shrunk(model, Method("prune-units", idle / HIDDEN), [{"x": rows(50)}])
        left = HIDDEN - idle
        assert sizes(smaller) == sorted([(left, WIDTH) if gemm else (WIDTH, left), (left, 1)])
        folder, x = tmp_path_factory.mktemp("net"), rows(40, seed=3)
        expected = answers(model, folder, x)
        np.testing.assert_allclose(answers(smaller, folder, x), expected, 1e-5, 1e-6)

    def test_a_unit_that_never_varies_goes_into_the_bias(self, tmp_path):
        """Its mean is all it passes on; sigmoid of a huge bias is 1 for every row."""
        model = net(activation="Sigmoid", gemm=False)
        constants = {each.name: each for each in model.graph.initializer}
        weights, bias = (numpy_helper.to_array(constants[n]).copy() for n in ("w0", "b0"))
        weights[:, 5], bias[5] = 0, 50
        constants["w0"].CopyFrom(numpy_helper.from_array(weights, "w0"))
        constants["b0"].CopyFrom(numpy_helper.from_array(bias, "b0"))
        smaller = shrunk(model, Method("prune-units", 1 / HIDDEN), [{"x": rows(50)}])
        x = rows(40, seed=3)
        expected = answers(model, tmp_path, x)
        np.testing.assert_allclose(answers(smaller, tmp_path, x), expected, 1e-5, 1e-6)

    def test_units_that_an_output_shows_stay(self):
        model = net()
        model.graph.output.append(
            helper.make_tensor_value_info("a", TensorProto.FLOAT, ["rows", HIDDEN])
        )
        assert sizes(shrunk(model, Method("prune-units", 0.5), [{"x": rows(9)}])) == sizes(model)


class TestPruningWeights:
    def test_the_smallest_go_and_no_other_changes(self):
        model = net(gemm=False)
        smaller = shrunk(model, Method("prune-weights", 0.5), [])
        before, after = (
            {each.name: numpy_helper.to_array(each) for each in m.graph.initializer}
            for m in (model, smaller)
        )
        for name in ("w0", "w1"):
            gone = after[name] == 0
            assert gone.mean() == pytest.approx(0.5, abs=0.02)
            assert np.array_equal(after[name][~gone], before[name][~gone])
            assert np.abs(before[name][gone]).max() <= np.abs(before[name][~gone]).min()

    def test_what_is_mostly_zero_is_kept_sparse_and_answers_as_it_would_dense(self, tmp_path):
        model, x = net(hidden=400, gemm=False), rows(30)
        smaller = shrunk(model, Method("prune-weights", 0.9), [])
        assert smaller.ByteSize() < model.ByteSize() / 2
        hidden = {each.name: numpy_helper.to_array(each) for each in model.graph.initializer}
        for name in ("w0", "w1"):
            size = np.abs(hidden[name])
            hidden[name] = np.where(size <= np.quantile(size, 0.9), 0, hidden[name])
        logit = np.maximum(x @ hidden["w0"] + hidden["b0"], 0) @ hidden["w1"] + hidden["b1"]
        expected = 1 / (1 + np.exp(-logit))
        np.testing.assert_allclose(answers(smaller, tmp_path, x), expected, 1e-5, 1e-6)


class TestTheTable:
    def tried(self, tmp_path, methods, **limits):
        model = net()
        path = tmp_path / "original.onnx"
        onnx.save(model, path)
        probes = [Probe("random", {"x": rows(400)}, groups=np.arange(400) % 4)]
        return trials(
            martlet.load(path), model, probes, {"x": rows(20)}, tmp_path,
            signature_name="serving_default", methods=[Method.parse(m) for m in methods],
            limits=allowing(**limits),
        )  # fmt: skip

    def test_it_has_a_row_for_each_way_and_begins_with_the_model_as_it_is(self, tmp_path):
        found = self.tried(tmp_path, [k for k in KINDS if "prune" not in k])
        assert [each.method for each in found] == [ORIGINAL, "int8", "int8-static", "fp16"]
        assert all(each.bytes == each.path.stat().st_size for each in found)
        assert all(0 < each.microseconds < math.inf for each in found)
        assert found[0].absolute == 0 and all(each.absolute > 0 for each in found[1:])

    def test_what_damages_the_order_too_much_is_refused_with_the_figure(self, tmp_path):
        (_, found) = self.tried(tmp_path, ["prune-units:0.8"])
        assert "rank correlation" in found.reason
        assert chosen([_, found]) is _

    def test_damage_that_the_user_allows_is_none(self, tmp_path):
        found = self.tried(tmp_path, ["prune-units:0.8"], rank_correlation=-1, top_k_overlap=0)
        assert found[1].reason == ""

    def test_a_way_that_fails_says_why_and_the_others_go_on(self, tmp_path, monkeypatch):
        def fails(model, share):
            raise UnsupportedModel("no weights here")

        monkeypatch.setattr("martlet.convert.shrinking.pruning.without_weights", fails)
        found = self.tried(tmp_path, ["prune-weights:0.5", "fp16"])
        assert found[1].reason == "no weights here" and found[1].path is None
        assert found[2].reason == ""


class TestTheChoice:
    """The fastest that is within the limits; of those as fast, the smallest."""

    def trial(self, method, us, size=100, reason=""):
        return Trial(method, None, size, us, (Comparison("random", 1),), reason)

    @pytest.mark.parametrize(
        ("others", "wanted"),
        [
            ([("a", 50, 90), ("b", 60, 50)], "a"),
            ([("a", 50, 90), ("b", 51, 50)], "b"),
            ([("a", 97, 95)], ORIGINAL),
            ([("a", 99, 40), ("b", 103, 30)], "b"),
            ([("a", 120, 10)], ORIGINAL),
            ([("a", 50, 90, "too far off"), ("b", 80, 100)], "b"),
            ([], ORIGINAL),
        ],
    )
    def test_of(self, others, wanted):
        found = [self.trial(ORIGINAL, 100), *(self.trial(*each) for each in others)]
        assert chosen(found).method == wanted
