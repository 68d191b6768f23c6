"""PFA trees: the forest that walks them beside a walk of our own by the specification's rules.

Source: PFA 0.8.1, ``model.tree.simpleTest``, ``missingTest``, ``simpleWalk``, ``missingWalk``.
"""

from __future__ import annotations

import json
import math
import operator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import martlet
from martlet.errors import InvalidInput
from martlet.formats.pfa.document import engine

COMPARED = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}
ROW = {
    "type": "record",
    "name": "Row",
    "fields": [
        {"name": "x", "type": "double"},
        {"name": "k", "type": "int"},
        {"name": "f", "type": "float"},
        {"name": "city", "type": "string"},
        {"name": "maybe", "type": ["null", "double"]},
        {"name": "plan", "type": ["null", "string"]},
    ],
}
NUMBERS = st.sampled_from([0.0, -0.0, 1.0, 2.0, -1.5, 0.1, 1e300, -1e300]) | st.floats(-3, 3)
CITIES = st.sampled_from(["oslo", "bergen", "", "é", "unseen"])


def node_type(score: Any, missing: bool) -> dict[str, Any]:
    branch = ["Node", score]
    return {
        "type": "record",
        "name": "Node",
        "fields": [
            {
                "name": "field",
                "type": {
                    "type": "enum",
                    "name": "Field",
                    "symbols": [each["name"] for each in ROW["fields"]],
                },
            },
            {"name": "operator", "type": "string"},
            {"name": "value", "type": ["double", "string", {"type": "array", "items": "string"}]},
            {"name": "pass", "type": branch},
            {"name": "fail", "type": branch},
            *([{"name": "missing", "type": branch}] if missing else []),
        ],
    }


