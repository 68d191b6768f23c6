"""Models whose answers the standard works out itself, and those of libraries written as PMML."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from pmml_files import NUMBERS, TARGET, ask, load, pmml, regression

from martlet import formats
from martlet.errors import UnsupportedModel


class TestRegression:
    # PMML 4.4.1, Regression, "Linear Regression Sample": number_of_claims = 132.37 + 7.1 age
    # + 0.01 salary + 41.1 car_location(carpark) + 325.03 car_location(street).
    FIELDS = (
        '<DataField name="age" optype="continuous" dataType="double"/>'
        '<DataField name="salary" optype="continuous" dataType="double"/>'
        '<DataField name="car" optype="categorical" dataType="string"/>' + TARGET
    )
    SCHEMA = "".join(f'<MiningField name="{n}"/>' for n in ("age", "salary", "car"))
    TABLE = (
        '<RegressionTable intercept="132.37"><NumericPredictor name="age" coefficient="7.1"/>'
        '<NumericPredictor name="salary" coefficient="0.01"/>'
        '<CategoricalPredictor name="car" value="carpark" coefficient="41.1"/>'
        '<CategoricalPredictor name="car" value="street" coefficient="325.03"/></RegressionTable>'
    )

    def test_the_standards_sample(self, tmp_path: Path):
        schema = self.SCHEMA + '<MiningField name="y" usageType="target"/>'
        model = load(
            pmml(regression(schema=schema, table=self.TABLE), fields=self.FIELDS), tmp_path
        )
        found = ask(
            model, age=[30, 40, 50], salary=[1000, 2000, 0], car=["carpark", "street", None]
        )
        wanted = [132.37 + 213 + 10 + 41.1, 132.37 + 284 + 20 + 325.03, 132.37 + 355]
        assert found["y"] == pytest.approx(wanted, rel=1e-15)

    def test_a_missing_number_leaves_no_answer(self, tmp_path: Path):
        model = load(
            pmml(regression(schema=self.SCHEMA, table=self.TABLE), fields=self.FIELDS), tmp_path
        )
        assert ask(model, age=[float("nan")], salary=[1], car=["street"])["_target"] == [None]


GOLF = """
<TreeModel functionName="classification" {attributes}>
 <MiningSchema><MiningField name="t"/><MiningField name="w"/><MiningField name="o"/>
  <MiningField name="play" usageType="target"/></MiningSchema>
 <Output><OutputField name="node" feature="entityId" dataType="string" optype="categorical"/>
  <OutputField name="p" feature="probability" dataType="double" optype="continuous"/></Output>
 <Node id="0" score="yes" defaultChild="1"><True/>
  <ScoreDistribution value="yes" recordCount="60"/><ScoreDistribution value="no" recordCount="40"/>
  <Node id="1" score="yes"><SimplePredicate field="o" operator="equal" value="sunny"/>
   <ScoreDistribution value="yes" recordCount="40"/><ScoreDistribution value="no" recordCount="10"/>
   <Node id="2" score="no"><CompoundPredicate booleanOperator="surrogate">
     <SimplePredicate field="t" operator="greaterThan" value="30"/>
     <SimplePredicate field="w" operator="lessThan" value="5"/></CompoundPredicate>
    <ScoreDistribution value="yes" recordCount="1"/><ScoreDistribution value="no" recordCount="9"/>
   </Node>
  </Node>
  <Node id="3" score="no"><SimpleSetPredicate field="o" booleanOperator="isIn">
    <Array type="string" n="2">rain "light \\"snow\\""</Array></SimpleSetPredicate>
   <ScoreDistribution value="yes" recordCount="20"/><ScoreDistribution value="no" recordCount="30"/>
  </Node>
 </Node>
