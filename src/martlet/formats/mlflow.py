"""MLflow's model folders: the native flavour within, under the names of the folder's signature."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from martlet import formats
from martlet.errors import InvalidInput, MissingExtra, ServableFailed, UnsupportedModel
from martlet.formats import Format, LoadOptions
from martlet.formats.isolated import Isolated
from martlet.formats.tabular import MATRIX, Rows
from martlet.servable import DEFAULT_SIGNATURE, Servable
from martlet.tensors import DType, Signature, Spec, Tensor, Tensors

_MAX_BYTES = 16 << 20
_SPEC = "MLmodel"

# The keys under which each flavour says where its file is, in the order of our preference:
# what is read without running code first. The format is found by content.
_FLAVOURS: dict[str, tuple[str, ...]] = {
    "onnx": ("data",),
    "lightgbm": ("data",),
    "xgboost": ("data",),
    "catboost": ("data",),
    "tensorflow": ("saved_model_dir", "data"),
    "keras": ("data",),
    "spark": ("model_data",),
    "mleap": ("model_data",),
    "pytorch": ("model_data",),
    "sklearn": ("pickled_model",),
}
_WITHIN = ("", "model", "model.keras", "model.h5", "model.pth", "model.pt2", "model.onnx")
_TYPES = {
    "boolean": DType.BOOL,
    "integer": DType.INT32,
    "long": DType.INT64,
    "float": DType.FLOAT32,
    "double": DType.FLOAT64,
    "string": DType.STRING,
}


class MLflowServable:
    """
    The model of one flavour, with the folder's column names where the model itself has none.

    ``examples`` holds the folder's input example, if it has one, as inputs of the default
    signature: something to warm it with and to compare by.
    """

    def __init__(self, servable: Servable, names: list[str], example: Any) -> None:
        self._servable = servable
        self._rows: Rows | None = None
        self.signatures: Mapping[str, Signature] = servable.signatures
        native = servable.signatures[DEFAULT_SIGNATURE]
        matrix = native.inputs.get(MATRIX)
        if matrix == Spec(MATRIX, DType.FLOAT64, (-1, len(names)), nullable=True):
            self._rows = Rows(names, named=True)
            ways = [n for n in servable.signatures if not n.endswith(("matrix", "columns"))]
            self.signatures = self._rows.signatures(
                {n: list(servable.signatures[n].outputs.values()) for n in ways}
            )
        self.examples: list[dict[str, Tensor]] = list(self._examples(example))

    def _examples(self, example: Any) -> Iterator[dict[str, Tensor]]:
        signature = self.signatures[DEFAULT_SIGNATURE]
        if signature.also and set(_columns(example)) != signature.inputs.keys():
            signature = self.signatures[signature.also]
        given = _columns(example) or dict.fromkeys(list(signature.inputs)[:1], example)
        try:
            found = {n: np.asarray(v, signature.inputs[n].dtype.numpy) for n, v in given.items()}
            yield signature.check(found)
        except (KeyError, TypeError, ValueError, InvalidInput):
            return  # an example of another shape than the model's: no help to anyone

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        """Predict with the flavour's own model."""
        if self._rows is None:
            return self._servable.predict(inputs, signature_name)
        rows = self._rows.matrix(inputs, signature_name)
        return self._servable.predict({MATRIX: rows}, self._native(signature_name))

    def _native(self, name: str) -> str:
        way = name.removesuffix("matrix").removesuffix("columns").removesuffix("_")
        return way or DEFAULT_SIGNATURE

    def close(self) -> None:
        """Close the flavour's own model."""
        self._servable.close()


def _columns(example: Any) -> dict[str, Any]:
    """Return a data frame that MLflow wrote in pandas' split layout as columns."""
    if isinstance(example, dict) and "data" in example and "columns" in example:
        columns = zip(*example["data"], strict=True)
        return {str(n): list(v) for n, v in zip(example["columns"], columns, strict=True)}
    return {}


def load(path: Path, options: LoadOptions) -> Servable:
    """
    Open the folder at *path* by its best flavour; ``python_function`` last, and when trusted.

    Raises:
        UnsupportedModel: no flavour of it is known, or a file of it lies outside.
    """
    told = _read(path)
    flavours: dict[str, Any] = told.get("flavors") or {}
    names = _names(told)
    example = _example(path, told)
    for flavour in (name for name in _FLAVOURS if name in flavours):
        for file in _files(path, flavours[flavour], _FLAVOURS[flavour]):
            return MLflowServable(formats.load(file, options), names, example)
    if "python_function" not in flavours:
        known = ", ".join(_FLAVOURS)
        raise UnsupportedModel(
            f"{path} has the flavours {', '.join(flavours) or 'none'}; known are {known}"
        )
    if not options.trusted:
        raise UnsupportedModel(
            f"{path} is a python_function alone, which is code: load it with trusted=True "
            "(--trusted) if you made it"
        )
    return MLflowServable(Isolated("martlet.formats.mlflow:open_pyfunc", path, options), [], None)


def _read(path: Path) -> dict[str, Any]:
    import yaml

    file = path / _SPEC
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


