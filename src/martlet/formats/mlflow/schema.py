"""What an MLmodel file says of a model: its flavours, and its signature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from martlet.errors import InvalidInput, UnsupportedModel
from martlet.tensors import DType, Spec, Tensor

SPEC = "MLmodel"
_MAX_BYTES = 16 << 20
_MAX_DEPTH = 100
_MAX_PARTS = 50_000  # of YAML, which takes a tenth of a millisecond to read each

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
        name: "" where the signature has none; a number where the data frame's columns had them.
        type: MLflow's word for a column's type, or ``TENSOR``; of a list, of its elements.
        spec: The input or output that it is here.
        trial: A text of it that a model should take: a date, an object.
        text: Whether it is a tensor of numpy's text, which MLflow tells from Python's.
    """

    name: str | int
    type: str
    spec: Spec
    trial: str = ""
    text: bool = False

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
            kind = np.str_ if self.text else object
            array = np.array([_text(v) for v in array.ravel()], kind).reshape(array.shape)
        return array if array.ndim == 1 or self.type == TENSOR else array.tolist()


def _text(value: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else value


def _parsed(name: str | int, value: Any) -> Any:
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
        text = file.read_text(encoding="utf-8")
        depth = 0
        for count, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            if count > _MAX_PARTS or depth > _MAX_DEPTH:
                raise UnsupportedModel(
                    f"{file} has more than {_MAX_PARTS} values, or {_MAX_DEPTH} within each other"
                )
        told = yaml.safe_load(text)
        if _unfolded(told, {}) > _MAX_PARTS:  # by aliases: a few lines may stand for gigabytes
            raise UnsupportedModel(f"{file} unfolds to more than {_MAX_PARTS} values")
    except (yaml.YAMLError, ValueError, RecursionError) as exc:
        raise UnsupportedModel(f"{file} is not YAML: {exc}") from exc
    parts = ("flavors", "signature", "saved_input_example_info")
    if not isinstance(told, dict) or not all(isinstance(told.get(n) or {}, dict) for n in parts):
        raise UnsupportedModel(f"{file} is not an MLflow model: {', '.join(parts)} are tables")
    return told


def _unfolded(value: Any, known: dict[int, int]) -> int:
    """Return how many values are in *value*, each as often as it stands there."""
    if not isinstance(value, (dict, list)):
        return 1
    if id(value) not in known:
        known[id(value)] = _MAX_PARTS + 1  # where it is within itself, it has no end
        inner = [*value, *value.values()] if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_unfolded(each, known) for each in inner)
    return known[id(value)]


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
    except (InvalidInput, AttributeError, KeyError, TypeError, ValueError) as exc:
        raise UnsupportedModel(f"the {side} of its signature are not known here: {exc}") from exc


def _field(told: dict[str, Any], side: str) -> Field:
    given = told.get("name")
    named = given if isinstance(given, int) else str(given or "")
    name = str(named)
    required = bool(told.get("required", True)) and not told.get("optional", False)
    if side == "params":
        kind = str(told.get("dtype") or told["type"])
        shape: tuple[int, ...] = (-1,) if told.get("shape") else ()
        if kind not in _TYPES:
            return Field(named, kind, Spec(name, DType.STRING, (), False, description=JSON))
        spec = Spec(name, _TYPES[kind], shape, False, description="a parameter")
        return Field(named, kind, spec)
    kind = told["type"]
    if kind == TENSOR:
        told = told["tensor-spec"]
        of = np.dtype(str(told["dtype"]))
        spec = Spec(name, DType.of(of), tuple(map(int, told["shape"])), required)
        return Field(named, kind, spec, text=of.kind == "U")
    whole, axes = told, 1
    while kind == "array" and isinstance(told.get("items"), dict):
        told, axes = told["items"], axes + 1
        kind = told["type"]
    if kind == "sparkml vector":
        return Field(named, kind, Spec(name, DType.FLOAT64, (-1, -1), required))
    if kind not in _TYPES or (axes > 1 and kind in _TOLD):
        trial = orjson.dumps(_trial(whole)).decode()
        spec = Spec(name, DType.STRING, (-1,), required, description=JSON)
        return Field(named, kind, spec, trial)
    dtype = _TYPES[kind]
    nullable = axes == 1 and (dtype.is_float or dtype is DType.STRING)
    spec = Spec(name, dtype, (-1,) * axes, required, nullable, _TOLD.get(kind, ""))
    return Field(named, kind, spec, _DAY if kind == "datetime" else "")


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
