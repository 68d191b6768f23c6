"""MLflow's model folders: the native flavour within, under the names of the folder's signature."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from martlet import formats
from martlet.errors import UnsupportedModel
from martlet.formats import LoadOptions, pickles
from martlet.formats.isolated.servable import Isolated
from martlet.formats.mlflow.columns import Answering, Wrapped, default_of, with_columns
from martlet.formats.mlflow.example import example, given_by
from martlet.formats.mlflow.schema import SPEC, Field, read, signature
from martlet.formats.tabular import MATRIX
from martlet.servable import Servable
from martlet.tensors import Tensor

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


class MLflowServable(Wrapped):
    """
    The model of one flavour, under the names of the folder, answering what MLflow calls.

    ``examples`` holds the folder's input example, if it has one, as inputs of the default
    signature: something to warm it with and to compare by.
    """

    def __init__(
        self, servable: Servable, told: Mapping[str, Any], found: Any, flavour: str = _PYFUNC
    ) -> None:
        if flavour != _PYFUNC:
            servable = with_columns(servable, _columns(told), by_place=flavour == "lightgbm")
            method = _method(told)
            if method in servable.signatures and method not in default_of(servable).outputs:
                servable = Answering(servable, method)
        super().__init__(servable)
        shown = default_of(servable)
        forms = [shown, *([self.signatures[shown.also]] if shown.also else [])]
        self.examples: list[dict[str, Tensor]] = given_by(found, *forms)


def _columns(told: Mapping[str, Any]) -> list[Field]:
    """Return the fields of the input; none where the signature is not known here."""
    try:
        return signature(told, "inputs")
    except UnsupportedModel:
        return []


def _method(told: Mapping[str, Any]) -> str:
    """Return the method that MLflow calls for a prediction."""
    pyfunc = told["flavors"].get(_PYFUNC)
    return str((pyfunc if isinstance(pyfunc, dict) else {}).get("predict_fn") or "predict")


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
                if flavour == "sklearn" and options.trusted and _PYFUNC in flavours:
                    _hold_to(told, servable)
                return MLflowServable(servable, told, found, flavour)
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
        whole = Isolated("martlet.formats.mlflow.pyfunc:open_pyfunc", path, options)
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
        return Isolated(
            "martlet.formats.mlflow.servable:open_beside_code", path, options, format=flavour
        )
    return formats.load(file, options)


def _hold_to(told: Mapping[str, Any], servable: Servable) -> None:
    """
    Refuse an estimator that is not seen whole: its own code may not tell what it takes.

    Raises:
        UnsupportedModel: it has not the method that MLflow calls, or not the columns it is given.
    """
    wanted, matrix = len(_columns(told)), default_of(servable).inputs.get(MATRIX)
    lacks = f"the method {_method(told)}" if _method(told) not in servable.signatures else ""
    if matrix is not None and wanted > 1 and matrix.shape == (-1, 1):
        lacks = f"word of the {wanted} columns that the signature has"
    if lacks:
        servable.close()
        raise UnsupportedModel(f"the estimator has not {lacks}")


def _estimator_name(told: Mapping[str, Any]) -> str:
    module, _, name = str(told.get("model_class", "")).rpartition(".")
    return name if module == "xgboost.sklearn" else ""


def _xgboost_estimator(file: Path, name: str, options: LoadOptions) -> Servable:
    """
    Open a booster as the scikit-learn wrapper that was logged, as MLflow does.

    It answers otherwise than the booster: classes by ``predict``, and no tree past the best one.
    """
    import xgboost

    from martlet.formats.sklearn.estimator import EstimatorServable
    from martlet.formats.xgboost.file import XGBoostFile

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
    from martlet.formats.sklearn.file import open_pickle

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
