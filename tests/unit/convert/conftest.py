"""Small ONNX models, made here: a lookup of two ids, and a net of floats."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from graphs import write
from onnx import TensorProto, helper

from martlet import formats
from martlet.servable import Servable

USERS, ITEMS, DIM = 50, 20, 4

Save = Callable[..., Path]


@pytest.fixture
def lookup(tmp_path: Path) -> Save:
    """Writes a ranker that looks two ids up and multiplies their vectors; *change* a weight."""

    def make(name: str = "lookup", *, change: float = 0.0, sigmoid: bool = True) -> Path:
        random = np.random.default_rng(1)
        tables = {
            "users": random.standard_normal((USERS, DIM)).astype(np.float32),
            "items": random.standard_normal((ITEMS, DIM)).astype(np.float32),
            "axes": np.array([1], np.int64),
        }
        tables["items"][7, 2] += np.float32(change)
        last = "dot" if sigmoid else "score"
        nodes = [
            helper.make_node("Gather", ["users", "user"], ["u"]),
            helper.make_node("Gather", ["items", "item"], ["i"]),
            helper.make_node("Mul", ["u", "i"], ["ui"]),
            helper.make_node("ReduceSum", ["ui", "axes"], [last], keepdims=0),
            helper.make_node("Identity", ["clock"], ["unused"]),
        ]
        if sigmoid:
            nodes.append(helper.make_node("Sigmoid", ["dot"], ["score"]))
        inputs = [(n, TensorProto.INT64, ["rows"]) for n in ("user", "item", "clock")]
        outputs = [("score", TensorProto.FLOAT, ["rows"])]
        return write(tmp_path / f"{name}.onnx", nodes, inputs, outputs, tables)

    return make


@pytest.fixture
def opened() -> Callable[[Path], Servable]:
    return formats.load


@pytest.fixture
def invoke():
    """Runs a command of martlet's and returns what it printed; *code* is the exit status."""
    from click.testing import CliRunner

    from martlet.cli import main

    def run(*arguments: object, code: int = 0) -> str:
        result = CliRunner().invoke(main, [str(each) for each in arguments])
        assert result.exit_code == code, (result.output, result.exception)
        return result.output

    return run
