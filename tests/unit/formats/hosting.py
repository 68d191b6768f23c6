"""What the tests of hosted models share: tables of rows, and small models."""

from __future__ import annotations

from pathlib import Path

import numpy as np

RNG = np.random.default_rng(3)


def frame(rows: int = 200):
    import pandas

    return pandas.DataFrame(
        {
            "genre": RNG.choice(["action", "drama", "war"], rows),
            "year": RNG.integers(1950, 2020, rows).astype(float),
            "stars": RNG.choice([1, 3, 5], rows),
        }
    )


def columns(table) -> dict[str, np.ndarray]:
    return {
        name: table[name].to_numpy(object) if name == "genre" else table[name].to_numpy()
        for name in table
    }


def onnx_model(path: Path, nodes, inputs, outputs, initializers=(), opset=17, domains=()) -> Path:
    import onnx
    from onnx import helper

    graph = helper.make_graph(nodes, "g", inputs, outputs, list(initializers))
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 3) for d in domains)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path
