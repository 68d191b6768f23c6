"""Bringing a model online: what is proved equal and faster serves, else the original, with why."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from martlet import formats
from martlet.certificate import Limits, digests_of, read_certificates, write_certificates
from martlet.convert import bring as bringing
from martlet.convert import to_onnx as converting
from martlet.convert.asking.rows import read_rows
from martlet.convert.bring import Wanted, bring
from martlet.convert.parity import judge as judging
from martlet.convert.parity.judge import Judge
from martlet.convert.timing import gain
from martlet.errors import InvalidInput, UnsupportedModel
from martlet.importing import bring_path, import_path, report_of
from martlet.registry import Registry


@pytest.fixture
def brought(tmp_path, monkeypatch):
    """Brings a model online, whatever it gains: a machine under test measures nothing."""
    monkeypatch.setattr(bringing, "GAIN", 0.0)
    monkeypatch.setattr(bringing, "NO_LOSS", 0.0)
    monkeypatch.setattr("martlet.convert.rewriting.extract.THRESHOLD_BYTES", 0)

    def run(path: Path, wanted: Wanted = Wanted()):
        scratch = tmp_path / "scratch"
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        return bring(path, formats.sniff(path).name, scratch, wanted, lambda text: None)

    return run


class TestAModel:
    def test_that_is_proved_equal_becomes_a_package(self, brought, lookup, opened):
        path = lookup()
        report = brought(path)
        assert report.serves == "package", report.why
        package = formats.load(report.package)
        inputs = {n: np.arange(9) for n in ("user", "item", "clock")}
        expected = opened(path).predict(inputs)["score"]
        assert np.allclose(package.predict(inputs)["score"], expected, rtol=1e-6)
        assert report.audit.dead == ["clock"]
        last = read_certificates(report.package / "certificate.json")[-1]
        assert last.passed and last.step == "extract"

    def test_refuses_what_the_original_refuses(self, brought, lookup):
        package = formats.load(brought(lookup()).package)
        with pytest.raises(InvalidInput):
            package.predict({n: np.array([999]) for n in ("user", "item", "clock")})

    def test_is_split_where_the_users_inputs_are_named(self, brought, lookup):
        report = brought(lookup(), Wanted(user_inputs=("user",)))
        assert [step.name for step in report.steps] == ["rewrite", "extract", "split", "cross"]
        assert report.steps[2].certificate.passed, report.steps[2].why
        assert report.steps[3].certificate.passed, report.steps[3].why

    def test_that_gains_nothing_is_served_as_it_is(self, brought, lookup, monkeypatch):
        monkeypatch.setattr(bringing, "GAIN", 1e9)
        monkeypatch.setattr(bringing, "NO_LOSS", 1e9)
        report = brought(lookup())
        assert report.serves == "original" and report.package is None
        assert "nothing to gain" in report.why
        assert not report.steps[-1].kept

    def test_whose_rows_shall_be_set_is_a_package_whatever_that_gains(
        self, brought, lookup, monkeypatch
    ):
        monkeypatch.setattr(bringing, "NO_LOSS", 1e9)
        report = brought(lookup(), Wanted(live_tables=True))
        assert report.serves == "package", report.why
        assert list(report.package.glob("tables/*.table"))

    def test_of_a_format_without_a_converter_is_served_as_it_is(self, brought, tmp_path):
        document = {"input": "double", "output": "double", "action": [{"+": ["input", 1]}]}
        (tmp_path / "model.pfa").write_text(json.dumps(document))
        report = brought(tmp_path / "model.pfa")
        assert report.serves == "original" and "no converter from pfa" in report.why
        assert report.audit is not None and report.steps == ()

    def test_whose_conversion_fails_is_served_as_it_is(self, brought, lookup, monkeypatch):
        def fail(*args, **more):
            raise UnsupportedModel("its conversion crashed (signal 11)")

        monkeypatch.setattr(judging, "to_onnx", fail)
        report = brought(lookup())
        assert report.serves == "original" and "signal 11" in report.why

    def test_whose_converters_are_not_installed_says_which_extra(
        self, brought, tmp_path, shared, monkeypatch
    ):
        pytest.importorskip("torch")
        monkeypatch.setattr(converting.importlib.util, "find_spec", lambda name: None)
        report = brought(shared / "models/torchscript/linrelu/model.pt")
        assert report.serves == "original" and "martlet[convert]" in report.why


class TestATamperedModel:
    """Changed on purpose by one weight: refused, with where and by how much."""

    def test_between_conversion_and_certificate(self, brought, lookup, monkeypatch):
        written = Judge.certify

        def tamper(judge, name, candidate, made, limits, names=None):
            if name == "extract":
                judge = replace(judge, servable=formats.load(lookup("changed", change=0.25)))
            return written(judge, name, candidate, made, limits, names)

        monkeypatch.setattr(Judge, "certify", tamper)
        report = brought(lookup())
        assert report.serves == "original"
        assert "item=" in report.why and "off by" in report.why

    @pytest.mark.parametrize("name", ["dense.onnx", "table"])
    def test_in_a_package_is_refused_at_import_and_at_load(self, brought, lookup, tmp_path, name):
        report = brought(lookup())
        folder = tmp_path / "package"
        shutil.copytree(report.package, folder)
        file = next(folder.glob("tables/*.table")) if name == "table" else folder / name
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.chmod(0o644)
        file.write_bytes(content)
        with pytest.raises(UnsupportedModel, match=f"{file.name}.*has changed since"):
            formats.load(folder)
        with (
            Registry.open(tmp_path / "registry") as registry,
            pytest.raises(UnsupportedModel, match="has changed since"),
        ):
            import_path(registry, folder, "ctr")

    def test_a_package_past_its_limits_is_refused(self, brought, lookup, tmp_path):
        report = brought(lookup())
        file = report.package / "certificate.json"
        last = read_certificates(file)[-1]
        worse = replace(last.comparisons[0], faults=("'score' of row 3 is 0.9",))
        write_certificates(file, [replace(last, comparisons=(worse,))])
        with (
            Registry.open(tmp_path / "registry") as registry,
            pytest.raises(UnsupportedModel, match="'score' of row 3"),
        ):
            import_path(registry, report.package, "ctr")

    def test_an_edited_certificate_is_refused(self, brought, lookup, tmp_path):
        report = brought(lookup())
        file = report.package / "certificate.json"
        document = json.loads(file.read_text())
        document["certificates"][-1]["limits"]["relative"] = 0.5
        file.write_text(json.dumps(document))
        with (
            Registry.open(tmp_path / "registry") as registry,
            pytest.raises(UnsupportedModel, match="changed after it was made"),
        ):
            import_path(registry, report.package, "ctr")

    def test_a_certificate_of_another_model_is_refused(self, brought, lookup, tmp_path):
        shutil.copytree(brought(lookup("other", change=0.25)).package, tmp_path / "other")
        report = brought(lookup())
        shutil.copy(tmp_path / "other/certificate.json", report.package / "certificate.json")
        with pytest.raises(UnsupportedModel, match="has changed since it was certified"):
            formats.load(report.package)

    def test_a_forged_certificate_is_found_by_asking_the_original(self, brought, lookup, tmp_path):
        """Its digests are those of the files, its seal is right: only the answers are not."""
        changed = tmp_path / "changed"
        shutil.copytree(brought(lookup("other", change=0.25)).package, changed)
        report = brought(lookup())
        shutil.rmtree(changed / "model")
        shutil.copytree(report.package / "model", changed / "model")
        last = read_certificates(changed / "certificate.json")[-1]
        forged = replace(last, original=digests_of(lookup()))
        write_certificates(changed / "certificate.json", [forged])
        formats.load(changed).close()
        with (
            Registry.open(tmp_path / "registry") as registry,
            pytest.raises(UnsupportedModel, match=r"item=.*where the original gives"),
        ):
            bring_path(registry, changed, "ctr", Wanted())
        with Registry.open(tmp_path / "registry") as registry:
            again = bring_path(registry, report.package, "ctr", Wanted())
        assert [step.name for step in again.report.steps] == ["compare"]
        assert "answers as the original" in again.report.steps[0].why

    def test_a_package_without_a_certificate_is_refused(self, brought, lookup):
        report = brought(lookup())
        (report.package / "certificate.json").unlink()
        with pytest.raises(UnsupportedModel, match="certificate"):
            formats.load(report.package)


class TestRegistering:
    def test_the_report_is_kept_with_the_version(self, brought, lookup, tmp_path):
        path = lookup()
        with Registry.open(tmp_path / "registry") as registry:
            found = bring_path(registry, path, "ctr", Wanted())
            version = registry.get("ctr@1")
            kept = report_of(version)
            assert version.lineage.format == "package"
            assert version.lineage.source == str(path)
            assert kept["audit"]["dead"] == ["clock"] and kept["serves"] == "package"
            assert found.version.number == 1
            formats.load(registry.path_of(version)).close()

    def test_logged_rows_give_the_figures_of_ranking(self, brought, lookup, tmp_path):
        random = np.random.default_rng(0)
        lines = ["user,item,clock,click,country"]
        for at in range(300):
            user, item = random.integers(50), random.integers(20)
            lines.append(f"{user},{item},{at},{random.integers(2)},{'pt' if at % 3 else 'fr'}")
        (tmp_path / "rows.csv").write_text("\n".join(lines))
        rows = read_rows(tmp_path / "rows.csv", group="user", segments=("country",))
        report = brought(lookup(), Wanted(rows))
        logged = [c for c in report.steps[-1].certificate.comparisons if c.kind == "logged"]
        assert [each.segment for each in logged] == ["", "country=pt", "country=fr"]
        assert logged[0].groups > 40 and logged[0].auc[0] == pytest.approx(logged[0].auc[1])
        figures = report.to_json()["steps"][-1]["certificate"]
        assert figures["top_k_overlap"] == 1.0 and figures["auc"] is not None

    def test_a_user_input_that_is_none_is_told(self, brought, lookup):
        with pytest.raises(InvalidInput, match="person"):
            brought(lookup(), Wanted(user_inputs=("person",)))

    def test_limits_are_the_users(self, brought, lookup):
        report = brought(lookup(), Wanted(limits=Limits(relative=1e-2)))
        assert report.steps[-1].certificate.limits.relative == 1e-2


def test_gain_is_the_mean_over_the_numbers_of_rows():
    assert gain({1: 10.0, 200: 40.0}, {1: 20.0, 200: 20.0}) == pytest.approx(1.0)
    assert gain({1: 10.0}, {}) == 0.0
