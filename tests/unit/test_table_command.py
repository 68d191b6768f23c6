"""``martlet table``: rows read, set, taken back and folded from the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner

from martlet.cli import main
from martlet.registry import Kind, Registry
from martlet.stores import Embeddings, write_embeddings


@pytest.fixture
def root(tmp_path):
    write_embeddings(tmp_path / "items.table", [1, 2, 3], [[1, 1], [2, 2], [3, 3]], generation="g")
    write_embeddings(tmp_path / "tags.table", ["a", "b"], [[1, 1], [2, 2]], precision="int8")
    (tmp_path / "package" / "tables").mkdir(parents=True)
    write_embeddings(tmp_path / "package" / "tables" / "item_id.table", [0, 1], np.eye(2))
    with Registry.open(tmp_path / "root") as found:
        for name in ("items", "tags"):
            found.import_(tmp_path / f"{name}.table", name, kind=Kind.EMBEDDINGS, generation="g")
        found.import_(tmp_path / "package", "ctr", kind=Kind.MODEL)
    return tmp_path / "root"


@pytest.fixture
def run(root):
    def run(*words, status=0, text=None):
        answer = CliRunner().invoke(main, ["table", *map(str, words), "--root", str(root)], text)
        assert answer.exit_code == status, answer.output
        return answer.output

    return run


def vectors(run, name, *keys):
    return [each["vector"] for each in json.loads(run("get", name, *keys, "--json"))]


def test_a_row_is_set_shown_and_taken_back(run):
    assert run("set", "items", 2, 0.5, -0.25) == "items: 1 rows set, 0 taken back\n"
    run("set", "items", -7, "[-1, 4e-1]")
    assert vectors(run, "items", 1, 2, -7) == [[1, 1], [0.5, -0.25], [-1, pytest.approx(0.4)]]
    assert run("rows", "items", "--live") == '{"key": 2, "vector": [0.5, -0.25]}\n' + (
        '{"key": -7, "vector": [-1.0, 0.4]}\n'
    )
    about = json.loads(run("stats", "items", "--json"))
    assert (about["rows"], about["live_rows"], about["live_new_keys"]) == (4, 1, 1)
    run("remove", "items", 2)
    assert vectors(run, "items", 2) == [[2, 2]]
    run("remove", "items", "--all")
    assert run("rows", "items", "--live", "--json").strip() == "[]"
    assert "no key -7" in run("get", "items", -7, status=3)


def test_names_mean_versions_tables_within_packages_and_files(run, tmp_path):
    run("set", "items@1", 1, 9, 9)
    assert vectors(run, "items", 1) == [[9, 9]]
    run("set", "ctr/item_id", 1, 5, 5)
    assert vectors(run, "ctr@1/item_id", 0, 1) == [[1, 0], [5, 5]]
    run("set", tmp_path / "tags.table", "new", 3, 3)
    assert Embeddings(tmp_path / "tags.table").get_many(["new"]).known.tolist() == [True]
    assert "item_id" in run("get", "ctr/user_id", 1, status=3)


@pytest.mark.parametrize("suffix", ["npz", "csv", "jsonl", "-"])
def test_rows_come_from_a_file(run, tmp_path, suffix):
    path = tmp_path / f"new.{suffix}"
    lines = '{"key": 1, "vector": [7, 8]}\n\n{"key": 11, "vector": [9, 9], "generation": "g"}\n'
    if suffix == "npz":
        np.savez(path, keys=[1, 11], vectors=[[7, 8], [9, 9]])
    elif suffix == "csv":
        path.write_text("id,x,y\n1,7,8\n11,9,9\n")
    else:
        path.write_text(lines)
    run("set", "items", "--from", "-" if suffix == "-" else path, text=lines)
    assert vectors(run, "items", 1, 11) == [[7, 8], [9, 9]]


@pytest.mark.parametrize(
    ("words", "status", "why"),
    [
        (["set", "items"], 2, "either KEY and VALUES, or --from"),
        (["set", "items", "1", "1"], 2, "2 numbers are wanted"),
        (["set", "items", "1", "a", "b"], 2, "not a list of numbers"),
        (["set", "items", "x", "1", "2"], 2, "whole number"),
        (["set", "items", "1", "1", "2", "--generation", "h"], 2, "generation 'h'"),
        (["set", "items", "--from", "nothing.jsonl"], 3, "nothing.jsonl"),
        (["set", "songs", "1", "1", "2"], 3, "songs"),
        (["get", "ctr", "1"], 3, "it has: item_id"),
        (["remove", "items"], 2, "--all"),
        (["follow", "items"], 2, "SOURCE or --listen"),
        (["follow", "items", "nothing.jsonl"], 3, "nothing.jsonl"),
        (["follow", "items", "--listen", "here"], 2, "HOST:PORT"),
        (["compact", "ctr/item_id"], 2, "--output"),
    ],
)
def test_what_cannot_be_done_says_why(run, words, status, why):
    assert why in run(*words, status=status)


def test_a_line_that_is_no_update_is_named_and_nothing_is_set(run):
    lines = '{"key": 1, "vector": [7, 8]}\n{"key": 2}\n'
    assert "line 2" in run("set", "items", "--from", "-", text=lines, status=2)
    assert vectors(run, "items", 1) == [[1, 1]]


class TestCompact:
    def test_a_new_version_holds_what_was_set(self, run, root):
        run("set", "items", 2, 5, 6)
        run("set", "items", 9, 7, 8)
        run("set", "items", 8, 1, 1)
        run("remove", "items", 8)
        assert run("compact", "items") == "items was folded into items@2: 4 rows\n"
        with Registry.open(root) as registry:
            version = registry.get("items")
            registry.verify(version)
            found = Embeddings(registry.path_of(version))
        assert (version.number, version.lineage.generation, found.generation) == (2, "g", "g")
        assert found.live is None
        assert found.keys.all.tolist() == [1, 2, 3, 9]
        assert found.vectors.tolist() == [[1, 1], [5, 6], [3, 3], [7, 8]]

    def test_the_version_before_takes_no_more_rows(self, run):
        run("set", "items", 2, 5, 6)
        run("compact", "items")
        assert "folded into version 2" in run("set", "items@1", 2, 5, 6, status=5)
        run("set", "items", 2, 0, 0)
        assert vectors(run, "items@1", 2) == [[5, 6]]

    def test_smaller_rows_stay_what_they_were(self, run, tmp_path):
        run("set", "tags", "c", 0.1, -0.7)
        before = vectors(run, "tags", "a", "b", "c")
        run("compact", "tags", "--output", tmp_path / "out.table")
        after = Embeddings(tmp_path / "out.table")
        assert after.precision == "int8"
        assert np.array_equal(after.get_many(["a", "b", "c"]).vectors, np.float32(before))


def martlet(*words, **options):
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(
        [sys.executable, "-m", "martlet", *words], env=env, text=True, **options
    )


def test_a_pipe_is_followed_while_it_is_written(root):
    follower = martlet(
        "table", "follow", "items", "-", "--root", str(root), "--json",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    with Registry.open(root) as registry:
        reader = Embeddings(registry.path_of(registry.get("items")))
    for value in (4, 5):
        follower.stdin.write(f'{{"key": 2, "vector": [{value}, {value}]}}\nnonsense\n')
        follower.stdin.flush()
        end = time.monotonic() + 60
        while reader.get_many([2]).vectors.tolist() != [[value, value]]:
            assert time.monotonic() < end
            time.sleep(0.01)
    out, err = follower.communicate()
    assert json.loads(out) == {"set": 2, "removed": 0, "refused": 2}
    assert "JSON" in err


def test_a_file_is_followed_on_from_where_it_was_left(run, tmp_path):
    path = tmp_path / "updates.jsonl"
    path.write_text('{"key": 1, "vector": [4, 4]}\n')
    run("follow", "items", path, "--once")
    run("set", "items", 1, 5, 5)
    with path.open("a") as file:
        file.write('{"key": 2, "vector": [6, 6]}\n{"key": 3, "remove": true}')
    run("follow", "items", path, "--once")
    assert vectors(run, "items", 1, 2, 3) == [[5, 5], [6, 6], [3, 3]]
    assert json.loads(run("stats", "items", "--json"))["live_followed_to"].startswith("file:")


def test_precisions_are_compared_and_taken(run, root, tmp_path):
    found = json.loads(run("precision", "items", "-k", 2, "--json"))
    assert [each["precision"] for each in found] == ["float32", "float16", "int8"]
    assert found[0]["overlap"] == 1
    assert "NDCG" in run("precision", "items", "--queries", "items")
    assert "dimensions" in run("precision", "items", "--queries", wide(tmp_path), status=2)
    run("set", "items", 2, 0.5, -0.25)
    run("compact", "items", "--precision", "float16")
    with Registry.open(root) as registry:
        table = Embeddings(registry.path_of(registry.get("items@2")))
    assert table.precision == "float16"
    assert table.get_many([2]).vectors.tolist() == [[0.5, -0.25]]


def wide(tmp_path):
    write_embeddings(tmp_path / "wide.table", [1], [[1, 2, 3]])
    return tmp_path / "wide.table"
