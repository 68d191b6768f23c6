"""``martlet import``, ``report``, ``audit``, ``compare`` and ``convert``, as a person runs them."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from martlet.convert import bring as bringing


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setattr(bringing, "GAIN", 0.0)
    monkeypatch.setattr(bringing, "NO_LOSS", 0.0)
    return tmp_path / "registry"


class TestImport:
    def test_it_prints_what_it_found_and_what_serves(self, invoke, lookup, root):
        said = invoke("import", lookup(), "--name", "ctr", "--root", root)
        assert "1 of 3 inputs are dead" in said
        assert "serves: the package, since it is" in said
        assert "ctr@1 is registered: package" in said

    def test_its_json_is_one_document_with_the_report(self, invoke, lookup, root):
        found = json.loads(invoke("import", lookup(), "--name", "ctr", "--root", root, "--json"))
        assert (found["version"], found["format"]) == (1, "package")
        assert found["report"]["audit"]["demanded"] == ["clock"]
        steps = {each["name"]: each for each in found["report"]["steps"]}
        assert steps["extract"]["certificate"]["passed"]
        assert steps["extract"]["certificate"]["rank_correlation"] == 1.0

    def test_the_report_can_be_read_again(self, invoke, lookup, root):
        invoke("import", lookup(), "--name", "ctr", "--root", root)
        assert "serves: the package" in invoke("report", "ctr", "--root", root)
        found = json.loads(invoke("report", "ctr@1", "--root", root, "--json"))
        assert found["serves"] == "package"

    def test_as_is_does_nothing_but_register(self, invoke, lookup, root):
        said = invoke("import", lookup(), "--name", "ctr", "--root", root, "--as-is")
        assert "ctr@1 is registered: onnx" in said and "dead" not in said
        assert "imported as it is" in invoke("report", "ctr", "--root", root, code=3)

    def test_what_was_converted_elsewhere_must_answer_as_its_original(self, invoke, lookup, root):
        at = ("--name", "ctr", "--root", root, "--original", lookup())
        said = invoke("import", lookup("changed", change=0.25), *at, code=5)
        assert "item=" in said and "off by" in said
        assert "ctr@1 is registered" in invoke("import", lookup("copy"), *at)

    @pytest.mark.parametrize("limit", ["relative", "relative=much", "speed=3"])
    def test_a_limit_that_is_none_is_refused(self, invoke, lookup, root, limit):
        at = ("--name", "ctr", "--root", root, "--limit", limit)
        assert "--limit" in invoke("import", lookup(), *at, code=2)

    def test_columns_of_no_rows_are_refused(self, invoke, lookup, root):
        said = invoke("import", lookup(), "--name", "c", "--root", root, "--group", "user", code=2)
        assert "--rows" in said


class TestAudit:
    def test_it_needs_no_registry(self, invoke, lookup):
        assert "input 'item' is answered from -20 to 19" in invoke("audit", lookup())
        assert json.loads(invoke("audit", lookup(), "--json"))["dead"] == ["clock"]

    def test_rows_without_an_input_are_refused(self, invoke, lookup, tmp_path):
        (tmp_path / "rows.csv").write_text("user,item\n1,2\n")
        said = invoke("audit", lookup(), "--rows", tmp_path / "rows.csv", code=2)
        assert "no column for the input 'clock'" in said


class TestCompare:
    def test_the_same_passes(self, invoke, lookup):
        assert "the same, within the limits" in invoke("compare", lookup(), lookup("copy"))

    def test_one_changed_weight_fails_and_says_where(self, invoke, lookup):
        said = invoke("compare", lookup(), lookup("changed", change=0.01), code=5)
        assert "not the same" in said and "'score' of row" in said

    def test_a_looser_limit_is_the_users_choice(self, invoke, lookup):
        loose = ("--limit", "relative=inf", "--limit", "absolute=inf", "--limit", "auc=0.1")
        found = invoke("compare", lookup(), lookup("near", change=0.001), *loose, "--json")
        assert json.loads(found)["limits"]["relative"] == "inf"

    def test_a_model_of_other_inputs_is_told_by_its_input(self, invoke, lookup, tmp_path):
        light = tmp_path / "light.npz"
        np.savez(light, inputs=np.array(["dot"]), w0=np.ones((1, 1)), b0=np.zeros(1))
        said = invoke("compare", light, lookup(), code=2)
        assert "wants the input 'clock'" in said and "it has 'user', 'item'" in said


def test_shrinking_without_the_extra_says_which_one(invoke, lookup, monkeypatch):
    monkeypatch.setitem(sys.modules, "martlet.convert.shrinking.shrink", None)
    assert "pip install 'martlet[convert]'" in invoke("shrink", lookup(), code=5)


class TestConvert:
    def test_torchscript_with_its_certificate(self, invoke, shared, tmp_path):
        pytest.importorskip("torch")
        made = tmp_path / "made.onnx"
        invoke("convert", shared / "models/torchscript/linrelu/model.pt", made)
        assert json.loads((tmp_path / "made.onnx.certificate.json").read_text())
        assert made.stat().st_size > 0


def test_a_keras_export_has_one_signature_by_two_names(invoke, shared, root):
    pytest.importorskip("tensorflow")
    path = shared / "models/savedmodel/neumf_ml1m_twin/1"
    found = json.loads(invoke("import", path, "--name", "ncf", "--root", root, "--json"))
    assert found["format"] == "package", found["report"]["why"]

    from martlet import formats

    package = formats.load(root / "artifacts/ncf/1")
    assert set(package.signatures) == {"serve", "serving_default"}
    original = formats.load(path)
    inputs = {name: np.arange(5)[:, None] for name in ("user", "item")}
    assert np.allclose(
        package.predict(inputs, "serve")["output_0"], original.predict(inputs)["output_0"], 1e-5
    )
