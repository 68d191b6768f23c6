"""What an MLmodel file says of a model: its signature, and the example of its input."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from martlet.errors import InvalidInput, UnsupportedModel
from martlet.tensors import DType, Signature, Spec, Tensor

SPEC = "MLmodel"
_MAX_BYTES = 16 << 20

_TYPES = {
    "boolean": DType.BOOL,
    "integer": DType.INT32,
    "long": DType.INT64,
    "float": DType.FLOAT32,
    "double": DType.FLOAT64,
    "string": DType.STRING,
    "binary": DType.STRING,
    "datetime": DType.STRING,
}
_TOLD = {"binary": "bytes", "datetime": "a date and time as ISO 8601 writes it"}
_DAY = "2020-01-01"
TENSOR = "tensor"
JSON = "JSON"
"""The description of text that holds what no tensor does: objects, maps, lists of lists."""


@dataclass(frozen=True, slots=True)
class Field:
    """
    One column, tensor or parameter of a signature.

    Args:
        name: "" where the signature has none.
        type: MLflow's word for a column's type, or ``TENSOR``; of a list, of its elements.
        spec: The input or output that it is here.
        trial: A text of it that a model should take: a date, an object.
    """

    name: str
    type: str
    spec: Spec
    trial: str = ""

    def cells(self, array: Tensor) -> Any:
        """
        Return *array* as MLflow takes this column: one cell a row.

        Raises:
            InvalidInput: a cell is no date, or no JSON.
        """
        if self.type == "binary":
            return [v.encode() if isinstance(v, str) else v for v in array.tolist()]
        if self.type == "datetime":
            try:
                return np.array([v and _text(v) for v in array.tolist()], "datetime64[ns]")
            except ValueError as exc:
                raise InvalidInput(f"input {self.name!r} is no date and time: {exc}") from None
        if self.spec.description == JSON:
            return [_parsed(self.name, value) for value in array.tolist()]
        if array.dtype == object:
            array = np.array([_text(v) for v in array.ravel()], object).reshape(array.shape)
        return array if array.ndim == 1 or self.type == TENSOR else array.tolist()


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _parsed(name: str, value: Any) -> Any:
    if value is None:
        return None
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError as exc:
        raise InvalidInput(
            f"input {name!r} is to be text in JSON, an object a row: {exc}"
        ) from None


def read(path: Path) -> dict[str, Any]:
    """
    Return what the MLmodel file in the folder *path* says.

    Raises:
        UnsupportedModel: it is no YAML, or not of MLflow's form.
    """
    import yaml

    file = path / SPEC
    if file.stat().st_size > _MAX_BYTES:
        raise UnsupportedModel(f"{file} is larger than {_MAX_BYTES} bytes")
    try:
        told = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise UnsupportedModel(f"{file} is not YAML: {exc}") from exc
    parts = ("flavors", "signature", "saved_input_example_info")
    if not isinstance(told, dict) or not all(isinstance(told.get(n) or {}, dict) for n in parts):
        raise UnsupportedModel(f"{file} is not an MLflow model: {', '.join(parts)} are tables")
    return told


def signature(told: Mapping[str, Any], side: str) -> list[Field]:
    """
    Return the fields of one *side* of the signature: ``inputs``, ``outputs`` or ``params``.

    Raises:
        UnsupportedModel: a type of it is not known.

    Source:
        https://mlflow.org/docs/latest/ml/model/signatures/
    """
    text = (told.get("signature") or {}).get(side)
    try:
        found = orjson.loads(text) if isinstance(text, str) else []
        return [_field(each, side) for each in found]
    except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, ValueError) as exc:
        raise UnsupportedModel(f"the {side} of its signature are not known here: {exc}") from exc


def _field(told: dict[str, Any], side: str) -> Field:
    name = str(told.get("name", ""))
    required = bool(told.get("required", True)) and not told.get("optional", False)
    if side == "params":
        kind = str(told.get("dtype") or told["type"])
        shape: tuple[int, ...] = (-1,) if told.get("shape") else ()
        if kind not in _TYPES:
            return Field(name, kind, Spec(name, DType.STRING, (), False, description=JSON))
        spec = Spec(name, _TYPES[kind], shape, False, description="a parameter")
        return Field(name, kind, spec)
    kind = told["type"]
    if kind == TENSOR:
        told = told["tensor-spec"]
        dtype = DType.of(np.dtype(str(told["dtype"])))
        return Field(name, kind, Spec(name, dtype, tuple(map(int, told["shape"])), required))
    whole, axes = told, 1
    while kind == "array" and isinstance(told.get("items"), dict):
        told, axes = told["items"], axes + 1
        kind = told["type"]
    if kind == "sparkml vector":
        return Field(name, kind, Spec(name, DType.FLOAT64, (-1, -1), required))
    if kind not in _TYPES or (axes > 1 and kind in _TOLD):
        trial = orjson.dumps(_trial(whole)).decode()
        spec = Spec(name, DType.STRING, (-1,), required, description=JSON)
        return Field(name, kind, spec, trial)
    dtype = _TYPES[kind]
    nullable = axes == 1 and (dtype.is_float or dtype is DType.STRING)
    spec = Spec(name, dtype, (-1,) * axes, required, nullable, _TOLD.get(kind, ""))
    return Field(name, kind, spec, _DAY if kind == "datetime" else "")


def _trial(told: Mapping[str, Any]) -> Any:
    """Return a value of a nested type, of no text and of zeros."""
    kind = told["type"]
    if kind == "object":
        return {name: _trial(each) for name, each in told["properties"].items()}
    if kind == "array":
        return [_trial(told["items"])]
    if kind == "map":
        return {"": _trial(told["values"])}
    return {"string": "", "binary": "", "datetime": _DAY, "boolean": False}.get(kind, 0)


def column_names(told: Mapping[str, Any]) -> list[str]:
    """Return the names of the input's plain columns; none where it has others, or tensors."""
    try:
        fields = signature(told, "inputs")
    except UnsupportedModel:
        return []
    plain = all(f.name and f.type != TENSOR and f.spec.shape == (-1,) for f in fields)
    return [f.name for f in fields] if plain else []


