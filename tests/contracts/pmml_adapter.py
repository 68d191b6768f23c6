"""martlet as the callable that the shared PMML checker (check_pmml.py) runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from martlet import formats
from martlet.tensors import DType, Spec


def load(path: str | Path) -> formats.Servable:
    return formats.load(Path(path), format="pmml")


def columns(model: formats.Servable, data: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The inputs of *model* among the columns of *data* (a dict of lists, or a DataFrame)."""
    inputs = model.signatures["serving_default"].inputs
    return {name: _array(data[name], spec) for name, spec in inputs.items() if name in data}


def _array(cells: Any, spec: Spec) -> np.ndarray:
    values = list(cells)
    if spec.dtype is DType.FLOAT64:
        try:
            return np.array([np.nan if v is None else v for v in values], dtype=np.float64)
        except (TypeError, ValueError):
            pass  # text among numbers: the rows that hold it are to fail alone
    found = np.empty(len(values), dtype=object)
    for row, value in enumerate(values):
        found[row] = value
    return found


def score(path: str, data: Mapping[str, Any]) -> dict[str, np.ndarray]:
    model = load(path)
    found = model.predict(columns(model, data))
    rows = len(data[next(iter(data))])
    # A model that takes no input answers once; the checker asks once for each row.
    return {name: np.resize(values, rows) for name, values in found.items()}
