"""What a call costs in the formats that martlet reads itself: 1, 200 and 10,000 rows.

python benchmarks/formats/readers.py [--spark] [--models FOLDER]

With --spark (needs Java and pyspark) Spark scores the same rows through its usual Python bridge,
``createDataFrame`` and ``collect``, in the same run. martlet's figure includes the check of the
inputs. FOLDER holds models as tests/fixtures/spark/make.py writes them.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from machine import machine

import martlet

ROOT = Path(__file__).resolve().parents[2]
SIZES = (1, 200, 10_000)
SPARK = ["ctr", "boost_class", "forest_class", "hasher", "text_hash", "kmeans", "als", "perceptron"]


def best(call: Callable[[], Any], rounds: int = 7) -> float:
    """Return the microseconds of a call in the best round."""
    call()
    start = time.perf_counter()
    call()
    once = time.perf_counter() - start
    repeat = max(1, int(0.05 / max(once, 1e-7)))
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(repeat):
            call()
        times.append((time.perf_counter() - start) / repeat)
    return min(times) * 1e6


def plain(value: Any) -> Any:
    special = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
    return special.get(value, value) if isinstance(value, str) else value


def rows_of(
    specs: dict[str, martlet.Spec], rows: dict[str, list[Any]], size: int
) -> dict[str, Any]:
    """Repeat the recorded rows until there are *size*."""
    out = {}
    for name, spec in specs.items():
        values = [plain(each) for each in rows[name]]
        repeated = (values * (size // len(values) + 1))[:size]
        if spec.dtype.value == "string":
            out[name] = np.array(repeated, dtype=object)
        else:
            out[name] = np.array(repeated, dtype=spec.dtype.numpy)
    return out


def pfa_forest(folder: Path, trees: int = 20, depth: int = 6) -> Path:
    """Write a forest of random trees over ten numbers as a PFA document."""
    dice = np.random.default_rng(0)

    def node(level: int) -> Any:
        if level == 0:
            return {"double": float(dice.normal())}
        field = f"x{int(dice.integers(10))}"
        return {"TreeNode": {"field": field, "operator": "<", "value": float(dice.normal()),
                             "pass": node(level - 1), "fail": node(level - 1)}}  # fmt: skip

    names = [f"x{i}" for i in range(10)]
    branch = ["TreeNode", "double"]
    tree = {"type": "record", "name": "TreeNode", "fields": [
        {"name": "field", "type": {"type": "enum", "name": "Fields", "symbols": names}},
        {"name": "operator", "type": "string"}, {"name": "value", "type": "double"},
        {"name": "pass", "type": branch}, {"name": "fail", "type": branch}]}  # fmt: skip
    score = {"params": [{"t": "TreeNode"}], "ret": "double",
             "do": {"model.tree.simpleTree": ["row", "t"]}}  # fmt: skip
    document = {
        "input": {"type": "record", "name": "Row",
                  "fields": [{"name": name, "type": "double"} for name in names]},
        "output": "double",
        "cells": {"forest": {"type": {"type": "array", "items": tree},
                             "init": [node(depth)["TreeNode"] for _ in range(trees)]}},
        "action": [{"let": {"row": "input"}},
                   {"a.mean": [{"a.map": [{"cell": "forest"}, score]}]}],
    }  # fmt: skip
    path = folder / "forest.pfa"
    path.write_text(json.dumps(document))
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spark", action="store_true")
    parser.add_argument("--models", type=Path, default=ROOT / "tests" / "fixtures" / "spark")
    options = parser.parse_args()
    print(f"{machine()}; microseconds a call")
    print(f"{'model':24}" + "".join(f"{size:>12}" for size in SIZES) + "  rows")
    rows = json.loads((options.models / "rows.json").read_text(encoding="utf-8"))
    session = Spark() if options.spark else None
    for name in SPARK:
        model = martlet.load(options.models / name / "model")
        for signature in ("serving_default", "prediction"):
            specs = dict(model.signatures[signature].inputs)
            line = []
            for size in SIZES:
                given = rows_of(specs, rows, size)
                line.append(best(partial(model.predict, given, signature)))
            label = f"spark {name}" + ("" if signature == "serving_default" else ", lean")
            print(f"{label:24}" + "".join(f"{each:12.1f}" for each in line), flush=True)
        if session is not None:
            scored = [session.cost(options.models / name / "model", rows, n) for n in SIZES]
            label = f"  Spark itself, {name}"
            print(f"{label:24}" + "".join(f"{each:12.1f}" for each in scored), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        model = martlet.load(pfa_forest(Path(folder)))
        dice = np.random.default_rng(1)
        line = []
        for size in SIZES:
            given = {f"x{i}": dice.normal(size=size) for i in range(10)}
            line.append(best(partial(model.predict, given), rounds=3))
        print(f"{'pfa forest 20 x 6':24}" + "".join(f"{each:12.1f}" for each in line))


class Spark:
    """Spark's own scoring, through its Python bridge."""

    def __init__(self) -> None:
        from pyspark.sql import SparkSession

        self.session = (
            SparkSession.builder.master("local[1]")
            .config("spark.ui.enabled", "false")
            .config("spark.ui.showConsoleProgress", "false")
            .config("spark.sql.shuffle.partitions", "1")
            .getOrCreate()
        )
        self.session.sparkContext.setLogLevel("OFF")

    def cost(self, path: Path, rows: dict[str, list[Any]], size: int) -> float:
        """Return the microseconds of one ``transform``, rows in and predictions out."""
        from pyspark.ml import PipelineModel
        from pyspark.ml.linalg import Vectors
        from pyspark.ml.recommendation import ALSModel

        holder = ALSModel if path.parent.name == "als" else PipelineModel
        model = holder.load(path.absolute().as_uri())
        names = list(rows)
        columns = []
        for name in names:
            values = [plain(each) for each in rows[name]]
            if isinstance(values[0], list):
                values = [Vectors.dense([plain(each) for each in row]) for row in values]
            columns.append((values * (size // len(values) + 1))[:size])
        given = list(zip(*columns, strict=True))

        def call() -> Any:
            frame = self.session.createDataFrame(given, names)
            answer = model.transform(frame)
            return answer.select(answer.columns[-1]).collect()

        return best(call, rounds=2)


if __name__ == "__main__":
    main()
