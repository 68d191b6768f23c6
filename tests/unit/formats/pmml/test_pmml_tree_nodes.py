"""A tree's nodes are read into columns; whatever else stands among them is read, or passed over."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from pmml_files import NUMBERS, TARGET, ask, load, pmml

from martlet.errors import UnsupportedModel
from martlet.formats.pmml.document import parse
from martlet.formats.pmml.tree_nodes import TreeNodes

ABOVE = '<SimplePredicate field="x" operator="greaterThan" value="1">{inside}</SimplePredicate>'


def tree(nodes: str, kind: str = "regression") -> str:
    return pmml(
        f'<TreeModel functionName="{kind}"><MiningSchema><MiningField name="x"/>'
        f'<MiningField name="y" usageType="target"/></MiningSchema>\n{nodes}</TreeModel>',
        fields=NUMBERS + TARGET,
    )


def split(inside: str = "", among: str = "") -> str:
    return tree(
        f'<Node id="a"><True/>{among}<Node id="b" score="2">{ABOVE.format(inside=inside)}{among}'
        f'</Node>{among}<Node score="3"><CompoundPredicate booleanOperator="and"><True/>'
        f'<SimplePredicate field="x" operator="lessOrEqual" value="1"/></CompoundPredicate></Node>'
        "</Node>"
    )


def nodes_of(text: str, folder: Path) -> TreeNodes:
    path = folder / "tree.pmml"
    path.write_text(text)
    found = parse(path, {"Node": TreeNodes}).need_child("TreeModel").need_child("Node")
    assert isinstance(found, TreeNodes)
    return found


class TestColumns:
    def test_nodes_are_numbered_in_document_order(self, tmp_path: Path):
        nodes = nodes_of(split(), tmp_path)
        assert len(nodes) == 3
        assert nodes.below == [(1, 2), (), ()]
        assert nodes.ids == ["a", "b", None]
        assert nodes.scores == [None, "2", "3"]
        assert [nodes.predicate(n).tag for n in range(3)] == [
            "True", "SimplePredicate", "CompoundPredicate",
        ]  # fmt: skip

    def test_counts_become_shares_and_the_score_of_the_most(self, tmp_path: Path):
        counts = "".join(f'<ScoreDistribution value="{v}" recordCount="{v}"/>' for v in (1, 3))
        nodes = nodes_of(tree(f"<Node><True/>{counts}</Node>"), tmp_path)
        assert nodes.shares().tolist() == [0.25, 0.75]
        assert nodes.labels() == ["3"]
        assert not nodes.emptied()[0]


class TestReading:
    @pytest.mark.parametrize("where", ["inside", "among"])
    def test_extensions_are_passed_over(self, where: str, tmp_path: Path):
        extension = "<Extension name='n'><Partition><Node score='9'/>text</Partition></Extension>"
        model = load(split(**{where: extension}), tmp_path)
        assert ask(model, x=[0.0, 2.0])["y"] == [3.0, 2.0]

    def test_a_namespace_prefix_changes_nothing(self, tmp_path: Path):
        text = split().replace("</", "</p:").replace("xmlns=", "xmlns:p=")
        assert ask(load(re.sub(r"<(?=[A-Z])", "<p:", text), tmp_path), x=[2.0])["y"] == [2.0]

    @pytest.mark.parametrize(
        ("nodes", "message"),
        [
            ("<Node/>", "Node at line 6 lacks a predicate"),
            ('<Node id="7" score="1"/>', "Node '7' at line 6 lacks a predicate"),
            ("<Node><True/><Regression/></Node>", "Regression at line 6 within a tree's node"),
            (
                '<Node><True/>\n<ScoreDistribution value="a" recordCount="many"/></Node>',
                "ScoreDistribution at line 7 recordCount='many' is not a number",
            ),
            (
                '<Node score="low"><True/></Node>',
                "Node at line 6 has the score 'low', no number",
            ),
        ],
    )
    def test_what_is_wrong_is_named_with_its_line(self, nodes: str, message: str, tmp_path: Path):
        with pytest.raises(UnsupportedModel, match=re.escape(message)):
            load(tree(nodes), tmp_path)
