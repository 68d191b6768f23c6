"""A graph beside its original: each answers what it is faster at, and all stays as it was."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from martlet import formats
from martlet.certificate import read_certificates
from martlet.cli import main
from martlet.convert import bring as bringing
from martlet.convert.bring import Wanted, bring
from martlet.errors import InvalidInput, UnsupportedModel
from martlet.formats.package.manifest import Manifest
from martlet.formats.package.paired import Paired
from martlet.importing import import_path
from martlet.registry import Registry
from martlet.tensors import DType, Signature, Spec

pytest.importorskip("onnx", reason="the extra martlet[convert] is not installed")

DOCUMENT = """<PMML xmlns="http://www.dmg.org/PMML-4_4" version="4.4"><Header/><DataDictionary>
  <DataField name="age" optype="continuous" dataType="double">
    <Interval closure="closedClosed" leftMargin="0" rightMargin="120"/></DataField>
  <DataField name="city" optype="categorical" dataType="string">
    <Value value="oslo"/><Value value="rome"/></DataField>
  <DataField name="y" optype="continuous" dataType="double"/></DataDictionary>
<RegressionModel functionName="regression" normalizationMethod="logit">
  <MiningSchema><MiningField name="y" usageType="target"/>
  <MiningField name="age" missingValueReplacement="40"/><MiningField name="city"/></MiningSchema>
  <RegressionTable intercept="0.5"><NumericPredictor name="age" coefficient="0.02"/>
    <CategoricalPredictor name="city" value="rome" coefficient="-1"/></RegressionTable>
