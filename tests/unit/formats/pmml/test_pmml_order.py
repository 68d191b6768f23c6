"""What a row is asked for, and in which order: cells are JPMML-Evaluator 1.7.7's answers."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from pmml_files import LETTERS, NUMBERS, TARGET, ask, computed, load, pmml, regression

NAN = float("nan")
CLOSED = LETTERS.replace("/>", '><Value value="a"/><Value value="b"/></DataField>')
LABEL = (
    '<DataField name="y" optype="categorical" dataType="string">'
    '<Value value="low"/><Value value="mid"/></DataField>'
)
SCHEMA = '<MiningField name="y" usageType="target"/><MiningField name="x"/><MiningField name="k"/>'
BOTH = (
    '<RegressionTable intercept="1"><NumericPredictor name="x" coefficient="2"/>'
    '<CategoricalPredictor name="k" value="a" coefficient="3"/></RegressionTable>'
)


def test_a_row_that_lacks_a_number_asks_for_no_further_field(tmp_path: Path):
    text = pmml(regression(schema=SCHEMA, table=BOTH), fields=NUMBERS + CLOSED + TARGET)
    found = ask(load(text, tmp_path), x=[1.0, NAN, 1.0], k=["a", "zz", "zz"])
    assert found["y"] == [6.0, None, None]
    assert [why is None for why in found["_reason"]] == [True, True, False]


class TestGeneralRegression:
    def model(self, folder: Path):
        cells = "".join(
            f'<PPCell parameterName="{name}" predictorName="{field}" value="{value}"/>'
            for name, field, value in (("p1", "x", 1), ("p1", "k", "a"))
        )
        return load(
            pmml(
                '<GeneralRegressionModel functionName="regression" modelType="regression">'
                f"<MiningSchema>{SCHEMA}</MiningSchema>"
                '<ParameterList><Parameter name="p0"/><Parameter name="p1"/></ParameterList>'
                '<FactorList><Predictor name="k"/></FactorList>'
                '<CovariateList><Predictor name="x"/></CovariateList>'
                f"<PPMatrix>{cells}</PPMatrix><ParamMatrix>"
                '<PCell parameterName="p0" beta="1"/><PCell parameterName="p1" beta="2"/>'
                "</ParamMatrix></GeneralRegressionModel>",
                fields=NUMBERS + CLOSED + TARGET,
            ),
            folder,
        )

    def test_a_factor_of_another_value_asks_for_no_covariate(self, tmp_path: Path):
        found = ask(self.model(tmp_path), x=[3.0, NAN, math.inf, NAN], k=["a", "b", "b", "a"])
        assert found["y"] == [7.0, 1.0, 1.0, None]

    def test_a_covariate_that_is_refused_counts_where_it_is_asked_for(self, tmp_path: Path):
        found = ask(self.model(tmp_path), x=["soup", "soup"], k=["b", "a"])
        assert found["y"] == [1.0, None]
        assert "soup" in found["_reason"][1]


class TestRuleSets:
    def model(self, folder: Path, criterion: str, *rules: tuple[str, float, float]):
        listed = "".join(
            f'<SimpleRule id="{score}" score="{score}" confidence="{confidence}" '
            f'weight="{weight}"><True/></SimpleRule>'
            for score, confidence, weight in rules
        )
        return load(
            pmml(
                '<RuleSetModel functionName="classification">'
                f"<MiningSchema>{SCHEMA}</MiningSchema><Output>"
                '<OutputField name="rule" feature="entityId"/></Output><RuleSet>'
                f'<RuleSelectionMethod criterion="{criterion}"/>{listed}</RuleSet></RuleSetModel>',
                fields=NUMBERS + LETTERS + LABEL,
            ),
            folder,
        )

    @pytest.mark.parametrize(
        ("criterion", "rules", "wanted"),
        [
            ("weightedMax", [("low", 0.6, 0.9), ("mid", 0.7, 0.2)], "mid"),
            ("weightedMax", [("mid", 0.6, 0.2), ("low", 0.6, 0.9)], "mid"),
            ("weightedSum", [("mid", 0.6, 0.5), ("low", 0.7, 0.5)], "mid"),
            ("weightedSum", [("mid", 0.6, 0.4), ("low", 0.7, 0.5)], "low"),
            ("firstHit", [("mid", 0.1, 0.1), ("low", 0.9, 0.9)], "mid"),
        ],
    )
    def test_which_rule_decides(self, criterion: str, rules, wanted: str, tmp_path: Path):
        found = ask(self.model(tmp_path, criterion, *rules), x=[1.0], k=["a"])
        assert (found["y"], found["rule"]) == ([wanted], [wanted])


def test_where_no_child_is_true_the_parents_own_score_counts(tmp_path: Path):
    """The standard: where the parent has none, there is no prediction."""
    more = '<SimplePredicate field="x" operator="greaterThan" value="0"/>'
    kid = '<Node score="3"><SimplePredicate field="k" operator="equal" value="a"/></Node>'
    tree = (
        '<TreeModel functionName="regression" noTrueChildStrategy="returnLastPrediction">'
        f"<MiningSchema>{SCHEMA}</MiningSchema>"
        f'<Node score="1"><True/><Node>{more}{kid}</Node></Node></TreeModel>'
    )
    found = ask(load(pmml(tree), tmp_path), x=[1.0, 1.0, -1.0], k=["a", "b", "b"])
    assert found["y"] == [3.0, None, 1.0]


def test_lists_of_rules_go_up_to_the_rank(tmp_path: Path):
    items = "".join(f'<Item id="{name}" value="{name}"/>' for name in "abc")
    sets = "".join(f'<Itemset id="{name}"><ItemRef itemRef="{name}"/></Itemset>' for name in "abc")
    rules = "".join(
        f'<AssociationRule id="{one}{other}" antecedent="{one}" consequent="{other}" '
        f'support="0.1" confidence="{confidence}"/>'
        for one, other, confidence in (("a", "b", 0.5), ("a", "c", 0.9), ("b", "c", 0.7))
    )
    outputs = "".join(
        f'<OutputField name="o{rank}" feature="ruleValue" ruleFeature="{feature}" '
        f'algorithm="recommendation" isMultiValued="1" rank="{rank}"/>'
        for rank, feature in enumerate(("ruleId", "ruleId", "ruleId", "lift"))
    )
    model = (
        '<AssociationModel functionName="associationRules"><MiningSchema>'
        '<MiningField name="g" usageType="group"/><MiningField name="k"/></MiningSchema>'
        f"<Output>{outputs}</Output>{items}{sets}{rules}</AssociationModel>"
    )
    fields = LETTERS + '<DataField name="g" optype="categorical" dataType="string"/>'
    found = ask(load(pmml(model, fields=fields), tmp_path), k=[["a", "b"], ["c"]])
    assert found["o0"] == ['["ac", "bc", "ab"]', "[]"]
    assert found["o1"] == ['["ac"]', "[]"]
    assert found["o2"] == ['["ac", "bc"]', "[]"]
    assert found["o3"] == ["[null, null, null]", "[]"]


@pytest.mark.parametrize(
    ("function", "x", "wanted"),
    [("ln", -1.0, None), ("ln", NAN, "!"), ("ln", "soup", "!"), ("ln", 1.0, 0.0)],
)
def test_as_missing_forgives_an_undefined_result_alone(
    function: str, x: object, wanted: object, tmp_path: Path
):
    body = (
        f'<Apply function="{function}" invalidValueTreatment="asMissing">'
        '<FieldRef field="x"/></Apply>'
    )
    found = ask(load(computed(body, fields=NUMBERS), tmp_path), x=[x])
    assert ("!" if found["_reason"][0] else found["out"][0]) == wanted


class TestInfinity:
    """No answer of the JVM's: martlet gives none where a sum or a product has no value."""

    def test_a_sum_without_a_value_is_no_prediction(self, tmp_path: Path):
        table = BOTH.replace(
            "</RegressionTable>",
            '<PredictorTerm coefficient="-1"><FieldRef field="x"/></PredictorTerm>'
            "</RegressionTable>",
        )
        model = load(pmml(regression(schema=SCHEMA, table=table)), tmp_path)
        assert ask(model, x=[math.inf, 2.0], k=["b", "b"])["y"] == [None, 3.0]

    @pytest.mark.parametrize("function", ["floor", "ceil", "round"])
    def test_no_integer_is_infinite(self, function: str, tmp_path: Path):
        body = f'<Apply function="{function}"><FieldRef field="x"/></Apply>'
        found = ask(load(computed(body, fields=NUMBERS), tmp_path), x=[math.inf, 1e300, 1.0])
        assert found["out"] == [None, None, 1.0]
        assert found["_reason"][1] is not None

    def test_an_integer_field_holds_what_64_bits_do(self, tmp_path: Path):
        fields = NUMBERS.replace("double", "integer")
        found = ask(
            load(computed('<FieldRef field="x"/>', fields=fields), tmp_path), x=[1e300, 2.0**62]
        )
        assert found["out"] == [None, 2.0**62]