def example(path: Path, told: Mapping[str, Any]) -> Any:
    """
    Return the example of an input: a dictionary of columns or tensors, or one array; or None.

    Source:
        ``mlflow/models/utils.py``, ``_read_example``.
    """
    info = told.get("saved_input_example_info") or {}
    file = path / str(info.get("artifact_path") or "input_example.json")
    if not file.is_file() or not file.resolve().is_relative_to(path.resolve()):
        return None
    try:
        found = orjson.loads(file.read_bytes()) if file.stat().st_size < _MAX_BYTES else None
        if not isinstance(found, dict):
            return found
        if info.get("params"):
            found = found["inputs"]
        if str(info.get("type", "")).startswith("sparse_matrix"):
            return _dense(found, by_row=info["type"].endswith("csr"))
        if "columns" in found and "data" in found:
            return dict(_split(found))
        return found.get("inputs", found) if isinstance(found, dict) else found
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, IndexError):
        return None


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


def given_by(found: Any, signature: Signature) -> list[dict[str, Tensor]]:
    """Return what ``example`` found as inputs of *signature*; none where it does not fit them."""
    if found is None:
        return []
    (first, spec), *rest = signature.inputs.items()
    required = {name for name, each in signature.inputs.items() if each.required}
    if not isinstance(found, dict):
        found = {first: found}
    elif not required <= found.keys() and not rest and len(spec.shape or ()) == 2:
        # Columns, of which the model takes a matrix, as MLflow would make it.
        found = {first: list(zip(*found.values(), strict=True))}
    try:
        given = {n: _as(v, signature.inputs[n]) for n, v in found.items() if n in signature.inputs}
        return [signature.check(given)]
    except (TypeError, ValueError, OverflowError, InvalidInput):
        return []  # an example of another shape than the model's: no help to anyone


def _as(values: Any, spec: Spec) -> Tensor:
    if spec.description == JSON:
        return np.array([orjson.dumps(each).decode() for each in values], object)
    array = np.asarray(values, spec.dtype.numpy)
    flat = spec.shape is not None and array.ndim == len(spec.shape) + 1 and array.shape[-1:] == (1,)
    return array[..., 0] if flat else array
