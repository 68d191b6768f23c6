"""The example of its input that an MLflow folder holds, as inputs of the model's signature."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from martlet.errors import InvalidInput, UnsupportedModel
from martlet.formats.mlflow.schema import JSON, TENSOR, signature
from martlet.tensors import DType, Signature, Spec, Tensor

_MAX_BYTES = 16 << 20


def example(path: Path, told: Mapping[str, Any]) -> Any:
    """
    Return the example of an input: a dictionary of columns or tensors, or one array; or None.

    Source:
        ``mlflow/models/utils.py``, ``_Example`` and ``_read_example``.
    """
    info = told.get("saved_input_example_info") or {}
    file = path / str(info.get("artifact_path") or "input_example.json")
    if not file.is_file() or not file.resolve().is_relative_to(path.resolve()):
        return None
    try:
        # Not by orjson: MLflow writes NaN.
        found: Any = json.loads(file.read_bytes()) if file.stat().st_size < _MAX_BYTES else None
        kind = str(info.get("type", ""))
        if info.get("params"):
            found = found["inputs"]
        if kind == "json_object":
            return _columns(found, told)
        if not isinstance(found, dict):
            return found
        if kind.startswith("sparse_matrix"):
            return _dense(found, by_row=kind.endswith("csr"))
        if "columns" in found and "data" in found:
            return dict(_split(found))
        if kind == "dataframe" and list(found) == ["data"]:
            return found["data"]  # of columns that have no names
        return found.get("inputs", found)
    except (RecursionError, KeyError, TypeError, ValueError, IndexError, UnsupportedModel):
        return None


def _columns(found: Any, told: Mapping[str, Any]) -> Any:
    """
    Return plain values as MLflow makes a data frame of them: a dictionary is often one row.

    Source:
        ``mlflow/models/utils.py``, ``_enforce_schema``.
    """
    fields = signature(told, "inputs")
    names = {each.spec.name for each in fields} - {""}
    if isinstance(found, list):
        rows = bool(names) and all(isinstance(each, dict) for each in found)
        return {n: [each[n] for each in found] for n in found[0]} if rows and found else found
    if not isinstance(found, dict):
        return [found]
    if not names:
        return [found] if fields else found
    nested = any(
        f.type != TENSOR and (f.spec.description == JSON or len(f.spec.shape or ()) > 1)
        for f in fields
    )
    if nested or not any(isinstance(each, list) for each in found.values()):
        return {name: [each] for name, each in found.items()}
    return found


def _split(found: Mapping[str, Any]) -> Iterator[tuple[str, list[Any]]]:
    """Yield the columns of a data frame in pandas' split layout."""
    columns = zip(*found["data"], strict=True)
    for name, column in zip(found["columns"], columns, strict=True):
        yield str(name), list(column)


def _dense(found: Mapping[str, Any], by_row: bool) -> Tensor:
    rows, columns = map(int, found["shape"])
    lines, across = (rows, columns) if by_row else (columns, rows)
    if lines * across * 8 > _MAX_BYTES:
        raise ValueError("an example larger than is read")
    dense = np.zeros((lines, across))
    for at in range(lines):
        inner = slice(found["indptr"][at], found["indptr"][at + 1])
        dense[at, found["indices"][inner]] = found["data"][inner]
    return dense if by_row else dense.T


def given_by(found: Any, *forms: Signature) -> list[dict[str, Tensor]]:
    """Return what ``example`` found as inputs of the first of *forms* that it fits; or none."""
    for form in forms if found is not None else ():
        try:
            given = _named(found, form.inputs)
            inputs = {n: _as(v, form.inputs[n]) for n, v in given.items() if n in form.inputs}
            return [form.check(inputs)]
        except (TypeError, ValueError, OverflowError, InvalidInput):
            continue  # an example of another shape than the model's is no help to anyone
    return []


def _named(found: Any, inputs: Mapping[str, Spec]) -> Mapping[str, Any]:
    (first, spec), *rest = inputs.items()
    matrix = not any(each.required for _, each in rest) and len(spec.shape or ()) == 2
    if not isinstance(found, dict):
        if matrix or len(inputs) == 1:
            return {first: found}
        return dict(zip(inputs, zip(*found, strict=True), strict=False))
    if matrix and first not in found:
        # Columns, of which the model takes a matrix, as MLflow would make it.
        return {first: list(zip(*found.values(), strict=True))}
    return found


def _as(values: Any, spec: Spec) -> Tensor:
    if spec.description == JSON:
        return np.array([orjson.dumps(each).decode() for each in values], object)
    if spec.dtype is DType.STRING and spec.nullable:
        values = [None if each != each else each for each in values]  # NaN: a missing text
    array = np.asarray(values, spec.dtype.numpy)
    flat = spec.shape is not None and array.ndim == len(spec.shape) + 1 and array.shape[-1:] == (1,)
    return array[..., 0] if flat else array
