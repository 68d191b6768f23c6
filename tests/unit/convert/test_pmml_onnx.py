"""PMML as ONNX: the numbers that the standard's arithmetic gives, and nothing passed over."""

from __future__ import annotations

import math
from contextlib import closing

import numpy as np
import pytest

from martlet import formats
from martlet.certificate import Limits
from martlet.convert.parity.converted import Renamed
from martlet.convert.parity.judge import judging
from martlet.errors import InvalidInput, UnsupportedModel

onnx = pytest.importorskip("onnx", reason="the extra martlet[convert] is not installed")

from martlet.convert.to_onnx.pmml import from_pmml  # noqa: E402
from martlet.convert.to_onnx.task import Task  # noqa: E402

HEAD = """<PMML xmlns="http://www.dmg.org/PMML-4_4" version="4.4"><Header/><DataDictionary>
  <DataField name="age" optype="continuous" dataType="double">
    <Interval closure="closedClosed" leftMargin="0" rightMargin="120"/></DataField>
  <DataField name="city" optype="categorical" dataType="string">
    <Value value="oslo"/><Value value="rome"/></DataField>
  <DataField name="y" optype="continuous" dataType="double"/>
</DataDictionary>"""
SCHEMA = """<MiningSchema><MiningField name="y" usageType="target"/>
  <MiningField name="age" missingValueReplacement="40"/><MiningField name="city"/></MiningSchema>"""
REGRESSION = f"""{HEAD}<RegressionModel functionName="regression" normalizationMethod="logit">
  {SCHEMA}<LocalTransformations>
    <DerivedField name="young" optype="continuous" dataType="double">
      <NormContinuous field="age"><LinearNorm orig="0" norm="1"/><LinearNorm orig="60" norm="0"/>
      <LinearNorm orig="120" norm="-3"/></NormContinuous></DerivedField></LocalTransformations>
  <RegressionTable intercept="0.5"><NumericPredictor name="young" coefficient="2"/>
    <CategoricalPredictor name="city" value="rome" coefficient="-1"/></RegressionTable>
</RegressionModel></PMML>"""
TREE = f"""{HEAD}<TreeModel functionName="regression" splitCharacteristic="binarySplit"
    missingValueStrategy="lastPrediction" noTrueChildStrategy="returnLastPrediction">{SCHEMA}
  <Node score="1"><True/>
    <Node score="2"><SimplePredicate field="age" operator="lessOrEqual" value="30.1"/>
      <Node score="5"><SimpleSetPredicate field="city" booleanOperator="isIn">
        <Array type="string" n="1">rome</Array></SimpleSetPredicate></Node></Node>
    <Node score="3"><SimplePredicate field="age" operator="greaterThan" value="30.1"/></Node>
  </Node></TreeModel></PMML>"""
CLUSTERS = f"""{HEAD}<ClusteringModel functionName="clustering" modelClass="centerBased"
    numberOfClusters="1"><MiningSchema><MiningField name="age"/></MiningSchema>
  <ComparisonMeasure kind="distance"><euclidean/></ComparisonMeasure>
  <ClusteringField field="age" compareFunction="absDiff"/>
  <Cluster id="1"><Array type="real" n="1">30</Array></Cluster></ClusteringModel></PMML>"""


@pytest.fixture
def made(tmp_path):
    """Converts a document, and returns the ONNX model, proved."""

    def make(document: str):
        path = tmp_path / "model.pmml"
        path.write_text(document)
        with judging(path, strict=True) as judge:
            model = from_pmml(Task(path, judge.domain.name, judge.domain.signature, {}))
            onnx.save(model, tmp_path / "made.onnx")
            candidate = formats.load(tmp_path / "made.onnx")
            named = Renamed(candidate, "serving_default", judge.domain.name)
            found = judge.certify("convert", named, tmp_path / "made.onnx", Limits())
        assert found.passed, found.faults
        return candidate

    return make


def asked(model, ages, cities):
    cities = np.array(cities, object)
    return model.predict({"age": np.array(ages, np.float64), "city": cities})["y"]


def test_a_regression_through_transformations(made):
    with closing(made(REGRESSION)) as model:
        found = asked(model, [30.0, 90.0, math.nan], ["oslo", "rome", "oslo"])
    sums = 0.5 + 2 * np.array([0.5, -1.5, 1 / 3]) + np.array([0, -1, 0])
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-sums)), rtol=1e-12)


def test_a_tree_with_categories_and_a_way_for_the_missing(made):
    with closing(made(TREE)) as model:
        # Without a city, the last node that was reached answers; an empty text is a missing one.
        found = asked(model, [30.1, 30.1, np.nextafter(30.1, 31)], ["rome", "", "rome"])
    assert found.tolist() == [5.0, 2.0, 3.0]


@pytest.mark.parametrize(("age", "city"), [(121.0, "oslo"), (30.0, "atlantis")])
def test_a_value_that_a_field_forbids_fails_the_graph_and_is_named(made, age, city):
    with closing(made(TREE)) as model, pytest.raises(InvalidInput, match="refused: field '"):
        asked(model, [age], [city])


def test_what_has_no_exact_counterpart_is_refused_by_name(made):
    with pytest.raises(UnsupportedModel, match="clustering"):
        made(CLUSTERS)
