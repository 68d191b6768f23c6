"""Rows that change while W1 is served: latency with and without, torn rows, freshness.

python benchmarks/tables.py [--form package] [--updates 10000] [--rate 100]

In the form ``joined``, W1's user and item vectors come from two tables of 100,000 rows that the
server joins with what the request gives (the compact form: a user and 200 item keys); every fourth
request asks a second model for the spread of each item's vector, which is 0 unless a row is torn:
every vector that is set is one number repeated. In the form ``package`` W1 is the package that
``martlet import --live-tables`` makes of it, and every fourth request reads the 200 rows. Requests
come at a fixed rate (an open loop), and their latency counts from when they were due. Rounds with
and without updates alternate; the figures are medians of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnx
import workloads
from load import family_cpu_s, server
from machine import machine
from onnx import TensorProto, helper, numpy_helper

from martlet.registry import Kind, Registry
from martlet.stores import Embeddings, write_embeddings, write_features, write_lists

DIM, ROWS, PORT = 32, workloads.TABLE_ROWS, 18799
URL = f"http://127.0.0.1:{PORT}"
TABLES = {"joined": "item_vectors", "package": "w1/item_id"}

DECLARATION = """
[recommender]
items = "items"
[tables]
items = "items"
popular = "popular"
user_vectors = "user_vectors"
item_vectors = "item_vectors"
[[candidates]]
from = "popular"
lists = "popular"
[[ranking]]
model = "w1"
items = "items"
[ranking.features]
user = { unit = "user_vectors" }
item = { item = "item_vectors" }
[[ranking]]
model = "spread"
[ranking.features]
item = { item = "item_vectors" }
"""


def value(name: str, *shape: str | int) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shape])


def w1(seed: int = 0) -> onnx.ModelProto:
    """W1, with its user and item vectors as inputs."""
    graph = workloads._wide_and_deep(np.random.default_rng(seed)).graph
    gone = {"user", "item", "user_column", "item_column"}
    nodes = [node for node in graph.node if node.output[0] not in gone]
    inputs = [value("user", DIM), value("item", DIM)]
    inputs += [each for each in graph.input if each.name in ("cat", "dense")]
    kept = [each for each in graph.initializer if each.name not in ("user_table", "item_table")]
    return workloads._model(helper.make_graph(nodes, "w1", inputs, graph.output, kept))


def spread() -> onnx.ModelProto:
    """A model that tells a torn row: the largest less the least component of each item's vector."""
    nodes = [
        helper.make_node("ReduceMax", ["item", "one"], ["most"], keepdims=0),
        helper.make_node("ReduceMin", ["item", "one"], ["least"], keepdims=0),
        helper.make_node("Sub", ["most", "least"], ["spread"]),
    ]
    one = numpy_helper.from_array(np.array([1]), "one")
    return workloads._model(
        helper.make_graph(nodes, "spread", [value("item", DIM)], [value("spread")], [one])
    )


def register(folder: Path, form: str) -> Path:
    """Register W1 in *form*, and all that it needs; return the root."""
    if form == "package":
        graph = workloads._wide_and_deep(np.random.default_rng(0))
        for each in graph.graph.initializer:
            if each.name == "item_table":
                # One number repeated, before it was ever set too.
                column = np.linspace(-0.1, 0.1, ROWS, dtype=np.float32)[:, None]
                each.CopyFrom(numpy_helper.from_array(np.repeat(column, DIM, 1), each.name))
        onnx.save(graph, folder / "w1.onnx")
        command = [sys.executable, "-m", "martlet", "import", str(folder / "w1.onnx")]
        command += ["--name", "w1", "--live-tables", "--root", str(folder / "root")]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return folder / "root"
    random = np.random.default_rng(0)
    cat = random.integers(0, workloads.SMALL_ROWS, (ROWS, 6))
    dense = random.standard_normal((ROWS, 8)).astype(np.float32)
    write_features(folder / "items", np.arange(ROWS), {"cat": cat, "dense": dense})
    write_lists(folder / "popular", {"all": list(range(100))})
    for name in ("user_vectors", "item_vectors"):
        write_embeddings(folder / name, np.arange(ROWS), np.zeros((ROWS, DIM), np.float32))
    onnx.save(w1(), folder / "w1.onnx")
    onnx.save(spread(), folder / "spread.onnx")
    (folder / "tv.toml").write_text(DECLARATION)
    kinds = {
        "items": Kind.FEATURES,
        "popular": Kind.LISTS,
        "user_vectors": Kind.EMBEDDINGS,
        "item_vectors": Kind.EMBEDDINGS,
        "w1.onnx": Kind.MODEL,
        "spread.onnx": Kind.MODEL,
        "tv.toml": Kind.RECOMMENDER,
    }
    with Registry.open(folder / "root") as registry:
        for name, kind in kinds.items():
            registry.import_(folder / name, name.partition(".")[0], kind=kind)
    return folder / "root"


