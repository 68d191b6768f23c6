"""Rows of tables that are set over HTTP, and what every worker then answers."""

from __future__ import annotations

import io
import re
import time
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from martlet.cli import main
from martlet.registry import Kind, Registry
from martlet.stores import Embeddings, write_embeddings
from redis_server import redis_server

from .running import WAIT_S, ask, serving

DECLARED = """
[recommender]
unit = "user"
size = 3
[tables]
users = "users"
films = "films"
[[candidates]]
from = "neighbours"
query = "users"
items = "films"
[[ranking]]
dot = ["users", "films"]
"""

FILMS = np.array([[1, 0], [2, 0], [3, 0], [0, 1]], np.float32)
ROWS = "/v1/tables/films/rows"


def registry(root: Path) -> Path:
    """Films 1, 2, 3 along the taste of ann, of which 3 is the nearest, and film 4 aside."""
    folder = root.with_name(f"{root.name}-files")
    folder.mkdir()
    write_embeddings(folder / "films.table", [1, 2, 3, 4], FILMS, generation="g")
    write_embeddings(folder / "users.table", ["ann", "b/b"], np.eye(2), generation="g")
    (folder / "tv.toml").write_text(DECLARED)
    with Registry.open(root) as found:
        found.import_(folder / "films.table", "films", kind=Kind.EMBEDDINGS)
        found.import_(folder / "users.table", "users", kind=Kind.EMBEDDINGS)
        found.import_(folder / "tv.toml", "tv", kind=Kind.RECOMMENDER)
    return root


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving("--root", str(registry(tmp_path_factory.mktemp("r") / "root")), workers=2) as one:
        yield one


@pytest.fixture
def where(server):
    """Of a server whose films are as their file has them, in every worker."""
    for key in (1, 2, 3, 4, 9):
        assert ask(server.rest, "DELETE", f"{ROWS}/{key}")[0] == 200
    until(lambda: shown(server.rest) == [3, 2, 1])
    return server.rest


def shown(where):
    status, answer = ask(where, "POST", "/v1/recommenders/tv:recommend", {"user": "ann"})
    assert status == 200, answer
    return [each["item"] for each in answer["items"]]


def until(true, times=12):
    """Wait until *true* holds so often in a row, each time on a new connection."""
    end, row = time.monotonic() + WAIT_S, 0
    while row < times:
        row = row + 1 if true() else 0
        assert time.monotonic() < end


class TestOneRow:
    def test_is_read_set_changed_and_taken_back(self, where):
        assert ask(where, "GET", f"{ROWS}/3")[1]["vector"] == [3, 0]
        status, answer = ask(where, "PUT", f"{ROWS}/3", {"vector": [5, 6]})
        assert (status, answer) == (200, {"table": "films", "version": 1, "set": 1, "removed": 0})
        assert ask(where, "GET", f"{ROWS}/3")[1]["vector"] == [5, 6]
        assert ask(where, "PATCH", f"{ROWS}/3", {"1": 0.5})[0] == 200
        assert ask(where, "GET", "/v1/tables/films/versions/1/rows/3")[1]["vector"] == [5, 0.5]
        assert ask(where, "DELETE", f"{ROWS}/3")[1]["removed"] == 1
        assert ask(where, "GET", f"{ROWS}/3")[1]["vector"] == [3, 0]
        assert ask(where, "DELETE", f"{ROWS}/3")[1]["removed"] == 0

    def test_of_a_text_key(self, server):
        path = "/v1/tables/users/rows/b%2Fb"
        assert ask(server.rest, "GET", path)[1]["vector"] == [0, 1]
        assert ask(server.rest, "PUT", path, {"vector": [2, 2]})[0] == 200
        assert ask(server.rest, "GET", path)[1]["key"] == "b/b"
        assert ask(server.rest, "GET", path)[1]["vector"] == [2, 2]

    def test_is_recommended_by_every_worker(self, where):
        assert ask(where, "PUT", f"{ROWS}/9", {"vector": [9, 0]})[0] == 200
        until(lambda: shown(where) == [9, 3, 2])
        assert ask(where, "PUT", f"{ROWS}/3", {"vector": [-3, 0]})[0] == 200
        until(lambda: shown(where) == [9, 2, 1])
        assert ask(where, "DELETE", f"{ROWS}/9")[0] == 200
        until(lambda: shown(where) == [2, 1, 4])


