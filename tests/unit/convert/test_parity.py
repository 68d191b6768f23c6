"""A certificate says whether a candidate answers as the original, and where it does not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from graphs import FLOAT, Build

from martlet import rankings
from martlet.certificate import (
    Certificate,
    Limits,
    digest_of,
    digests_of,
    read_certificates,
    write_certificates,
)
from martlet.convert.asking.probes import Probe, probes_for
from martlet.convert.asking.ranges import domain_of
from martlet.convert.parity import ordering
from martlet.convert.parity.compare import Rounding, certify, judged
from martlet.errors import UnsupportedModel


@pytest.fixture
def certified(lookup, opened):
    """Certifies a candidate against the original, over probes that the original answers."""
    path = lookup("original")
    original = opened(path)
    domain = domain_of(original)
    probes = probes_for(original, domain, rows=256)

    def run(candidate: Path, limits: Limits = Limits(), extra: tuple[Probe, ...] = ()):
        return certify(
            "convert",
            original,
            opened(candidate),
            [*probes, *extra],
            signature_name=domain.name,
            files=(path, candidate),
            limits=limits,
        )

    return run


class TestACertificate:
    def test_the_same_model_passes_with_no_difference_at_all(self, certified, lookup):
        found = certified(lookup("copy"))
        assert found.passed and found.faults == []
        assert {each.kind for each in found.comparisons} == {"random", "edge", "each id", "refused"}
        assert all(each.absolute == 0 and each.worst is None for each in found.comparisons)
        found.demand("copy.onnx")

    def test_one_changed_weight_is_refused_with_where_and_by_how_much(self, certified, lookup):
        found = certified(lookup("changed", change=0.25))
        assert not found.passed
        worst = found.worst.worst
        assert worst.output == "score" and worst.inputs["item"] in (7, -13)
        assert abs(worst.expected - worst.found) == pytest.approx(found.worst.absolute)
        with pytest.raises(
            UnsupportedModel, match=r"item=(7|-13).* is .* where the original gives"
        ):
            found.demand("changed.onnx")

    def test_a_weight_changed_within_the_limits_passes(self, certified, lookup):
        assert certified(lookup("near", change=1e-7)).passed
        assert not certified(lookup("far", change=1e-3)).passed
        assert certified(lookup("far", change=1e-3), Limits(relative=0.1, absolute=0.1)).passed

    @pytest.mark.parametrize("place", ["weights", "bias"])
    def test_a_weight_beside_huge_numbers_is_refused_too(self, tmp_path, opened, place):
        """A row with an input of 100,000 makes little of a bias: rows of small numbers do not."""
        paths = []
        for change in (0.0, 1e-3):
            weights, bias = np.linspace(-1, 1, 8, dtype=np.float32)[:, None], np.float32([0.5])
            {"weights": weights[3], "bias": bias}[place][:] += np.float32(change)
            build = Build(x=(FLOAT, ["rows", 8]))
            build("Add", build("MatMul", "x", weights), bias, gives="y")
            paths.append(tmp_path / f"{change}.onnx")
            onnx.save(build.model(y=(FLOAT, ["rows", 1])), paths[-1])
        original = opened(paths[0])
        domain = domain_of(original)
        probes = probes_for(original, domain)
        made = [
            certify("convert", original, opened(path), probes, signature_name=domain.name,
                    files=(paths[0], path))
            for path in paths
        ]  # fmt: skip
        assert made[0].passed and not made[1].passed
        assert any(fault.startswith("small: ") for fault in made[1].faults)

    def test_it_is_the_same_after_json(self, certified, lookup, tmp_path):
        made = [certified(lookup("copy")), certified(lookup("changed", change=0.25))]
        write_certificates(tmp_path / "certificate.json", made)
        assert read_certificates(tmp_path / "certificate.json") == made

    def test_it_holds_for_its_files_and_no_others(self, certified, lookup):
        found = certified(lookup("copy"))
        found.demand_files(digests_of(lookup("copy")), "copy")
        with pytest.raises(UnsupportedModel, match="has changed since it was certified"):
            found.demand_files(digests_of(lookup("changed", change=1e-7)), "changed")
        with pytest.raises(UnsupportedModel, match="is missing"):
            found.demand_files({}, "gone")

    def test_one_that_compares_nothing_has_not_passed(self):
        empty = Certificate("convert", {"": "a"}, {"": "b"}, Limits(), ())
        assert not empty.passed
        with pytest.raises(UnsupportedModel, match="compares nothing"):
            empty.demand("model")

    @pytest.mark.parametrize("text", ["{}", '{"certificates": [{"version": 2}]}', "[", '{"a": 1'])
    def test_a_broken_file_is_refused(self, tmp_path, text):
        (tmp_path / "certificate.json").write_text(text)
        with pytest.raises(UnsupportedModel):
            read_certificates(tmp_path / "certificate.json")

    @pytest.mark.parametrize("version", [1, 3])  # 1 had no seal
    def test_one_of_another_version_is_refused(self, certified, lookup, version):
        document = json.loads(json.dumps(certified(lookup("copy")).to_json()))
        with pytest.raises(UnsupportedModel, match=f"of version {version}; .* import the original"):
            Certificate.from_json({**document, "version": version})


class TestRefusals:
    def test_a_candidate_must_refuse_what_the_original_refuses(self, certified, tmp_path, lookup):
        import onnx

        model = onnx.load(lookup("copy"))
        gather = model.graph.node[1]
        clip = onnx.helper.make_node("Clip", ["item", "", "last"], ["clipped"])
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(19), "last"))
        gather.input[1] = "clipped"
        model.graph.node.insert(0, clip)
        onnx.save(model, tmp_path / "lenient.onnx")
        found = certified(tmp_path / "lenient.onnx")
        assert [each.kind for each in found.comparisons if not each.passed] == ["refused"]
        assert "it answers what the original refuses" in found.faults[0]
        lenient = certified(tmp_path / "lenient.onnx", Limits(same_refusals=False))
        assert lenient.passed


class TestJudging:
    def one(self, wanted, found, limits=Limits(), **more):
        wanted, found = np.asarray(wanted), np.asarray(found)
        probe = Probe("random", {"x": np.arange(len(wanted))}, **more)
        return judged(probe, {"y": wanted}, {"y": found}, limits)

    def test_nan_and_infinities_are_equal_to_themselves_alone(self):
        odd = np.array([np.nan, np.inf, -np.inf, 1.0])
        assert self.one(odd, odd).absolute == 0
        assert self.one(odd, [0.0, np.inf, -np.inf, 1.0]).faults
        assert self.one(odd, [np.nan, -np.inf, -np.inf, 1.0]).faults
        assert self.one([1.0, 2.0], [1.0, np.nan]).faults

    def test_a_number_near_0_is_measured_by_the_usual_size(self):
        wanted = np.array([100.0, -120.0, 90.0, 1e-9])
        assert self.one(wanted, wanted + np.array([0, 0, 0, 5e-4])).passed
        assert not self.one(wanted, wanted + np.array([0, 0, 0, 5e-3])).passed

    def test_another_shape_or_dtype_is_a_fault(self):
        assert "shape" in self.one(np.zeros(3), np.zeros((3, 1))).faults[0]
        assert "float32" in self.one(np.zeros(3), np.zeros(3, np.float32)).faults[0]

    def test_texts_are_equal_or_not(self):
        wanted = np.array(["a", "b"], object)
        assert self.one(wanted, np.array([b"a", b"b"], object)).passed
        assert self.one(wanted, np.array(["a", "c"], object)).faults

    def test_a_step_that_changes_numbers_is_judged_by_the_damage_to_ranking(self):
        loose = Limits(relative=np.inf, absolute=np.inf)
        scores = np.linspace(0.1, 0.9, 40)
        assert self.one(scores, scores**2, loose).passed
        assert "rank correlation" in self.one(scores, scores[::-1].copy(), loose).faults[0]

    def test_order_is_compared_user_by_user(self):
        groups = np.repeat(["ann", "bob"], 20)
        scores = np.tile(np.linspace(0, 1, 20), 2)
        found = scores.copy()
        found[:20] += 10  # all of ann's rows are lifted: nobody's order changes
        loose = Limits(relative=np.inf, absolute=np.inf)
        result = self.one(scores, found, loose, groups=groups)
        assert (result.groups, result.rank_correlation, result.top_k_overlap) == (2, 1.0, 1.0)

    def test_auc_and_logloss_are_told_where_labels_are(self):
        labels = np.array([0, 1, 0, 1])
        result = self.one([0.1, 0.9, 0.2, 0.8], [0.1, 0.9, 0.8, 0.2], labels=labels)
        assert result.auc == (1.0, 0.75)
        assert any("auc goes from 1.000000 to 0.750000" in fault for fault in result.faults)


class TestOrdering:
    def test_it_agrees_with_scipy_and_scikit_learn(self):
        stats = pytest.importorskip("scipy.stats")
        metrics = pytest.importorskip("sklearn.metrics")
        random = np.random.default_rng(0)
        a, b = random.integers(0, 9, 200) / 10, random.random(200)
        labels = random.integers(0, 2, 200)
        assert rankings.spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic)
        assert rankings.auc(a, labels.astype(bool)) == pytest.approx(
            metrics.roc_auc_score(labels, a)
        )
        assert ordering.logloss(b, labels) == pytest.approx(metrics.log_loss(labels, b))

    def test_a_tie_that_rounding_broke_is_no_change(self):
        scores = np.repeat([0.5, 0.25], 20)
        noisy = scores + np.random.default_rng(0).normal(0, 1e-9, 40)
        found = ordering.figures(scores, noisy, None, 10)
        assert found.rank_correlation == found.top_k_overlap == 1.0


def test_a_folder_has_one_digest_that_any_change_changes(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("1")
    before = digest_of(tmp_path)
    assert set(digests_of(tmp_path)) == {"a/x"}
    (tmp_path / "a" / "x").rename(tmp_path / "a" / "y")
    assert digest_of(tmp_path) != before


def test_limits_are_kept_with_the_certificate(certified, lookup):
    loose = replace(Limits(), relative=0.5)
    assert certified(lookup("copy"), loose).to_json()["limits"]["relative"] == 0.5


class Cancelling:
    """Two huge weights that nearly cancel each other: its last digits are rounding."""

    weights = np.array([[3.0], [-3.0], [0.1]], np.float32)

    def predict(self, inputs, signature_name="serving_default"):
        return {"score": inputs["x"] @ self.weights}


class TestRounding:
    """Where the original's own digits end, a candidate's need not agree; elsewhere they must."""

    huge = np.full((5, 3), 1e5, np.float32) * np.linspace(1, 2, 5, dtype=np.float32)[:, None]
    plain = np.arange(15, dtype=np.float32).reshape(5, 3)

    def judge(self, rows, off, rounding=True):
        model = Cancelling()
        expected = model.predict({"x": rows})
        return judged(
            Probe("random", {"x": rows}),
            expected,
            {"score": expected["score"] + np.float32(off)},
            Limits(relative=1e-7, absolute=0.0, rank_correlation=-1, top_k_overlap=0),
            rounding=Rounding(model, "serving_default") if rounding else None,
        )

    def test_a_difference_within_it_is_no_fault_and_is_counted(self):
        # A unit in the last place of 1e5 is 2**-7; three times that is what one input moves.
        found = self.judge(self.huge, 2**-7)
        assert found.passed and found.rounded == 5 and found.absolute > 0

    def test_without_it_the_same_is_a_fault(self):
        assert not self.judge(self.huge, 2**-7, rounding=False).passed

    @pytest.mark.parametrize("off", [1.0, 100.0])
    def test_a_difference_beyond_it_is_a_fault(self, off):
        assert not self.judge(self.huge, off).passed

    def test_where_the_inputs_are_small_so_is_what_is_allowed(self):
        assert not self.judge(self.plain, 2**-7).passed
