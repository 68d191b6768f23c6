"""The main job as a user runs it: from ratings to recommendations over HTTP, by commands alone."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

for library in ("lightgbm", "scipy", "sklearn"):
    pytest.importorskip(library)

WAIT_S = 60.0


def martlet(*words: object, code: int = 0, stdin: str | None = None) -> str:
    """Run a command as somebody would type it; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-m", "martlet", *map(str, words)],
        capture_output=True,
        text=True,
        input=stdin,
        timeout=240,
        check=False,
        env={**os.environ, "COLUMNS": "200", "MARTLET_ROOT": "", "NO_COLOR": "1"},
    )
    assert done.returncode == code, f"martlet {words}: {done.returncode}\n{done.stderr}"
    return done.stdout if code == 0 else done.stderr


@dataclass
class Server:
    """A running ``martlet serve``."""

    process: subprocess.Popen[str]
    url: str

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def ask(self, path: str, body: object = None) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data)
        try:
            with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as exc:
            return exc.code, json.loads(exc.read())

    def until(
        self, path: str, true: Callable[[int, Any], bool], seconds: float, body: object = None
    ) -> float:
        """Return how long it took until the answer of *path* is as wanted."""
        started = time.monotonic()
        while time.monotonic() - started < seconds:
            if true(*self.ask(path, body)):
                return time.monotonic() - started
            time.sleep(0.05)
        pytest.fail(f"{path} after {seconds} s: {self.ask(path, body)}")

    def workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in children.read_text().split()]


