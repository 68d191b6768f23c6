"""Probes are rows that the original answers, and single rows that it refuses."""

from __future__ import annotations

import numpy as np

from martlet.convert.asking.probes import probes_for
from martlet.convert.asking.ranges import domain_of
from martlet.tensors import DType, Signature, Spec


class Step:
    """Answers 1.0 above a threshold, as a tree does."""

    def __init__(self, threshold, dtype: DType):
        inputs, outputs = [Spec("x", dtype, (-1, 2))], [Spec("y", DType.FLOAT64, (-1,))]
        self.signatures = {"serving_default": Signature.of(inputs, outputs)}
        self._threshold = threshold

    def predict(self, inputs, signature_name="serving_default"):
        return {"y": np.where(inputs["x"][:, 1] > self._threshold, 1.0, 0.0)}

    def close(self): ...


def test_random_rows_stay_in_range_and_come_in_batches_of_several_sizes(lookup, opened):
    servable = opened(lookup())
    probes = probes_for(servable, domain_of(servable), rows=500)
    random = [probe for probe in probes if probe.kind == "random"]
    assert [probe.rows for probe in random] == [500, 1, 7]
    assert random[0].inputs["item"].min() < 0 <= random[0].inputs["item"].max() == 19


def test_edges_hold_each_end_and_one_beyond_is_refused(lookup, opened):
    servable = opened(lookup())
    probes = {probe.kind: probe for probe in probes_for(servable, domain_of(servable))}
    assert {-50, -1, 0, 49} <= set(probes["edge"].inputs["user"].tolist())
    assert {-51, 50} <= set(probes["refused"].inputs["user"].tolist())


def test_a_threshold_is_found_to_the_last_bit():
    for dtype, threshold in ((DType.FLOAT32, np.float32(0.3)), (DType.FLOAT64, 1 / 3)):
        servable = Step(threshold, dtype)
        jump = next(p for p in probes_for(servable, domain_of(servable)) if p.kind == "jump")
        found = jump.inputs["x"][:, 1]
        assert threshold in found
        assert np.nextafter(threshold, found.dtype.type(np.inf)) in found


class LastBit(Step):
    """Answers by the last bit of a number, as what is left of two huge sums may."""

    def predict(self, inputs, signature_name="serving_default"):
        return {"y": (inputs["x"][:, 1].copy().view(np.int32) & 1).astype(np.float64)}


def test_where_answers_go_to_and_fro_is_no_threshold():
    servable = LastBit(0.0, DType.FLOAT32)
    assert "jump" not in {each.kind for each in probes_for(servable, domain_of(servable))}


def test_the_same_seed_makes_the_same_probes(lookup, opened):
    servable = opened(lookup())
    one, two = (probes_for(servable, domain_of(servable), seed=3) for _ in range(2))
    for a, b in zip(one, two, strict=True):
        assert all(np.array_equal(a.inputs[name], b.inputs[name]) for name in a.inputs)
