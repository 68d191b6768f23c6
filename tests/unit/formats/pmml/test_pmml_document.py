"""What is no PMML, or an attack, is refused with a sentence that says where."""

from __future__ import annotations

from pathlib import Path

import pytest
from pmml_files import COPY, NUMBERS, ask, load, pmml, regression

from martlet import formats
from martlet.errors import UnsupportedModel
from martlet.formats.pmml import FORMAT, document

MODEL = pmml(regression())

LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE PMML [<!ENTITY a "ha">'
    + "".join(
        f'<!ENTITY a{i} "{"&a" + str(i - 1) + ";" if i > 1 else "&a;"}">' for i in range(1, 9)
    )
    + ']><PMML version="4.4">&a8;</PMML>'
)
OUTSIDE = '<!DOCTYPE PMML [<!ENTITY x SYSTEM "file:///etc/passwd">]><PMML version="4.4">&x;</PMML>'


class TestSniffing:
    @pytest.mark.parametrize(
        "text",
        [
            MODEL.encode(),
            b"\xef\xbb\xbf" + MODEL.encode(),
            b"<!-- made by hand -->\n<?note x?>" + MODEL.partition("?>")[2].encode(),
            MODEL.replace("<PMML", "<p:PMML", 1).encode(),
            b"\xff\xfe" + '<?xml version="1.0" encoding="utf-16"?><PMML/>'.encode("utf-16-le"),
        ],
        ids=["plain", "bom", "comments", "prefix", "utf-16"],
    )
    def test_a_file_is_pmml_by_its_root_element(self, text: bytes, tmp_path: Path):
        path = tmp_path / "weights.bin"
        path.write_bytes(text)
        assert FORMAT.sniff(path)

    @pytest.mark.parametrize("text", [b"", b"<html><PMML/></html>", b"PMML", b"\x00\x01"])
    def test_other_files_are_not(self, text: bytes, tmp_path: Path):
        path = tmp_path / "model"
        path.write_bytes(text)
        assert not FORMAT.sniff(path)

    def test_comments_and_a_byte_order_mark_change_nothing(self, tmp_path: Path):
        text = b"\xef\xbb\xbf" + MODEL.replace("<Header/>", "<!-- h --><Header/>").encode()
        assert ask(load(text, tmp_path), x=[1.5])["y"] == [1.5]

    def test_a_namespace_prefix_changes_nothing(self, tmp_path: Path):
        text = MODEL.replace("</", "</p:").replace("<p:/", "</").replace("xmlns=", "xmlns:p=")
        import re

        text = re.sub(r"<(?=[A-Z])", "<p:", text)
        assert ask(load(text, tmp_path), x=[1.5])["y"] == [1.5]


class TestRefusals:
    @pytest.mark.parametrize(
        ("text", "message"),
        [
            (MODEL[: len(MODEL) // 2], "not well-formed"),
            (LAUGHS, "DTD at line 1 is refused"),
            (OUTSIDE, "DTD at line 1 is refused"),
            ("<PMML>" + "<a>" * 5000 + "</a>" * 5000 + "</PMML>", "nested deeper than 4096"),
            ('<?xml version="1.0" encoding="ebcdic-x"?><PMML/>', "unknown encoding"),
            ("<PMML version='4.4'/>", "lacks the element DataDictionary"),
            (pmml("<Header/>"), "holds no model"),
            (pmml("<BaselineModel/>"), "BaselineModel"),
            (pmml(regression(table="")), "RegressionModel at line 5 holds no RegressionTable"),
            (
                pmml(regression(table=COPY.replace('name="x"', 'name="q"'))),
                "NumericPredictor 'q' at line 5 refers to the field 'q', which is not defined",
            ),
            (
                pmml(regression(table=COPY.replace('"1"', '"one"'))),
                "coefficient='one' is not a number",
            ),
            (pmml(regression(), fields=NUMBERS.replace("double", "decimal128")), "'decimal128'"),
        ],
        ids=lambda v: v if len(v) < 70 else "file",
    )
    def test_a_broken_file_is_refused_by_what_and_where(
        self, text: str, message: str, tmp_path: Path
    ):
        path = tmp_path / "model.pmml"
        path.write_text(text)
        with pytest.raises(UnsupportedModel, match=r"model\.pmml") as caught:
            formats.load(path, format="pmml")
        assert message in str(caught.value)

    def test_expressions_nest_to_a_limit(self, tmp_path: Path):
        deep = '<FieldRef field="x"/>'
        for _ in range(300):
            deep = f'<Apply function="abs">{deep}</Apply>'
        derived = (
            f'<DerivedField name="d" optype="continuous" dataType="double">{deep}</DerivedField>'
        )
        table = COPY.replace('name="x"', 'name="d"')
        with pytest.raises(UnsupportedModel, match="nested deeper than 200 expressions"):
            load(pmml(regression(local=derived, table=table)), tmp_path)

    def test_a_function_that_calls_itself_is_refused(self, tmp_path: Path):
        endless = (
            '<DefineFunction name="f" optype="continuous"><ParameterField name="a"/>'
            '<Apply function="f"><FieldRef field="a"/></Apply></DefineFunction>'
        )
        derived = (
            '<DerivedField name="d" optype="continuous" dataType="double">'
            '<Apply function="f"><FieldRef field="x"/></Apply></DerivedField>'
        )
        text = pmml(
            regression(local=derived, table=COPY.replace('name="x"', 'name="d"')), shared=endless
        )
        with pytest.raises(UnsupportedModel, match="calls itself"):
            load(text, tmp_path)

    def test_fields_that_need_each_other_are_refused(self, tmp_path: Path):
        ring = "".join(
            f'<DerivedField name="{a}" optype="continuous" dataType="double">'
            f'<FieldRef field="{b}"/></DerivedField>'
            for a, b in (("a", "b"), ("b", "a"))
        )
        with pytest.raises(UnsupportedModel, match="is not defined"):
            load(pmml(regression(local=ring, table=COPY.replace('"x"', '"a"'))), tmp_path)

    def test_more_text_than_the_limit_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(document, "MAX_TEXT", 1000)
        text = MODEL.replace("<Header/>", f"<Header>{'a' * 200_000}</Header>")
        with pytest.raises(UnsupportedModel, match="more than 1000 characters"):
            load(text, tmp_path)


class TestEveryAttribute:
    """Whatever is left out of a file or garbled in it: it loads, or is refused in our words."""

    @pytest.mark.parametrize("garble", [None, "", "-1", "nonsense", "1e400"])
    def test_leaving_out_or_garbling_any_one_never_crashes(
        self, garble: str | None, shared: Path, tmp_path: Path
    ):
        import xml.etree.ElementTree as ET

        from martlet.errors import MartletError

        sources = sorted((shared / "pmml").glob("unit-jpmml/*/model.pmml"))
        sources = [path for path in sources if path.stat().st_size < 9000]
        assert sources
        path = tmp_path / "model.pmml"
        for source in sources:
            tree = ET.parse(source)
            for element in tree.iter():
                for key, value in list(element.attrib.items())[:3]:
                    del element.attrib[key]
                    if garble is not None:
                        element.attrib[key] = garble
                    tree.write(path)
                    try:
                        model = formats.load(path, format="pmml")
                        model.predict({})
                    except MartletError:
                        pass
                    except Exception as exc:
                        pytest.fail(f"{source}: {element.tag}@{key}={garble!r}: {exc!r}")
                    element.attrib[key] = value
