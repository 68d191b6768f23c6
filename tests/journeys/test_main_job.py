"""The main job as a user runs it: from ratings to recommendations over HTTP, by commands alone."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .running import martlet, serving, until


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


def test_the_demo_serves_what_it_trained_and_beats_popularity(demo: Path):
    said = (demo / "said.txt").read_text()
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


def test_a_file_is_inspected_and_asked_with_no_server(demo: Path):
    import lightgbm
    import numpy as np

    path = demo / "files" / "ranker" / "model.txt"
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
    assert "there is no file" in martlet("inspect", demo / "nothing", code=3)


class TestRegistry:
    """A registry, and a server that follows it."""

    def test_versions_and_labels_go_live_as_they_are_made(self, demo: Path, tmp_path: Path):
        root = tmp_path / "registry"
        shutil.copytree(demo / "registry", root)
        at = ("--root", root)
        listed = json.loads(martlet("models", "--json", *at))
        kinds = {each["name"]: each["kind"] for each in listed}
        assert (kinds["ranker"], kinds["films"], kinds["items"]) == (
            "model", "recommender", "features",
        )  # fmt: skip
        assert "ranker" in martlet("models", *at)
        assert "no model" in martlet("models", "nothing", *at, code=3).lower()
        light = demo / "files" / "light" / "light.npz"
        with serving(*at, workers=2) as server:
            made = json.loads(
                martlet("import", light, "--name", "light", "--label", "stable", "--json", *at)
            )
            assert (made["version"], made["labels"]) == (2, ["stable"])
            stable = "/v1/models/light/labels/stable:rank"
            keys = {"recommender": "films", "user": 1, "items": [1]}
            server.until(stable, _answers(2), keys)
            martlet("label", "light", 1, "stable", *at)
            server.until(stable, _answers(1), keys)
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
                {},
            )
            assert server.ask("/readyz")[0] == 503
            status, answer = server.ask("/v1/recommenders/films:recommend", {"user": 1})
            assert status == 200 and server.process.poll() is None
            assert answer["versions"]["films"] == 1

            # A new generation of a table, alone, does not fit the others: the old ones stay.
            items = demo / "files" / "items.csv"
            martlet("import", items, "--name", "items", "--generation", "another", *at)
            until(lambda: "were not trained together" in server.log.read_text())
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