</TreeModel>"""
GOLF_FIELDS = (
    '<DataField name="t" optype="continuous" dataType="double"/>'
    '<DataField name="w" optype="continuous" dataType="double"/>'
    '<DataField name="o" optype="categorical" dataType="string"/>'
    '<DataField name="play" optype="categorical" dataType="string"/>'
)
NAN = float("nan")


class TestTrees:
    @pytest.mark.parametrize(
        ("attributes", "t", "w", "o", "node"),
        [
            ("", 40, 9, "sunny", "2"),
            ("", NAN, 1, "sunny", "2"),  # the surrogate answers
            ("", 20, 1, "sunny", None),  # no true child, no prediction
            ('noTrueChildStrategy="returnLastPrediction"', 20, 1, "sunny", "1"),
            ("", 20, 1, 'light "snow"', "3"),
            ("", 20, 1, "hail", None),
            ('noTrueChildStrategy="returnLastPrediction"', 20, 1, "hail", "0"),
            ("", 40, 9, None, None),
            ('missingValueStrategy="lastPrediction"', 40, 9, None, "0"),
            ('missingValueStrategy="nullPrediction"', 40, 9, None, None),
            ('missingValueStrategy="defaultChild"', 40, 9, None, "2"),
            ('missingValueStrategy="lastPrediction"', NAN, NAN, "sunny", "1"),
        ],
    )
    def test_where_a_walk_ends(
        self, attributes: str, t: float, w: float, o: object, node: object, tmp_path: Path
    ):
        text = pmml(GOLF.format(attributes=attributes), fields=GOLF_FIELDS)
        found = ask(load(text, tmp_path), t=[t], w=[w], o=[o])
        assert found["node"] == [node]
        shares = {"0": ("yes", 0.6), "1": ("yes", 0.8), "2": ("no", 0.9), "3": ("no", 0.6)}
        label, p = shares.get(str(node), (None, None))
        assert found["play"] == [label]
        assert found["p"] == [p if p is None else pytest.approx(p)]

    def test_a_value_that_the_walk_never_meets_cannot_fail_it(self, tmp_path: Path):
        bounded = GOLF_FIELDS.replace(
            '"w" optype="continuous" dataType="double"/>',
            '"w" optype="continuous" dataType="double"><Interval closure="closedClosed" '
            'leftMargin="0" rightMargin="9"/></DataField>',
        )
        model = load(pmml(GOLF.format(attributes=""), fields=bounded), tmp_path)
        found = ask(model, t=[40, NAN], w=[99, 99], o=["sunny", "sunny"])
        assert found["node"] == ["2", None]
        assert found["_reason"][0] is None
        assert "'w' cannot be 99" in found["_reason"][1]


def tree_xml(nodes: object, names: list[str], at: int = 0, test: str = "<True/>") -> str:
    """A scikit-learn tree (its arrays) as a PMML Node."""
    left = nodes.children_left[at]
    score = f' score="{float(nodes.value[at].ravel()[0])!r}"'
    if left < 0:
        return f"<Node{score}>{test}</Node>"
    inner = ""
    for child, operator in ((left, "lessOrEqual"), (nodes.children_right[at], "greaterThan")):
        predicate = (
            f'<SimplePredicate field="{names[nodes.feature[at]]}" operator="{operator}" '
            f'value="{float(nodes.threshold[at])!r}"/>'
        )
        inner += tree_xml(nodes, names, child, predicate)
    return f"<Node>{test}{inner}</Node>"


def forest_xml(trees: list[object], names: list[str], method: str) -> str:
    schema = "".join(f'<MiningField name="{name}"/>' for name in names)
    fields = "".join(
        f'<DataField name="{name}" optype="continuous" dataType="double"/>' for name in names
    )
    segments = "".join(
        f'<Segment><True/><TreeModel functionName="regression"><MiningSchema>{schema}'
        f"</MiningSchema>{tree_xml(nodes, names)}</TreeModel></Segment>"
        for nodes in trees
    )
    schema += '<MiningField name="y" usageType="target"/>'
    return pmml(
        f'<MiningModel functionName="regression"><MiningSchema>{schema}</MiningSchema>'
        f'<Segmentation multipleModelMethod="{method}">{segments}</Segmentation></MiningModel>',
        fields=fields + TARGET,
    )


class TestLibraries:
    def test_a_random_forest_of_scikit_learn_answers_the_same(self, tmp_path: Path):
        ensemble = pytest.importorskip("sklearn.ensemble")
        random = np.random.default_rng(7)
        x = random.normal(size=(300, 4)).astype(np.float32).astype(np.float64)
        y = x[:, 0] * 2 + np.sin(x[:, 1]) + random.normal(size=300) / 10
        forest = ensemble.RandomForestRegressor(20, max_depth=6, random_state=1).fit(x, y)
        names = ["a", "b", "c", "d"]
        trees = [each.tree_ for each in forest.estimators_]
        # The values are float32 already, which is what scikit-learn compares.
        model = load(forest_xml(trees, names, "average"), tmp_path)
        found = model.predict({name: x[:, i] for i, name in enumerate(names)})["y"]
        np.testing.assert_allclose(found, forest.predict(x), rtol=1e-12)
        alone = model.predict({name: x[:1, i] for i, name in enumerate(names)})["y"]
        assert alone[0] == pytest.approx(found[0], rel=1e-15)

    def test_a_logistic_regression_of_scikit_learn_answers_the_same(self, tmp_path: Path):
        linear = pytest.importorskip("sklearn.linear_model")
        random = np.random.default_rng(3)
        x = random.normal(size=(200, 3))
        y = random.integers(0, 3, size=200)
        library = linear.LogisticRegression().fit(x, y)
        names = ["a", "b", "c"]
        fields = "".join(
            f'<DataField name="{n}" optype="continuous" dataType="double"/>' for n in names
        )
        fields += '<DataField name="y" optype="categorical" dataType="integer"/>'
        tables = "".join(
            f'<RegressionTable intercept="{float(b)!r}" targetCategory="{label}">'
            + "".join(
                f'<NumericPredictor name="{n}" coefficient="{float(c)!r}"/>'
                for n, c in zip(names, row, strict=True)
            )
            + "</RegressionTable>"
            for label, b, row in zip(
                library.classes_, library.intercept_, library.coef_, strict=True
            )
        )
        outputs = "".join(
            f'<OutputField name="p{k}" feature="probability" value="{k}" dataType="double" '
            'optype="continuous"/>'
            for k in library.classes_
        )
        schema = "".join(f'<MiningField name="{n}"/>' for n in names)
        text = pmml(
            '<RegressionModel functionName="classification" normalizationMethod="softmax">'
            f'<MiningSchema>{schema}<MiningField name="y" usageType="target"/></MiningSchema>'
            f"<Output>{outputs}</Output>{tables}</RegressionModel>",
            fields=fields,
        )
        found = load(text, tmp_path).predict({n: x[:, i] for i, n in enumerate(names)})
        wanted = library.predict_proba(x)
        for k in range(3):
            np.testing.assert_allclose(found[f"p{k}"], wanted[:, k], rtol=1e-10)
        assert found["y"].tolist() == library.predict(x).tolist()

    def test_a_score_without_end_has_the_whole_as_in_the_limit(self, tmp_path: Path):
        """Shares of two such scores are undefined."""
        names = ["a", "b", "c"]
        fields = "".join(
            f'<DataField name="{n}" optype="continuous" dataType="double"/>' for n in names
        )
        fields += '<DataField name="y" optype="categorical" dataType="string"/>'
        schema = "".join(f'<MiningField name="{n}"/>' for n in names)
        tables = "".join(
            f'<RegressionTable intercept="0" targetCategory="is {n}">'
            f'<NumericPredictor name="{n}" coefficient="1e308"/></RegressionTable>'
            for n in names
        )
        outputs = "".join(
            f'<OutputField name="p{n}" feature="probability" value="is {n}" dataType="double" '
            'optype="continuous"/>'
            for n in names
        )
        model = load(
            pmml(
                '<RegressionModel functionName="classification" normalizationMethod="softmax">'
                f'<MiningSchema>{schema}<MiningField name="y" usageType="target"/></MiningSchema>'
                f"<Output>{outputs}</Output>{tables}</RegressionModel>",
                fields=fields,
            ),
            tmp_path,
        )
        rows = np.array([[0.0, 0.0, 10.0], [-10.0, 10.0, 0.0], [10.0, 10.0, 0.0]])

        def answers(rows: np.ndarray) -> list[list[object]]:
            found = model.predict({n: rows[:, i] for i, n in enumerate(names)})
            cells = [found[name].tolist() for name in ("y", "pa", "pb", "pc")]
            return [list(row) for row in zip(*cells, strict=True)]

        together = answers(rows)
        assert together[:2] == [["is c", 0.0, 0.0, 1.0], ["is b", 0.0, 1.0, 0.0]]
        assert together[2][0] is None
        assert [answers(row[None])[0][0] for row in rows] == ["is c", "is b", None]


class TestAnomalies:
    CLUSTERS = """
