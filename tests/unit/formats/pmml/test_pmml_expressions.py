"""Expressions and functions. Expected values are the standard's own, or Python's math."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pmml_files import LETTERS, NUMBERS, ask, computed, load

from martlet.errors import UnsupportedModel

INTEGERS = "".join(
    f'<DataField name="{name}" optype="continuous" dataType="integer"/>' for name in "ij"
)
DATES = '<DataField name="d" optype="ordinal" dataType="date"/>'


def constant(value: object) -> str:
    kind = {str: "string", int: "integer", float: "double", bool: "boolean"}[type(value)]
    text = str(value).lower() if isinstance(value, bool) else value
    return f'<Constant dataType="{kind}">{text}</Constant>'


def apply(name: str, *arguments: object, **attributes: str) -> str:
    """An Apply; a text like ``@x`` is a field, other values are constants."""
    parts = [
        f'<FieldRef field="{each[1:]}"/>'
        if isinstance(each, str) and each.startswith("@")
        else each
        if isinstance(each, str) and each.startswith("<")
        else constant(each)
        for each in arguments
    ]
    extra = "".join(f' {key}="{text}"' for key, text in attributes.items())
    name = name.replace("<", "&lt;")
    return f'<Apply function="{name}"{extra}>{"".join(parts)}</Apply>'


NAN = float("nan")
CELLS = st.lists(st.floats(-1e6, 1e6) | st.just(NAN), min_size=1, max_size=5)


class TestFunctions:
    @pytest.mark.parametrize(
        ("expression", "x", "wanted"),
        [
            (apply("+", "@x", 2.0), 1.5, 3.5),
            (apply("-", "@x", 2.0), 1.5, -0.5),
            (apply("/", "@x", 0.0), 1.0, math.inf),
            (apply("+", "@x", 2.0), NAN, None),
            (apply("+", "@x", 2.0, mapMissingTo="9"), NAN, 9.0),
            (apply("+", "@x", 2.0, defaultValue="8"), NAN, 8.0),
            (apply("min", "@x", 5.0, 7.0), NAN, 5.0),
            (apply("avg", "@x", 5.0, 7.0), NAN, 6.0),
            (apply("sum", "@x", 5.0), 1.0, 6.0),
            (apply("median", "@x", 5.0, 7.0), 6.0, 6.0),
            (apply("product", "@x", 5.0), 2.0, 10.0),
            (apply("log10", "@x"), 1000.0, 3.0),
            (apply("ln", "@x"), math.e, 1.0),
            (apply("ln", "@x"), -1.0, None),
            (apply("ln", "@x", invalidValueTreatment="asMissing", defaultValue="0"), -1.0, 0.0),
            (apply("pow", "@x", 2.0), 3.0, 9.0),
            (apply("threshold", "@x", 0.5), 0.6, 1.0),
            (apply("threshold", "@x", 0.5), 0.5, 0.0),
            (apply("floor", "@x"), -1.5, -2.0),
            (apply("ceil", "@x"), 1.2, 2.0),
            (apply("round", "@x"), 2.5, 3.0),
            (apply("round", "@x"), -2.5, -2.0),
            (apply("rint", "@x"), 2.5, 2.0),
            (apply("modulo", "@x", 3.0), -2.0, 1.0),
            (apply("expm1", "@x"), 1e-10, math.expm1(1e-10)),
            (apply("hypot", "@x", 4.0), 3.0, 5.0),
            (apply("atan2", "@x", 1.0), 1.0, math.pi / 4),
            (apply("stdNormalCDF", "@x"), 0.0, 0.5),
            (apply("normalPDF", "@x", 0.0, 1.0), 0.0, 1 / math.sqrt(2 * math.pi)),
            (apply("stdNormalIDF", "@x"), 0.975, 1.959963984540054),
            (apply("erf", "@x"), 1.0, math.erf(1.0)),
            (apply("if", apply("lessThan", "@x", 3.0), 1.0, 2.0), 2.0, 1.0),
            (apply("if", apply("isMissing", "@x"), 1.0, apply("ln", "@x")), NAN, 1.0),
            (apply("if", apply("greaterThan", "@x", 0.0), apply("ln", "@x"), 0.0), -5.0, 0.0),
        ],
    )
    def test_of_numbers(self, expression: str, x: float, wanted: object, tmp_path: Path):
        (found,) = ask(load(computed(expression), tmp_path), x=[x])["out"]
        assert found == (wanted if wanted is None else pytest.approx(wanted, rel=1e-14))

    @pytest.mark.parametrize(
        ("name", "i", "j", "wanted"),
        [
            ("/", 1, 3, 0),
            ("/", -7, 2, -3),
            ("/", 1, 0, None),
            ("*", 3, 4, 12),
            ("pow", 2, 10, 1024),
            ("pow", 2, -1, None),
            ("modulo", 7, -3, -2),
            # With the prefix that producers write before a version has the function.
            ("x-modulo", 7, -3, -2),
        ],
    )
    def test_two_integers_give_an_integer(
        self, name: str, i: int, j: int, wanted: object, tmp_path: Path
    ):
        text = computed(apply(name, "@i", "@j"), "integer", INTEGERS)
        assert ask(load(text, tmp_path), i=[i], j=[j])["out"] == [wanted]

    @pytest.mark.parametrize(
        ("expression", "kind", "k", "wanted"),
        [
            (apply("uppercase", "@k"), "string", "abc", "ABC"),
            (apply("substring", "@k", 2, 3), "string", "aBc9x", "Bc9"),
            (apply("trimBlanks", "@k"), "string", "  a b ", "a b"),
            (apply("stringLength", "@k"), "integer", "Bär", 3),
            (apply("concat", "@k", "-", 2), "string", "a", "a-2"),
            (apply("concat", "@k", "b"), "string", None, "b"),
            (apply("replace", "@k", "BB+", "c"), "string", "aBBBb", "acb"),
            (apply("replace", "@k", "(a)(b)", "$2$1"), "string", "xaby", "xbay"),
            (apply("matches", "@k", "ar?y"), "boolean", "January", "true"),
            (apply("matches", "@k", r"^\p{Alpha}+$"), "boolean", "Jan1", "false"),
            (apply("isIn", "@k", "a", "b"), "boolean", "b", "true"),
            (apply("isNotIn", "@k", "a", "b"), "boolean", "c", "true"),
            (apply("equal", "@k", "a"), "boolean", "a", "true"),
            (apply("and", apply("isIn", "@k", "a"), False), "boolean", None, "false"),
            (apply("or", apply("equal", "@k", "a"), True), "boolean", None, None),
            (apply("not", apply("equal", "@k", "a")), "boolean", "a", "false"),
            (apply("isMissing", "@k"), "boolean", None, "true"),
            (apply("formatNumber", 2.0, "%3d"), "string", "a", "  2"),
        ],
    )
    def test_of_text_and_truth(
        self, expression: str, kind: str, k: object, wanted: object, tmp_path: Path
    ):
        assert ask(load(computed(expression, kind), tmp_path), k=[k])["out"] == [wanted]

    @pytest.mark.parametrize(
        ("expression", "wanted"),
        [
            # PMML 4.4.1, Built-in functions: 2003-04-01 is day 15796 from 1960.
            (apply("dateDaysSinceYear", "@d", 1960), 15796.0),
            (apply("dateSecondsSinceYear", "@d", 2003), 90 * 86400.0),
            (apply("dateSecondsSinceMidnight", "@d"), 0.0),
        ],
    )
    def test_of_dates(self, expression: str, wanted: float, tmp_path: Path):
        text = computed(expression, "integer", DATES)
        assert ask(load(text, tmp_path), d=["2003-04-01"])["out"] == [wanted]

    def test_of_the_file_itself(self, tmp_path: Path):
        twice = (
            '<DefineFunction name="twice" optype="continuous" dataType="double">'
            '<ParameterField name="v"/>' + apply("*", 2.0, "@v") + "</DefineFunction>"
        )
        text = computed(apply("twice", apply("twice", "@x"))).replace(
            "<TransformationDictionary>", f"<TransformationDictionary>{twice}"
        )
        assert ask(load(text, tmp_path), x=[1.5])["out"] == [6.0]

    def test_an_unknown_one_is_refused(self, tmp_path: Path):
        with pytest.raises(UnsupportedModel, match="calls the function 'frobnicate'"):
            load(computed(apply("frobnicate", "@x")), tmp_path)

    def test_the_number_of_arguments_is_checked(self, tmp_path: Path):
        with pytest.raises(UnsupportedModel, match="gives ln 2 arguments; it takes 1"):
            load(computed(apply("ln", "@x", 1.0)), tmp_path)

    def test_what_lacks_an_argument_has_no_answer_and_says_so(self, tmp_path: Path):
        found = ask(load(computed(apply("ln", "@x")), tmp_path), x=[NAN, 1.0])
        assert found["out"] == [None, 0.0]
        assert found["_reason"] == ["ln has a missing argument", None]

    @settings(max_examples=60)
    @given(cells=CELLS, data=st.data())
    def test_a_record_alone_is_its_row_in_a_batch(
        self, cells: list[float], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
    ):
        leaf = st.sampled_from(["@x", 2.0, -0.5, 3])
        names = st.sampled_from(["+", "-", "*", "/", "min", "max", "avg", "pow", "modulo", "hypot"])
        tree = st.recursive(leaf, lambda s: st.builds(apply, names, s, s), max_leaves=6)
        expression = data.draw(tree.filter(lambda e: isinstance(e, str) and e.startswith("<")))
        ask(load(computed(expression), tmp_path_factory.mktemp("model")), x=cells)


class TestNormalization:
    POINTS = '<LinearNorm orig="0" norm="0"/><LinearNorm orig="45" norm="0.5"/>'
    # PMML 4.4.1, Transformations: the example of NormContinuous.
    LAST = '<LinearNorm orig="105" norm="1"/>'

    @pytest.mark.parametrize(
        ("outliers", "x", "wanted"),
        [
            ("asIs", 45.0, 0.5),
            ("asIs", 75.0, 0.75),
            ("asIs", 165.0, 1.5),
            ("asIs", -9.0, -0.1),
            ("asExtremeValues", 165.0, 1.0),
            ("asExtremeValues", -9.0, 0.0),
            ("asMissingValues", 165.0, None),
            ("asIs", NAN, 0.3),
        ],
    )
    def test_a_number_is_mapped_piece_by_piece(
        self, outliers: str, x: float, wanted: object, tmp_path: Path
    ):
        text = computed(
            f'<NormContinuous field="x" outliers="{outliers}" mapMissingTo="0.3">'
            f"{self.POINTS}{self.LAST}</NormContinuous>"
        )
        (found,) = ask(load(text, tmp_path), x=[x])["out"]
        assert found == (wanted if wanted is None else pytest.approx(wanted, abs=1e-15))

    def test_a_value_becomes_an_indicator(self, tmp_path: Path):
        text = computed('<NormDiscrete field="k" value="b" mapMissingTo="0.5"/>')
        assert ask(load(text, tmp_path), k=["b", "c", None])["out"] == [1.0, 0.0, 0.5]

    def test_a_number_falls_into_a_bin(self, tmp_path: Path):
        # PMML 4.4.1, Transformations: the example of Discretize.
        text = computed(
            '<Discretize field="x" mapMissingTo="none">'
            '<DiscretizeBin binValue="negative"><Interval closure="openOpen" rightMargin="0"/>'
            '</DiscretizeBin><DiscretizeBin binValue="positive">'
            '<Interval closure="closedOpen" leftMargin="0"/></DiscretizeBin></Discretize>',
            "string",
        )
        found = ask(load(text, tmp_path), x=[-0.1, 0.0, 7.0, NAN])["out"]
        assert found == ["negative", "positive", "positive", "none"]

    def test_values_are_looked_up_in_a_table(self, tmp_path: Path):
        # PMML 4.4.1, Transformations: the example of MapValues with two inputs.
        text = computed(
            '<MapValues outputColumn="out" defaultValue="?" mapMissingTo="none">'
            '<FieldColumnPair field="k" column="band"/><FieldColumnPair field="s" column="state"/>'
            "<InlineTable><row><band>1</band><state>MN</state><out>10000</out></row>"
            "<row><band>1</band><state>IL</state><out>12000</out></row></InlineTable></MapValues>",
            "string",
            NUMBERS + LETTERS + LETTERS.replace('"k"', '"s"'),
        )
        found = ask(load(text, tmp_path), k=["1", "1", "2", "1"], s=["MN", "IL", "MN", None])
        assert found["out"] == ["10000", "12000", "?", "none"]


class TestText:
    @pytest.mark.parametrize(
        ("attributes", "term", "wanted"),
        [
            ("", "fox", 2.0),
            ('isCaseSensitive="true"', "fox", 1.0),
            ("", "quick fox", 1.0),
            ('localTermWeights="binary"', "fox", 1.0),
            ('localTermWeights="logarithmic"', "fox", math.log10(3)),
            ('maxLevenshteinDistance="1"', "fog", 2.0),
            ("", "wolf", 0.0),
            # Words lose the punctuation around them, in the text and in the term.
            ("", "met (a", 1.0),
        ],
    )
    def test_a_term_is_counted(self, attributes: str, term: str, wanted: float, tmp_path: Path):
        text = computed(
            f'<TextIndex textField="k" {attributes}><Constant>{term}</Constant></TextIndex>'
        )
        found = ask(load(text, tmp_path), k=['The quick fox, met a "Fox"...'])["out"]
        assert found == [pytest.approx(wanted)]

    def test_rows_before_are_seen_through_a_lag(self, tmp_path: Path):
        import numpy as np

        model = load(computed('<Lag field="x" n="2"/>'), tmp_path)
        found = model.predict({"x": np.array([1.0, 2.0, 3.0, 4.0])})["out"].tolist()
        assert found[2:] == [1.0, 2.0]
        assert all(math.isnan(each) for each in found[:2])
