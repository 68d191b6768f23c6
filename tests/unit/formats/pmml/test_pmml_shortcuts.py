"""The short ways of records and batches give what the long ones give; ``ask`` compares the two."""

from __future__ import annotations

from pathlib import Path

import pytest
from pmml_files import LETTERS, NUMBERS, ask, computed, load, pmml, regression

Z = '<DataField name="z" optype="continuous" dataType="double"/>'
LABEL = (
    '<DataField name="y" optype="categorical" dataType="string">'
    '<Value value="no"/><Value value="yes"/></DataField>'
)


class TestFieldsReadAtOnce:
    def model(self, folder: Path):
        table = (
            '<RegressionTable intercept="1"><NumericPredictor name="x" coefficient="2"/>'
            '<NumericPredictor name="z" coefficient="-3"/></RegressionTable>'
        )
        schema = '<MiningField name="x"/><MiningField name="z"/>'
        return load(pmml(regression(schema=schema, table=table), fields=NUMBERS + Z), folder)

    def test_floats_are_summed(self, tmp_path: Path):
        found = ask(self.model(tmp_path), x=[0.5, -1.0, 0.0], z=[1.0, 0.25, 0.0])
        assert found["_target"] == [-1.0, -1.75, 1.0]

    def test_a_lacking_number_leaves_no_sum(self, tmp_path: Path):
        found = ask(self.model(tmp_path), x=[0.5, float("nan")], z=[float("nan"), 1.0])
        assert found["_target"] == [None, None]

    def test_infinities_that_cancel_are_no_lacking_number(self, tmp_path: Path):
        infinite = float("inf")
        found = ask(self.model(tmp_path), x=[infinite, infinite], z=[1.0, -infinite])
        assert found["_target"] == [infinite, infinite]

    def test_text_and_whole_numbers_among_them_are_read_one_by_one(self, tmp_path: Path):
        found = ask(self.model(tmp_path), x=["0.5", 2, None, "soup"], z=[1.0, 1.0, 1.0, 1.0])
        assert found["_target"] == [-1.0, 2.0, None, None]
        assert "soup" in found["_reason"][3]
        assert found["_reason"][:2] == [None, None]


def tree(limit: float, shares: dict[str, tuple[float, float]]) -> str:
    def node(test: str, counts: tuple[float, float]) -> str:
        return (
            f'<Node><SimplePredicate field="x" operator="{test}" value="{limit}"/>'
            f'<ScoreDistribution value="no" recordCount="{counts[0]}"/>'
            f'<ScoreDistribution value="yes" recordCount="{counts[1]}"/></Node>'
        )

    return (
        '<Segment><True/><TreeModel functionName="classification" splitCharacteristic="binarySplit"'
        ' missingValueStrategy="nullPrediction"><MiningSchema><MiningField name="x"/>'
        f"</MiningSchema><Node><True/>{node('lessOrEqual', shares['low'])}"
        f"{node('greaterThan', shares['high'])}</Node></TreeModel></Segment>"
    )


class TestForestsWithRowsThatLackAnAnswer:
    def model(self, folder: Path, method: str):
        trees = tree(0.0, {"low": (3, 1), "high": (1, 1)}) + tree(
            1.0, {"low": (1, 3), "high": (0, 4)}
        )
        output = "".join(
            f'<OutputField name="{label}" feature="probability" value="{label}" '
            'optype="continuous" dataType="double"/>'
            for label in ("no", "yes")
        )
        model = (
            '<MiningModel functionName="classification"><MiningSchema>'
            '<MiningField name="y" usageType="target"/><MiningField name="x"/></MiningSchema>'
            f'<Output>{output}</Output><Segmentation multipleModelMethod="{method}">{trees}'
            "</Segmentation></MiningModel>"
        )
        return load(pmml(model, fields=NUMBERS + LABEL), folder)

    def test_shares_are_averaged_and_a_row_that_lacks_one_has_none(self, tmp_path: Path):
        found = ask(self.model(tmp_path, "average"), x=[-1.0, 0.5, float("nan"), 2.0])
        assert found["yes"] == [0.5, 0.625, None, 0.75]
        assert found["no"] == [0.5, 0.375, None, 0.25]
        assert found["y"] == ["no", "yes", None, "yes"]


class TestWordsCountedOnce:
    TEXTS = ("red fish blue fish", "Red", "", None, "one two", "fish fish fish")

    @pytest.mark.parametrize(
        ("weights", "expected"),
        [
            ("termFrequency", [2, 0, 0, None, 0, 3]),
            ("binary", [1, 0, 0, None, 0, 1]),
            ("logarithmic", [0.47712125471966244, 0, 0, None, 0, 0.6020599913279624]),
        ],
    )
    def test_each_term_finds_its_own(self, weights: str, expected: list[float], tmp_path: Path):
        index = (
            f'<TextIndex textField="k" localTermWeights="{weights}">'
            "<Constant>fish</Constant></TextIndex>"
        )
        model = load(computed(index, fields=LETTERS), tmp_path)
        found = ask(model, k=list(self.TEXTS))["out"]
        assert found == [each if each is None else pytest.approx(each) for each in expected]


class TestArithmeticWithAConstant:
    @pytest.mark.parametrize(
        ("function", "constant", "expected"),
        [
            ("+", "0.5", [2.0, -0.5, None]),
            ("-", "0.5", [1.0, -1.5, None]),
            ("*", "4", [6.0, -4.0, None]),
            ("/", "4", [0.375, -0.25, None]),
        ],
    )
    def test_is_arithmetic(self, function, constant, expected, tmp_path: Path):
        expression = (
            f'<Apply function="{function}"><FieldRef field="x"/>'
            f'<Constant dataType="double">{constant}</Constant></Apply>'
        )
        model = load(computed(expression, fields=NUMBERS), tmp_path)
        assert ask(model, x=[1.5, -1.0, float("nan")])["out"] == expected

    def test_by_0_gives_an_infinity(self, tmp_path: Path):
        zero = '<Constant dataType="double">0</Constant>'
        expression = f'<Apply function="/"><FieldRef field="x"/>{zero}</Apply>'
        model = load(computed(expression, fields=NUMBERS), tmp_path)
        assert ask(model, x=[1.0, -2.0])["out"] == [float("inf"), float("-inf")]