class TestManyRows:
    KEYS, VECTORS = np.array([1, 9]), np.array([[7, 7], [8, 8]], np.float32)

    def bodies(self):
        npy, npz = io.BytesIO(), io.BytesIO()
        np.save(npy, self.KEYS)
        np.save(npy, self.VECTORS)
        np.savez(npz, keys=self.KEYS, vectors=self.VECTORS)
        rows = [{"key": k, "vector": v} for k, v in zip([1, 9], self.VECTORS.tolist(), strict=True)]
        lines = "\n".join(f'{{"key": {r["key"]}, "vector": {r["vector"]}}}' for r in rows)
        return {
            "json": ({"rows": rows}, {}),
            "ndjson": (lines.encode(), {"Content-Type": "application/x-ndjson"}),
            "npy": (npy.getvalue(), {"Content-Type": "application/x-npy"}),
            "npz": (npz.getvalue(), {"Content-Type": "application/octet-stream"}),
        }

    @pytest.mark.parametrize("form", ["json", "ndjson", "npy", "npz"])
    def test_are_set_at_once(self, where, form):
        body, headers = self.bodies()[form]
        status, answer = ask(where, "PATCH", ROWS, body, headers)
        assert (status, answer.get("set")) == (200, 2), answer
        answer = ask(where, "POST", "/v1/tables/films:get", {"keys": [9, 8, 1]})[1]
        assert answer["known"] == [True, False, True]
        assert answer["vectors"] == [[8, 8], [0, 0], [7, 7]]

    def test_are_set_and_taken_back_in_one_body(self, where):
        rows = [{"key": 1, "vector": [7, 7]}, {"key": 1, "remove": True},
                {"key": 2, "vector": [6, 6], "generation": "g"}]  # fmt: skip
        assert ask(where, "PATCH", ROWS, {"rows": rows})[1]["set"] == 1
        found = ask(where, "GET", f"{ROWS}?live=1")[1]
        assert (found["rows"], found["of"]) == ([{"key": 2, "vector": [6, 6]}], 1)

    def test_come_back_in_binary(self, where):
        keys = io.BytesIO()
        np.save(keys, np.array([2, 8]))
        accept = {"Accept": "application/x-npy"}
        body = ask(where, "POST", "/v1/tables/films:get", keys.getvalue(), accept)[1]
        stream = io.BytesIO(body)
        assert np.load(stream).tolist() == [True, False]
        assert np.load(stream).tolist() == [[2, 0], [0, 0]]

    def test_are_listed_in_pages(self, where):
        found = ask(where, "GET", f"{ROWS}?start=1&limit=2")[1]
        assert [row["key"] for row in found["rows"]] == [2, 3]
        assert found["of"] == 4

    def test_one_that_does_not_fit_changes_none(self, where):
        rows = [{"key": 1, "vector": [7, 7]}, {"key": 2, "vector": [1]}]
        status, answer = ask(where, "PATCH", ROWS, {"rows": rows})
        assert status == 400 and "key 2" in answer["error"]
        assert ask(where, "GET", f"{ROWS}/1")[1]["vector"] == [1, 0]


def test_tables_are_described(where):
    found = {each["table"]: each for each in ask(where, "GET", "/v1/tables")[1]["tables"]}
    assert (found["films"]["rows"], found["films"]["dim"], found["films"]["keys"]) == (
        4,
        2,
        "integer",
    )
    assert found["users"]["keys"] == "text"
    assert found["films"]["live"]["updates"] > 0
    assert ask(where, "GET", "/v1/tables/films")[1] == found["films"]


