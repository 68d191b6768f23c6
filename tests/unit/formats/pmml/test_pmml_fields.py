"""What the data dictionary and the mining schema make of a value. PMML 4.4.1, MiningSchema."""

from __future__ import annotations

from pathlib import Path

import pytest
from pmml_files import COPY, LETTERS, NUMBERS, TARGET, ask, load, pmml, regression

from martlet.tensors import DType

BOUNDED = (
    '<DataField name="x" optype="continuous" dataType="double">'
    '<Interval closure="closedOpen" leftMargin="0" rightMargin="10"/>'
    '<Value value="-999" property="missing"/></DataField>'
)


def scored(tmp_path: Path, attributes: str, cells: list, field: str = BOUNDED) -> dict[str, list]:
    schema = f'<MiningField name="y" usageType="target"/><MiningField name="x" {attributes}/>'
    text = pmml(regression(schema=schema), fields=field + TARGET)
    return ask(load(text, tmp_path), x=cells)


class TestTreatments:
    @pytest.mark.parametrize(
        ("attributes", "cells", "wanted"),
        [
            ("", [0.0, 9.5], [0.0, 9.5]),
            ("", [10.0, -0.1], [None, None]),
            ("", [float("nan"), -999.0], [None, None]),
            ('missingValueReplacement="3"', [float("nan"), -999.0], [3.0, 3.0]),
            ('invalidValueTreatment="asIs"', [10.0, -0.1], [10.0, -0.1]),
            ('invalidValueTreatment="asMissing"', [10.0], [None]),
            ('invalidValueTreatment="asMissing" missingValueReplacement="4"', [10.0], [4.0]),
            ('invalidValueTreatment="asValue" invalidValueReplacement="5"', [10.0], [5.0]),
            ('outliers="asExtremeValues" lowValue="2" highValue="8"', [1.0, 9.0, 5.0], [2, 8, 5]),
            ('outliers="asMissingValues" lowValue="2" highValue="8"', [1.0, 5.0], [None, 5.0]),
            (
                'outliers="asMissingValues" lowValue="2" highValue="8" missingValueReplacement="3"',
                [9.0, 5.0],
                [3.0, 5.0],
            ),
            # An invalid value is no outlier: it is refused, or taken as it is.
            ('outliers="asExtremeValues" lowValue="2" highValue="8"', [99.0], [None]),
            (
                'outliers="asExtremeValues" highValue="8" invalidValueTreatment="asIs"',
                [99.0, 9.0],
                [99.0, 8.0],
            ),
        ],
    )
    def test_invalid_values_then_outliers_then_missing_ones(
        self, attributes: str, cells: list, wanted: list, tmp_path: Path
    ):
        assert scored(tmp_path, attributes, cells)["y"] == wanted

    def test_listed_values_are_all_that_is_valid_whatever_the_intervals(self, tmp_path: Path):
        field = BOUNDED.replace("</DataField>", '<Value value="15"/></DataField>')
        assert scored(tmp_path, "", [15.0, 5.0], field)["y"] == [15.0, None]

    def test_a_refused_value_says_which_field_what_came_and_what_is_allowed(self, tmp_path: Path):
        (reason,) = scored(tmp_path, "", [12.0])["_reason"]
        assert reason == "field 'x' cannot be 12; allowed is continuous double: [0, 10)"

    def test_one_refused_row_leaves_the_others_answered(self, tmp_path: Path):
        found = scored(tmp_path, "", [1.0, 12.0, 3.0])
        assert found["y"] == [1.0, None, 3.0]
        assert [each is None for each in found["_reason"]] == [True, False, True]

    def test_text_among_numbers_fails_its_row_alone(self, tmp_path: Path):
        assert scored(tmp_path, "", [1.0, "much", "3"])["y"] == [1.0, None, 3.0]

    def test_a_missing_value_may_be_refused(self, tmp_path: Path):
        found = scored(tmp_path, 'missingValueTreatment="returnInvalid"', [float("nan")])
        assert found["_reason"] == ["field 'x' is missing"]


class TestTypes:
    @pytest.mark.parametrize(
        ("kind", "cells", "wanted"),
        [
            ("integer", [1.0, 2.5, "7", "7.0"], [1.0, None, 7.0, 7.0]),
            ("float", [0.1], [0.10000000149011612]),
            ("double", [0.1, "1e3"], [0.1, 1000.0]),
            ("boolean", ["true", "FALSE", "maybe", 1.0], [1.0, 0.0, None, 1.0]),
            ("dateDaysSince[1970]", ["1970-01-03", "1969-12-31"], [2.0, -1.0]),
            ("dateTimeSecondsSince[1970]", ["1970-01-01T00:01:00"], [60.0]),
            ("timeSeconds", ["01:00:05"], [3605.0]),
        ],
    )
    def test_a_value_is_held_as_its_data_type(
        self, kind: str, cells: list, wanted: list, tmp_path: Path
    ):
        field = f'<DataField name="x" optype="continuous" dataType="{kind}"/>'
        assert scored(tmp_path, "", cells, field)["y"] == wanted

    def test_margins_of_a_float_field_are_float32(self, tmp_path: Path):
        # 1598.95 is no float32: compared as it stands, the field's own maximum would be refused.
        field = (
            '<DataField name="x" optype="continuous" dataType="float">'
            '<Interval closure="closedClosed" leftMargin="0" rightMargin="1598.95"/></DataField>'
        )
        assert scored(tmp_path, "", [1598.95], field)["_reason"] == [None]

    def test_the_signature_says_what_each_field_takes(self, tmp_path: Path):
        letters = LETTERS.replace("/>", '><Value value="a"/><Value value="b"/></DataField>')
        schema = '<MiningField name="x" missingValueReplacement="3"/><MiningField name="k"/>'
        text = pmml(regression(schema=schema), fields=NUMBERS + letters + TARGET)
        inputs = load(text, tmp_path).signatures["serving_default"].inputs
        assert {n: s.dtype for n, s in inputs.items()} == {"x": DType.FLOAT64, "k": DType.STRING}
        assert inputs["x"].description == "continuous double; 3.0 where missing"
        assert inputs["k"].description == "categorical string: a, b"


class TestTargets:
    @pytest.mark.parametrize(
        ("attributes", "x", "wanted"),
        [
            ('rescaleFactor="2" rescaleConstant="1"', 3.0, 7.0),
            ('min="0" max="5"', 9.0, 5.0),
            ('min="0" max="5" rescaleFactor="10"', 9.0, 50.0),  # clipped first
            ('castInteger="round"', 2.5, 3.0),
            ('castInteger="ceiling"', 2.1, 3.0),
            ('castInteger="floor"', -2.1, -3.0),
        ],
    )
    def test_the_prediction_is_clipped_rescaled_and_cast(
        self, attributes: str, x: float, wanted: float, tmp_path: Path
    ):
        targets = f'<Targets><Target field="y" {attributes}/></Targets>'
        assert ask(load(pmml(regression(table=targets + COPY)), tmp_path), x=[x])["y"] == [wanted]

    def test_a_default_stands_in_for_a_missing_prediction(self, tmp_path: Path):
        targets = '<Targets><Target field="y"><TargetValue defaultValue="8.5"/></Target></Targets>'
        model = load(pmml(regression(table=targets + COPY)), tmp_path)
        assert ask(model, x=[float("nan"), 1.0])["y"] == [8.5, 1.0]