def constant_tree(score: str) -> str:
    return (
        '<Segment><True/><TreeModel functionName="classification"><MiningSchema>'
        '<MiningField name="y" usageType="target"/><MiningField name="x"/></MiningSchema>'
        f'<Node score="{score}"><True/></Node></TreeModel></Segment>'
    )


@pytest.mark.parametrize("method", ["majorityVote", "weightedMajorityVote"])
@pytest.mark.parametrize("votes", [("mid", "low"), ("low", "mid"), ("mid", "low", "low", "mid")])
def test_tied_votes_go_to_the_class_voted_for_first(
    method: str, votes: tuple[str, ...], tmp_path: Path
):
    model = (
        f'<MiningModel functionName="classification"><MiningSchema>{SCHEMA}</MiningSchema>'
        f'<Segmentation multipleModelMethod="{method}">'
        f"{''.join(map(constant_tree, votes))}</Segmentation></MiningModel>"
    )
    found = ask(load(pmml(model, fields=NUMBERS + LETTERS + LABEL), tmp_path), x=[1.0], k=["a"])
    assert found["y"] == [votes[0]]


def test_neighbours_are_ranked_beyond_those_that_answer(tmp_path: Path):
    rows = "".join(
        f"<row><x>{x}</x><y>{y}</y><id>{identity}</id></row>"
        for identity, x, y in ((100, 0.0, 1.0), (101, 1.0, 2.0), (102, 2.5, 4.0))
    )
    fields = "".join(f'<InstanceField field="{n}" column="{n}"/>' for n in ("x", "y", "id"))
    outputs = "".join(
        f'<OutputField name="{feature}{rank}" feature="{feature}" rank="{rank}"/>'
        for feature in ("entityId", "affinity")
        for rank in (2, 3, 4)
    )
    model = (
        '<NearestNeighborModel functionName="regression" numberOfNeighbors="1" '
        f'instanceIdVariable="id"><MiningSchema>{SCHEMA}</MiningSchema><Output>{outputs}</Output>'
        f'<TrainingInstances isTransformed="true"><InstanceFields>{fields}</InstanceFields>'
        f"<InlineTable>{rows}</InlineTable></TrainingInstances>"
        '<ComparisonMeasure kind="distance"><euclidean/></ComparisonMeasure>'
        '<KNNInputs><KNNInput field="x"/></KNNInputs></NearestNeighborModel>'
    )
    found = ask(load(pmml(model), tmp_path), x=[0.75], k=["a"])
    assert [found[f"entityId{rank}"][0] for rank in (2, 3, 4)] == ["100", "102", None]
    assert [found[f"affinity{rank}"][0] for rank in (2, 3, 4)] == [0.75, 1.75, None]


