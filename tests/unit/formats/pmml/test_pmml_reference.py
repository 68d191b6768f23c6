"""What the standard leaves open, as JPMML-Evaluator 1.7.7 answers it: each cell is its own."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from pmml_files import LETTERS, NUMBERS, TARGET, ask, computed, load, pmml, regression

from martlet.formats.pmml.regex import pattern
from martlet.formats.pmml.text_functions import format_datetime, format_number, replace

NUL = None
X, K = '<FieldRef field="x"/>', '<FieldRef field="k"/>'


def const(value: object, kind: str = "") -> str:
    return (
        f'<Constant dataType="{kind}">{value}</Constant>'
        if kind
        else f"<Constant>{value}</Constant>"
    )


def call(function: str, *arguments: str, more: str = "") -> str:
    return f'<Apply function="{function}" {more}>{"".join(arguments)}</Apply>'


def one(tmp_path: Path, expression: str, kind: str = "string", **cells: object) -> object:
    """What *expression* gives; ``"!"`` for a row that has a reason instead."""
    found = ask(
        load(computed(expression, kind), tmp_path),
        x=[float("nan") if cells.get("x", 1.5) is None else cells.get("x", 1.5)],
        k=[cells.get("k", "b")],
    )
    return "!" if found["_reason"][0] is not None else found["out"][0]


TRUE, LIKE = const("true", "boolean"), call("equal", K, const("b"))


@pytest.mark.parametrize(
    ("expression", "kind", "cells", "wanted"),
    [
        (call("and", LIKE, TRUE), "boolean", {"k": NUL}, "!"),
        (call("if", call("isMissing", K), X, const(2)), "double", {"k": NUL}, 1.5),
        (call("if", call("greaterThan", X, const(1)), K), "string", {"x": NUL}, "!"),
        (call("isValid", call("ln", const(-1.0))), "boolean", {}, "!"),
        (call("isIn", X, X, const(2)), "boolean", {"x": NUL}, "true"),
        (call("isNotIn", X, const(2)), "boolean", {"x": NUL}, "true"),
        (call("uppercase", K, more='mapMissingTo="none"'), "string", {"k": NUL}, "none"),
        (call("+", X, const(1), more='defaultValue="7"'), "double", {"x": NUL}, 7.0),
        (
            call("+", X, call("ln", const(-1)), more='mapMissingTo="3"'),
            "double",
            {"x": NUL},
            3.0,
        ),
        (call("concat", K, K), "string", {"k": NUL}, ""),
        (call("lessThan", K, const("c")), "boolean", {}, "!"),
        (call("normalPDF", X, const(0.0), const(-1.0)), "double", {}, "!"),
    ],
)
def test_a_missing_or_impossible_argument(
    expression: str, kind: str, cells: dict[str, object], wanted: object, tmp_path: Path
):
    assert one(tmp_path, expression, kind, **cells) == wanted


class TestOrder:
    SIZES = (
        '<DataField name="o" optype="ordinal" dataType="string">'
        '<Value value="low"/><Value value="mid"/><Value value="high"/></DataField>'
    )

    def test_is_that_of_the_declared_values(self, tmp_path: Path):
        text = computed(
            call("lessThan", '<FieldRef field="o"/>', const("high")), "boolean", self.SIZES
        )
        found = ask(load(text, tmp_path), o=["low", "high", None])
        assert found["out"] == ["true", "false", None]
        assert found["_reason"][2] is not None

    def test_a_value_that_is_not_declared_has_none(self, tmp_path: Path):
        text = computed(
            call("lessThan", '<FieldRef field="o"/>', const("huge")), "boolean", self.SIZES
        )
        assert "cannot order" in ask(load(text, tmp_path), o=["low"])["_reason"][0]

    def test_of_two_moments_the_second_is_taken_as_the_first(self, tmp_path: Path):
        fields = (
            '<DataField name="d" optype="continuous" dataType="date"/>'
            '<DataField name="t" optype="continuous" dataType="dateTime"/>'
        )
        text = computed(
            call("lessThan", '<FieldRef field="d"/>', '<FieldRef field="t"/>'), "boolean", fields
        )
        found = ask(load(text, tmp_path), d=["2020-01-31"], t=["1999-12-31T00:00:00"])
        assert found["out"] == ["false"]


def test_what_as_is_lets_in_is_there_and_not_valid(tmp_path: Path):
    field = LETTERS.replace("/>", '><Value value="a"/></DataField>')
    schema = '<MiningField name="k" invalidValueTreatment="asIs"/>'
    outputs = "".join(
        f'<OutputField name="{name}" feature="transformedValue" dataType="boolean" '
        f'optype="categorical">{call(name, K)}</OutputField>'
        for name in ("isValid", "isNotValid", "isMissing")
    )
    text = pmml(
        regression(schema=schema, output=outputs, table='<RegressionTable intercept="0"/>'),
        fields=field,
    )
    found = ask(load(text, tmp_path), k=["a", "z", None])
    assert found["isValid"] == ["true", "false", "false"]
    assert found["isNotValid"] == ["false", "true", "false"]
    assert found["isMissing"] == ["false", "false", "true"]


@pytest.mark.parametrize(
    ("number", "form", "wanted"),
    [
        (7, "%5d|", "    7|"),
        (-7, "%05d", "-0007"),
        (1234567, "%,d", "1,234,567"),
        (-1234.5, "%(,.2f", "(1,234.50)"),
        (0.125, "%.2f", "0.13"),
        (0.145, "%.2f", "0.15"),
        (2.5, "%.0f", "3"),
        (123456.0, "%.3e", "1.235e+05"),
        (0.5, "%g", "0.500000"),
        (7, "(%s)", "(7)"),
        (1.5, "%+.1f", "+1.5"),
        (255, "%X", "FF"),
        (7, "a%db%%c", "a7b%c"),
    ],
)
def test_format_number(number: float, form: str, wanted: str):
    assert format_number(number, form) == wanted


@pytest.mark.parametrize("form", ["%d", "%q", "%.2f %.2f"])
def test_a_format_that_is_none_for_the_number_is_refused(form: str):
    with pytest.raises(ValueError, match=re.escape(form)):
        format_number(1.5, form)


def test_format_datetime():
    # 1999-12-31T00:00:00
    assert format_datetime(946598400, "%m/%d/%y %k|%l %I:%M %p %%") == "12/31/99 0|12 12:00 am %"


@pytest.mark.parametrize(
    ("text", "regex", "replacement", "wanted"),
    [
        ("Hello World", "(l)(o)", "$2$1", "Helol World"),
        ("Hello World", "(?<n>l+)", "<${n}>", "He<ll>o Wor<l>d"),
        ("Hello World", "[a-z&&[^l]]", "_", "H_ll_ W__l_"),
        ("Hello World", "[a-c[x-z]]", "_", "Hello World"),
        ("a.b.c", r"\Q.\E", "-", "a-b-c"),
        ("a b", r"\s", r"\\", "a\\b"),
        ("Hello World 12", r"\p{L}+", "_", "_ _ 12"),
        ("Hello, World!", r"[\p{Punct}]", "", "Hello World"),
        ("AbC", r"[^\p{Lu}]", "_", "A_C"),
        ("a-b_c", r"[\w-]", "x", "xxxxx"),
        ("a]b", "[]a]", "x", "xxb"),
        ("Été", r"\w", "x", "Éxé"),
        ("abc", "(b)|(z)", "[$1$2]", "a[b]c"),
    ],
)
def test_regular_expressions_are_javas(text: str, regex: str, replacement: str, wanted: str):
    assert replace(text, regex, replacement) == wanted


@pytest.mark.parametrize("regex", ["(", r"\p{Nonsense}", r"\y", "a(?i)b"])
def test_one_that_cannot_be_run_is_refused(regex: str):
    with pytest.raises(ValueError, match=r"supported|regular expression"):
        pattern(regex)


class TestTerms:
    @staticmethod
    def index(inner: str, more: str = "") -> str:
        return f'<TextIndex textField="k" {more}>{inner}</TextIndex>'

    @pytest.mark.parametrize(
        ("text", "more", "wanted"), [("B b A", "", 2), ("B b A", 'isCaseSensitive="true"', 1)]
    )
    def test_may_be_a_fields(self, text: str, more: str, wanted: int, tmp_path: Path):
        fields = LETTERS + '<DataField name="t" optype="categorical" dataType="string"/>'
        body = self.index('<FieldRef field="t"/>', more)
        found = ask(load(computed(body, "double", fields), tmp_path), k=[text, None], t=["B", "B"])
        assert found["out"] == [wanted, None]


@pytest.mark.parametrize(
    ("function", "more", "wanted"),
    [
        ("sum", "", "!"),
        ("avg", "", "!"),
        ("product", 'invalidValueTreatment="asMissing" defaultValue="7"', 7.0),
        ("sum", 'invalidValueTreatment="asIs"', None),  # NaN
        ("min", "", 0.0),
        ("max", "", 0.0),
    ],
)
@pytest.mark.parametrize("order", [1, -1])
def test_an_undefined_number_taken_as_it_is_spoils_a_sum_and_no_extreme(
    function: str, more: str, wanted: object, order: int, tmp_path: Path
):
    undefined = call("modulo", X, X, more='invalidValueTreatment="asIs"')
    whole = call(function, *[X, undefined][::order], more=more)
    assert one(tmp_path, whole, "double", x=0.0) == wanted


def test_whole_ensembles_of_neighbours_rank_by_what_their_measure_is(tmp_path: Path):
    """jaccard is a similarity, whatever the file calls it."""
    fields = "".join(
        f'<DataField name="{n}" optype="continuous" dataType="integer"/>' for n in ("x", "z")
    )
    model = (
        '<ClusteringModel functionName="clustering" modelClass="centerBased" numberOfClusters="2">'
        '<MiningSchema><MiningField name="x"/><MiningField name="z"/></MiningSchema>'
        '<Output><OutputField name="second" feature="entityId" rank="2"/>'
        '<OutputField name="how" feature="affinity" value="near" dataType="double"/></Output>'
        '<ComparisonMeasure kind="distance"><jaccard/></ComparisonMeasure>'
        '<ClusteringField field="x"/><ClusteringField field="z"/>'
        '<Cluster id="far"><Array type="int" n="2">0 1</Array></Cluster>'
        '<Cluster id="near"><Array type="int" n="2">1 0</Array></Cluster></ClusteringModel>'
    )
    found = ask(load(pmml(model, fields=fields), tmp_path), x=[1], z=[0])
    assert (found["_target"], found["second"], found["how"]) == (["near"], ["far"], [1.0])


@pytest.mark.parametrize("row", [0, 1])
def test_what_counts_nothing_alike_or_unlike_has_no_answer(row: int, tmp_path: Path):
    """jaccard is a11 / (a11 + a10 + a01): 0 / 0 where both are 0."""
    fields = '<DataField name="x" optype="continuous" dataType="integer"/>'
    model = (
        '<ClusteringModel functionName="clustering" modelClass="centerBased" numberOfClusters="2">'
        '<MiningSchema><MiningField name="x"/></MiningSchema>'
        '<ComparisonMeasure kind="similarity"><jaccard/></ComparisonMeasure>'
        '<ClusteringField field="x"/>'
        '<Cluster id="one"><Array type="int" n="1">1</Array></Cluster>'
        '<Cluster id="none"><Array type="int" n="1">0</Array></Cluster></ClusteringModel>'
    )
    found = ask(load(pmml(model, fields=fields), tmp_path), x=[row])
    assert found["_target"] == ["one" if row else None]
    assert (found["_reason"][0] is None) == bool(row)


SHARED_OUT = {
    "regression": (
        '<RegressionModel functionName="classification" normalizationMethod="simplemax">{schema}'
        '<RegressionTable intercept="0" targetCategory="a"><NumericPredictor name="x" '
        'coefficient="1"/></RegressionTable><RegressionTable intercept="-1" targetCategory="b"/>'
        "</RegressionModel>"
    ),
    "network": (
        '<NeuralNetwork functionName="classification" activationFunction="identity">{schema}'
        '<NeuralInputs><NeuralInput id="0"><DerivedField optype="continuous" dataType="double">'
        '<FieldRef field="x"/></DerivedField></NeuralInput></NeuralInputs>'
        '<NeuralLayer normalizationMethod="simplemax"><Neuron id="1"><Con from="0" weight="1"/>'
        '</Neuron><Neuron id="2" bias="-1"/></NeuralLayer><NeuralOutputs>'
        + "".join(
            f'<NeuralOutput outputNeuron="{at}"><DerivedField optype="categorical" '
            f'dataType="string"><NormDiscrete field="y" value="{label}"/></DerivedField>'
            "</NeuralOutput>"
            for at, label in ((1, "a"), (2, "b"))
        )
        + "</NeuralOutputs></NeuralNetwork>"
    ),
}


@pytest.mark.parametrize("model", SHARED_OUT.values(), ids=SHARED_OUT)
def test_simplemax_has_no_shares_of_a_sum_of_nothing(model: str, tmp_path: Path):
    schema = '<MiningSchema><MiningField name="x"/>' + (
        '<MiningField name="y" usageType="target"/></MiningSchema>'
    )
    label = '<DataField name="y" optype="categorical" dataType="string"/>'
    text = pmml(model.replace("{schema}", schema), fields=NUMBERS + label)
    found = ask(load(text, tmp_path), x=[1.0, 3.0])
    assert found["y"] == [None, "a"]
    assert found["_reason"] == ["simplemax shares out a sum of 0", None]


@pytest.mark.parametrize(
    "encoding", ["utf-8", "latin-1", "utf-16", "utf-16-le", "shift_jis", "gb18030"]
)
def test_a_file_may_be_in_any_encoding(encoding: str, tmp_path: Path):
    label = {"shift_jis": "東", "gb18030": "北京"}.get(encoding, "é")
    text = computed(f"<Constant>{label}</Constant>", "string", NUMBERS)
    name = encoding.removesuffix("-le")
    text = text.replace('<?xml version="1.0"?>', f'<?xml version="1.0" encoding="{name}"?>')
    model = load(text.encode(encoding), tmp_path)
    assert model.predict({"x": np.zeros(2)})["out"].tolist() == [label, label]


def test_a_declaration_that_lies_about_utf_16_is_not_believed(tmp_path: Path):
    text = "\n" + computed("<Constant>é</Constant>", "string", NUMBERS + TARGET).replace(
        '<?xml version="1.0"?>', '<?xml version="1.0" encoding="utf-16"?>'
    )
    assert ask(load(text, tmp_path), x=[1.0])["out"] == ["é"]


def test_pythons_own_way_to_write_numbers_is_not_pmmls(tmp_path: Path):
    text = pmml(
        regression(schema='<MiningField name="y" usageType="target"/><MiningField name="x"/>')
    )
    found = ask(load(text, tmp_path), x=["1_000", "1E+03"])
    assert (found["y"], found["_reason"][0] is None) == ([None, 1000.0], False)


def test_a_default_is_treated_as_any_other_prediction(tmp_path: Path):
    targets = (
        '<Targets><Target field="y" rescaleConstant="1" castInteger="floor">'
        '<TargetValue defaultValue="432.21"/></Target></Targets>'
    )
    schema = '<MiningField name="y" usageType="target"/><MiningField name="x"/>'
    copy = (
        '<RegressionTable intercept="0"><NumericPredictor name="x" coefficient="1"/>'
        "</RegressionTable>"
    )
    model = load(pmml(regression(schema=schema, table=targets + copy)), tmp_path)
    assert ask(model, x=[float("nan"), 1.7])["y"] == [433.0, 2.0]


def test_a_missing_value_that_is_refused_has_no_stand_in(tmp_path: Path):
    schema = (
        '<MiningField name="y" usageType="target"/><MiningField name="x" '
        'missingValueTreatment="returnInvalid" missingValueReplacement="3"/>'
    )
    found = ask(load(pmml(regression(schema=schema)), tmp_path), x=[float("nan"), 1.0])
    assert found["y"] == [None, 1.0]
    assert found["_reason"][0] == "field 'x' is missing"
