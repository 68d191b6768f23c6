"""W1 brought online, over HTTP: each form of a request against the model as it came.

python benchmarks/bring/serve.py [--seconds 3] [--rounds 3]

W1 (benchmarks/workloads.py) is imported twice by ``martlet import``: as it is, and split for its
catalogue. Each form of a request then meets both. ``ids`` are the forms that a catalogue makes
possible: the user once and 200 item ids, in JSON (``:rank``) or as binary tensors.

The floor of a form is the sum of its parts, each by itself in a loop of a process that has nothing
else in its cache: reading the body, the kernel over 200 items' rows, writing the scores, and what
this server spends on an empty reply (``/healthz``) in the same run.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from load import Sample, measure, measure_get, post, server
from machine import machine
from workloads import ROWS, USER, Workload, make

PORT = 18711

Form = tuple[str, bytes, Mapping[str, str]]
"""A path, a body, headers."""


def forms(w1: Workload, model: str) -> dict[str, Form]:
    """Return each form of W1's request to *model*."""
    items = w1.inputs["item_id"][:, 0].tolist()
    ids = {"context": {"user_id": USER}, "items": {"item_id": items}}
    predict, rank, infer = (
        f"/v1/models/{model}:predict", f"/v1/models/{model}:rank", f"/v2/models/{model}/infer"
    )  # fmt: skip
    few = {name: w1.inputs[name] for name in ("user_id", "item_id")}
    return {
        "rows": (predict, w1.bodies["rows"], {}),
        "columns": (predict, w1.bodies["columns"], {}),
        "rank": (rank, w1.bodies["rank"], {}),
        "binary": (infer, *binary(w1.inputs)),
        "ids": (rank, json.dumps(ids, separators=(",", ":")).encode(), {}),
        "ids, binary": (infer, *binary(few)),
    }


def binary(inputs: Mapping[str, np.ndarray]) -> tuple[bytes, dict[str, str]]:
    """Return a request of the Open Inference Protocol with binary tensors both ways."""
    arrays = {name: np.ascontiguousarray(value) for name, value in inputs.items()}
    kinds = {"int64": "INT64", "float32": "FP32"}
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": name,
                    "shape": value.shape,
                    "datatype": kinds[value.dtype.name],
                    "parameters": {"binary_data_size": value.nbytes},
                }
                for name, value in arrays.items()
            ],
            "parameters": {"binary_data_output": True},
        },
        separators=(",", ":"),
    ).encode()
    body = head + b"".join(value.tobytes() for value in arrays.values())
    length = {"Inference-Header-Content-Length": str(len(head))}
    return body, length | {"Content-Type": "application/octet-stream"}


def scores_of(reply: bytes) -> np.ndarray:
    """Return the scores in a reply of whatever form."""
    try:
        document = json.loads(reply)
    except ValueError:
        return np.frombuffer(reply[-4 * ROWS :], np.float32)
    found = document.get("predictions", document.get("outputs", document.get("scores")))
    if isinstance(found, list) and isinstance(found[0], dict):
        found = found[0]["data"]
    return np.array(found, np.float32).ravel()


def parts_us(w1: Workload, package: Path) -> dict[str, float]:
    """Return what each form costs in process without HTTP: read, scored and written by itself."""
    import orjson

    from martlet.formats import LoadOptions
    from martlet.formats.package.servable import PackageServable
    from martlet.wire.openinference.plan import compile_plan
    from martlet.wire.rows import RowPlan

    found = PackageServable(package, LoadOptions())
    (signature,) = found.signatures.values()
    plan, infer = RowPlan.compile(signature), compile_plan(signature)
    assert plan is not None and infer is not None, "this measures the compiled parts"
    cross, sides = found._cross, found._sides
    assert cross is not None and sides is not None, "W1's package has a cross part"
    users, rows = sides.find(dict(w1.inputs)) or (None, None)
    assert users is not None and rows is not None, "the catalogue has every item"
    matrix = found._items.matrix  # type: ignore[union-attr]
    scores = found.predict(w1.inputs)["score"]
    kernel = median_us(lambda: cross.score(users, matrix, rows))
    written = median_us(lambda: orjson.dumps(scores, option=orjson.OPT_SERIALIZE_NUMPY))
    costs = {}
    for name, (path, body, headers) in forms(w1, "split").items():
        if path.endswith("infer"):
            length = headers["Inference-Header-Content-Length"].encode()
            costs[name] = kernel + median_us(lambda b=body, n=length: infer(b, n))
        else:
            read = plan.decode_rank if path.endswith("rank") else plan.decode
            costs[name] = kernel + median_us(lambda b=body, r=read: r(b)) + written
    return costs


