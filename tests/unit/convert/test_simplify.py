"""What is written otherwise gives the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
from graphs import FLOAT, Build

from martlet.convert.rewriting.graph import Graph, answer, session
from martlet.convert.rewriting.simplify import simplify

X = np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)
X[0] = [0.0, -0.0, np.inf, -np.inf]


def simplified(build: Build):
    model = build.model(score=(FLOAT, ["n", 4]))
    graph = Graph(model)
    simplify(graph)
    made = graph.model()
    (before,) = answer(session(model), {"x": X})
    (after,) = answer(session(made), {"x": X})
    np.testing.assert_array_equal(after, before)
    return {node.op_type for node in made.graph.node}


@pytest.mark.parametrize(
    ("slopes", "left"),
    [
        ([0.25], {"LeakyRelu"}),
        ([-0.5], {"LeakyRelu"}),
        ([[0.25]], {"LeakyRelu"}),
        ([0.25, 1.0, 0.01, 0.5], {"Mul", "Max"}),
        ([0.25, 1.5, 0.01, 0.5], {"PRelu"}),
        ([0.25, 0.0, 0.01, 0.5], {"PRelu"}),
    ],
)
def test_an_activation_with_learnt_slopes(slopes, left):
    build = Build(x=(FLOAT, ["n", 4]))
    build("PRelu", "x", np.array(slopes, np.float32), gives="score")
    assert simplified(build) == left