BAD = [
    ("GET", "/v1/tables/songs", None, 404, "films"),
    ("GET", "/v1/tables/films/versions/8", None, 404, "answering: 1"),
    ("GET", f"{ROWS}/77", None, 404, "77"),
    ("GET", f"{ROWS}/x", None, 400, "whole number"),
    ("GET", f"{ROWS}/99999999999999999999", None, 400, "whole number"),
    ("GET", f"{ROWS}/9999999999999999999", None, 400, "integers|64"),
    ("GET", f"{ROWS}?limit=-1", None, 400, "limit"),
    ("GET", f"{ROWS}?limit=99999999", None, 400, "limit"),
    ("PUT", f"{ROWS}/1", {"vector": [1]}, 400, "2 numbers"),
    ("PUT", f"{ROWS}/1", {"vector": ["1", "2"]}, 400, "2 numbers"),
    ("PUT", f"{ROWS}/1", {"vector": [1, None]}, 400, "2 numbers"),
    ("PUT", f"{ROWS}/1", {"vector": [1e39, 0]}, 400, "finite"),
    ("PUT", f"{ROWS}/1", {"vector": [[1, 2]]}, 400, "2 numbers"),
    ("PUT", f"{ROWS}/1", {"vector": {"0": 1}}, 400, "list"),
    ("PUT", f"{ROWS}/1", {"vector": [1, 2], "colour": 1}, 400, "colour"),
    ("PUT", f"{ROWS}/1", {}, 400, "vector"),
    ("PUT", f"{ROWS}/1", [1, 2], 400, "object"),
    ("PUT", f"{ROWS}/1", b"{", 400, "JSON"),
    ("PUT", f"{ROWS}/1", {"vector": [1, 2], "generation": "h"}, 400, "generation"),
    ("PATCH", f"{ROWS}/1", {"2": 1}, 400, "component"),
    ("PATCH", f"{ROWS}/1", {"0": "x"}, 400, "number"),
    ("PATCH", f"{ROWS}/77", {"0": 1}, 404, "77"),
    ("PATCH", ROWS, {"rows": 3}, 400, "rows"),
    ("PATCH", ROWS, {"rows": [{"key": "a", "vector": [1, 2]}]}, 400, "whole numbers"),
    ("PATCH", ROWS, {"rows": [{"key": True, "vector": [1, 2]}]}, 400, "key"),
    ("PATCH", ROWS, {"rows": [{"key": 2**63, "vector": [1, 2]}]}, 400, "64|integers"),
    ("PATCH", ROWS, b"\x93NUMPY", 400, "array"),
    ("PATCH", ROWS, b"PK\x03\x04 and no more", 400, "npz"),
    ("POST", "/v1/tables/films:get", {"keys": ["a"]}, 400, "whole numbers"),
    ("POST", "/v1/tables/films:get", {"keys": 1}, 400, "list"),
    ("POST", "/v1/tables/users:get", {"keys": [1]}, 400, "texts"),
    ("POST", ROWS, {}, 405, "PATCH"),
    ("DELETE", "/v1/tables/films", None, 405, "allowed: GET"),
    ("GET", "/v1/tables/films/columns/3", None, 404, "nothing answers"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "body", "status", "why"), BAD)
def test_what_cannot_be_done_says_why(server, method, path, body, status, why):
    found, answer = ask(server.rest, method, path, body)
    assert found == status, answer
    assert re.search(why, answer["error"]), answer


def test_rows_survive_the_server_and_can_be_fixed(tmp_path):
    root = registry(tmp_path / "root")
    with serving("--root", str(root)) as one:
        assert ask(one.rest, "PUT", f"{ROWS}/9", {"vector": [9, 0]})[0] == 200
    with serving("--root", str(root), "--fixed-tables") as two:
        assert shown(two.rest) == [9, 3, 2]
        status, answer = ask(two.rest, "PUT", f"{ROWS}/9", {"vector": [1, 0]})
        assert status == 501 and "fixed" in answer["error"]
    with Registry.open(root) as found:
        version = found.get("films")
        found.verify(version)
        assert Embeddings(found.path_of(version)).get_many([9]).vectors.tolist() == [[9, 0]]