@contextlib.contextmanager
def serving(*words: object) -> Iterator[Server]:
    process = subprocess.Popen(
        [sys.executable, "-m", "martlet", "serve", *map(str, words), "--rest-port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None and process.stderr is not None
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found is not None, process.stderr.read()
        # What it says must not fill the pipe.
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield Server(process, found.group())
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        process.wait()


def check_demo(output: str) -> None:
    """What the demo says of itself: served as offline, and better than popularity."""
    assert "served scores are the same as the offline ones" in output
    both, of = map(int, re.search(r"(\d+) of (\d+) pairs are", output).groups())  # type: ignore[union-attr]
    apart = re.search(r"largest difference\s+is\s+(\S+)", output)
    assert apart is not None and float(apart.group(1)) <= 1e-6
    assert 0 < 0.5 * of <= both <= of
    ndcg = {
        name: float(figure)
        for name, figure in re.findall(r"^\s*([a-zA-Z ]+?)\s{2,}(0\.\d{4})\s", output, re.MULTILINE)
    }
    assert ndcg["served over HTTP"] > 1.15 * ndcg["popularity"]
    assert ndcg["served over HTTP"] == pytest.approx(ndcg["ranker"], abs=0.02)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a small demo leaves: data, files, registry; and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    sizes = ("--users", 120, "--items", 200, "--ratings", 6000)
    said = martlet("demo", "--once", *sizes, "--out", folder, "--rest-port", 0, "--workers", 1)
    (folder / "said.txt").write_text(said)
    return folder


def test_the_demo_serves_what_it_trained_and_beats_popularity(out: Path):
    said = (out / "said.txt").read_text()
    check_demo(said)
    assert said.count("curl http://127.0.0.1:") == 3
    assert "somebody new" in said and "answered by popular" in said


@pytest.mark.slow
def test_the_demo_does_the_same_on_real_ratings(shared: Path, tmp_path: Path):
    data = next(
        (p for p in (shared / "datasets").rglob("ratings.csv") if "small" in str(p.parent)), None
    )
    if data is None:
        pytest.skip("no ml-latest-small among the shared data")
    said = martlet("demo", "--once", "--data", data.parent, "--out", tmp_path, "--rest-port", 0)
    check_demo(said)


BAD = {
    "malformed JSON": ("/v1/recommenders/films:recommend", b"{", 400),
    "JSON that is no object": ("/v1/recommenders/films:recommend", b"[]", 400),
    "a wrong name": ("/v1/recommenders/films:recommend", {"usr": 1}, 400),
    "a wrong type": ("/v1/recommenders/films:recommend", {"user": [1]}, 400),
    "a user of another kind": ("/v1/recommenders/films:recommend", {"user": "anna"}, 400),
    "a size beyond the limit": ("/v1/recommenders/films:recommend", {"size": 1000}, 400),
    "an unknown recommender": ("/v1/recommenders/songs:recommend", {"user": 1}, 404),
    "an unknown model": ("/v1/models/none:predict", {"instances": [1]}, 404),
    "an unknown user": (
        "/v1/models/ranker:rank",
        {"recommender": "films", "user": 10**9, "items": [1]},
        404,
    ),
    "an unknown input": ("/v1/models/light:rank", {"items": {"x": [1.0]}}, 400),
    "a wrong shape": ("/v1/models/light:rank", {"items": {"item": [[1.0]]}}, 400),
    "a wrong type in a row": ("/v1/models/light:predict", {"instances": ["a"]}, 400),
    "a version of thousands of digits": (f"/v1/models/light/versions/{'9' * 5000}:rank",
                                         {"items": {"item": [[1.0]]}}, 400),
    "a body over the limit": ("/v1/models/light:predict", b" " * 100_001, 413),
    "an unknown path": ("/v3/nothing", {"a": 1}, 404),
}  # fmt: skip


class TestFiles:
    """Serving files, with no registry."""

    @pytest.fixture(scope="class")
    @classmethod
    def server(cls, out: Path) -> Iterator[Server]:
        files = out / "files"
        declaration = files / "by_files.toml"
        text = (files / "films.toml").read_text()
        suffixes = {path.stem: path.name for path in files.iterdir() if path.suffix != ".toml"}
        head, tables = text.split("[tables]\n")
        tables = (
            re.sub(
                r'^(\w+ *= *)"(\w+)"',
                lambda m: f'{m.group(1)}"{suffixes[m.group(2)]}"',
                tables.split("[[candidates]]")[0],
                flags=re.MULTILINE,
            )
            + tables[tables.index("[[candidates]]") :]
        )
        declaration.write_text(f"{head}[tables]\n{tables}")
        words = ("--model", f"ranker={files / 'ranker/model.txt'}")
        words += ("--model", f"light={files / 'light/light.npz'}")
        with serving(*words, "--recommender", f"films={declaration}", "--workers", 1,
                     "--max-body-bytes", 100_000) as found:  # fmt: skip
            yield found

    def test_what_is_served_scores_as_the_stored_lists_do(self, server: Server, out: Path):
        lists = json.loads((out / "files" / "lists.json").read_text())
        for user in list(lists)[:20]:
            status, reply = server.ask(
                "/v1/recommenders/films:recommend", {"user": int(user), "size": 50}
            )
            assert status == 200 and reply["answered_by"] == "ranker"
            stored = dict(lists[user])
            got = {each["item"]: each["score"] for each in reply["items"]}
            both = stored.keys() & got.keys()
            assert len(both) >= 40
            assert max(abs(stored[i] - got[i]) for i in both) <= 1e-6

    def test_a_ranking_by_keys_is_a_ranking_by_values(self, server: Server):
        _, reply = server.ask("/v1/recommenders/films:recommend", {"user": 1, "size": 5})
        assert reply["versions"]["films"] == 1
        items = [each["item"] for each in reply["items"]]
        status, ranked = server.ask(
            "/v1/models/ranker:rank", {"recommender": "films", "user": 1, "items": items}
        )
        assert status == 200
        assert ranked["scores"] == pytest.approx([each["score"] for each in reply["items"]])

    def test_context_is_shared_by_every_row(self, server: Server):
        _, meta = server.ask("/v1/models/light/metadata")
        inputs = meta["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]
        dim = int(inputs["user"]["tensor_shape"]["dim"][1]["size"])
        items = [[0.01 * (row + column) for column in range(dim)] for row in range(7)]
        user = [0.1] * dim
        _, ranked = server.ask(
            "/v1/models/light:rank", {"context": {"user": user}, "items": {"item": items}}
        )
        rows = [{"user": user, "item": item} for item in items]
        _, predicted = server.ask("/v1/models/light:predict", {"instances": rows})
        assert ranked["scores"] == pytest.approx(predicted["predictions"], abs=1e-7)

    @pytest.mark.parametrize(("path", "body", "status"), BAD.values(), ids=BAD.keys())
    def test_bad_input_is_told_and_the_next_request_is_answered(
        self, server: Server, path: str, body: object, status: int
    ):
        found, answer = server.ask(path, body)
        assert found == status
        assert len(answer["error"]) > 10
        assert server.ask("/v1/recommenders/films:recommend", {"user": 1})[0] == 200

    def test_the_commands_ask_it(self, server: Server):
        to = ("--server", server.url)
        reply = json.loads(martlet("recommend", "films", "--user", 1, "--size", 4, "--json", *to))
        assert (reply["user"], len(reply["items"])) == (1, 4)
        shown = martlet("recommend", "films", "--user", 1, "--size", 4, *to)
        assert all(each["title"] in shown for each in reply["items"])
        assert "answered by ranker" in shown
        items = [each["item"] for each in reply["items"]]
        body = json.dumps({"recommender": "films", "user": 1, "items": items})
        ranked = json.loads(martlet("rank", "ranker", "-", "--json", *to, stdin=body))
        assert ranked["scores"] == pytest.approx([each["score"] for each in reply["items"]])
        assert f"{ranked['scores'][0]:.6g}" in martlet("rank", "ranker", body, *to)
        assert "no recommender 'songs'" in martlet("recommend", "songs", *to, code=3)
        assert "is not JSON" in martlet("rank", "ranker", "{", *to, code=2)
        assert "no server answers at" in martlet("recommend", "films", "--server",
                                                 "http://127.0.0.1:1", code=6)  # fmt: skip


def test_a_file_is_inspected_and_asked_with_no_server(out: Path):
    import lightgbm
    import numpy as np

    path = out / "files" / "ranker" / "model.txt"
    about = json.loads(martlet("inspect", path, "--json"))
    names = [each["name"] for each in about["signatures"]["serving_default"]["inputs"]]
    booster = lightgbm.Booster(model_file=str(path))
    assert (about["format"], sorted(names)) == ("lightgbm", sorted(booster.feature_name()))
    assert "lightgbm" in martlet("inspect", path)
    rows = np.linspace(0, 1, 3 * len(names)).reshape(3, -1)
    named = [dict(zip(booster.feature_name(), row, strict=True)) for row in rows.tolist()]
    body = json.dumps({"instances": named})
    found = json.loads(martlet("predict", path, "-", stdin=body))["predictions"]
    values = [each["predict"] if isinstance(each, dict) else each for each in found]
    assert values == pytest.approx(booster.predict(rows).tolist(), abs=1e-9)
    assert "there is no file" in martlet("inspect", out / "nothing", code=3)


class TestRegistry:
    """A registry, and a server that follows it."""

    def test_versions_and_labels_go_live_as_they_are_made(self, out: Path, tmp_path: Path):
        root = tmp_path / "registry"
        shutil.copytree(out / "registry", root)
        at = ("--root", root)
        listed = json.loads(martlet("models", "--json", *at))
        kinds = {each["name"]: each["kind"] for each in listed}
        assert (kinds["ranker"], kinds["films"], kinds["items"]) == (
            "model", "recommender", "features",
        )  # fmt: skip
        assert "ranker" in martlet("models", *at)
        assert "no model" in martlet("models", "nothing", *at, code=3).lower()
        light = out / "files" / "light" / "light.npz"
        with serving(*at, "--workers", 2) as server:
            made = json.loads(
                martlet("import", light, "--name", "light", "--label", "stable", "--json", *at)
            )
            assert (made["version"], made["labels"]) == (2, ["stable"])
            stable = "/v1/models/light/labels/stable:rank"
            keys = {"recommender": "films", "user": 1, "items": [1]}
            took = server.until(stable, _answers(2), 10, keys)
            assert took < 5.0
            martlet("label", "light", 1, "stable", *at)
            server.until(stable, _answers(1), 10, keys)
            moves = json.loads(martlet("label", "light", "--json", *at))
            assert [(m["from"], m["to"]) for m in moves] == [(None, 2), (2, 1)]

            # A declaration that cannot be right there fails by itself, and takes nothing along.
            wrong = tmp_path / "wrong.toml"
            wrong.write_text(
                '[tables]\nx = "no/such.csv"\n[[candidates]]\nfrom = "popular"\nlists = "x"\n'
            )
            martlet("import", wrong, "--name", "wrong", *at)
            server.until(
                "/v1/recommenders/wrong:recommend",
                # It is known before it has been tried: the reason comes with the trial.
                lambda status, said: status == 503 and "is not registered" in said["error"],
                10,
                {},
            )
            assert server.ask("/readyz")[0] == 503
            status, answer = server.ask("/v1/recommenders/films:recommend", {"user": 1})
            assert status == 200 and server.process.poll() is None
            assert answer["versions"]["films"] == 1

            # A new generation of a table, alone, does not fit the others: the old ones stay.
            items = out / "files" / "items.csv"
            martlet("import", items, "--name", "items", "--generation", "another", *at)
            time.sleep(2.5)
            status, answer = server.ask("/v1/recommenders/films:recommend", {"user": 1})
            assert status == 200 and answer["versions"]["items"] == 1
        assert server.process.returncode == 0

    def test_what_is_wrong_is_told_with_an_exit_code(self, tmp_path: Path):
        root = tmp_path / "registry"
        at = ("--root", root)
        bad = tmp_path / "bad.toml"
        bad.write_text("[recommender]\nsizes = 3\n[[candidates]]\nfrom='popular'\nlists='x'\n")
        assert "names the table 'x'" in martlet("import", bad, "--name", "x", *at, code=2)
        junk = tmp_path / "junk.bin"
        junk.write_bytes(b"\x00" * 100)
        assert "is in no known format" in martlet("import", junk, "--name", "x", *at, code=5)
        missing = tmp_path / "missing.onnx"
        assert "there is no file" in martlet("import", missing, "--name", "x", *at, code=3)
        assert "nothing to serve" in martlet("serve", code=2)
        assert "is not NAME=PATH" in martlet("serve", "--model", "x", code=2)


def _answers(version: int) -> Callable[[int, Any], bool]:
    def true(status: int, answer: Any) -> bool:
        return status == 200 and answer["version"] == version

    return true


@dataclass
class Load:
    """Threads that ask one request after the other on connections that they keep."""

    port: int
    stop: threading.Event = field(default_factory=threading.Event)
    answered: int = 0
    failed: list[str] = field(default_factory=list)

    BODY = b'{"user": 1, "size": 3}'

    def run(self) -> None:
        request = (
            b"POST /v1/recommenders/films:recommend HTTP/1.1\r\nHost: x\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(self.BODY), self.BODY)
        )
        while not self.stop.is_set():
            try:
                self._on_one_connection(request)
            except ConnectionRefusedError:
                return
            except OSError as exc:
                self.failed.append(str(exc))

    def _on_one_connection(self, request: bytes) -> None:
        with socket.create_connection(("127.0.0.1", self.port), WAIT_S) as sock:
            file = sock.makefile("rb")
            while not self.stop.is_set():
                sock.sendall(request)
                status = file.readline()
                headers = {}
                while (line := file.readline()) not in (b"\r\n", b""):
                    name, _, value = line.partition(b":")
                    headers[name.lower()] = value.strip()
                body = file.read(int(headers.get(b"content-length", 0)))
                if not status.startswith(b"HTTP/1.1 200") or not body.endswith(b"}"):
                    raise OSError(f"cut off: {status!r}")
                self.answered += 1
                if headers.get(b"connection") == b"close":
                    return


@contextlib.contextmanager
def under_load(server: Server, threads: int = 4) -> Iterator[list[Load]]:
    loads = [Load(server.port) for _ in range(threads)]
    running = [threading.Thread(target=load.run, daemon=True) for load in loads]
    for thread in running:
        thread.start()
    try:
        yield loads
    finally:
        for load in loads:
            load.stop.set()
        for thread in running:
            thread.join(WAIT_S)


def _answered(loads: list[Load], more: int) -> None:
    """Wait until so many more requests have been answered."""
    before = sum(load.answered for load in loads)
    end = time.monotonic() + WAIT_S
    while sum(load.answered for load in loads) < before + more:
        assert time.monotonic() < end
        time.sleep(0.005)


def test_a_killed_worker_comes_back_and_sigterm_under_load_loses_nothing(out: Path):
    with serving("--root", out / "registry", "--workers", 2) as server:
        before = server.workers()
        assert len(before) == 2
        with under_load(server) as loads:
            _answered(loads, 100)
            os.kill(before[0], signal.SIGKILL)
            killed = time.monotonic()
            while set(server.workers()) == set(before) or len(server.workers()) < 2:
                assert time.monotonic() - killed < 5.0
                time.sleep(0.005)
            assert time.monotonic() - killed < 1.0
            _answered(loads, 100)
        # Those who were talking to it were cut off, once; everybody else was not.
        assert max(len(load.failed) for load in loads) <= 1
        # The new worker answers too, before what follows.
        with under_load(server) as loads:
            _answered(loads, 200)
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(20) == 0
        assert [each for load in loads for each in load.failed] == []
