"""MLflow's model folders: the native flavour within, under the names of the folder's signature."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from martlet import formats
from martlet.errors import MissingExtra, UnsupportedModel
from martlet.formats import Format, LoadOptions, pickles
from martlet.formats.isolated import Isolated
from martlet.formats.mlflow_schema import SPEC, column_names, example, given_by, read
from martlet.formats.tabular import MATRIX, Rows
from martlet.servable import DEFAULT_SIGNATURE, Servable
from martlet.tensors import DType, Signature, Spec, Tensor, Tensors

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
_PYFUNC = "python_function"


class MLflowServable:
    """
    The model of one flavour, with the folder's column names where the model itself has none.

    ``examples`` holds the folder's input example, if it has one, as inputs of the default
    signature: something to warm it with and to compare by.
    """

    def __init__(self, servable: Servable, told: Mapping[str, Any], found: Any) -> None:
        self._servable = servable
        self._rows: Rows | None = None
        self.signatures: Mapping[str, Signature] = servable.signatures
        names = column_names(told)
        first = next(iter(servable.signatures))
        default = DEFAULT_SIGNATURE if DEFAULT_SIGNATURE in servable.signatures else first
        matrix = servable.signatures[default].inputs.get(MATRIX)
        if matrix == Spec(MATRIX, DType.FLOAT64, (-1, len(names)), nullable=True):
            self._rows = Rows(names, named=True)
            ways = [n for n in servable.signatures if not n.endswith(("matrix", "columns"))]
            self.signatures = self._rows.signatures(
                {n: list(servable.signatures[n].outputs.values()) for n in ways}
            )
        signature = self.signatures[default]
        if signature.also and not (isinstance(found, dict) and found.keys() >= set(names)):
            signature = self.signatures[signature.also]
        self.examples: list[dict[str, Tensor]] = given_by(found, signature)

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


def load(path: Path, options: LoadOptions) -> Servable:
    """
    Open the folder at *path* by its best flavour; ``python_function`` last, and when trusted.

    Raises:
        UnsupportedModel: no flavour of it is known, or a file of it lies outside.
    """
    told = read(path)
    flavours: dict[str, Any] = told.get("flavors") or {}
    found = example(path, told)
    refused: UnsupportedModel | None = None
    for flavour in (name for name in _FLAVOURS if name in flavours):
        for file in _files(path, flavours[flavour], _FLAVOURS[flavour]):
            try:
                servable = _opened(path, flavour, flavours[flavour], file, options)
                return MLflowServable(servable, told, found)
            except UnsupportedModel as exc:
                if not options.trusted or _PYFUNC not in flavours:
                    raise
                refused = exc
    if _PYFUNC not in flavours:
        known = ", ".join(_FLAVOURS)
        raise UnsupportedModel(
            f"{path} has the flavours {', '.join(flavours) or 'none'}; known are {known}"
        )
    if not options.trusted:
        raise UnsupportedModel(
            f"{path} is a python_function alone, which is code: load it with trusted=True "
            "(--trusted) if you made it"
        )
    try:
        whole = Isolated("martlet.formats.mlflow_pyfunc:open_pyfunc", path, options)
    except UnsupportedModel as exc:
        before = f"{refused}; as a python_function: " if refused is not None else ""
        raise UnsupportedModel(f"{before}{exc}") from exc
    return MLflowServable(whole, told, found)


def _opened(
    path: Path, flavour: str, told: Mapping[str, Any], file: Path, options: LoadOptions
) -> Servable:
    """Open the *file* of one flavour, of which MLmodel says *told*."""
    if flavour == "xgboost" and _estimator_name(told):
        return _xgboost_estimator(file, _estimator_name(told), options)
    if options.trusted and told.get("code") and pickles.imports(file):
        return Isolated("martlet.formats.mlflow:open_beside_code", path, options, format=flavour)
    return formats.load(file, options)


def _estimator_name(told: Mapping[str, Any]) -> str:
    module, _, name = str(told.get("model_class", "")).rpartition(".")
    return name if module == "xgboost.sklearn" else ""


def _xgboost_estimator(file: Path, name: str, options: LoadOptions) -> Servable:
    """
    Open a booster as the scikit-learn wrapper that was logged, as MLflow does.

    It answers otherwise than the booster: classes by ``predict``, and no tree past the best one.
    """
    import xgboost

    from martlet.formats.estimator import EstimatorServable
    from martlet.formats.xgboost_file import XGBoostFile

    wrapper = getattr(xgboost, name, None)
    if not (isinstance(wrapper, type) and issubclass(wrapper, xgboost.XGBModel)):
        raise UnsupportedModel(f"{file} is an xgboost.sklearn.{name}, which XGBoost has not here")
    model = wrapper(n_jobs=options.threads)
    try:
        model.load_model(bytearray(XGBoostFile.read(file).content))
    except (xgboost.core.XGBoostError, TypeError, ValueError) as exc:
        raise UnsupportedModel(f"{file} does not load as a {name}: {exc}") from exc
    return EstimatorServable(model)


def open_beside_code(path: Path, options: LoadOptions, flavour: str) -> Servable:
    """Unpickle a flavour whose classes lie in the folder's code: in the isolated process alone."""
    from martlet.formats.sklearn import open_pickle

    told = read(path)["flavors"][flavour]
    sys.path.insert(0, str(next(_files(path, told, ("code",), whatever=True))))
    return open_pickle(next(_files(path, told, _FLAVOURS[flavour])), options)


def _files(
    path: Path, flavour: Any, keys: tuple[str, ...], whatever: bool = False
) -> Iterator[Path]:
    """Yield the flavour's file or folder, if it is there and within *path*."""
    root = path.resolve()
    for key in keys:
        where = flavour.get(key) if isinstance(flavour, dict) else None
        if not isinstance(where, str):
            continue
        for inner in _WITHIN:
            file = path / where / inner if inner else path / where
            if not file.resolve().is_relative_to(root):
                raise UnsupportedModel(f"{path / SPEC} points to {where!r}, outside its folder")
            if file.is_file() or (file.is_dir() and (whatever or _holds_model(file))):
                yield file


def _holds_model(folder: Path) -> bool:
    try:
        formats.sniff(folder)
    except UnsupportedModel:
        return False
    return True


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
    return path.is_dir() and (path / SPEC).is_file()


FORMAT = Format(
    name="mlflow",
    suffixes=(),
    sniff=_sniff,
    load=load,
    extra="mlflow",
)
