"""Rows are set while writers die and servers answer: none is torn, lost or seen to go back."""

from __future__ import annotations

import json
import mmap
import os
import random
import signal
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
from drive import ENV, LIMIT_S, serving

from martlet.registry import Kind, Registry
from martlet.stores import Embeddings, write_embeddings

ROWS, NEW, DIM = 64, 64, 96


def torn(vectors: np.ndarray) -> np.ndarray:
    """Which of *vectors* have components that differ: every vector is one number, repeated."""
    return (vectors != vectors[:, :1]).any(axis=1)


def test_a_checker_sees_a_torn_row():
    assert torn(np.array([[1, 1, 1], [1, 1, 2]])).tolist() == [False, True]


def write_for_ever(path: Path, told: mmap.mmap) -> None:
    """Set rows of old and new keys to one number after the other, and tell each once it is done."""
    table, keys = Embeddings(path), np.arange(ROWS + NEW)
    value = int.from_bytes(told[:8], "little")
    while True:
        value += 1
        some = keys[: ROWS + value % NEW]
        table.put_many(some, np.broadcast_to(np.float32(value), (len(some), DIM)))
        told[:8] = value.to_bytes(8, "little")


def test_a_writer_that_is_killed_anywhere_leaves_whole_rows(tmp_path, times, figures):
    path, kills = tmp_path / "t", times(40, 400)
    write_embeddings(path, np.arange(ROWS), np.zeros((ROWS, DIM)))
    told, keys, pick = mmap.mmap(-1, 8), np.arange(ROWS + NEW), random.Random(1)
    found, over, seen = Embeddings(path), threading.Event(), {"reads": 0, "torn": 0, "back": 0}

    def read() -> None:
        newest = np.zeros(ROWS)
        while not over.is_set():
            vectors = found.get_many(keys).vectors
            seen["reads"] += 1
            seen["torn"] += int(torn(vectors).sum())
            seen["back"] += int((vectors[:ROWS, 0] < newest).sum())
            newest = vectors[:ROWS, 0]

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(kills):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside a thread
            child = os.fork()
        if child == 0:
            write_for_ever(path, told)
        before = told[:8]
        end = time.monotonic() + LIMIT_S
        while told[:8] == before:
            assert time.monotonic() < end, "the writer did not begin"
            time.sleep(0.0005)
        time.sleep(pick.random() * 0.003)
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        last = int.from_bytes(told[:8], "little")
        vectors = Embeddings(path).get_many(keys[:ROWS]).vectors
        assert not torn(vectors).any()
        # What was told is there; the one after it may be.
        assert set(vectors[:, 0].tolist()) <= {last, last + 1}
    over.set()
    reader.join()
    figures(kills=kills, batches=last, **seen)
    assert seen["torn"] == seen["back"] == 0
    assert seen["reads"] > kills


DECLARED = """
[recommender]
unit = "user"
size = 60
max_size = 60
[tables]
users = "users"
items = "items"
[[candidates]]
from = "neighbours"
query = "users"
items = "items"
count = 60
[[ranking]]
dot = ["users", "items"]
"""


