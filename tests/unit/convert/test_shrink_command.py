"""``martlet shrink``, as a user types it."""

from __future__ import annotations

import json

import numpy as np
import onnx
from click.testing import CliRunner
from test_shrink import net, rows

import martlet
from martlet.cli import main


def run(*arguments: object):
    # A terminal so wide that no cell of a table is broken into lines.
    return CliRunner(env={"COLUMNS": "200"}).invoke(main, ["shrink", *map(str, arguments)])


def test_each_way_has_its_row_and_the_chosen_one_is_written(tmp_path):
    onnx.save(net(hidden=256, idle=128), tmp_path / "net.onnx")
    out = tmp_path / "small.onnx"
    found = run(
        tmp_path / "net.onnx", "--method", "fp16", "--method", "prune-units:0.5",
        "--rank-correlation", "-1", "--top-k-overlap", "0", "--out", out, "--json",
    )  # fmt: skip
    assert found.exit_code == 0, found.output
    told = json.loads(found.stdout)
    assert [each["method"] for each in told["trials"]] == ["as it is", "fp16", "prune-units:0.5"]
    assert told["chosen"] in ("as it is", "fp16", "prune-units:0.5")
    x = rows(5)
    chosen = next(each for each in told["trials"] if each["method"] == told["chosen"])
    expected = martlet.load(tmp_path / "net.onnx").predict({"x": x})["score"]
    off = np.abs(martlet.load(out).predict({"x": x})["score"] - expected).max()
    assert out.stat().st_size == chosen["bytes"]
    # Half of the units pass nothing on: without them it answers the same, and fp16 by 11 bits.
    assert off <= (2**-9 if told["chosen"] == "fp16" else 1e-6)


def test_damage_past_what_is_allowed_is_named_on_the_terminal(tmp_path):
    onnx.save(net(), tmp_path / "net.onnx")
    found = run(tmp_path / "net.onnx", "--method", "prune-units:0.8")
    assert found.exit_code == 0, found.output
    assert "the rank correlation is" in found.output
    assert "chosen: as it is" in found.output


def test_a_method_that_is_none_is_refused_with_those_there_are(tmp_path):
    onnx.save(net(), tmp_path / "net.onnx")
    found = run(tmp_path / "net.onnx", "--method", "int3")
    assert found.exit_code == 2
    assert "'int3' is no way to shrink" in found.output
