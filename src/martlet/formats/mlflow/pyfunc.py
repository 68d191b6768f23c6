"""MLflow's ``python_function``: any model behind MLflow's own wrapper, which is code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from martlet.errors import InvalidInput, MissingExtra, ServableFailed
from martlet.formats import LoadOptions
from martlet.formats.mlflow.example import example, given_by
from martlet.formats.mlflow.schema import TENSOR, Field, read, signature
from martlet.formats.tabular import MATRIX
from martlet.servable import DEFAULT_SIGNATURE, Servable
from martlet.tensors import DType, Signature, Spec, Tensor, Tensors

_PREDICT = "predict"
_ROWS = 2  # of zeros, by which it is seen what the outputs are


def open_pyfunc(path: Path, options: LoadOptions) -> Servable:
    """Open the folder's ``python_function``: in the isolated process alone, for it is code."""
    return PyfuncServable(path)


class PyfuncServable:
    """
    MLflow's own wrapper of any model; needs the package ``mlflow`` or ``mlflow-skinny``.

    Columns and tensors of the signature are inputs, its parameters inputs that may be left out.
    Without a signature the example's columns are, or else one matrix ``X``. What the outputs are is
    told by a call with the example, or with zeros; where it takes neither, by the signature.
    """

    def __init__(self, path: Path) -> None:
        try:
            import mlflow.pyfunc
            from mlflow.exceptions import MlflowException
        except ModuleNotFoundError as exc:
            raise MissingExtra("a python_function", "mlflow") from exc
        told = read(path)
        self._refused: type[Exception] = MlflowException
        self._model = mlflow.pyfunc.load_model(str(path))
        self._params = signature(told, "params")
        found = example(path, told)
        fields = signature(told, "inputs") or list(_fields_of(found))
        self._told = found is not None or bool(signature(told, "inputs"))
        self._fields = _named(fields)
        inputs = [each.spec for each in (*self._fields, *self._params)]
        self._outputs: dict[str, Spec] = {}
        self._declared = signature(told, "outputs")
        self.examples = given_by(found, Signature.of(inputs, []))
        outputs = self._probed() or [each.spec for each in _named(self._declared, _PREDICT)]
        self._outputs = {spec.name: spec for spec in outputs}
        # Where nothing tells what it gives, it is asked nothing more than to give it.
        outputs = outputs or [Spec(_PREDICT, DType.FLOAT64, None)]
        self.signatures: Mapping[str, Signature] = {
            DEFAULT_SIGNATURE: Signature.of(inputs, outputs)
        }

    def _probed(self) -> list[Spec]:
        """Return the outputs of a call with the example, or with zeros; none where both fail."""
        zeros = {each.spec.name: _zeros(each) for each in self._fields}
        for sample in (*self.examples, zeros):
            rows = {len(value) for value in sample.values() if value.ndim}
            try:
                found = self.predict(sample)
            except Exception:  # the model's own code may raise anything
                continue
            return [
                Spec(n, DType.of(v.dtype), (-1, *v.shape[1:]) if {*v.shape[:1]} == rows else None)
                for n, v in found.items()
            ]
        return []

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        """
        Call it with a data frame of the columns, or with the tensors.

        Raises:
            InvalidInput: MLflow refuses it by the signature, or the columns differ in length.
            ServableFailed: what it gives is not what it gave when it was loaded.
        """
        data = self._data(inputs)
        asked = [f for f in self._params if f.spec.name in inputs]
        given = {f.spec.name: _parameter(f, inputs[f.spec.name]) for f in asked}
        try:
            found = self._model.predict(data, **({"params": given} if given else {}))
        except self._refused as exc:
            raise InvalidInput(f"MLflow refuses these values: {exc}") from exc
        outputs = {name: _tensor(value) for name, value in self._parts(found)}
        if not self._outputs:
            return outputs
        if outputs.keys() != self._outputs.keys():
            raise ServableFailed(
                f"it gave {sorted(outputs)}, not {sorted(self._outputs)}: log the model with an "
                "input example, or with a signature of its outputs"
            )
        return {name: _cast(value, self._outputs[name]) for name, value in outputs.items()}

    def _data(self, inputs: Tensors) -> Any:
        import pandas

        given: list[tuple[str | int, Any]] = [
            (f.name, f.cells(inputs[f.spec.name])) for f in self._fields if f.spec.name in inputs
        ]
        if all(each.type == TENSOR for each in self._fields):
            if [name for name, _ in given] != [""]:
                return dict(given)
            # Nothing says whether it wants an array: MLflow's own servers give a table of rows.
            return given[0][1] if self._told else pandas.DataFrame(given[0][1])
        lengths = [len(value) for _, value in given]
        if len(set(lengths)) > 1:
            raise InvalidInput(f"the columns differ in length: {lengths}")
        # Under numbers first: several may have no name.
        table = pandas.DataFrame({at: pandas.Series(v) for at, (_, v) in enumerate(given)})
        names = [name for name, _ in given]
        return table if "" in names else table.set_axis(pandas.Index(names), axis=1)

    def _parts(self, found: Any) -> Iterator[tuple[str, Any]]:
        if hasattr(found, "columns"):
            for at, name in enumerate(found.columns):
                yield str(name), found.iloc[:, at]
        elif isinstance(found, dict):
            for name, value in found.items():
                yield str(name), value
        else:
            alone = self._declared[0].spec.name if len(self._declared) == 1 else ""
            yield alone or _PREDICT, found

    def close(self) -> None:
        """Free the model."""
        del self._model