@dataclass
class Round:
    """What one round measured. Milliseconds; the server's CPU in microseconds a request."""

    p50: float
    p99: float
    cpu_us: float
    torn: int
    late: int


def requests(count: int, form: str) -> list[tuple[bool, bytes]]:
    """Return requests for W1, of which every fourth checks rows: whether it does, and its bytes."""
    random, found = np.random.default_rng(1), []
    for number in range(count):
        items = random.choice(ROWS, workloads.ROWS, replace=False)
        user, checks = int(random.integers(ROWS)), number % 4 == 0
        if form == "joined":
            path = b"/v1/models/%b:rank" % (b"spread" if checks else b"w1")
            asked: dict[str, Any] = {"recommender": "tv", "user": user, "items": items.tolist()}
        elif checks:
            path, asked = b"/v1/tables/w1/item_id:get", {"keys": items.tolist()}
        else:
            path = b"/v1/models/w1:rank"
            cat = random.integers(0, workloads.SMALL_ROWS, (len(items), 6))
            dense = random.standard_normal((len(items), 8)).astype(np.float32).round(6)
            given = {"item_id": items[:, None], "cat": cat, "dense": dense}
            columns = {name: workloads.plain(array) for name, array in given.items()}
            asked = {"context": {"user_id": user}, "items": columns}
        body = workloads._dump(asked)
        head = b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (path, len(body))
        found.append((checks, head + body))
    return found


async def ask(
    form: str, rate: float, seconds: float, connections: int = 8
) -> tuple[list[float], int]:
    """Ask at *rate*; return every latency (seconds) and how many rows were torn."""
    due: asyncio.Queue[float] = asyncio.Queue()
    some, took, torn, turn = requests(64, form), [], 0, 0

    async def one() -> None:
        nonlocal torn, turn
        reader, writer = await asyncio.open_connection("127.0.0.1", PORT)
        while (at := await due.get()) >= 0:
            turn += 1
            checks, request = some[turn % len(some)]
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            answer = await reader.readexactly(length)
            took.append(time.perf_counter() - at)
            assert head.startswith(b"HTTP/1.1 200"), answer
            if checks:
                found = json.loads(answer)
                torn += sum(score != 0 for score in found.get("scores", ()))
                torn += sum(max(row) - min(row) != 0 for row in found.get("vectors", ()))
        writer.close()

    asking = [asyncio.create_task(one()) for _ in range(connections)]
    began = time.perf_counter()
    for number in range(int(rate * seconds)):
        at = began + number / rate
        await asyncio.sleep(max(0, at - time.perf_counter()))
        due.put_nowait(at)
    for _ in asking:
        due.put_nowait(-1)
    await asyncio.gather(*asking)
    return took, torn


def produce(pipe: int, rate: int, told: Any) -> None:
    """Write *rate* updates a second of random items to *pipe*, until it breaks."""
    random = np.random.default_rng(2)
    vectors = [json.dumps([value] * DIM).encode() for value in range(1, 2000)]
    began, number = time.perf_counter(), 0
    while True:
        behind = int((time.perf_counter() - began) * rate) - number
        if behind < 1:
            time.sleep(0.002)
            continue
        keys = random.integers(0, ROWS, behind).tolist()
        lines = [b'{"key":%d,"vector":%b}\n' % (key, vectors[(number + n) % len(vectors)])
                 for n, key in enumerate(keys)]  # fmt: skip
        view = memoryview(b"".join(lines))
        while view:
            view = view[os.write(pipe, view) :]
        number += behind
        told.value = number


