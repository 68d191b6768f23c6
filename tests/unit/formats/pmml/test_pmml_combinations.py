"""Many models' answers as one. Numbers without a source here are the reference engine's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pmml_files import NUMBERS, TARGET, ask, load, pmml

from martlet.formats.pmml.models.combination import Combination

NAN = float("nan")
ONES = np.ones((1, 3))
ALL = np.ones((1, 3), dtype=bool)


class TestNumbers:
    @pytest.mark.parametrize(
        ("method", "wanted"),
        [
            ("sum", 7.0),
            ("average", 7 / 3),
            ("weightedSum", 1 + 4 * 2 + 2 * 0.5),
            ("weightedAverage", (1 + 4 * 2 + 2 * 0.5) / 3.5),
            ("median", 2.0),
            ("weightedMedian", 4.0),
            ("max", 4.0),
        ],
    )
    def test_of_three_segments(self, method: str, wanted: float):
        values, weights = np.array([[1.0, 4.0, 2.0]]), np.array([[1.0, 2.0, 0.5]])
        assert Combination(method).numbers(values, weights, ALL)[0] == pytest.approx(wanted)

    def test_what_lacks_is_carried_on_or_skipped(self):
        values = np.array([[1.0, NAN, 2.0]])
        assert np.isnan(Combination("sum").numbers(values, ONES, ALL)[0])
        assert Combination("sum", "skipSegment").numbers(values, ONES, ALL)[0] == 3.0

    def test_the_threshold_is_of_weight_whatever_the_method(self):
        values, weights = np.array([[1.0, NAN, 2.0]]), np.array([[1.0, 3.0, 1.0]])
        assert np.isnan(Combination("average", "skipSegment", 0.5).numbers(values, weights, ALL)[0])
        assert Combination("average", "skipSegment", 0.5).numbers(values, ONES, ALL)[0] == 1.5

    def test_a_sum_of_skipped_segments_is_nought_and_of_inactive_ones_nothing(self):
        lacking, none = np.full((1, 3), NAN), np.zeros((1, 3), dtype=bool)
        assert Combination("sum", "skipSegment").numbers(lacking, ONES, ALL)[0] == 0.0
        assert np.isnan(Combination("sum", "skipSegment").numbers(lacking, ONES, none)[0])


class TestShares:
    @pytest.mark.parametrize(
        ("method", "segments", "wanted"),
        [
            # The distributions that gave the winning class its maximum, averaged.
            ("max", [(70, 20, 10), (10, 80, 10)], (0.1, 0.8, 0.1)),
            (
                "max",
                [(70, 20, 10), (70, 10, 20), (80, 10, 10), (80, 5, 15)],
                (0.8, 0.075, 0.125),
            ),
            # The likeliest of the medians is B's, and the first segment gave it.
            ("median", [(70, 20, 10), (10, 80, 10), (5, 5, 90)], (0.7, 0.2, 0.1)),
            (
                "median",
                [(70, 20, 10), (60, 40, 0), (90, 0, 10), (80, 10, 10)],
                (0.75, 0.15, 0.1),
            ),
        ],
    )
    def test_maximum_and_median_are_of_segments(self, method: str, segments: list, wanted: tuple):
        shares = np.array([segments]) / 100
        size = shares.shape[:2]
        found = Combination(method).shares(shares, np.ones(size), np.ones(size, dtype=bool))
        assert found[0] == pytest.approx(wanted)

    def test_the_median_of_two_is_of_both_however_their_mean_rounds(self):
        # The mean of the second class, 0.5155, rounds to be nearer to the 0.031.
        shares = np.array([[[0.0, 1.0], [0.969, 0.031]]])
        both = np.ones((1, 2), dtype=bool)
        for order in (shares, shares[:, ::-1]):
            found = Combination("median").shares(order, np.ones((1, 2)), both)
            assert found[0] == pytest.approx((0.4845, 0.5155))

    def test_a_vote_is_a_share_of_the_votes_cast(self):
        votes = np.array([[[1.0, 0.0], [NAN, NAN], [1.0, 0.0]]])
        assert Combination("majorityVote").shares(votes, ONES, ALL).tolist() == [[1.0, 0.0]]

    def test_most_votes_for_nothing_win(self):
        votes = np.array([[[1.0, 0.0], [NAN, NAN], [NAN, NAN]]])
        assert np.isnan(Combination("majorityVote").shares(votes, ONES, ALL)).all()


def line(slope: float, predicate: str = "<True/>", inside: str = "") -> str:
    return (
        f'<Segment id="by {slope}">{predicate}{inside}<RegressionModel functionName="regression">'
        '<MiningSchema><MiningField name="x"/><MiningField name="y" usageType="target"/>'
        '</MiningSchema><RegressionTable intercept="0">'
        f'<NumericPredictor name="x" coefficient="{slope}"/></RegressionTable></RegressionModel>'
        "</Segment>"
    )


def several(method: str, segments: str, *, fields: str = "", output: str = "") -> str:
    schema = "".join(f'<MiningField name="{n}"/>' for n in ("x", "w") if n == "x" or fields)
    return pmml(
        '<MiningModel functionName="regression"><MiningSchema>'
        f'<MiningField name="y" usageType="target"/>{schema}</MiningSchema>'
        f"<Output>{output}</Output>"
        f"<Segmentation {method}>{segments}</Segmentation></MiningModel>",
        fields=NUMBERS + TARGET + fields,
    )


ABOVE = '<SimplePredicate field="x" operator="greaterThan" value="1"/>'


class TestSegments:
    def test_select_all_gives_a_list_of_the_active_ones(self, tmp_path: Path):
        method = 'multipleModelMethod="selectAll"'
        model = load(several(method, line(2) + line(3, ABOVE)), tmp_path)
        assert ask(model, x=[1.0, 2.0])["y"] == ["[2.0]", "[4.0, 6.0]"]

    def test_select_all_of_no_active_one_is_no_answer(self, tmp_path: Path):
        model = load(several('multipleModelMethod="selectAll"', line(3, ABOVE)), tmp_path)
        assert ask(model, x=[1.0, 2.0])["y"] == [None, "[6.0]"]
        assert ask(model, x=[1.0])["y"] == [None]

    @pytest.mark.parametrize(
        ("method", "refused"), [("selectFirst", [False, True]), ("modelChain", [True, True])]
    )
    def test_a_predicate_that_is_not_asked_refuses_no_row(
        self, method: str, refused: list[bool], tmp_path: Path
    ):
        # The reference asks every link of a chain, and segments up to the first that answers.
        letter = '<SimplePredicate field="w" operator="equal" value="a"/>'
        below = ABOVE.replace("greaterThan", "lessOrEqual")
        parts = (below, letter) if method == "selectFirst" else (letter, below)
        model = load(
            several(
                f'multipleModelMethod="{method}"',
                "".join(line(slope, part) for slope, part in zip((2, 3), parts, strict=True)),
                fields='<DataField name="w" optype="categorical" dataType="string">'
                '<Value value="a"/></DataField>',
            ),
            tmp_path,
        )
        found = ask(model, x=[1.0, 2.0], w=["?", "?"])
        assert [reason is not None for reason in found["_reason"]] == refused
        for x, why in zip((1.0, 2.0), refused, strict=True):
            assert (ask(model, x=[x], w=["?"])["_reason"][0] is not None) is why

    def test_a_label_without_probabilities_is_one_vote_beside_a_row_of_priors(self, tmp_path: Path):
        schema = (
            '<MiningSchema><MiningField name="x"/>'
            '<MiningField name="y" usageType="target"/></MiningSchema>'
        )
        tree = (
            f'<TreeModel functionName="classification">{schema}<Targets><Target field="y">'
            '<TargetValue value="no" priorProbability="0.3"/>'
            '<TargetValue value="yes" priorProbability="0.7"/></Target></Targets>'
            f'<Node><True/><Node score="no">{ABOVE}</Node></Node></TreeModel>'
        )
        rule = (
            f'<RegressionModel functionName="classification">{schema}'
            '<RegressionTable intercept="0.4" targetCategory="no"/>'
            '<RegressionTable intercept="0.6" targetCategory="yes"/></RegressionModel>'
        )
        segments = "".join(f"<Segment><True/>{each}</Segment>" for each in (tree, tree, rule))
        target = (
            '<DataField name="y" optype="categorical" dataType="string">'
            '<Value value="no"/><Value value="yes"/></DataField>'
        )
        text = pmml(
            f'<MiningModel functionName="classification">{schema}'
            f'<Segmentation multipleModelMethod="max">{segments}</Segmentation></MiningModel>',
            fields=NUMBERS + target,
        )
        model = load(text, tmp_path)
        alone = [ask(model, x=[x])["y"][0] for x in (0.0, 2.0)]
        assert ask(model, x=[0.0, 2.0])["y"] == alone == ["yes", "no"]

    def test_an_output_of_an_inactive_segment_is_empty(self, tmp_path: Path):
        output = (
            '<OutputField name="of3" feature="predictedValue" segmentId="by 3" '
            'dataType="double" optype="continuous"/>'
        )
        method = 'multipleModelMethod="modelChain"'
        model = load(several(method, line(2) + line(3, ABOVE), output=output), tmp_path)
        for x, wanted in ((1.0, None), (2.0, 6.0)):
            assert ask(model, x=[x])["of3"] == [wanted]

    def test_the_first_that_has_an_answer_is_selected_if_lacking_ones_are_skipped(
        self, tmp_path: Path
    ):
        tree = (
            '<Segment><True/><TreeModel functionName="regression"><MiningSchema>'
            '<MiningField name="x"/><MiningField name="y" usageType="target"/></MiningSchema>'
            f'<Node><True/><Node score="7">{ABOVE}</Node></Node></TreeModel></Segment>'
        )
        method = 'multipleModelMethod="selectFirst"'
        skips = f'{method} missingPredictionTreatment="skipSegment"'
        for attributes, wanted in ((method, None), (skips, 0.5)):
            model = load(several(attributes, tree + line(0.5)), tmp_path)
            assert ask(model, x=[1.0, 2.0])["y"] == [wanted, 7.0]
            assert ask(model, x=[1.0])["y"] == [wanted]

    def test_a_variable_weight_is_a_field_of_the_row(self, tmp_path: Path):
        variable = '<VariableWeight field="w"/>'
        field = '<DataField name="w" optype="continuous" dataType="double"/>'
        text = several(
            'multipleModelMethod="weightedAverage"',
            line(1, inside=variable) + line(5).replace("<Segment ", '<Segment weight="1" '),
            fields=field,
        )
        found = ask(load(text, tmp_path), x=[2.0, 2.0], w=[1.0, 3.0])
        assert found["y"] == [(2 + 10) / 2, (6 + 10) / 4]

    def test_a_model_of_no_active_segment_has_no_answer(self, tmp_path: Path):
        model = load(several('multipleModelMethod="sum"', line(2, "<False/>")), tmp_path)
        assert ask(model, x=[1.0, 2.0])["y"] == [None, None]

    def test_a_target_that_segments_name_is_no_input(self, tmp_path: Path):
        model = load(several('multipleModelMethod="sum"', line(2) + line(3)), tmp_path)
        assert list(model.signatures["serving_default"].inputs) == ["x"]
