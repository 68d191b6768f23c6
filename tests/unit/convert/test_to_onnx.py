"""Conversion: the signature is kept; what fails, crashes or eats too much says so."""

from __future__ import annotations

import numpy as np
import pytest

from martlet import formats
from martlet.convert import to_onnx as converting
from martlet.convert.asking.probes import probes_for
from martlet.convert.asking.ranges import domain_of
from martlet.convert.parity.compare import certify
from martlet.convert.to_onnx import Bounds, to_onnx
from martlet.errors import UnsupportedModel


def converted(path, made, **more):
    """The original, what it converts to, and their certificate."""
    original = formats.load(path, formats.LoadOptions(trusted=True))
    domain = domain_of(original)
    sample = {name: np.repeat(value, 3, axis=0) for name, value in domain.base.items()}
    format = formats.sniff(path).name
    to_onnx(path, format, domain.name, domain.signature, made, sample=sample, trusted=True, **more)
    candidate = formats.load(made)
    found = candidate.signatures["serving_default"]
    assert [(s.name, s.dtype) for s in found.inputs.values()] == [
        (s.name, s.dtype) for s in domain.signature.inputs.values()
    ]
    probes = probes_for(original, domain)
    names = {"signature_name": domain.name, "files": (path, made)}
    return certify("convert", original, candidate, probes, **names)


@pytest.mark.shared
@pytest.mark.slow
class TestRealModels:
    def refused_alone(self, certificate):
        """An assertion that a converter drops is the one thing that these may lose."""
        return {each.kind for each in certificate.comparisons if not each.passed} <= {"refused"}

    def test_a_savedmodel_of_feature_columns(self, shared, tmp_path):
        pytest.importorskip("tensorflow")
        found = converted(shared / "sparrow/modeldata/neuralcf/001", tmp_path / "m.onnx")
        assert self.refused_alone(found) and not found.passed
        assert found.worst.faults[0].startswith("it answers what the original refuses")

    def test_a_savedmodel_whose_inputs_are_mostly_dead(self, shared, tmp_path):
        pytest.importorskip("tensorflow")
        found = converted(shared / "sparrow/modeldata/MLPRec/002", tmp_path / "m.onnx")
        assert found.passed

    def test_torchscript(self, shared, tmp_path):
        pytest.importorskip("torch")
        path = shared / "models/torchscript/neumf_ml1m_twin/model.pt"
        assert self.refused_alone(converted(path, tmp_path / "m.onnx"))

    def test_a_silently_wrong_conversion_is_refused(self, shared, tmp_path):
        """skl2onnx rounds the thresholds of trees: rows beside one are scored by another leaf."""
        pytest.importorskip("skl2onnx")
        path = shared / "models/sklearn/own_movielens_gbc/model.skops"
        found = converted(path, tmp_path / "m.onnx")
        assert not found.passed
        assert any(fault.startswith("jump: ") for fault in found.faults)


class TestItsProcess:
    """What a conversion may do to the process that asks for it: nothing."""

    def run(self, monkeypatch, lookup, opened, tmp_path, code, bounds=Bounds()):
        (tmp_path / "converter.py").write_text(code)
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.setitem(converting.CONVERTERS, "made", "converter:convert")
        path = lookup()
        domain = domain_of(opened(path))
        made = tmp_path / "out.onnx"
        to_onnx(
            path, "made", domain.name, domain.signature, made, sample=domain.base, bounds=bounds
        )

    def test_a_crash_is_told(self, monkeypatch, lookup, opened, tmp_path):
        code = "import os\ndef convert(task): os.abort()"
        with pytest.raises(UnsupportedModel, match="crashed"):
            self.run(monkeypatch, lookup, opened, tmp_path, code)

    def test_one_that_hangs_is_ended(self, monkeypatch, lookup, opened, tmp_path):
        code = "import time\ndef convert(task): time.sleep(600)"
        with pytest.raises(UnsupportedModel, match="longer than 3 s"):
            self.run(monkeypatch, lookup, opened, tmp_path, code, Bounds(seconds=3))

    def test_one_that_computes_for_ever_is_ended(self, monkeypatch, lookup, opened, tmp_path):
        code = "def convert(task):\n while True: pass"
        with pytest.raises(UnsupportedModel, match="more than 2 s of processor time"):
            self.run(monkeypatch, lookup, opened, tmp_path, code, Bounds(cpu_s=2))

    def test_a_limit_of_processor_time_is_none_of_the_clock(
        self, monkeypatch, lookup, opened, tmp_path
    ):
        code = "import time\ndef convert(task):\n time.sleep(6)\n raise ValueError('in time')"
        with pytest.raises(UnsupportedModel, match="in time"):
            self.run(monkeypatch, lookup, opened, tmp_path, code, Bounds(cpu_s=5))

    def test_one_that_eats_memory_is_ended(self, monkeypatch, lookup, opened, tmp_path):
        code = "import time\ndef convert(task):\n x = b'1' * (1 << 30)\n time.sleep(600)"
        with pytest.raises(UnsupportedModel, match=r"more than 0\.5 GiB"):
            self.run(monkeypatch, lookup, opened, tmp_path, code, Bounds(bytes=1 << 29))

    def test_what_it_raises_is_the_reason(self, monkeypatch, lookup, opened, tmp_path):
        code = "def convert(task): raise NotImplementedError('no Hashing')"
        with pytest.raises(UnsupportedModel, match="does not convert: NotImplementedError: no Has"):
            self.run(monkeypatch, lookup, opened, tmp_path, code)

    def test_a_format_without_a_converter_is_told(self, lookup, opened, tmp_path):
        domain = domain_of(opened(lookup()))
        with pytest.raises(UnsupportedModel, match="no converter from pfa"):
            to_onnx(
                lookup(), "pfa", domain.name, domain.signature, tmp_path / "x", sample=domain.base
            )
