"""Pipelines drawn at random that Spark trained: its answers, its refusals, the rows it dropped."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from spark_cases import given, missing, same

import martlet
from martlet.errors import InvalidInput

pytest.importorskip("pyarrow", reason="the extra martlet[spark] is not installed")

# `make spark-parity` draws them and points here; nothing else has a Spark to ask.
MODELS = Path(os.environ.get("MARTLET_SPARK_MODELS", "nowhere")).absolute()
CASES = sorted(path.parent.name for path in MODELS.glob("drawn_*/odd.json"))


@pytest.mark.skipif(not CASES, reason="drawn by make spark-parity")
class TestPipelinesDrawnAtRandom:
    @pytest.mark.parametrize("case", CASES)
    def test_answer_refuse_and_drop_each_row_as_spark_does(self, case: str) -> None:
        rows = json.loads((MODELS / case / "rows.json").read_text(encoding="utf-8"))
        wanted = json.loads((MODELS / case / "odd.json").read_text(encoding="utf-8"))
        wrong: list[str] = []
        answered: dict[int, dict[str, np.ndarray]] = {}
        with martlet.load(MODELS / case / "model") as model:
            inputs = model.signatures["columns"].inputs
            asked = [
                {name: given(rows[name][i], spec) for name, spec in inputs.items()}
                for i in range(len(wanted))
            ]
            for i, expected in enumerate(wanted):
                try:
                    found = model.predict({n: [v] for n, v in asked[i].items()}, "columns")
                except InvalidInput as exc:
                    if expected is not None:
                        wrong.append(f"row {i} is refused: {exc}")
                    continue
                answered[i] = found
                wrong += _differences(i, found, expected)
            chosen = sorted(answered)
            together = model.predict(_batch(asked, chosen), "columns") if chosen else {}
        for place, i in enumerate(sorted(answered)):
            for name, alone in answered[i].items():
                if not _equal(together[name][place], alone[0]):
                    wrong.append(f"row {i}: {name} differs in a batch")
        about = (MODELS / case / "stages.txt").read_text(encoding="utf-8")
        assert not wrong, "\n".join([about, *wrong[:12]])


def _differences(
    i: int, found: dict[str, np.ndarray], expected: dict[str, Any] | None
) -> list[str]:
    if expected is None:
        # What Spark drops, or fails on, may answer missing values, and nothing else.
        lost = any(missing(each) for each in found.values())
        return [] if lost else [f"row {i} is answered, where Spark refuses it"]
    return [
        f"row {i}: {name} is {found[name].tolist() if name in found else 'absent'}, not {value}"
        for name, value in expected.items()
        if name not in found or not same(found[name], [value])
    ]


def _batch(rows: list[dict[str, Any]], chosen: list[int]) -> dict[str, list[Any]]:
    return {name: [rows[i][name] for i in chosen] for name in rows[0]}


def _equal(one: Any, other: Any) -> bool:
    if isinstance(other, np.ndarray) and other.dtype == object:
        # A row's words are filled up to the longest row's.
        return [w for w in one.tolist() if w is not None] == other.tolist()
    if isinstance(other, str) or other is None:
        return bool(one == other)
    return np.allclose(one, other, rtol=1e-9, atol=1e-12, equal_nan=True)
