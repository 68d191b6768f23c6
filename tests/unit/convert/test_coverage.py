"""Whatever one weight of a table or a tree is changed to, a probe meets it and says where."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from graphs import write
from onnx import TensorProto, helper, numpy_helper

from martlet import formats
from martlet.convert.asking.coverage import each_id
from martlet.convert.asking.ranges import domain_of
from martlet.convert.parity.converted import converted

ROWS = 100_000


def ranker(path, changed: int | None = None):
    """Scores by a table of 100,000 vectors; one number of the row *changed* is 0.01 more."""
    random = np.random.default_rng(0)
    tables = {
        "items": random.standard_normal((ROWS, 8)).astype(np.float32) / 10,
        "weights": random.standard_normal((8, 1)).astype(np.float32),
    }
    if changed is not None:
        tables["items"][changed, 3] += np.float32(0.01)
    nodes = [
        helper.make_node("Gather", ["items", "item"], ["vector"]),
        helper.make_node("MatMul", ["vector", "weights"], ["sum"]),
        helper.make_node("Sigmoid", ["sum"], ["score"]),
    ]
    inputs = [("item", TensorProto.INT64, ["rows"])]
    return write(path, nodes, inputs, [("score", TensorProto.FLOAT, ["rows", 1])], tables)


class TestATable:
    @pytest.mark.parametrize("row", [0, 71_234, ROWS - 1])
    def test_one_number_of_100000_rows_is_found_by_its_id(self, tmp_path, invoke, row):
        original = ranker(tmp_path / "original.onnx")
        changed = ranker(tmp_path / "changed.onnx", row)
        found = invoke("compare", original, changed, code=5)
        assert f"item={row}" in found or f"item={row - ROWS})" in found
        assert "off by" in found

    def test_that_was_changed_is_no_version(self, tmp_path, invoke):
        original = ranker(tmp_path / "original.onnx")
        changed = ranker(tmp_path / "changed.onnx", 71_234)
        root = tmp_path / "registry"
        told = invoke(
            "import", changed, "--name", "ctr", "--original", original, "--root", root, code=5
        )
        assert "item=71234" in told
        assert not root.exists()

    def test_ids_are_asked_evenly_where_they_are_too_many(self, tmp_path, monkeypatch):
        monkeypatch.setattr("martlet.convert.asking.coverage._MOST", 1000)
        with_ids = formats.load(ranker(tmp_path / "original.onnx"))
        rows = list(each_id(with_ids, domain_of(with_ids), np.random.default_rng(0)))
        asked = np.unique(np.concatenate([each["item"] for each in rows]))
        assert 1000 <= len(asked) <= 2000
        assert np.diff(asked).max() <= 200


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """A LightGBM model, and it as ONNX."""
    lightgbm = pytest.importorskip("lightgbm")
    folder = tmp_path_factory.mktemp("trees")
    random = np.random.default_rng(0)
    x = random.standard_normal((5000, 20))
    y = (x[:, 0] * x[:, 1] + x[:, 2] > 0).astype(int)
    booster = lightgbm.train({"objective": "binary", "verbose": -1}, lightgbm.Dataset(x, y), 50)
    booster.save_model(str(folder / "model.txt"))
    found = converted(folder / "model.txt", "lightgbm", folder / "trees.onnx")
    assert found.passed and "each branch" in {each.kind for each in found.comparisons}
    return folder


class TestATree:
    @pytest.mark.parametrize("what", ["leaf_weights", "nodes_splits"])
    def test_one_number_of_its_thousands_is_found(self, trees, tmp_path, invoke, what):
        model = onnx.load(trees / "trees.onnx")
        node = next(each for each in model.graph.node if each.op_type == "TreeEnsemble")
        attribute = next(each for each in node.attribute if each.name == what)
        original = numpy_helper.to_array(attribute.t)
        for at in np.random.default_rng(1).integers(0, len(original), 3):
            values = original.copy()
            values[at] = values[at] + 1e-3 if what == "leaf_weights" else after(values[at])
            attribute.t.CopyFrom(numpy_helper.from_array(values, attribute.t.name))
            onnx.save(model, tmp_path / "changed.onnx")
            found = invoke("compare", trees / "model.txt", tmp_path / "changed.onnx", code=5)
            assert "each branch" in found and "off by" in found


def after(value: float) -> float:
    """The next float: a threshold that is off by its last bit."""
    return float(np.nextafter(value, np.inf))