<AnomalyDetectionModel functionName="regression" algorithmType="clusterMeanDist">
 <MiningSchema><MiningField name="x"/></MiningSchema>
 <ClusteringModel functionName="clustering" modelClass="centerBased" numberOfClusters="2">
  <MiningSchema><MiningField name="x"/></MiningSchema>
  <ComparisonMeasure kind="distance"><euclidean/></ComparisonMeasure>
  <ClusteringField field="x" compareFunction="absDiff"/>
  <Cluster id="low"><Array n="1" type="real">0</Array></Cluster>
  <Cluster id="high"><Array n="1" type="real">10</Array></Cluster>
 </ClusteringModel>
 <MeanClusterDistances><Array n="{n}" type="real">{means}</Array></MeanClusterDistances>
</AnomalyDetectionModel>"""

    def test_a_distance_counts_by_the_mean_of_its_own_cluster(self, tmp_path: Path):
        text = pmml(self.CLUSTERS.format(n=2, means="0.5 4"), fields=NUMBERS)
        found = ask(load(text, tmp_path), x=[1.0, 8.0, 12.0, NAN])["_target"]
        assert found == [2.0, 0.5, 0.5, None]

    def test_each_cluster_needs_its_mean(self, tmp_path: Path):
        with pytest.raises(UnsupportedModel, match="for each of 2 clusters"):
            load(pmml(self.CLUSTERS.format(n=1, means="0.5"), fields=NUMBERS), tmp_path)


class TestVerification:
    RECORDS = (
        "<ModelVerification><VerificationFields>"
        '<VerificationField field="x"/><VerificationField field="y"/></VerificationFields>'
        "<InlineTable><row><x>2</x><y>{y}</y></row></InlineTable></ModelVerification>"
    )
    TABLE = (
        '<RegressionTable intercept="1"><NumericPredictor name="x" coefficient="3"/>'
        "</RegressionTable>"
    )

    def text(self, y: float) -> str:
        return pmml(
            regression(table=self.TABLE + self.RECORDS.format(y=y)), fields=NUMBERS + TARGET
        )

    def test_a_file_that_answers_as_its_producer_loads(self, tmp_path: Path):
        assert ask(load(self.text(7.0), tmp_path), x=[1.0])["y"] == [4.0]

    def test_one_that_does_not_is_refused(self, tmp_path: Path):
        with pytest.raises(UnsupportedModel, match="own verification is answered"):
            load(self.text(8.0), tmp_path)


class TestDescription:
    def test_it_says_what_the_file_is(self, tmp_path: Path):
        import json

        text = pmml(GOLF.format(attributes=""), fields=GOLF_FIELDS)
        found = load(text, tmp_path).describe()
        assert json.loads(json.dumps(found)) == found
        assert found["model"]["element"] == "TreeModel"
        assert found["model"]["size"] == {"nodes": 4}
        assert [each["name"] for each in found["fields"]] == ["t", "w", "o", "play"]
        assert [each["name"] for each in found["model"]["outputs"]] == ["node", "p"]


def test_no_rows_give_no_rows(tmp_path: Path):
    model = load(pmml(GOLF.format(attributes=""), fields=GOLF_FIELDS), tmp_path)
    empty = np.empty(0)
    found = model.predict({"t": empty, "w": empty, "o": np.empty(0, dtype=object)})
    assert {name: len(values) for name, values in found.items()} == dict.fromkeys(found, 0)


def test_the_engine_serves_what_the_signature_says(tmp_path: Path):
    path = tmp_path / "model.pmml"
    path.write_text(pmml(GOLF.format(attributes=""), fields=GOLF_FIELDS))
    import martlet

    with martlet.load(path) as model:
        found = model.predict({"t": [40, 20], "w": [9, 1], "o": ["sunny", "rain"]})
        assert found["play"].tolist() == ["no", "no"]
    assert formats.sniff(path).name == "pmml"
    assert math.isclose(found["p"][0], 0.9)


def test_a_penalty_for_default_children_costs_no_copy_of_the_tree_for_each_path(tmp_path: Path):
    # Every step of this path may be a default one: copied for each choice, it would be 2 ** 40.
    node, depth = '<Node id="n40" score="a"><True/>{}</Node>', 40
    shares = '<ScoreDistribution value="a" recordCount="1" confidence="1"/>'
    inner = node.format(shares)
    for level in reversed(range(depth)):
        inner = (
            f'<Node id="n{level}" score="a" defaultChild="n{level + 1}">'
            f'<SimplePredicate field="x" operator="lessThan" value="{depth - level}"/>'
            f"{shares}{inner}</Node>"
        )
    root = f'<Node id="r" score="a" defaultChild="n0"><True/>{shares}{inner}</Node>'
    text = pmml(
        '<TreeModel functionName="classification" missingValueStrategy="defaultChild" '
        'missingValuePenalty="0.5"><MiningSchema><MiningField name="x"/>'
        '<MiningField name="c" usageType="target"/></MiningSchema><Output><OutputField '
        'name="trust" feature="confidence" value="a" dataType="double" optype="continuous"/>'
        f"</Output>{root}</TreeModel>",
        fields=NUMBERS + '<DataField name="c" optype="categorical" dataType="string"/>',
    )
    found = ask(load(text, tmp_path), x=[-1.0, NAN])
    assert found["c"] == ["a", "a"]
    assert found["trust"] == [1.0, 0.5**40]


class TestOutline:
    @staticmethod
    def lines(branches: list, depth: int = 0) -> list[str]:
        found = []
        for line, below in branches:
            found += ["  " * depth + line, *TestOutline.lines(below, depth + 1)]
        return found

    def test_segments_that_are_alike_are_one_line(self, tmp_path: Path):
        tree = (
            '<Segment id="{0}"><True/><TreeModel functionName="regression"><MiningSchema>'
            '<MiningField name="x"/></MiningSchema><Node score="{0}"><True/></Node></TreeModel>'
            "</Segment>"
        )
        other = (
            '<Segment id="last"><SimplePredicate field="x" operator="greaterThan" value="1"/>'
            + regression(schema='<MiningField name="x"/>')
            + "</Segment>"
        )
        text = pmml(
            '<MiningModel functionName="regression"><MiningSchema>'
            '<MiningField name="x" missingValueReplacement="2"/></MiningSchema>'
            '<Segmentation multipleModelMethod="sum">'
            + "".join(tree.format(place) for place in range(200))
            + other
            + "</Segmentation></MiningModel>",
            fields=NUMBERS,
        )
        assert self.lines(load(text, tmp_path).outline()) == [
            "PMML 4.4",
            "fields: 1 active",
            "  x: missingValueReplacement 2",
            "MiningModel, regression",
            "  201 segments, sum: 200 TreeModel, 1 RegressionModel",
            "    0 to 199: 200 TreeModel, regression, 200 nodes",
            "    last if x > 1: RegressionModel, regression, 1 table, 1 term",
        ]