class TestOutputsOfWhatHasNoPrediction:
    TREE = (
        '<Node><True/><Node score="3"><SimplePredicate field="x" operator="greaterThan" '
        'value="0"/></Node></Node>'
    )

    def test_what_is_computed_of_them_fails_the_row(self, tmp_path: Path):
        outputs = (
            '<Output><OutputField name="p" feature="predictedValue"/>'
            '<OutputField name="q" feature="transformedValue" dataType="boolean">'
            '<Apply function="isMissing"><FieldRef field="p"/></Apply></OutputField></Output>'
        )
        tree = (
            f'<TreeModel functionName="regression"><MiningSchema>{SCHEMA}</MiningSchema>'
            f"{outputs}{self.TREE}</TreeModel>"
        )
        found = ask(load(pmml(tree), tmp_path), x=[1.0, -1.0], k=["a", "a"])
        assert (found["p"], found["q"]) == ([3.0, None], ["false", None])
        assert [why is None for why in found["_reason"]] == [True, False]

    def test_so_do_those_of_a_link_of_a_chain(self, tmp_path: Path):
        link = (
            '<TreeModel functionName="regression"><MiningSchema><MiningField name="x"/>'
            '</MiningSchema><Output><OutputField name="z" feature="predictedValue" '
            f'dataType="double"/></Output>{self.TREE}</TreeModel>'
        )
        last = (
            '<RegressionModel functionName="regression"><MiningSchema>'
            '<MiningField name="y" usageType="target"/></MiningSchema>'
            '<RegressionTable intercept="7"/></RegressionModel>'
        )
        model = (
            f'<MiningModel functionName="regression"><MiningSchema>{SCHEMA}</MiningSchema>'
            '<Segmentation multipleModelMethod="modelChain">'
            '<Segment><SimplePredicate field="k" operator="equal" value="a"/>'
            f"{link}</Segment><Segment><True/>{last}</Segment></Segmentation></MiningModel>"
        )
        found = ask(load(pmml(model), tmp_path), x=[1.0, -1.0, -1.0], k=["a", "a", "b"])
        assert (found["y"], found["z"]) == ([7.0, None, 7.0], [3.0, None, None])
        assert [why is None for why in found["_reason"]] == [True, False, True]


