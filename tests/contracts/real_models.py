"""Real models that nobody here made, with the answers that their own library gave."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import martlet
from martlet.errors import UnsupportedModel
from martlet.tensors import DType, Signature

SHARED = Path(os.environ.get("MARTLET_SHARED", Path(__file__).parents[3] / "shared"))
ROOT = SHARED / "models"

# By id: what must be said of a file that is to be refused, or that this machine's library
# refuses.
REFUSED = {
    "bad_opset4_mnist_softmax": "Add",
    "backend_cast_FLOAT_to_FLOAT16": "IR version",
    "backend_gru_batchwise": "Batchwise recurrent",
    "vespa_dump_2_2": "dump_model",
    "leaves_iris_gbc": "unpickle",
    "statedict_not_jit": "state_dict",
    "gmf_ml1m_weights_only": "weights without a model",
}

# Its first axis is the sequence that attention runs over, not a batch of rows.
MIXES_ROWS = ("vespa_transformer",)

# The index names what a file leaves unnamed: its only output, or its inputs in order.
GENERIC = "output"


@dataclass(frozen=True)
class Real:
    """One file of one entry of an index."""

    entry: dict[str, Any]
    path: Path

    def __str__(self) -> str:
        return f"{self.entry['id']}/{self.path.name}"

    @property
    def folder(self) -> Path:
        return ROOT / self.entry["format"] / self.entry["id"]


def real_models(*kinds: str) -> list[Any]:
    """Every file of these formats' indexes; one test that skips where there is no shared data."""
    if not ROOT.is_dir():
        reason = f"no shared data at {ROOT.parent}: set MARTLET_SHARED to run this test"
        return [pytest.param(None, marks=pytest.mark.skip(reason), id="none")]
    found = []
    for kind in kinds:
        for entry in json.loads((ROOT / kind / "index.json").read_text()):
            for name in entry["path"].split(", "):
                real = Real(entry, ROOT / kind / entry["id"] / name)
                found.append(pytest.param(real, id=f"{kind}-{real}"))
    return found


def tensor(told: dict[str, Any]) -> np.ndarray:
    """An array as the index's files write it: null is NaN, infinities are words."""
    if told["dtype"] == "string":
        return np.array(told["data"], dtype=object).reshape(told["shape"])
    flat = [_number(value) for value in _flat(told["data"])]
    return np.array(flat, dtype=told["dtype"]).reshape(told["shape"])


def _flat(value: Any) -> list[Any]:
    if not isinstance(value, list):
        return [value]
    return [each for inner in value for each in _flat(inner)]


def _number(value: Any) -> Any:
    return float("nan") if value is None else float(value) if isinstance(value, str) else value


def given_inputs(real: Real, signature: Signature) -> dict[str, np.ndarray]:
    """The entry's inputs, under the names and dtypes of the signature."""
    told = json.loads((real.folder / "open.inputs.json").read_text())
    if isinstance(told, list):  # rows of Spark and MLeap, with columns that the model does not take
        columns = {name: [row[name] for row in told] for name in signature.inputs}
        return {n: _column(columns[n], s.dtype) for n, s in signature.inputs.items()}
    if "data" in told or "rows" in told:  # a table by rows
        rows = told.get("data") or told["rows"]
        names = told.get("columns") or told["feature_names"]
        if list(signature.inputs) == ["X"]:
            return {"X": np.array(rows, dtype=np.float64)}
        columns = dict(zip(names, zip(*rows, strict=True), strict=True))
        return {n: _column(columns[n], s.dtype) for n, s in signature.inputs.items()}
    if all(isinstance(value, dict) for value in told.values()):
        found = {name: tensor(value) for name, value in told.items()}
    else:  # plain numbers, for graphs that say no dtype
        found = {name: np.array(value, dtype=np.float32) for name, value in told.items()}
    unnamed = not set(found) & set(signature.inputs) and not signature.also
    if unnamed and len(found) == len(signature.inputs) == 1:
        found = {next(iter(signature.inputs)): next(iter(found.values()))}
    return found