def median_us(call: Callable[[], object]) -> float:
    """Return the median CPU time of a call, in batches of ten."""
    times = []
    for _ in range(300):
        began = time.thread_time_ns()
        for _ in range(10):
            call()
        times.append((time.thread_time_ns() - began) / 10_000)
    return statistics.median(times)


def main() -> None:
    """Print the table."""
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--seconds", type=int, default=3)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--connections", type=int, default=8)
    given = arguments.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        w1, _ = make(folder)
        martlet = [sys.executable, "-m", "martlet"]
        bring = [*martlet, "import", str(w1.model), "--root", str(folder / "root")]
        split = ["--user-input", "user_id", "--items", str(folder / "items.table")]
        subprocess.run([*bring, "--name", "asis", "--as-is"], check=True)
        subprocess.run([*bring, "--name", "split", *split], check=True)
        command = [*martlet, "serve", "--root", str(folder / "root"), "--workers", "2"]
        base = f"http://127.0.0.1:{PORT}"
        samples: dict[tuple[str, str], list[Sample]] = {}
        (package,) = (folder / "root").rglob("martlet-package.json")
        floors = parts_us(w1, package.parent)
        http: list[float] = []
        with server([*command, "--rest-port", str(PORT)], f"{base}/readyz") as pid:
            expected = scores_of(post(base + "/v1/models/asis:predict", w1.bodies["rows"]))
            for _ in range(given.rounds):
                empty = measure_get(pid, f"{base}/healthz", given.connections, given.seconds)
                http.append(empty.cpu_us)
                for model in ("asis", "split"):
                    for name, (path, body, headers) in forms(w1, model).items():
                        if model == "asis" and name.startswith("ids"):
                            continue
                        found = scores_of(post(base + path, body, headers))
                        assert np.allclose(found, expected, atol=1e-6), f"{model} {name}"
                        load = (pid, base + path, body, given.connections)
                        measure(*load, 1, headers)
                        sample = measure(*load, given.seconds, headers)
                        samples.setdefault((name, model), []).append(sample)
    empty_us = statistics.median(http)
    print(f"\nan empty reply: {empty_us:.1f} us")
    print_table(samples, {name: us + empty_us for name, us in floors.items()})


def print_table(
    samples: Mapping[tuple[str, str], list[Sample]], floors: Mapping[str, float]
) -> None:
    """Print medians; candidates a second are the requests' 200."""
    print(
        "\n| form | model | CPU us | floor | x floor | rps | candidates/s | p50 ms | p99 ms | bad |"
    )
    print("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for (name, model), found in samples.items():
        cpu, rps, p50, p99 = (
            statistics.median(getattr(each, field) for each in found)
            for field in ("cpu_us", "rps", "p50", "p99")
        )
        bad = sum(each.bad for each in found)
        cells = [
            f"{cpu:.0f}",
            *(
                (f"{floors[name]:.0f}", f"{cpu / floors[name]:.2f}")
                if model == "split"
                else ("", "")
            ),
            f"{rps:.0f}",
            f"{rps * ROWS / 1e6:.2f} M",
            f"{p50:.2f}",
            f"{p99:.2f}",
        ]
        print(f"| {name} | {model} | {' | '.join(cells)} | {bad} |")


if __name__ == "__main__":
    main()