def registered(tmp_path: Path) -> Path:
    write_embeddings(tmp_path / "items.table", np.arange(ROWS), np.ones((ROWS, DIM)))
    taste = np.zeros((2, DIM))
    taste[0, :], taste[1, : DIM // 2], taste[1, DIM // 2 :] = 1, 1, -1
    write_embeddings(tmp_path / "users.table", [0, 1], taste)
    (tmp_path / "r.toml").write_text(DECLARED)
    with Registry.open(tmp_path / "root") as registry:
        for name in ("items", "users"):
            registry.import_(tmp_path / f"{name}.table", name, kind=Kind.EMBEDDINGS)
        registry.import_(tmp_path / "r.toml", "r", kind=Kind.RECOMMENDER)
    return tmp_path / "root"


FOLLOWER = [sys.executable, "-m", "martlet", "table", "follow", "items", "-", "--root"]


def test_servers_answer_with_whole_rows_while_followers_and_workers_die(
    tmp_path, log, times, figures
):
    import http.client

    root, lasting_s = registered(tmp_path), times(6, 40)
    seen = {"answers": 0, "torn": 0, "failed": 0, "values": set(), "statuses": set()}

    with serving("--root", str(root), "--workers", "2", log=log) as server:

        def ask(stop: threading.Event) -> None:
            while not stop.is_set():
                try:
                    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
                    for _ in range(20):
                        # User 1 has the halves of a vector against each other: 0 for a whole one.
                        connection.request("POST", "/v1/recommenders/r:recommend", b'{"user": 1}')
                        response = connection.getresponse()
                        answer = json.loads(response.read())
                        seen["statuses"].add(response.status)
                        seen["answers"] += 1
                        items = answer.get("items", [])
                        seen["torn"] += sum(abs(each["score"]) > 1e-3 for each in items)
                        connection.request("GET", "/v1/tables/items/rows/3")
                        vector = json.loads(connection.getresponse().read())["vector"]
                        seen["torn"] += len(set(vector)) > 1
                        seen["values"].add(vector[0])
                except (OSError, http.client.HTTPException):
                    seen["failed"] += 1  # the worker was killed: the client asks another

        stop = threading.Event()
        asking = threading.Thread(target=ask, args=(stop,), daemon=True)
        asking.start()
        pick, value, end = random.Random(2), 0, time.monotonic() + lasting_s
        kills = 0
        while time.monotonic() < end:
            follower = subprocess.Popen(
                [*FOLLOWER, str(root)], stdin=subprocess.PIPE, env=ENV, stderr=subprocess.DEVNULL
            )
            assert follower.stdin is not None
            # By then it has begun, and what it set has been read.
            until, known = time.monotonic() + 1 + pick.random(), len(seen["values"])
            late = time.monotonic() + LIMIT_S
            while time.monotonic() < until or len(seen["values"]) < known + 2:
                assert time.monotonic() < late, "nobody reads what is set"
                value += 1
                lines = [
                    json.dumps({"key": key, "vector": [value] * DIM}) for key in range(ROWS + 4)
                ]
                follower.stdin.write("\n".join(lines).encode() + b"\n")
                follower.stdin.flush()
            follower.kill()
            follower.wait()
            workers = server.children()
            if pick.random() < 0.5 and workers:
                os.kill(pick.choice(workers), signal.SIGKILL)
            kills += 1
        stop.set()
        asking.join()
    figures(kills=kills, answers=seen["answers"], torn=seen["torn"], broken=seen["failed"],
            values_seen=len(seen["values"]))  # fmt: skip
    assert seen["torn"] == 0
    assert seen["statuses"] == {200}
    assert seen["answers"] > 20
    assert len(seen["values"]) > kills


def proportional_kb(pid: int) -> dict[str, int]:
    """Return what *pid* takes of memory: its share of what it shares (Pss), and its own."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    found = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    own = found["Private_Clean"] + found["Private_Dirty"]
    return {"pss": found["Pss"], "own": own, "rss": found["Rss"]}


def test_workers_share_one_table(tmp_path, log, times, figures):
    """Four workers that have read all of a table, live rows too, hold it once."""
    import urllib.request

    megabytes, workers = times(64, 1024), 4
    rows = (megabytes << 20) // (DIM * 4)
    root = tmp_path / "root"
    write_embeddings(tmp_path / "items.table", np.arange(rows), np.ones((rows, DIM), np.float32))
    write_embeddings(tmp_path / "users.table", [0], np.ones((1, DIM)))
    (tmp_path / "r.toml").write_text(DECLARED)
    with Registry.open(root) as registry:
        for name in ("items", "users"):
            registry.import_(tmp_path / f"{name}.table", name, kind=Kind.EMBEDDINGS)
        registry.import_(tmp_path / "r.toml", "r", kind=Kind.RECOMMENDER)
        table = Embeddings(registry.path_of(registry.get("items")))
    table.put_many(np.arange(1000), np.full((1000, DIM), 2))
    table.sync()
    del table
    with serving("--root", str(root), "--workers", str(workers), log=log) as server:
        before = {pid: proportional_kb(pid) for pid in server.children()}
        url = f"http://127.0.0.1:{server.port}/v1/recommenders/r:recommend"
        touched: set[int] = set()
        end = time.monotonic() + LIMIT_S
        # An exact search reads every row. Each connection meets some worker.
        while len(touched) < workers:
            assert time.monotonic() < end
            urllib.request.urlopen(url, b'{"user": 0}').read()
            for pid in server.children():
                more = proportional_kb(pid)["rss"] - before[pid]["rss"]
                if more > 0.9 * (megabytes << 10):
                    touched.add(pid)
        after = [proportional_kb(pid) for pid in server.children()]
        pss = sum(each["pss"] for each in after) - sum(each["pss"] for each in before.values())
        own = sum(each["own"] for each in after) - sum(each["own"] for each in before.values())
    figures(table_mb=megabytes, workers=workers, together_mb=pss / 1024, own_mb=own / 1024)
    assert pss < 1.25 * (megabytes << 10)
    assert own < 0.5 * (megabytes << 10)
