"""JSON bodies to columns: martlet's row plan beside what libraries do, for 200 rows of 16 values.

python benchmarks/rows.py [--rows 200]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np
import orjson
from machine import fastest, machine

from martlet.tensors import DType, Signature, Spec
from martlet.wire.rows import RowPlan
from martlet.wire.tfserving.requests import PredictDecoder, parse_object

WIDTHS = {"user_id": 1, "item_id": 1, "cat": 6, "dense": 8}
SIGNATURE = Signature.of(
    [
        Spec(name, DType.FLOAT32 if name == "dense" else DType.INT64, (-1, width))
        for name, width in WIDTHS.items()
    ],
    [],
)


def columns(rows: int) -> dict[str, list[Any]]:
    rng = np.random.default_rng(0)
    return {
        "user_id": [[4242]] * rows,
        "item_id": rng.integers(0, 100_000, (rows, 1)).tolist(),
        "cat": rng.integers(0, 1000, (rows, 6)).tolist(),
        "dense": rng.normal(size=(rows, 8)).round(6).tolist(),
    }


def gather(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Turn parsed rows into columns as fast as Python over numpy does."""
    return {
        name: np.fromiter(
            chain.from_iterable([row[name] for row in rows]), SIGNATURE.inputs[name].dtype.numpy
        ).reshape(len(rows), width)
        for name, width in WIDTHS.items()
    }


def of_rows(body: bytes) -> dict[str, Callable[[], object]]:
    ways: dict[str, Callable[[], object]] = {
        "json.loads, gathered": lambda: gather(json.loads(body)["instances"]),
        "orjson, gathered": lambda: gather(orjson.loads(body)["instances"]),
        "(orjson alone)": lambda: orjson.loads(body),
    }
    if importlib.util.find_spec("msgspec"):
        import msgspec

        row = msgspec.defstruct(
            "Row", [(n, list[float] if n == "dense" else list[int]) for n in WIDTHS]
        )
        reader = msgspec.json.Decoder(msgspec.defstruct("Body", [("instances", list[row])]))

        def gathered() -> dict[str, Any]:
            rows = reader.decode(body).instances
            return gather([{name: getattr(each, name) for name in WIDTHS} for each in rows])

        ways["msgspec, gathered"] = gathered
    return ways


def of_columns(body: bytes) -> dict[str, Callable[[], object]]:
    def arrays(inputs: dict[str, Any]) -> dict[str, Any]:
        return {n: np.array(inputs[n], SIGNATURE.inputs[n].dtype.numpy) for n in WIDTHS}

    ways: dict[str, Callable[[], object]] = {
        "json.loads, np.array": lambda: arrays(json.loads(body)["inputs"]),
        "orjson, np.array": lambda: arrays(orjson.loads(body)["inputs"]),
        "(orjson alone)": lambda: orjson.loads(body),
    }
    if importlib.util.find_spec("simdjson"):
        import simdjson

        parser = simdjson.Parser()

        def buffers() -> dict[str, Any]:
            inputs = parser.parse(body)["inputs"]
            found = {
                name: np.frombuffer(
                    inputs[name].as_buffer(of_type="d" if name == "dense" else "i"),
                    np.float64 if name == "dense" else np.int64,
                ).reshape(-1, width)
                for name, width in WIDTHS.items()
            }
            return found | {"dense": found["dense"].astype(np.float32)}

        ways["pysimdjson, buffers"] = buffers
    return ways


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200)
    rows = parser.parse_args().rows
    by_name = columns(rows)
    in_rows = [
        dict(zip(by_name, each, strict=True)) for each in zip(*by_name.values(), strict=True)
    ]
    bodies = {
        "rows": orjson.dumps({"instances": in_rows}),
        "columns": orjson.dumps({"inputs": by_name}),
    }
    print(machine())
    plan, complete = RowPlan.compile(SIGNATURE), PredictDecoder(SIGNATURE, "")
    for form, body in bodies.items():
        ways: dict[str, Callable[[], object]] = {}
        if plan is not None:
            ways["martlet, compiled"] = lambda body=body, plan=plan: plan.decode(body)
        ways["martlet, complete"] = lambda body=body: complete.decode(parse_object(body))
        ways |= of_rows(body) if form == "rows" else of_columns(body)
        print(f"\n{rows} {form}, {len(body)} bytes")
        for name, call in ways.items():
            print(f"  {name:<24}{fastest(call) * 1e6:>10.1f} us", flush=True)


if __name__ == "__main__":
    main()
