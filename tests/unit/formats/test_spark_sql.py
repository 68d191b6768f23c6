"""What a SQLTransformer computes equals what Spark answers: ``sql.json`` keeps its answers."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from martlet.errors import UnsupportedModel
from martlet.formats.stages.plan import Plan
from martlet.formats.stages.sql import select
from martlet.formats.stages.stage import Kind, Port
from martlet.tensors import DType

TOLD = json.loads((Path(__file__).parents[2] / "fixtures/spark/sql.json").read_text())
NAMES = [each.split()[0] for each in TOLD["schema"].split(", ")]
COLUMNS = dict(zip(NAMES, zip(*TOLD["rows"], strict=True), strict=True))


def raw(name: str) -> Port:
    return Port(name, Kind.ANY)


def asked(expression: str, port: Any = raw) -> list[Any]:
    plan = Plan("sql", select("sql", f"SELECT *, {expression} AS found FROM __THIS__", port).stages)
    signature = plan.signatures["prediction"]
    inputs = {}
    for name, spec in signature.inputs.items():
        given = COLUMNS[name]
        if spec.dtype is DType.FLOAT64:
            given = [math.nan if v is None else float(v) for v in given]
            inputs[name] = np.array(given)
        else:
            inputs[name] = np.array([*given, None], dtype=object)[:-1]
    if not inputs:
        return next(iter(plan.predict({}).values())).tolist()
    found: list[Any] = plan.predict(inputs, "prediction")["found"].tolist()
    return found


def close(found: Any, wanted: Any) -> bool:
    if wanted is None:
        return found is None or found != found
    if wanted == "nan":
        return bool(found != found)
    if isinstance(wanted, str):
        return bool(found == wanted)
    return bool(math.isclose(float(found), wanted, rel_tol=1e-12))


@pytest.mark.parametrize("expression", [e for e in TOLD["answers"] if e not in ("1", "'x'")])
def test_an_expression_answers_as_spark(expression: str) -> None:
    found, wanted = asked(expression), TOLD["answers"][expression]
    assert all(map(close, found, wanted)), (found, wanted)


class TestSelect:
    def run(self, statement: str, **inputs: Any) -> dict[str, Any]:
        plan = Plan("sql", select("sql", statement, raw).stages)
        given = {k: np.array([*v, None], dtype=object)[:-1] for k, v in inputs.items()}
        found = plan.predict(given, "prediction")
        return {name: values.tolist() for name, values in found.items()}

    def test_a_constant_is_the_same_for_every_row(self) -> None:
        statement = "SELECT upper(city) AS big, 1 AS one, 'x' AS sign FROM __THIS__"
        found = self.run(statement, city=["oslo", "rome"])
        assert found == {"big": ["OSLO", "ROME"], "one": [1.0, 1.0], "sign": ["x", "x"]}

    def test_the_table_may_have_a_name(self) -> None:
        statement = "SELECT t.*, upper(t.city) AS big FROM __THIS__ AS t WHERE t.city LIKE 'o%'"
        assert self.run(statement, city=["oslo", "rome"])["big"] == ["OSLO", None]

    def test_a_column_passed_on_by_another_name_makes_no_stage(self) -> None:
        found = select("sql", "SELECT city AS town, features AS x FROM __THIS__", raw)
        assert (found.stages, found.renamed) == ([], {"town": "city", "x": "features"})

    @pytest.mark.parametrize(
        ("expression", "named"),
        [
            ("concat('v', a + 1)", "text of a number that may be whole"),
            ("sum(a)", "the function sum"),
            ("a + INTERVAL 1 DAY", "'INTERVAL'"),
            ("CAST(a AS array)", "a cast to array"),
            ("date_format(a, 'QQQ')", "'QQQ' in a pattern of times"),
            ("regexp_replace(a, b, '')", "regexp_replace by anything but a literal"),
            ("regexp_extract(a, 'x', 1)", "there is no group 1"),
            ("regexp_replace(a, '[a-z&&[^b]]', '')", "what two classes share"),
            ("rand()", "the function rand"),
        ],
    )
    def test_what_is_not_read_is_named(self, expression: str, named: str) -> None:
        with pytest.raises(UnsupportedModel) as told:
            select("sql", f"SELECT {expression} AS found FROM __THIS__", raw)
        assert named in str(told.value)