def _named(fields: list[Field], alone: str = MATRIX) -> list[Field]:
    """Return *fields* with a name for each input or output: *alone*, or its place, where none."""
    names = [alone] if len(fields) == 1 else [str(at) for at, _ in enumerate(fields)]
    return [
        replace(field, spec=replace(field.spec, name=field.spec.name or name))
        for field, name in zip(fields, names, strict=True)
    ]


def _fields_of(found: Any) -> Iterator[Field]:
    """Yield the columns of an example, or the one tensor that it or anything else is."""
    if isinstance(found, dict):
        for name, values in found.items():
            array = _tensor(values)
            yield Field(name, "column", Spec(name, DType.of(array.dtype), (-1,), nullable=True))
    else:
        shape = (-1, -1) if found is None else (-1, *np.shape(found)[1:])
        yield Field("", TENSOR, Spec("", DType.FLOAT64, shape))


def _zeros(field: Field) -> Tensor:
    shape = [_ROWS, *(max(size, 1) for size in (field.spec.shape or ())[1:])]
    filling = field.trial if field.spec.dtype is DType.STRING else 0
    return np.full(shape, filling, field.spec.dtype.numpy)


def _parameter(field: Field, value: Tensor) -> Any:
    if value.ndim:
        return field.cells(value)
    (found,) = field.cells(value.reshape(1))
    return found.item() if isinstance(found, np.generic) else found


def _tensor(value: Any) -> Tensor:
    """Return a column or an array as a tensor: times as ISO 8601, lists and objects as JSON."""
    if hasattr(value, "toarray"):
        value = value.toarray()
    try:
        array = np.asarray(value)
    except ValueError:  # of lists of different lengths
        array = np.empty(len(value), object)
        array[:] = value
    if array.dtype.kind == "M":
        missing = np.isnat(array)
        array = np.datetime_as_string(array).astype(object)
        array[missing] = None
        return array
    if array.dtype.kind == "m":
        return _durations(array)
    if array.dtype.kind in "SU":
        return array.astype(object)
    if array.dtype != object:
        return array
    cells = array.ravel().tolist()
    if any(isinstance(each, dict | list | tuple | np.ndarray) for each in cells):
        return _json(cells).reshape(array.shape)
    if all(isinstance(each, bool | int | float | np.number | None) for each in cells):
        return np.array([np.nan if v is None else v for v in cells]).reshape(array.shape)
    found = np.empty(len(cells), object)
    found[:] = [v if v is None or isinstance(v, str | bytes) else str(v) for v in cells]
    return found.reshape(array.shape)


def _durations(array: Tensor) -> Tensor:
    import pandas

    told = [None if np.isnat(v) else pandas.Timedelta(v).isoformat() for v in array.ravel()]
    return np.array(told, object).reshape(array.shape)


def _json(cells: list[Any]) -> Tensor:
    options = orjson.OPT_SERIALIZE_NUMPY | orjson.OPT_NON_STR_KEYS
    return np.array([orjson.dumps(v, option=options, default=str).decode() for v in cells], object)


def _cast(value: Tensor, spec: Spec) -> Tensor:
    wanted = spec.dtype.numpy
    if value.dtype == wanted:
        return value
    if "O" in (value.dtype.kind, wanted.kind) or not np.can_cast(value.dtype, wanted, "same_kind"):
        raise ServableFailed(f"it gave {value.dtype} as {spec.name!r}, not {spec}")
    return value.astype(wanted)
