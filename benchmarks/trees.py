"""Trees: martlet's forest (compiled, pure) beside LightGBM and onnxruntime, one thread each.

python benchmarks/trees.py [--trees 200] [--rows 10000] [--features 40]
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from typing import Any

from machine import fastest, machine

os.environ["OMP_NUM_THREADS"] = "1"

import lightgbm
import numpy as np
import onnx
import onnxruntime

from martlet.formats.trees.builder import Trees
from martlet.formats.trees.forest import Forest, TreeSum


def of_lightgbm(booster: lightgbm.Booster) -> tuple[Forest, list[float]]:
    """Read a booster without categories into a forest; the values of its leaves."""
    dump = booster.dump_model()
    trees, values = Trees(dump["max_feature_idx"] + 1), []

    def grow(node: dict[str, Any]) -> int:
        if "leaf_value" in node:
            values.append(node["leaf_value"])
            return trees.leaf(len(values) - 1)
        yes, no = grow(node["left_child"]), grow(node["right_child"])
        missing = yes if node["default_left"] else no
        threshold = node["threshold"]
        return trees.compare(
            node["split_feature"], "<=", threshold, yes=yes, no=no, missing=missing
        )

    for tree in dump["tree_info"]:
        trees.add(grow(tree["tree_structure"]))
    return trees.build(), values


def of_forest(forest: Forest, values: list[float]) -> onnxruntime.InferenceSession:
    """Write the forest as ONNX's TreeEnsembleRegressor (float32), opened on one thread."""
    columns: dict[str, list[Any]] = {
        name: []
        for name in [
            "treeids",
            "nodeids",
            "featureids",
            "values",
            "modes",
            "truenodeids",
            "falsenodeids",
        ]
    }
    targets: dict[str, list[Any]] = {name: [] for name in ["treeids", "nodeids", "ids", "weights"]}
    for tree, root in enumerate(forest.roots.tolist()):
        nodes, at = [root], 0
        while at < len(nodes):
            node = nodes[at]
            columns["treeids"].append(tree)
            columns["nodeids"].append(at)
            columns["modes"].append("LEAF" if node < 0 else "BRANCH_LEQ")
            columns["featureids"].append(0 if node < 0 else int(forest.feature[node]))
            columns["values"].append(0.0 if node < 0 else float(forest.threshold[node]))
            columns["truenodeids"].append(0 if node < 0 else len(nodes))
            columns["falsenodeids"].append(0 if node < 0 else len(nodes) + 1)
            if node < 0:
                targets["treeids"].append(tree)
                targets["nodeids"].append(at)
                targets["ids"].append(0)
                targets["weights"].append(values[-node - 2])
            else:
                nodes += forest.children[node, :2].tolist()
            at += 1
    made = onnx.helper.make_node(
        "TreeEnsembleRegressor", ["x"], ["y"], domain="ai.onnx.ml", n_targets=1,
        **{f"nodes_{name}": each for name, each in columns.items()},
        **{f"target_{name}": each for name, each in targets.items()},
    )  # fmt: skip
    floats = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [made], "trees",
        [onnx.helper.make_tensor_value_info("x", floats, [None, forest.features])],
        [onnx.helper.make_tensor_value_info("y", floats, [None, 1])],
    )  # fmt: skip
    opsets = [onnx.helper.make_opsetid("", 17), onnx.helper.make_opsetid("ai.onnx.ml", 3)]
    model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def pure(forest: Forest, values: list[float]) -> TreeSum:
    """Return the sum of the same forest in numpy."""
    os.environ["MARTLET_NATIVE"] = "0"
    try:
        arrays = [getattr(forest, name) for name in Forest.__dataclass_fields__][:9]
        return Forest(*arrays).sum(values, target=np.zeros(forest.trees))
    finally:
        del os.environ["MARTLET_NATIVE"]


def measure(arguments: argparse.Namespace) -> Iterator[str]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, arguments.features))
    y = (x[:, :8].sum(1) + np.sin(x[:, 8] * 3) > 0).astype(int)
    for leaves, depth in ((31, -1), (63, -1), (64, 6), (255, 8)):
        settings = {
            "objective": "binary", "num_leaves": leaves, "max_depth": depth, "verbose": -1,
            "num_threads": 1, "min_data_in_leaf": 5,
        }  # fmt: skip
        booster = lightgbm.train(settings, lightgbm.Dataset(x, y), arguments.trees)
        forest, values = of_lightgbm(booster)
        score = forest.sum(values, target=np.zeros(forest.trees))
        twin, session = pure(forest, values), of_forest(forest, values)
        asked = rng.normal(size=(arguments.rows, arguments.features))
        as_floats = asked.astype(np.float32)
        expected = booster.predict(asked, raw_score=True, num_threads=1)
        assert (score(asked)[:, 0] == expected).all()
        off = np.abs(session.run(None, {"x": as_floats})[0][:, 0] - expected)

        holes = asked.copy()
        holes[:, 0] = np.nan
        one, one_float, few = asked[:1], as_floats[:1], [row.tolist() for row in asked[:100]]
        batches = {
            "martlet": lambda s=score, a=asked: s(a),
            "martlet, NaN": lambda s=score, a=holes: s(a),
            "onnxruntime": lambda s=session, a=as_floats: s.run(None, {"x": a}),
            "lightgbm": lambda b=booster, a=asked: b.predict(a, raw_score=True, num_threads=1),
            "martlet, numpy": lambda s=twin, a=asked[:1000]: s(a),
        }
        singles = {
            "martlet": lambda s=score, f=few: [s.of(row) for row in f],
            "onnxruntime": lambda s=session, a=one_float: s.run(None, {"x": a}),
            "lightgbm": lambda b=booster, a=one: b.predict(a, raw_score=True, num_threads=1),
            "martlet, numpy": lambda s=twin, f=few[0]: s.of(f),
        }
        shape = f"{leaves} leaves, depth {depth}: {len(forest.feature)} nodes"
        yield f"\n{arguments.trees} trees, {shape}"
        yield f"  onnxruntime's float32 moves {int((off > 1e-3).sum())} rows of {len(asked)}"
        for name, call in batches.items():
            rows = 1000 if "numpy" in name else len(asked)
            yield f"  batch   {name:<16}{rows / fastest(call):>12,.0f} rows/s"
        for name, call in singles.items():
            count = len(few) if name == "martlet" else 1
            yield f"  single  {name:<16}{fastest(call) / count * 1e6:>12.1f} us"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (("trees", 200), ("rows", 10_000), ("features", 40)):
        parser.add_argument(f"--{name}", type=int, default=default)
    print(machine())
    for line in measure(parser.parse_args()):
        print(line, flush=True)


if __name__ == "__main__":
    main()