def _files(path: Path, flavour: Any, keys: tuple[str, ...]) -> Iterator[Path]:
    """Yield the flavour's file or folder, if it is there and within *path*."""
    root = path.resolve()
    for key in keys:
        where = flavour.get(key) if isinstance(flavour, dict) else None
        if not isinstance(where, str):
            continue
        for inner in _WITHIN:
            file = path / where / inner if inner else path / where
            if not file.resolve().is_relative_to(root):
                raise UnsupportedModel(f"{path / _SPEC} points to {where!r}, outside its folder")
            if file.is_file() or (file.is_dir() and _holds_model(file)):
                yield file


def _holds_model(folder: Path) -> bool:
    try:
        formats.sniff(folder)
    except UnsupportedModel:
        return False
    return True


def _fields(told: Mapping[str, Any], side: str) -> list[dict[str, Any]]:
    text = (told.get("signature") or {}).get(side)
    try:
        found = orjson.loads(text) if isinstance(text, str) else []
    except orjson.JSONDecodeError:
        return []
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _names(told: Mapping[str, Any]) -> list[str]:
    """Return the names of the input columns; none where the signature is of tensors."""
    columns = _fields(told, "inputs")
    if not all("name" in each and each.get("type") in _TYPES for each in columns):
        return []
    return [str(each["name"]) for each in columns]


def _example(path: Path, told: Mapping[str, Any]) -> Any:
    info = told.get("saved_input_example_info") or {}
    file = path / str(info.get("artifact_path") or "input_example.json")
    if not file.is_file() or not file.resolve().is_relative_to(path.resolve()):
        return None
    try:
        found = orjson.loads(file.read_bytes()) if file.stat().st_size < _MAX_BYTES else None
    except orjson.JSONDecodeError:
        return None
    return found.get("inputs", found) if isinstance(found, dict) else found


def open_pyfunc(path: Path, options: LoadOptions) -> Servable:
    """Open the folder's ``python_function``: in the isolated process alone, for it is code."""
    return PyfuncServable(path)


class PyfuncServable:
    """MLflow's own wrapper of any model; needs the package ``mlflow`` or ``mlflow-skinny``."""

    def __init__(self, path: Path) -> None:
        try:
            import mlflow.pyfunc
        except ModuleNotFoundError as exc:
            raise MissingExtra("a python_function", "mlflow") from exc
        self._model = mlflow.pyfunc.load_model(str(path))
        told = _read(path)
        columns = _fields(told, "inputs")
        if not columns or not all(each.get("type") in _TYPES for each in columns):
            raise UnsupportedModel(
                f"{path} has no signature of columns: log the model with one (signature=...)"
            )
        inputs = [
            Spec(str(each["name"]), _TYPES[each["type"]], (-1,), each.get("required", True))
            for each in columns
        ]
        outputs = _fields(told, "outputs")
        self._names = [
            str(o.get("name", "predict" if len(outputs) == 1 else i)) for i, o in enumerate(outputs)
        ] or ["predict"]
        types = [_TYPES.get(str(o.get("type")), DType.FLOAT64) for o in outputs] or [DType.FLOAT64]
        specs = [
            Spec(name, dtype, (-1,) if len(types) > 1 else None)
            for name, dtype in zip(self._names, types, strict=True)
        ]
        self.signatures: Mapping[str, Signature] = {DEFAULT_SIGNATURE: Signature.of(inputs, specs)}

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        """Call it with a data frame of the columns."""
        import pandas

        found = self._model.predict(pandas.DataFrame(dict(inputs)))
        if hasattr(found, "columns"):
            return {str(name): np.asarray(found[name]) for name in found.columns}
        if isinstance(found, dict):
            return {str(name): np.asarray(value) for name, value in found.items()}
        if len(self._names) != 1:
            raise ServableFailed(f"it gave one {type(found).__name__}, not {self._names}")
        return {self._names[0]: np.asarray(found)}

    def close(self) -> None:
        """Free the model."""
        del self._model


def fetch(uri: str) -> Path:
    """
    Return the local folder of ``models:/name@alias``, ``models:/name/3`` or ``runs:/id/path``.

    Asks the MLflow server that MLFLOW_TRACKING_URI or MLFLOW_REGISTRY_URI names.

    Raises:
        MissingExtra: the MLflow client is not installed.
        UnsupportedModel: the server has no such model, or does not answer.
    """
    try:
        import mlflow.artifacts
    except ModuleNotFoundError as exc:
        raise MissingExtra(f"the model {uri}", "mlflow") from exc
    try:
        return Path(mlflow.artifacts.download_artifacts(artifact_uri=uri))
    except Exception as exc:  # of mlflow, requests and the store behind it
        raise UnsupportedModel(f"MLflow does not give {uri}: {exc}") from exc


def _sniff(path: Path) -> bool:
    return path.is_dir() and (path / _SPEC).is_file()


FORMAT = Format(
    name="mlflow",
    suffixes=(),
    sniff=_sniff,
    load=load,
    extra="mlflow",
)
