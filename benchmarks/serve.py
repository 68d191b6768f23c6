"""W1 and W2 against the running server, beside a peer and the floor, in one run.

    make bench                       # or: python benchmarks/serve.py --seconds 5 --rounds 3

The floor of a form is what no server can save: the model in process with its arrays ready, plus
what this server spends on a request that it answers without thinking (``/healthz``).
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from load import Sample, measure, measure_get, post, server
from machine import machine
from workloads import Workload, make

OURS, PEER = 18701, 18702


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=int, default=3, help="of load for each figure")
    arguments.add_argument("--rounds", type=int, default=3, help="the table shows medians")
    arguments.add_argument("--connections", type=int, default=8)
    given = arguments.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        w1, w2 = make(folder)
        floors = {w.name: _compute_us(w) for w in (w1, w2)}
        samples: dict[str, list[Sample]] = {}
        for _ in range(given.rounds):
            _round(folder, w1, w2, samples, given.connections, given.seconds)
    _table(samples, floors)


def _round(
    folder: Path,
    w1: Workload,
    w2: Workload,
    samples: dict[str, list[Sample]],
    connections: int,
    seconds: int,
) -> None:
    base = f"http://127.0.0.1:{OURS}/v1/models"
    ours = {
        "floor/http": (f"http://127.0.0.1:{OURS}/healthz", b""),
        "W1/rows": (f"{base}/m1:predict", w1.bodies["rows"]),
        "W1/columns": (f"{base}/m1:predict", w1.bodies["columns"]),
        "W1/rank": (f"{base}/m1:rank", w1.bodies["rank"]),
        "W1/compact": (f"{base}/m1:rank", w1.bodies["compact"]),
        "W2/rows": (f"{base}/half:predict", w2.bodies["rows"]),
        "W2/columns": (f"{base}/half:predict", w2.bodies["columns"]),
    }
    command = [sys.executable, "-m", "martlet", "serve", "--rest-port", str(OURS), "--workers", "2"]
    command += ["--model", f"m1={w1.model}", "--model", f"half={w2.model}"]
    command += ["--recommender", f"w1={folder / 'w1.toml'}"]
    with server(command, f"http://127.0.0.1:{OURS}/healthz") as pid:
        _check(w1, {name: post(*ours[name]) for name in ours if name.startswith("W1")})
        for name, (url, body) in ours.items():
            _sample(samples, f"martlet {name}", pid, url, body, connections, seconds)
    peers = {
        "W1/plain": (f"http://127.0.0.1:{PEER}/m1", w1.bodies["plain"]),
        "W2/plain": (f"http://127.0.0.1:{PEER}/half", w2.bodies["plain"]),
    }
    command = [sys.executable, "-m", "uvicorn", "fastapi_raw:app", "--port", str(PEER)]
    command += ["--workers", "2", "--log-level", "warning", "--no-access-log"]
    command += ["--app-dir", str(Path(__file__).parent / "peers")]
    ready = f"http://127.0.0.1:{PEER}/healthz"
    with server(command, ready, {"MODELS": str(folder)}) as pid:
        for name, (url, body) in peers.items():
            _sample(samples, f"fastapi-raw {name}", pid, url, body, connections, seconds)


def _check(w1: Workload, replies: dict[str, bytes]) -> None:
    """Refuse to measure wrong answers: every form scores as onnxruntime does."""
    expected = _run(w1)[:, 0]
    for name, reply in replies.items():
        document = json.loads(reply)
        found = document.get("predictions", document.get("outputs", document.get("scores")))
        scores = np.array(found, np.float32).ravel()
        assert np.allclose(scores, expected, atol=1e-6), f"{name} answers wrong"


def _sample(
    samples: dict[str, list[Sample]],
    name: str,
    pid: int,
    url: str,
    body: bytes,
    connections: int,
    seconds: int,
) -> None:
    if "healthz" in url:
        found = measure_get(pid, url, connections, seconds)
    else:
        measure(pid, url, body, connections, 1)
        found = measure(pid, url, body, connections, seconds)
    samples.setdefault(name, []).append(found)


def _session(workload: Workload) -> object:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    return ort.InferenceSession(str(workload.model), options)


def _run(workload: Workload) -> np.ndarray:
    found: np.ndarray = _session(workload).run(None, dict(workload.inputs))[0]  # type: ignore[attr-defined]
    return found


def _compute_us(workload: Workload) -> float:
    """Return what the model alone costs in process: the best of many runs."""
    session, inputs = _session(workload), dict(workload.inputs)
    times = []
    for _ in range(2000):
        began = time.perf_counter()
        session.run(None, inputs)  # type: ignore[attr-defined]
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6


def _table(samples: dict[str, list[Sample]], compute: dict[str, float]) -> None:
    def cpu(name: str) -> float:
        return statistics.median(each.cpu_us for each in samples[name])

    http = cpu("martlet floor/http")
    print(f"\nfloors, us: HTTP {http:.1f}; model W1 {compute['W1']:.1f}, W2 {compute['W2']:.1f}\n")
    print("| server / form | rps | p50 ms | p95 ms | p99 ms | CPU us | x peer | x floor | bad |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|")
    for name, found in samples.items():
        workload = name.split()[1].split("/")[0]
        if workload == "floor":
            continue
        middle = [
            statistics.median(getattr(each, field) for each in found)
            for field in ("rps", "p50", "p95", "p99", "cpu_us")
        ]
        peer = middle[4] / cpu(f"fastapi-raw {workload}/plain")
        floor = middle[4] / (http + compute[workload])
        cells = [f"{middle[0]:.0f}", *(f"{each:.2f}" for each in middle[1:4]), f"{middle[4]:.0f}"]
        bad = sum(each.bad for each in found)
        print(f"| {name} | {' | '.join(cells)} | {peer:.2f} | {floor:.2f} | {bad} |")


if __name__ == "__main__":
    main()