def _column(values: Any, dtype: DType) -> np.ndarray:
    if dtype is DType.STRING:
        return np.array([None if v is None else str(v) for v in values], dtype=object)
    return np.array([np.nan if v is None else v for v in values], dtype=dtype.numpy)


def expected_outputs(real: Real) -> dict[str, np.ndarray]:
    """The entry's answers, by name."""
    told = json.loads((real.folder / "open.expected.json").read_text())
    if not isinstance(told, dict):
        return {GENERIC: np.array(told, dtype=np.float32)}
    found = {}
    for name, value in told.items():
        if isinstance(value, dict):
            found[name] = tensor(value)
        elif isinstance(value[0], dict):  # a dictionary a row: ZipMap
            found[name] = np.array([list(row.values()) for row in value], dtype=np.float32)
        else:
            found[name] = np.array(value)
    return found


def answers(model: martlet.Checked, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Every output of every signature that takes these inputs; of two the default's."""
    found: dict[str, np.ndarray] = {}
    default = model.signatures["serving_default"]
    for name, signature in model.signatures.items():
        accepted = [set(signature.inputs)]
        if signature.also:
            accepted.append(set(model.signatures[signature.also].inputs))
        if name == "serving_default" or (set(inputs) in accepted and signature is not default):
            found = _called(model, inputs, name) | found
    return found


def _called(
    model: martlet.Checked, inputs: dict[str, np.ndarray], name: str
) -> dict[str, np.ndarray]:
    """Predict at once, or case by case where the entry stacks its cases on a leading axis."""
    ranks = {n: len(s.shape) for n, s in _specs(model, inputs, name).items() if s.shape is not None}
    if all(value.ndim == ranks.get(n, value.ndim) + 1 for n, value in inputs.items()):
        count = len(next(iter(inputs.values())))
        cases = [model.predict({n: v[i] for n, v in inputs.items()}, name) for i in range(count)]
        return {n: np.stack([case[n] for case in cases]) for n in cases[0]}
    return model.predict(inputs, name)


def _specs(model: martlet.Checked, inputs: dict[str, np.ndarray], name: str) -> Any:
    signature = model.signatures[name]
    if set(signature.inputs) != set(inputs) and signature.also:
        signature = model.signatures[signature.also]
    return signature.inputs


def check(real: Real) -> None:
    """Load the file by its content alone and compare every answer, or see it refused."""
    if real.entry["id"] in REFUSED:
        with pytest.raises(UnsupportedModel, match=REFUSED[real.entry["id"]]):
            martlet.load(real.path, trusted=True)
        return
    with martlet.load(real.path, trusted=True) as model:
        inputs = given_inputs(real, model.signatures["serving_default"])
        found = answers(model, inputs)
        for name, wanted in expected_outputs(real).items():
            _compare(real, name, found, wanted)
        first = {n: v[:1] for n, v in inputs.items() if v.ndim}
        if len(first) == len(inputs) and real.entry["id"] not in MIXES_ROWS:
            one = answers(model, first)
            for name, wanted in expected_outputs(real).items():
                if name in one and one[name].ndim == wanted.ndim:
                    _compare(real, name, one, wanted[:1])


def _compare(real: Real, name: str, found: dict[str, np.ndarray], wanted: np.ndarray) -> None:
    if name not in found and name == GENERIC:
        if len(found) > 1:  # a tuple of scalars, written as a list
            found = {GENERIC: np.stack(list(found.values()))}
        else:
            found = {GENERIC: next(iter(found.values()))}
    assert name in found, f"{name} is not among {sorted(found)}"
    got, tolerance = found[name], real.entry.get("tolerance", {})
    assert got.shape == wanted.shape, f"{name}: {got.shape}, not {wanted.shape}"
    if wanted.dtype.kind == "f":
        rtol, atol = tolerance.get("rtol", 1e-6), tolerance.get("atol", 1e-9)
        np.testing.assert_allclose(got, wanted, rtol=rtol, atol=atol, err_msg=name)
    else:
        assert got.astype(str).tolist() == wanted.astype(str).tolist(), name