def nodes(missing: bool, scores: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Trees as plain values: a node is a dictionary, a leaf what is answered."""
    texts = ["city", "plan"] if missing else ["city"]
    number = st.tuples(
        st.sampled_from(["x", "k", "f", "maybe"] if missing else ["x", "k", "f"]),
        st.sampled_from(list(COMPARED)),
        NUMBERS,
    )
    text = st.tuples(st.sampled_from(texts), st.sampled_from(["==", "!="]), CITIES)
    listed = st.tuples(
        st.sampled_from(texts),
        st.sampled_from(["in", "notIn"]),
        st.lists(CITIES, max_size=3),
    )
    always = st.tuples(st.just("x"), st.sampled_from(["alwaysTrue", "alwaysFalse"]), st.just(0.0))

    def inner(below: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        ways = {"pass": below, "fail": below} | ({"missing": below} if missing else {})
        return st.builds(
            lambda test, ends: dict(zip(("field", "operator", "value"), test, strict=True)) | ends,
            number | text | listed | always,
            st.fixed_dictionaries(ways),
        )

    return inner(st.recursive(scores, inner, max_leaves=8))


def walked(node: Any, row: dict[str, Any]) -> Any:
    """What the specification says of one row."""
    while isinstance(node, dict):
        x, name, value = row[node["field"]], node["operator"], node["value"]
        if name in ("alwaysTrue", "alwaysFalse"):
            found: bool | None = name == "alwaysTrue"
        elif x is None:
            found = None
        elif name in ("in", "notIn"):
            found = (x in value) is (name == "in")
        else:
            found = COMPARED[name](x, value)
        node = node["missing" if found is None else "pass" if found else "fail"]
    return node


def avro(node: Any, score: str) -> Any:
    """A tree as the cell of a document holds it: union members by name."""
    if not isinstance(node, dict):
        return {score: node}
    kind = {str: "string", float: "double", list: "array"}[type(node["value"])]
    ends = {
        way: ({"Node": avro(v, score)} if isinstance(v, dict) else avro(v, score))
        for way, v in node.items()
        if way in ("pass", "fail", "missing")
    }
    return {**node, "value": {kind: node["value"]}, **ends}


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "x": NUMBERS | st.sampled_from([math.nan, math.inf, -math.inf]),
            "k": st.integers(-3, 3) | st.sampled_from([2**31 - 1, -(2**31)]),
            "f": st.floats(-3, 3, width=32) | st.just(math.nan),
            "city": CITIES,
            "maybe": st.none() | NUMBERS,
            "plan": st.none() | CITIES,
        }
    ),
    max_size=5,
)


def inputs(rows: list[dict[str, Any]]) -> dict[str, Any]:
    columns = {each["name"]: [row[each["name"]] for row in rows] for each in ROW["fields"]}
    return {
        "x": np.array(columns["x"], float),
        "k": np.array(columns["k"], np.int64),
        "f": np.array(columns["f"], float),
        "city": np.array(columns["city"], object),
        "maybe": np.array([np.nan if v is None else v for v in columns["maybe"]], float),
        "plan": np.array(columns["plan"], object),
    }


def call(missing: bool, tree: Any, tests: bool = True) -> dict[str, Any]:
    name = "missing" if missing else "simple"
    test = {
        "params": [{"d": "Row"}, {"n": "Node"}],
        "ret": ["null", "boolean"] if missing else "boolean",
        "do": {f"model.tree.{name}Test": ["d", "n"]},
    }
    if tests:
        return {f"model.tree.{name}Walk": ["input", tree, test]}
    return {"model.tree.simpleTree": ["input", tree]}


def saved(path: Path, document: dict[str, Any]) -> Path:
    path.write_text(json.dumps(document))
    return path


ONE = settings(
    max_examples=60,
)


class TestOneTree:
    @ONE
    @given(st.booleans(), st.booleans(), st.booleans(), st.data())
    def test_answers_as_the_specification_says(
        self, tmp_path: Path, missing: bool, texts: bool, tests: bool, data: st.DataObject
    ) -> None:
        score = "string" if texts else "double"
        tree = data.draw(nodes(missing, CITIES if texts else NUMBERS))
        rows = data.draw(ROWS)
        cell = {"type": node_type(score, missing), "init": avro(tree, score)}
        document = {
            "input": ROW,
            "output": score,
            "cells": {"tree": cell},
            "action": call(missing, {"cell": "tree"}, tests or missing),
        }
        path = saved(tmp_path / "m.pfa", document)
        assert engine(path).bare, "the forest walks it"
        with martlet.load(path) as model:
            found = model.predict(inputs(rows))["output"].tolist()
        assert found == [walked(tree, row) for row in rows]


class TestManyTrees:
    @ONE
    @given(st.data())
    def test_are_added_and_averaged_in_their_order(
        self, tmp_path: Path, data: st.DataObject
    ) -> None:
        trees = data.draw(st.lists(nodes(False, st.floats(-3, 3)), min_size=1, max_size=4))
        rows = data.draw(ROWS)
        each = {
            "params": [{"t": "Node"}],
            "ret": "double",
            "do": [{"model.tree.simpleTree": ["row", "t"]}],
        }
        document = {
            "input": ROW,
            "output": {
                "type": "record",
                "name": "Answer",
                "fields": [
                    {"name": n, "type": "double"} for n in ("sum", "mean", "chance", "most")
                ],
            },
            "cells": {
                "trees": {
                    "type": {"type": "array", "items": node_type("double", False)},
                    "init": [avro(tree, "double") for tree in trees],
                }
            },
            "action": [
                {"let": {"row": "input"}},
                {"let": {"scores": {"a.map": [{"cell": "trees"}, each]}}},
                {
                    "type": "Answer",
                    "new": {
                        "sum": {"a.sum": "scores"},
                        "mean": {"a.mean": [{"a.map": [{"cell": "trees"}, each]}]},
                        "chance": {"m.link.logit": [{"+": ["row.x", {"a.sum": ["scores"]}]}]},
                        "most": {"a.max": "scores"},
                    },
                },
            ],
        }
        path = saved(tmp_path / "m.pfa", document)
        assert len(engine(path).groves) == 3  # the list, its sum (asked for twice) and the mean
        with martlet.load(path) as model:
            found = model.predict(inputs(rows))
        for at, row in enumerate(rows):
            scores = [walked(tree, row) for tree in trees]
            total = 0.0
            for score in scores:
                total += score
            assert found["sum"][at] == total
            assert found["mean"][at] == total / len(scores)
            assert found["most"][at] == max(scores)
            if math.isfinite(row["x"]):
                raw = row["x"] + total
                wanted = 1 / (1 + math.exp(-raw)) if raw > -700 else 0.0
                assert found["chance"][at] == pytest.approx(wanted, rel=1e-12, abs=1e-300)

    @pytest.mark.parametrize("kind", ["RandomForestRegressor", "GradientBoostingRegressor"])
    def test_of_scikit_learn_answer_as_there(self, kind: str, tmp_path: Path) -> None:
        ensemble = pytest.importorskip("sklearn.ensemble")
        dice = np.random.default_rng(3)
        x = dice.normal(size=(400, 3)).astype(np.float32)
        own = getattr(ensemble, kind)(n_estimators=15, max_depth=5, random_state=0)
        own.fit(x, x[:, 0] * x[:, 1] + x[:, 2])
        boosted = kind.startswith("Gradient")

        def node(tree: Any, at: int) -> Any:
            if tree.children_left[at] < 0:
                share = own.learning_rate if boosted else 1.0
                return {"double": float(tree.value[at, 0, 0] * share)}
            return {
                "Node": {
                    "field": f"x{tree.feature[at]}",
                    "operator": "<=",
                    "value": float(tree.threshold[at]),
                    "pass": node(tree, tree.children_left[at]),
                    "fail": node(tree, tree.children_right[at]),
                }
            }

        trees = [each.tree_ for each in np.ravel(own.estimators_)]
        names = ["x0", "x1", "x2"]
        branch = ["Node", "double"]
        field = {"type": "enum", "name": "Field", "symbols": names}
        kinds = {"field": field, "operator": "string", "value": "double"}
        kinds |= {"pass": branch, "fail": branch}
        fields = [{"name": name, "type": of} for name, of in kinds.items()]
        score = {"params": [{"t": "Node"}], "ret": "double",
                 "do": {"model.tree.simpleTree": ["input", "t"]}}  # fmt: skip
        scores = {"a.map": [{"cell": "trees"}, score]}
        begin = float(own.init_.constant_.item()) if boosted else 0.0
        document = {
            "input": {"type": "record", "name": "Row",
                      "fields": [{"name": name, "type": "double"} for name in names]},
            "output": "double",
            "cells": {"trees": {
                "type": {"type": "array",
                         "items": {"type": "record", "name": "Node", "fields": fields}},
                "init": [node(each, 0)["Node"] for each in trees]}},
            "action": {"+": [begin, {"a.sum" if boosted else "a.mean": [scores]}]},
        }  # fmt: skip
        rows = dice.normal(size=(200, 3)).astype(np.float32)
        with martlet.load(saved(tmp_path / "m.pfa", document)) as model:
            found = model.predict({n: rows[:, i].astype(float) for i, n in enumerate(names)})
        np.testing.assert_allclose(found["output"], own.predict(rows), rtol=1e-12)


NODE = {
    "field": "x",
    "operator": "<",
    "value": 0.5,
    "pass": 1.0,
    "fail": {"field": "city", "operator": "==", "value": "oslo", "pass": 2.0, "fail": 3.0},
}


def document(action: Any, tree: Any = NODE, **more: Any) -> dict[str, Any]:
    cell = {"type": node_type("double", False), "init": avro(tree, "double")}
    return {"input": ROW, "output": "double", "cells": {"tree": cell}, "action": action} | more


WALK = call(False, {"cell": "tree"}, tests=False)
ROWS_OF_TWO = [
    {"x": 0.0, "k": 0, "f": 0.0, "city": "oslo", "maybe": None, "plan": None},
    {"x": 1.0, "k": 1, "f": 0.0, "city": "oslo", "maybe": 1.0, "plan": "b"},
]


class TestWhatNoForestSays:
    """The document's own code walks: what it answers, and where it fails, stays the same."""

    def test_a_cell_that_changes(self, tmp_path: Path) -> None:
        turned = avro({**NODE, "pass": 9.0}, "double")
        action = [
            {"let": {"found": WALK}},
            {"cell": "tree", "to": {"type": "Node", "value": turned}},
            "found",
        ]
        path = saved(tmp_path / "m.pfa", document(action))
        assert not engine(path).groves
        with martlet.load(path) as model:
            again = inputs([ROWS_OF_TWO[0]] * 2)
            assert model.predict(again)["output"].tolist() == [1.0, 9.0]

    def test_a_symbol_that_is_set(self, tmp_path: Path) -> None:
        action = [
            {"let": {"row": "input"}},
            {"set": {"row": {"attr": "row", "path": [["x"]], "to": 0.0}}},
            {"model.tree.simpleTree": ["row", {"cell": "tree"}]},
        ]
        with martlet.load(saved(tmp_path / "m.pfa", document(action))) as model:
            assert model.predict(inputs(ROWS_OF_TWO))["output"].tolist() == [1.0, 1.0]

    def test_a_test_of_the_documents_own(self, tmp_path: Path) -> None:
        test = {
            "params": [{"d": "Row"}, {"n": "Node"}],
            "ret": "boolean",
            "do": {"!": [{"model.tree.simpleTest": ["d", "n"]}]},
        }
        action = {"model.tree.simpleWalk": ["input", {"cell": "tree"}, test]}
        with martlet.load(saved(tmp_path / "m.pfa", document(action))) as model:
            assert model.predict(inputs(ROWS_OF_TWO))["output"].tolist() == [3.0, 1.0]

    @pytest.mark.parametrize(
        ("tree", "says"),
        [
            ({**NODE, "operator": "~"}, "invalid comparison operator"),
            ({**NODE, "value": "oslo"}, "bad value type"),
        ],
    )
    def test_a_test_that_fails_fails_at_the_row_that_meets_it(
        self, tree: Any, says: str, tmp_path: Path
    ) -> None:
        path = saved(tmp_path / "m.pfa", document(WALK, tree))
        assert not engine(path).groves
        with martlet.load(path) as model, pytest.raises(InvalidInput, match=says):
            model.predict(inputs(ROWS_OF_TWO))

    def test_values_that_no_tree_tests_are_checked_all_the_same(self, tmp_path: Path) -> None:
        path = saved(tmp_path / "m.pfa", document(WALK))
        given = inputs(ROWS_OF_TWO) | {"k": np.array([0, 2**31])}
        with martlet.load(path) as model, pytest.raises(InvalidInput, match="is not int"):
            model.predict(given)