def test_rows_of_a_table_that_left_its_model_change_its_answers(tmp_path):
    onnx = pytest.importorskip("onnx")
    helper, integers = onnx.helper, onnx.TensorProto.INT64
    table = np.arange(40_000 * 16, dtype=np.float32).reshape(-1, 16) / 1e6
    graph = helper.make_graph(
        [helper.make_node("Gather", ["film_table", "film"], ["vectors"]),
         helper.make_node("ReduceSum", ["vectors", "axes"], ["score"], keepdims=0)],
        "g",
        [helper.make_tensor_value_info("film", integers, ["n"])],
        [helper.make_tensor_value_info("score", onnx.TensorProto.FLOAT, ["n"])],
        [onnx.numpy_helper.from_array(table, "film_table"),
         onnx.numpy_helper.from_array(np.array([1]), "axes")],
    )  # fmt: skip
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "m.onnx")
    words = [
        "import",
        tmp_path / "m.onnx",
        "--name",
        "m",
        "--live-tables",
        "--root",
        tmp_path / "r",
    ]
    found = CliRunner().invoke(main, list(map(str, words)))
    assert found.exit_code == 0 and "serves: the package" in found.output, found.output

    def score(where, film):
        body = {"inputs": {"film": [film]}}
        return ask(where, "POST", "/v1/models/m:predict", body)[1]["outputs"][0]

    with serving("--root", str(tmp_path / "r"), workers=2) as server:
        where = server.rest
        [name] = [each["table"] for each in ask(where, "GET", "/v1/tables")[1]["tables"]]
        assert score(where, 3) == pytest.approx(table[3].sum(), rel=1e-5)
        body = {"vector": [0.5] * 16}
        assert ask(where, "PUT", f"/v1/tables/{name}/rows/3", body)[1]["set"] == 1
        until(lambda: score(where, 3) == 8)
        words = ["table", "set", name, "3", *["0.25"] * 16, "--root", tmp_path / "r"]
        assert CliRunner().invoke(main, list(map(str, words))).exit_code == 0
        until(lambda: score(where, 3) == 4)
        assert score(where, 4) == pytest.approx(table[4].sum(), rel=1e-5)


def test_machines_share_rows_through_redis(tmp_path):
    one, two = registry(tmp_path / "one"), registry(tmp_path / "two")
    with (
        redis_server() as url,
        serving("--root", str(one), "--redis", url, workers=2) as a,
        serving("--root", str(two), "--redis", url, workers=2) as b,
    ):
        assert ask(a.rest, "PUT", f"{ROWS}/9", {"vector": [9, 0]})[1]["set"] == 1
        until(lambda: shown(a.rest) == [9, 3, 2])
        until(lambda: shown(b.rest) == [9, 3, 2])
        assert ask(b.rest, "PATCH", f"{ROWS}/9", {"0": 2.5})[0] == 200
        assert ask(b.rest, "GET", f"{ROWS}/9")[1]["vector"] == [2.5, 0]
        until(lambda: shown(a.rest) == [3, 9, 2])
        words = ["remove", "films", "9", "--root", str(two), "--redis", url]
        assert CliRunner().invoke(main, ["table", *words]).exit_code == 0
        until(lambda: shown(a.rest) == [3, 2, 1])
        until(lambda: shown(b.rest) == [3, 2, 1])
        status, answer = ask(a.rest, "PUT", f"{ROWS}/9", {"vector": [9]})
        assert status == 400 and "2 numbers" in answer["error"]
    with serving("--root", str(one), "--redis", url) as alone:
        # Redis has gone: what there is is served, and nothing can be set.
        assert shown(alone.rest) == [3, 2, 1]
        status, answer = ask(alone.rest, "PUT", f"{ROWS}/9", {"vector": [9, 0]})
        assert status == 503 and "Redis" in answer["error"]
