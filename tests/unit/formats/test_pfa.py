"""PFA: documents of our own, by the specification's rules; and documents that are broken."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import martlet
from martlet.errors import InvalidInput, UnsupportedModel


def load(tmp_path: Path, document: dict[str, Any]) -> martlet.Checked:
    path = tmp_path / "model.pfa"
    path.write_text(json.dumps(document))
    return martlet.load(path)


def ask(tmp_path: Path, document: dict[str, Any], *rows: Any) -> list[Any]:
    model = load(tmp_path, document)
    return model.predict({"input": list(rows)})["output"].tolist()


class TestExpressions:
    @pytest.mark.parametrize(
        ("action", "output", "given", "answer"),
        [
            ({"+": ["input", 1]}, "double", 2.0, 3.0),
            ({"-": [{"*": ["input", 2]}, {"/": ["input", 4]}]}, "double", 8.0, 14.0),
            ({"if": {"<": ["input", 3]}, "then": 1, "else": 2.5}, "double", 2.0, 1.0),
            ([{"let": {"x": 1.0}}, {"set": {"x": {"+": ["x", "input"]}}}, "x"], "double", 4.0, 5.0),
            (
                [
                    {"let": {"sum": 0.0}},
                    {
                        "for": {"i": 0},
                        "while": {"<": ["i", 4]},
                        "step": {"i": {"+": ["i", 1]}},
                        "do": {"set": {"sum": {"+": ["sum", "input"]}}},
                    },
                    "sum",
                ],
                "double",
                2.5,
                10.0,
            ),
            (
                {
                    "a.fold": [
                        {"type": {"type": "array", "items": "double"}, "value": [1, 2, 3]},
                        "input",
                        {
                            "params": [{"tally": "double"}, {"x": "double"}],
                            "ret": "double",
                            "do": {"*": ["tally", "x"]},
                        },
                    ]
                },
                "double",
                2.0,
                12.0,
            ),
            ({"cond": [{"if": {">": ["input", 9]}, "then": [["big"]]}], "else": [["small"]]},
             "string", 3.0, "small"),
            # A list where a block may stand is its steps, one symbol too.
            ({"if": {">": ["input", 9]}, "then": [1.0], "else": ["input"]}, "double", 3.0, 3.0),
            ([{"let": {"t": ["a text"]}}, {"do": ["t"]}], "string", 3.0, "a text"),
            ({"a.map": [{"type": {"type": "array", "items": "string"}, "value": ["b"]},
                        {"params": [{"s": "string"}], "ret": "string", "do": ["s"]}]},
             {"type": "array", "items": "string"}, 3.0, ["b"]),
            # A function of the library takes what is filled in by the specification's names.
            ({"a.map": [{"new": [{"new": ["input"], "type": {"type": "array", "items": "double"}}],
                         "type": {"type": "array", "items": {"type": "array", "items": "double"}}},
                        {"fcn": "m.kernel.poly", "fill": {
                            "y": {"type": {"type": "array", "items": "double"}, "value": [2.0]},
                            "degree": 2, "intercept": 1.0, "gamma": 0.5}}]},
             {"type": "array", "items": "double"}, 3.0, [16.0]),
            ({"m.link.logit": ["input"]}, "double", 0.0, 0.5),
            ({"&&": [{"<": [0, "input"]}, {"<": ["input", 9]}]}, "boolean", 3.0, True),
        ],
        ids=str,
    )  # fmt: skip
    def test_give_what_the_specification_says(
        self, tmp_path: Path, action: Any, output: str, given: float, answer: Any
    ) -> None:
        document = {"input": "double", "output": output, "action": action}
        assert ask(tmp_path, document, given) == [answer]

    def test_the_second_part_of_and_waits_for_the_first(self, tmp_path: Path) -> None:
        failing = {"==": [{"a.head": {"type": {"type": "array", "items": "int"}, "value": []}}, 1]}
        document = {"input": "boolean", "output": "boolean", "action": {"&&": ["input", failing]}}
        assert ask(tmp_path, document, False) == [False]
        with pytest.raises(InvalidInput, match=r"empty array \(#15020\)"):
            ask(tmp_path, document, True)

    def test_an_int_that_overflows_is_an_exception_with_its_number(self, tmp_path: Path) -> None:
        document = {"input": "int", "output": "int", "action": {"+": ["input", "input"]}}
        assert ask(tmp_path, document, 2**30 - 1) == [2**31 - 2]
        with pytest.raises(InvalidInput, match=r"row 0: int overflow \(#18000\)"):
            ask(tmp_path, document, 2**30)

    def test_a_function_of_the_document_may_call_itself(self, tmp_path: Path) -> None:
        document = {
            "input": "int",
            "output": "int",
            "action": {"u.factorial": ["input"]},
            "fcns": {
                "factorial": {
                    "params": [{"n": "int"}],
                    "ret": "int",
                    "do": {
                        "if": {"<": ["n", 2]},
                        "then": 1,
                        "else": {"*": ["n", {"u.factorial": [{"-": ["n", 1]}]}]},
                    },
                }
            },
        }
        assert ask(tmp_path, document, 5, 1) == [120, 1]

    def test_try_gives_null_in_place_of_an_exception(self, tmp_path: Path) -> None:
        document = {
            "input": "string",
            "output": ["int", "null"],
            "action": {"try": {"parse.int": ["input", 10]}},
        }
        found = ask(tmp_path, document, "12", "x")
        assert found[0] == 12.0
        assert np.isnan(found[1])


COUNTER: dict[str, Any] = {
    "input": "int",
    "output": "int",
    "cells": {"total": {"type": "int", "init": 10}},
    "action": {
        "cell": "total",
        "to": {"params": [{"t": "int"}], "ret": "int", "do": {"+": ["t", "input"]}},
    },
}


class TestState:
    def test_stays_from_row_to_row_and_from_call_to_call(self, tmp_path: Path) -> None:
        model = load(tmp_path, COUNTER)
        assert model.predict({"input": [1, 2]})["output"].tolist() == [11, 13]
        assert model.predict({"input": [5]})["output"].tolist() == [18]

    def test_is_changed_by_one_call_at_a_time(self, tmp_path: Path) -> None:
        one_more = {"cell": "total", "to": {"+": [{"cell": "total"}, 1]}}
        model = load(tmp_path, {**COUNTER, "action": one_more})
        threads = [
            threading.Thread(target=lambda: model.predict({"input": [0] * 200})) for _ in range(4)
        ]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        assert model.predict({"input": [0]})["output"].tolist() == [811]

    def test_fold_gives_the_tally_so_far(self, tmp_path: Path) -> None:
        document = {
            "input": "double",
            "output": "double",
            "method": "fold",
            "zero": 0,
            "action": {"+": ["input", "tally"]},
            "merge": {"+": ["tallyOne", "tallyTwo"]},
        }
        assert ask(tmp_path, document, 1.0, 2.0, 3.5) == [1.0, 3.0, 6.5]

    def test_emit_gives_all_that_a_row_emitted(self, tmp_path: Path) -> None:
        document = {
            "input": "int",
            "output": "int",
            "method": "emit",
            "action": {"foreach": "x", "in": {"type": {"type": "array", "items": "int"},
                       "value": [1, 2, 3]}, "do": {"if": {">": ["x", "input"]},
                       "then": {"emit": ["x"]}}},
        }  # fmt: skip
        assert [json.loads(each) for each in ask(tmp_path, document, 1, 9)] == [[2, 3], []]

    def test_a_pool_begins_with_its_init(self, tmp_path: Path) -> None:
        document = {
            "input": "string",
            "output": "int",
            "pools": {"seen": {"type": "int", "init": {}}},
            "action": {"pool": "seen", "path": ["input"], "init": 0,
                       "to": {"params": [{"n": "int"}], "ret": "int", "do": {"+": ["n", 1]}}},
        }  # fmt: skip
        assert ask(tmp_path, document, "a", "b", "a") == [1, 1, 2]


class TestTypesAsTensors:
    def test_a_record_is_an_input_a_field(self, tmp_path: Path) -> None:
        document = {
            "input": {"type": "record", "name": "Row", "fields": [
                {"name": "age", "type": "double"}, {"name": "city", "type": "string"},
                {"name": "count", "type": ["null", "int"]},
            ]},
            "output": {"type": "record", "name": "Answer", "fields": [
                {"name": "double", "type": "double"}, {"name": "where", "type": "string"},
                {"name": "count", "type": ["null", "int"]}]},
            "action": {"type": "Answer", "new": {
                "double": {"*": ["input.age", 2]}, "where": "input.city", "count": "input.count"}},
        }  # fmt: skip
        model = load(tmp_path, document)
        assert {n: str(s) for n, s in model.signatures["serving_default"].inputs.items()} == {
            "age": "float64 [-1]",
            "city": "string [-1]",
            "count": "float64 [-1]",
        }
        found = model.predict({"age": [4.0, 5.0], "city": ["oslo", "rome"], "count": [3, np.nan]})
        assert found["double"].tolist() == [8.0, 10.0]
        assert found["where"].tolist() == ["oslo", "rome"]
        assert found["count"][0] == 3.0
        assert np.isnan(found["count"][1])

    def test_a_field_with_a_default_need_not_be_given(self, tmp_path: Path) -> None:
        fields = [
            {"name": "age", "type": "double"},
            {"name": "count", "type": "int", "default": 5},
            {"name": "bids", "type": {"type": "array", "items": "double"}, "default": [2.0, 3.0]},
            {"name": "share", "type": {"type": "map", "values": "int"}, "default": {"a": 40}},
            {"name": "city", "type": ["null", "string"], "default": None},
        ]
        record = {"type": "record", "name": "Row", "fields": fields}
        total = {"+": ["input.age", {"+": ["input.count", {"+": [
            {"a.sum": ["input.bids"]}, "input.share.a"]}]}]}  # fmt: skip
        model = load(tmp_path, {"input": record, "output": "double", "action": total})
        assert model.predict({"age": [100.0, 200.0]})["output"].tolist() == [150.0, 250.0]
        given = {"age": [100.0], "count": [0], "bids": [[1.0]], "share": ['{"a": 0}']}
        assert model.predict(given)["output"].tolist() == [101.0]
        with pytest.raises(InvalidInput, match="input 'age' is missing"):
            model.predict({"count": [1]})

    def test_a_default_stands_in_records_within_too(self, tmp_path: Path) -> None:
        inner = {"type": "record", "name": "In", "fields": [
            {"name": "x", "type": "int"}, {"name": "y", "type": "int", "default": 7}]}  # fmt: skip
        document = {"input": {"type": "map", "values": inner}, "output": "int",
                    "action": {"attr": "input", "path": [["k"], ["y"]]}}  # fmt: skip
        assert ask(tmp_path, document, '{"k": {"x": 1}}', '{"k": {"x": 1, "y": 2}}') == [7, 2]
        with pytest.raises(InvalidInput, match="lacks the field 'x'"):
            ask(tmp_path, document, '{"k": {"y": 1}}')

    def test_records_are_ordered_as_their_fields_say(self, tmp_path: Path) -> None:
        record = {"type": "record", "name": "Row", "fields": [
            {"name": "x", "type": "int", "order": "descending"},
            {"name": "y", "type": "int", "order": "ignore"},
            {"name": "z", "type": "int"}]}  # fmt: skip
        rows = {"type": "array", "items": record}
        first = {"attr": {"a.sort": ["input"]}, "path": [0]}
        action = [{"let": {"first": first}}, "first.z"]
        document = {"input": rows, "output": "int", "action": action}
        given = [{"x": 1, "y": 0, "z": 1}, {"x": 2, "y": 1, "z": 3}, {"x": 2, "y": 9, "z": 2}]
        assert ask(tmp_path, document, json.dumps(given)) == [2]

    def test_arrays_of_numbers_are_matrices_and_shorter_ones_end_in_nan(
        self, tmp_path: Path
    ) -> None:
        document = {
            "input": {"type": "array", "items": "double"},
            "output": {"type": "array", "items": "double"},
            "action": {"a.filter": ["input", {"params": [{"x": "double"}], "ret": "boolean",
                                              "do": {">": ["x", 0]}}]},
        }  # fmt: skip
        model = load(tmp_path, document)
        found = model.predict({"input": [[1.0, -1.0], [2.0, 3.0]]})["output"]
        np.testing.assert_array_equal(found, [[1.0, np.nan], [2.0, 3.0]])

    def test_maps_are_json_text(self, tmp_path: Path) -> None:
        document = {
            "input": {"type": "map", "values": "int"},
            "output": {"type": "map", "values": "int"},
            "action": {"map.add": ["input", ["new"], 7]},
        }
        found = ask(tmp_path, document, '{"a": 1}', "{}")
        assert [json.loads(each) for each in found] == [{"a": 1, "new": 7}, {"new": 7}]
        with pytest.raises(InvalidInput, match="not JSON"):
            ask(tmp_path, document, "{")
        with pytest.raises(InvalidInput, match="is not int"):
            ask(tmp_path, document, '{"a": 0.5}')

    def test_no_row_gives_no_answer(self, tmp_path: Path) -> None:
        document = {"input": "double", "output": "double", "action": "input"}
        model = load(tmp_path, document)
        assert model.predict({"input": np.empty(0)})["output"].shape == (0,)


class TestDocumentsInYaml:
    def test_are_read_like_json(self, tmp_path: Path) -> None:
        pytest.importorskip("yaml", reason="the extra martlet[pfa] is not installed")
        path = tmp_path / "model.yaml"
        path.write_text("input: double\noutput: double\naction:\n  - {+: [input, 100]}\n")
        assert martlet.load(path).predict({"input": [1.0]})["output"].tolist() == [101.0]

    def test_are_refused_where_an_alias_could_unfold_them(self, tmp_path: Path) -> None:
        pytest.importorskip("yaml", reason="the extra martlet[pfa] is not installed")
        path = tmp_path / "bomb.yaml"
        levels = "".join(f"b{i}: &b{i} [{', '.join([f'*b{i - 1}'] * 9)}]\n" for i in range(1, 12))
        path.write_text(f"input: &b0 'null'\noutput: 'null'\naction: null\n{levels}")
        with pytest.raises(UnsupportedModel, match="aliases"):
            martlet.load(path)

    def test_are_refused_where_they_nest_without_end(self, tmp_path: Path) -> None:
        pytest.importorskip("yaml", reason="the extra martlet[pfa] is not installed")
        path = tmp_path / "deep.yaml"
        path.write_text("input: double\noutput: double\naction: " + "[" * 50_000)
        with pytest.raises(UnsupportedModel, match="nested deeper than 500"):
            martlet.load(path)


def nested(depth: int) -> dict[str, Any]:
    action: Any = "input"
    for _ in range(depth):
        action = {"+": [action, 1]}
    return {"input": "double", "output": "double", "action": action}


class TestBrokenDocuments:
    @pytest.mark.parametrize(
        ("document", "says"),
        [
            ({"input": "double", "output": "double", "action": {"+": ["input", "nobody"]}},
             r"action.*no symbol is named 'nobody'"),
            ({"input": "double", "output": "double", "action": {"m.nothing": ["input"]}},
             r"no function is named 'm.nothing'"),
            ({"input": "string", "output": "double", "action": {"m.exp": ["input"]}},
             r"'m.exp' does not take \(string\)"),
            ({"input": "double", "output": "string", "action": "input"}, r"string is wanted"),
            ({"input": "nothing", "output": "double", "action": 1.0}, "named 'nothing'"),
            ({"input": "double", "output": "double", "action": {"cell": "gone"}}, r"no cell"),
            ({"input": "double", "output": "double", "action": 1.0,
              "cells": {"c": {"type": "double", "init": "x", "source": "http"}}}, "lies elsewhere"),
            ({"input": "double", "output": "double", "action": 1.0, "method": "stream"}, "method"),
            (nested(400), "nested too deeply"),
            ({"input": "double", "output": "double", "action": {"u.f": ["input"]}, "fcns": {"f": {
                "params": [{"x": "double"}], "ret": "double", "do": [{"let": {"y": {"q": 1}}}]}}},
             r"fcns -> f -> do -> 0 -> let"),
            ({"input": "double", "output": "double", "action": [{"foreach": "x", "do": []}]},
             r"action -> 0 -> foreach: 'in' is missing"),
            ({"input": "double", "output": "double", "action": 1.0, "cells": {"c": {"init": 1}}},
             r"cells -> c: 'type' is missing"),
            ({"input": {"type": "record", "name": "R", "fields": [
                {"name": "x", "type": "double", "default": "none"}]},
              "output": "double", "action": 1.0}, "default of the field 'x'"),
        ],
        ids=str,
    )  # fmt: skip
    def test_are_refused_with_the_place_and_the_reason(
        self, tmp_path: Path, document: dict[str, Any], says: str
    ) -> None:
        with pytest.raises(UnsupportedModel, match=says):
            load(tmp_path, document)

    def test_text_that_is_python_stays_text(self, tmp_path: Path) -> None:
        trap = "__import__('os').system('touch gone')"
        document = {
            "name": trap,
            "input": "string",
            "output": "string",
            "action": [{"let": {"x": [trap]}}, {"s.concat": ["x", "input"]}],
            "metadata": {trap: trap},
        }
        assert ask(tmp_path, document, "!") == [trap + "!"]
        bad = {**document, "action": [{"let": {trap: ["x"]}}, "input"]}
        with pytest.raises(UnsupportedModel, match="cannot name a symbol"):
            load(tmp_path, bad)

    def test_a_loop_without_end_is_stopped(self, tmp_path: Path) -> None:
        document = {
            "input": "null",
            "output": "null",
            "options": {"timeout": 50},
            "action": {"while": True, "do": {"+": [1, 1]}},
        }
        with pytest.raises(InvalidInput, match=r"longer than 0\.05 s"):
            ask(tmp_path, document, None)

    @pytest.mark.parametrize("where", ["do", "step"])
    @pytest.mark.parametrize(
        ("of", "function"),
        [("string", "s.concat"), ({"type": "array", "items": "int"}, "a.concat")],
    )
    def test_what_a_loop_doubles_is_held_within_bounds(
        self, tmp_path: Path, where: str, of: Any, function: str
    ) -> None:
        start = ["x"] if of == "string" else {"value": [1], "type": of}
        twice = {"s": {function: ["s", "s"]}}
        loop = {"for": {"s": start}, "while": True, "step": {}, "do": {"set": twice}}
        if where == "step":
            loop |= {"step": twice, "do": 1}
        document = {"input": "null", "output": "null", "action": [loop, None]}
        with pytest.raises(InvalidInput, match="33554432 elements, past the limit of 16777216"):
            ask(tmp_path, document, None)

    def test_recursion_without_end_is_stopped(self, tmp_path: Path) -> None:
        document = {
            "input": "int",
            "output": "int",
            "action": {"u.f": ["input"]},
            "fcns": {"f": {"params": [{"x": "int"}], "ret": "int", "do": {"u.f": ["x"]}}},
        }
        with pytest.raises(InvalidInput, match="recurs"):
            ask(tmp_path, document, 1)

    @pytest.mark.parametrize("data", [b"", b"{", b"{" * 200_000, b'{"input": 1' + b"\xff" * 9])
    def test_what_is_no_document_is_refused(self, tmp_path: Path, data: bytes) -> None:
        path = tmp_path / "model.pfa"
        path.write_bytes(data)
        with pytest.raises(UnsupportedModel):
            martlet.load(path)