</RegressionModel></PMML>"""


@pytest.fixture
def gain(monkeypatch):
    """Says from what gain on a graph answers: a machine under test measures nothing."""

    def least(value: float) -> None:
        monkeypatch.setattr(bringing, "GAIN", value)

    return least


@pytest.fixture
def document(tmp_path) -> Path:
    path = tmp_path / "model.pmml"
    path.write_text(DOCUMENT)
    return path


def brought(path: Path, scratch: Path):
    scratch.mkdir()
    return bring(path, formats.sniff(path).name, scratch, Wanted(), lambda text: None)


@pytest.fixture
def package(document, tmp_path, gain) -> Path:
    gain(0.0)
    report = brought(document, tmp_path / "scratch")
    assert report.serves == "package", report.why
    return report.package


def test_a_package_answers_as_its_original_whatever_is_asked(document, package):
    cities = np.array(["oslo", "rome", "atlantis", "", None, "rome"], object)
    ages = np.array([30.0, 90.0, 10.0, 20.0, 30.0, 121.0])
    asked = [
        {"age": ages[:2], "city": cities[:2]},
        {"age": np.array([math.nan]), "city": cities[:1]},
        {"age": ages, "city": cities},  # of which three have no answer, and say why
        {"age": ages[:2]},
        {"city": cities[:2]},
    ]
    original, served = formats.load(document), formats.load(package)
    assert served.signatures == original.signatures
    for inputs in asked:
        expected, found = original.predict(inputs), served.predict(inputs)
        assert list(found) == list(expected)
        np.testing.assert_allclose(found["y"], expected["y"], rtol=1e-12)
        assert found["_reason"].tolist() == expected["_reason"].tolist()
    sums = 0.5 + 0.02 * np.array([30, 90]) - np.array([0, 1])
    np.testing.assert_allclose(served.predict(asked[0])["y"], 1 / (1 + np.exp(-sums)), rtol=1e-12)


def test_its_certificates_say_that_graph_and_pair_were_compared(package):
    first, last = read_certificates(package / "certificate.json")
    assert (first.step, last.step) == ("convert", "pair") and first.passed and last.passed
    assert Manifest.read(package).beside == 1


def test_inspecting_it_shows_what_its_original_is(package):
    shown = CliRunner().invoke(main, ["inspect", str(package)])
    assert shown.exit_code == 0, shown.output
    assert "RegressionModel" in shown.output
    assert "missingValueReplacement 40" in shown.output


def test_a_model_that_is_no_faster_as_onnx_is_served_as_it_is(document, tmp_path, gain):
    gain(1e9)
    report = brought(document, tmp_path / "scratch")
    assert report.serves == "original" and "by its own reader" in report.why
    assert [step.name for step in report.steps] == ["convert"] and report.steps[0].us


def test_trees_are_asked_in_every_way_that_they_were(tmp_path, gain):
    lightgbm = pytest.importorskip("lightgbm")
    random = np.random.default_rng(0)
    x = random.random((200, 3))
    data = lightgbm.Dataset(x, x[:, 0] > 0.5)
    trained = lightgbm.train({"verbose": -1, "objective": "binary"}, data, 2)
    trained.save_model(str(tmp_path / "model.txt"))
    gain(0.0)
    report = brought(tmp_path / "model.txt", tmp_path / "scratch")
    assert report.serves == "package", report.why
    served, original = formats.load(report.package), formats.load(tmp_path / "model.txt")
    assert served.signatures == original.signatures
    for name, signature in served.signatures.items():
        columns = dict(zip(signature.inputs, x.T, strict=False))
        rows = {"X": x} if "X" in signature.inputs else columns
        found, expected = served.predict(rows, name), original.predict(rows, name)
        for output in expected:
            np.testing.assert_allclose(found[output], expected[output], rtol=1e-9)


@pytest.mark.parametrize("name", ["model/model.pmml", "dense.onnx"])
def test_a_pair_of_which_either_was_changed_is_refused(package, tmp_path, name):
    folder = tmp_path / "changed"
    shutil.copytree(package, folder)
    content = (folder / name).read_bytes()
    at = content.index(b"0.02") if name.startswith("model") else len(content) // 2
    changed = content[: at + 3] + bytes([content[at + 3] ^ 1]) + content[at + 4 :]
    (folder / name).write_bytes(changed)
    with pytest.raises(UnsupportedModel, match="has changed since it was certified"):
        formats.load(folder)
    with (
        Registry.open(tmp_path / "registry") as registry,
        pytest.raises(UnsupportedModel, match="has changed since it was certified"),
    ):
        import_path(registry, folder, "ctr")


def test_a_pair_without_its_original_is_refused(package):
    (package / "model" / "model.pmml").unlink()
    with pytest.raises(UnsupportedModel, match="does not hold the one file"):
        formats.load(package)


def test_an_input_of_the_user_that_is_none_is_told(document, tmp_path):
    (tmp_path / "scratch").mkdir()
    with pytest.raises(InvalidInput, match="no input 'person'"):
        bring(document, "pmml", tmp_path / "scratch", Wanted(user_inputs=("person",)))


class Answers:
    """Answers with its own name, and refuses 13."""

    def __init__(self, name: str, outputs: tuple[str, ...]) -> None:
        inputs = [Spec("x", DType.FLOAT64, (-1,)), Spec("word", DType.STRING, (-1,))]
        given = [Spec(each, DType.STRING, (-1,)) for each in outputs]
        self.signatures = {"a": Signature.of(inputs, given), "b": Signature.of(inputs, given)}
        self._name = name

    def predict(self, inputs, signature_name="a"):
        if 13.0 in inputs.get("x", []):
            raise InvalidInput("13 is refused")
        return {name: [self._name] for name in self.signatures["a"].outputs}

    def close(self) -> None:
        pass


class TestWhoAnswers:
    def asked(self, x, words, name="a", rows=2):
        pair = Paired(Answers("graph", ("who",)), Answers("original", ("who", "why")), "a", rows)
        return pair.predict({"x": np.array(x), "word": np.array(words, object)}, name)["who"]

    def test_the_graph_answers_as_many_rows_as_it_is_faster_for(self):
        assert self.asked([1.0, 2.0], ["u", "v"]) == ["graph"]
        assert self.asked([1.0], ["u"]) == ["original"]

    @pytest.mark.parametrize("missing", ["", None, b""])
    def test_the_original_answers_where_a_text_is_missing(self, missing):
        assert self.asked([1.0, 2.0], ["u", missing]) == ["original"]

    def test_the_original_answers_by_its_other_signatures(self):
        assert self.asked([1.0, 2.0], ["u", "v"], "b") == ["original"]

    def test_the_original_says_what_is_refused(self):
        with pytest.raises(InvalidInput, match="13 is refused"):
            self.asked([1.0, 13.0], ["u", "v"])

    def test_what_do_not_go_together_are_refused(self):
        with pytest.raises(UnsupportedModel, match="no signature 'c'"):
            Paired(Answers("graph", ("who",)), Answers("original", ("who",)), "c", 1)


def test_the_manifest_says_from_how_many_rows_the_graph_answers(package):
    document = json.loads((package / "martlet-package.json").read_text())
    assert document["beside"] == 1 and document["made_from"]["format"] == "pmml"
