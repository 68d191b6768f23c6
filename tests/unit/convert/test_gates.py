"""SiLU and GELU, however an exporter wrote them, are one operator that answers alike."""

from __future__ import annotations

import math

import numpy as np
import pytest
from graphs import FLOAT, Build

from martlet.convert.rewriting.gates import fuse
from martlet.convert.rewriting.graph import Graph, answer, session

ROOT = np.float32(math.sqrt(2))


def silu(build):
    return build("Mul", build("Sigmoid", "x"), "x")


def gelu_as_torch(build):
    more = build("Add", build("Erf", build("Div", "x", ROOT)), np.float32(1))
    return build("Mul", build("Mul", "x", more), np.float32(0.5))


def gelu_as_keras(build):
    more = build("Add", np.float32(1), build("Erf", build("Mul", "x", 1 / ROOT)))
    return build("Mul", build("Mul", np.float32(0.5), more), "x")


def gate_of_another(build):
    return build("Mul", build("Sigmoid", build("Neg", "x")), "x")


def gelu_without_half(build):
    more = build("Add", build("Erf", build("Div", "x", ROOT)), np.float32(1))
    return build("Mul", "x", more)


def operators(graph: Graph) -> set[str]:
    return {node.op_type for node in graph.nodes} & {"QuickGelu", "Gelu"}


@pytest.mark.parametrize(
    ("write", "kinds"),
    [
        (silu, {"QuickGelu"}),
        (gelu_as_torch, {"Gelu"}),
        (gelu_as_keras, {"Gelu"}),
        (gate_of_another, set()),
        (gelu_without_half, set()),
    ],
)
def test_what_is_one_becomes_one(write, kinds):
    build = Build(x=(FLOAT, ["n", 3]))
    build("Identity", write(build), gives="y")
    model = build.model(y=(FLOAT, ["n", 3]))
    graph = Graph(model)
    fuse(graph)
    assert operators(graph) == kinds
    feed = {"x": np.linspace(-9, 9, 60, dtype=np.float32).reshape(20, 3)}
    (expected,), (found,) = (answer(session(each), feed) for each in (model, graph.model()))
    np.testing.assert_allclose(found, expected, 1e-5, 1e-6)