@pytest.mark.parametrize(
    ("optype", "wanted"), [("ordinal", [1.0, 0.0]), ("categorical", [1.5, 3.0])]
)
def test_a_targets_optype_is_the_one_that_counts(optype: str, wanted: list[float], tmp_path: Path):
    """Sums of an ordinal target are cumulative, and clipped; of three categories they are not."""
    label = LABEL.replace("</DataField>", '<Value value="high"/></DataField>')
    tables = "".join(
        f'<RegressionTable intercept="{x}" targetCategory="{y}"/>'
        for x, y in ((1.5, "low"), (3.0, "mid"), (0.0, "high"))
    )
    outputs = "".join(
        f'<OutputField name="p{y}" feature="probability" value="{y}"/>' for y in ("low", "mid")
    )
    model = (
        f'<RegressionModel functionName="classification"><MiningSchema>{SCHEMA}</MiningSchema>'
        f"<Output>{outputs}</Output>"
        f'<Targets><Target field="y" optype="{optype}"/></Targets>{tables}</RegressionModel>'
    )
    found = ask(load(pmml(model, fields=NUMBERS + LETTERS + label), tmp_path), x=[1.0], k=["a"])
    assert [found["plow"][0], found["pmid"][0]] == wanted


def test_a_backslash_in_an_array_escapes_a_quote_alone(tmp_path: Path):
    array = r'<Array type="string">"C:\dir" "say \"hi\""</Array>'
    tree = (
        f'<TreeModel functionName="regression"><MiningSchema>{SCHEMA}</MiningSchema>'
        '<Node score="0"><True/><Node score="1"><SimpleSetPredicate field="k" '
        f'booleanOperator="isIn">{array}</SimpleSetPredicate></Node>'
        '<Node score="2"><True/></Node></Node></TreeModel>'
    )
    found = ask(load(pmml(tree), tmp_path), x=[1.0] * 3, k=["C:\\dir", 'say "hi"', "C:dir"])
    assert found["y"] == [1.0, 1.0, 2.0]
