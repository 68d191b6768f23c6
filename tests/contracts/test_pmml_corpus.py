"""The shared corpus: PMML files that real tools wrote, with the answers that they gave."""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pmml_adapter
import pytest

from martlet.formats.pmml import servable

_SHARED = Path(os.environ.get("MARTLET_SHARED", Path(__file__).parents[3] / "shared")) / "pmml"
_ALONE = 12  # rows of a batch that are also asked one by one


def _entries(name: str) -> list[Any]:
    index = _SHARED / name
    if not index.is_file():
        return [pytest.param(None, marks=pytest.mark.skip(f"no {index}: set MARTLET_SHARED"))]
    triples = json.loads(index.read_text(encoding="utf-8"))["triples"]
    return [pytest.param(each, id=each["id"]) for each in triples]


@pytest.fixture(scope="module")
def check(shared: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("check_pmml", shared / "pmml/check_pmml.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("entry", _entries("open.json"))
def test_the_answers_are_those_of_the_tool_that_wrote_the_file(entry: Any, check: ModuleType):
    passed, message = check.check_entry(pmml_adapter.score, entry, str(_SHARED), "dict")
    assert passed, message


@pytest.mark.parametrize("entry", _entries("open_errors.json"))
def test_rows_that_cannot_be_answered_are_empty_and_say_why(entry: Any, check: ModuleType):
    found: dict[str, Any] = {}

    def score(path: str, data: Any) -> Any:
        found.update(pmml_adapter.score(path, data))
        return found

    passed, message = check.check_entry(score, entry, str(_SHARED), "dict")
    assert passed, message


def _one_by_one(entry: Any, check: ModuleType) -> Iterator[tuple[int, dict, dict]]:
    data, rows = check.load_input(entry, str(_SHARED), "dict")
    model = pmml_adapter.load(_SHARED / entry["pmml"])
    inputs = pmml_adapter.columns(model, data)
    together = model._many(inputs, rows)  # also where the batch is of one row
    for row in range(0, rows, max(1, rows // _ALONE)):
        alone = model.predict({name: values[row : row + 1] for name, values in inputs.items()})
        yield row, {name: values[row] for name, values in together.items()}, alone


@pytest.mark.parametrize("name", ["open.json", "open_errors.json"])
def test_a_record_alone_is_answered_as_in_its_batch(name: str, check: ModuleType):
    for param in _entries(name):
        entry = param.values[0]
        # What refers to the rows before it is another thing alone.
        if "Lag" in entry["transformations"]:
            continue
        for row, wanted, alone in _one_by_one(entry, check):
            for output, value in wanted.items():
                if output == servable.REASON:
                    # A row may be empty for two causes, of which each path meets another first.
                    if name == "open_errors.json":
                        assert (value is None) == (alone[output][0] is None), (entry["id"], row)
                    continue
                came = alone[output][0]
                where = f"{entry['id']} row {row} {output}: {came!r} alone, {value!r} in a batch"
                if isinstance(value, np.floating):
                    step = 4e-7 if value.dtype == np.float32 else 1e-12
                    assert np.isclose(came, value, rtol=step, atol=step, equal_nan=True), where
                else:
                    assert came == value, where