def measured(pid: int, options: argparse.Namespace, seconds: float) -> Round:
    before = family_cpu_s(pid)
    took, torn = asyncio.run(ask(options.form, options.rate, seconds))
    spent = family_cpu_s(pid) - before
    ordered = sorted(took)
    return Round(
        p50=ordered[len(took) // 2] * 1e3,
        p99=ordered[int(len(took) * 0.99)] * 1e3,
        cpu_us=spent / len(took) * 1e6,
        torn=torn,
        late=sum(each > 0.05 for each in took),
    )


def under_updates(root: Path, pid: int, options: argparse.Namespace) -> tuple[Round, float]:
    """Return a round with a follower at work, and how many updates a second it applied."""
    table = Embeddings(path_of(root, TABLES[options.form]))
    told = multiprocessing.Value("q", 0)
    reader, writer = os.pipe()
    command = [sys.executable, "-m", "martlet", "table", "follow", TABLES[options.form], "-"]
    follower = subprocess.Popen(
        [*command, "--root", str(root)], stdin=reader, stderr=subprocess.DEVNULL
    )
    os.close(reader)
    producer = multiprocessing.Process(target=produce, args=(writer, options.updates, told))
    producer.start()
    os.close(writer)
    while told.value < options.updates:
        time.sleep(0.05)
    table.look()
    assert table.live is not None
    before, began = table.live.stats().updates, time.perf_counter()
    found = measured(pid, options, options.seconds)
    applied = (table.live.stats().updates - before) / (time.perf_counter() - began)
    producer.kill()
    producer.join()
    follower.wait()
    return found, applied


def path_of(root: Path, name: str) -> Path:
    model, _, within = name.partition("/")
    with Registry.open(root) as registry:
        path = registry.path_of(registry.get(model))
    return path / "tables" / f"{within}.table" if within else path


def freshness_ms(root: Path, name: str, count: int = 200) -> list[float]:
    """Return how long after its setting each of *count* rows was seen over HTTP."""
    table, found = Embeddings(path_of(root, name)), []
    url = f"{URL}/v1/tables/{name}/rows/7"
    for value in range(1, count):
        table.put_many([7], np.full((1, DIM), value))
        began = time.perf_counter()
        while True:
            with urllib.request.urlopen(url) as response:
                if json.loads(response.read())["vector"][0] == value:
                    break
        found.append((time.perf_counter() - began) * 1e3)
    return sorted(found)


def gathers() -> None:
    """Print what gathering 200 rows of 64 float32 costs, in CPU microseconds."""
    random = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t"
        write_embeddings(path, np.arange(ROWS), random.standard_normal((ROWS, 64)))
        table = Embeddings(path)
        rows = table.rows_of(random.integers(0, ROWS, 200))
        print("\ngathering 200 x 64 float32")
        for live in (0, 100, ROWS):
            if live:
                table.put_many(random.choice(ROWS, live, replace=False), np.ones((live, 64)))
            rounds = []
            for _ in range(50):
                start = time.process_time_ns()
                for _ in range(200):
                    table.take(rows)
                rounds.append((time.process_time_ns() - start) / 200e3)
            print(f"  {live:7} live rows  {min(rounds):6.2f} us")
        start = time.process_time()
        for _ in range(20):
            table.put_many(np.arange(1000), np.ones((1000, 64), np.float32))
        print(f"  setting, by thousands: {(time.process_time() - start) * 50:6.2f} us a row")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--form", choices=["joined", "package"], default="joined")
    parser.add_argument("--updates", type=int, default=10_000, help="a second")
    parser.add_argument("--rate", type=float, default=100, help="requests a second")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument(
        "--first", action="store_true", help="come before other work of a shared machine (root)"
    )
    options = parser.parse_args()
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        root = register(Path(name), options.form)
        if options.first:
            os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(1))
        command = [sys.executable, "-m", "martlet", "serve", "--root", str(root),
                   f"--rest-port={PORT}", f"--workers={options.workers}"]  # fmt: skip
        with server(command, f"{URL}/v1/models/w1") as pid:
            measured(pid, options, 2)
            without, updated, speeds = [], [], []
            for _ in range(options.rounds):
                without.append(measured(pid, options, options.seconds))
                found, speed = under_updates(root, pid, options)
                updated.append(found)
                speeds.append(speed)
            fresh = freshness_ms(root, TABLES[options.form])
    print(f"\nW1 {options.form}, 200 candidates, {options.rate:g} requests a second, "
          f"{options.workers} worker(s)")  # fmt: skip
    for title, rounds in (("without updates", without), ("with updates", updated)):
        print(f"  {title:16} p50 {median(r.p50 for r in rounds):6.2f} ms   "
              f"p99 {median(r.p99 for r in rounds):6.2f} ms   "
              f"server CPU {median(r.cpu_us for r in rounds):6.0f} us a request   "
              f"torn rows {sum(r.torn for r in rounds)}")  # fmt: skip
    ratio = median(u.p99 / w.p99 for u, w in zip(updated, without, strict=True))
    print(f"  {median(speeds):.0f} updates a second applied; p99 with / without: {ratio:.2f}")
    print(f"  a row that was set is seen over HTTP after {median(fresh):.1f} ms, "
          f"the latest after {fresh[-1]:.1f}")  # fmt: skip
    gathers()


if __name__ == "__main__":
    main()
