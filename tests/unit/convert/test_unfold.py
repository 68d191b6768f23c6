"""Folded axes and copies of a candidate, as Keras writes them, do not hide an attention unit."""

from __future__ import annotations

import numpy as np
from graphs import FLOAT, INT64, TABLE, Build

from martlet.convert.rewriting.graph import Graph
from martlet.convert.splitting.crossing import crossing
from martlet.convert.splitting.sides import shapes_of
from martlet.convert.splitting.split import split
from martlet.convert.splitting.unfold import narrow, unfold

LENGTH, HIDDEN = 5, 3
ROWS = {
    "history": np.random.default_rng(0).integers(0, 40, (8, LENGTH)),
    "item": np.random.default_rng(1).integers(0, 40, 8),
}


def model():
    """Attention with its layers over ``[n t, w]``, of a candidate that is tiled."""
    random = np.random.default_rng(3)

    def weights(*shape):
        return random.standard_normal(shape).astype(np.float32)

    build = Build(history=(INT64, ["n", LENGTH]), item=(INT64, ["n"]))
    keys, query = build("Gather", TABLE, "history"), build("Gather", TABLE, "item")
    one = build("Reshape", query, np.array([-1, 1, 1, 4]))
    tiled = build("Tile", one, np.array([1, 1, LENGTH, 1]))
    wide = build("Reshape", tiled, np.array([-1, LENGTH, 4]), gives="copies")
    unit = build("Concat", wide, keys, build("Mul", wide, keys), axis=2)
    flat = build("Reshape", unit, np.array([-1, 12]))
    first = build("Add", build("MatMul", flat, weights(12, HIDDEN)), weights(HIDDEN))
    hidden = build("Sigmoid", build("Reshape", first, np.array([-1, LENGTH, HIDDEN])))
    flat = build("MatMul", build("Reshape", hidden, np.array([-1, HIDDEN])), weights(HIDDEN, 1))
    scores = build("Reshape", flat, np.array([-1, LENGTH, 1]))
    summed = build("ReduceSum", build("Mul", scores, keys), np.array([1]), keepdims=0)
    joined = build("Concat", summed, query, axis=1)
    deep = build("Relu", build("MatMul", joined, weights(8, 6)))
    build("MatMul", deep, weights(6, 1), gives="score")
    return build.model(score=(FLOAT, ["n", 1]))


def test_layers_over_folded_axes_go_over_the_axes_as_they_are():
    graph = Graph(model())
    shapes = shapes_of(graph, ROWS)
    unfold(graph, shapes)
    used = [node for node in graph.nodes if set(node.output) & graph.live()]
    ranks = [len(shapes[node.input[0]]) for node in used if node.op_type == "MatMul"]
    assert sorted(ranks) == [2, 2, 3, 3]


def test_copies_of_a_candidate_become_an_expansion_of_one():
    graph = Graph(model())
    shapes = shapes_of(graph, ROWS)
    narrow(graph, shapes, ["history"], ROWS)
    (expansion,) = [node for node in graph.nodes if node.op_type == "Expand"]
    assert shapes[expansion.input[0]] == (-1, 1, 4)


def test_a_history_whose_items_are_alike_stays_whole():
    alike = {**ROWS, "history": np.repeat(ROWS["history"][:, :1], LENGTH, axis=1)}
    graph = Graph(model())
    shapes = shapes_of(graph, alike)
    narrow(graph, shapes, ["history"], alike)
    (expansion,) = [node for node in graph.nodes if node.op_type == "Expand"]
    assert shapes[expansion.input[0]] == (-1, 1, 4)


def test_what_is_left_for_a_pair_is_one_unit():
    found = split(model(), ["history"], ROWS, key="item")  # which compares the parts with the whole
    assert found.item is not None
    assert sum(np.prod(shape) for shape in found.item.shapes) < LENGTH * 4
    (unit,) = crossing(found, ROWS).cross.attention
    assert (unit.query, unit.hidden) == (4, HIDDEN)
