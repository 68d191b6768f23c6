"""The columns of an MLflow folder's signature, on a model that has none of its own or others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from martlet.formats.mlflow.schema import TENSOR, Field
from martlet.formats.tabular import MATRIX, Rows
from martlet.servable import DEFAULT_SIGNATURE, Servable
from martlet.tensors import DType, Signature, Spec, Tensor, Tensors

_COLUMNS, _MATRIX = "columns", "matrix"


def default_of(servable: Servable) -> Signature:
    """Return the signature that is meant where none is named."""
    found = servable.signatures
    return found.get(DEFAULT_SIGNATURE) or next(iter(found.values()))


def with_columns(servable: Servable, fields: Sequence[Field], by_place: bool) -> Servable:
    """
    Return *servable* such that it takes the plain columns *fields* by their names.

    Args:
        by_place: Its library takes columns by their place, whatever their names.
    """
    names = [each.spec.name for each in fields]
    plain = all(names) and all(f.type != TENSOR and f.spec.shape == (-1,) for f in fields)
    inputs = default_of(servable).inputs
    if not plain or not names or inputs.keys() == set(names):
        return servable
    if inputs.get(MATRIX) == Spec(MATRIX, DType.FLOAT64, (-1, len(names)), nullable=True):
        return _Matrix(servable, names)
    if by_place and len(inputs) == len(names):
        return _Renamed(servable, dict(zip(names, inputs, strict=True)))
    spec, *rest = inputs.values()
    numbers = all(f.spec.dtype is not DType.STRING and f.spec.required for f in fields)
    wide = spec.shape in ((-1, -1), (-1, len(names))) and spec.dtype.is_float
    if rest or not numbers or not wide or _COLUMNS in servable.signatures:
        return servable
    return _Stacked(servable, spec, names)


class Wrapped:
    """A servable under other signatures, each of which calls one of its own."""

    def __init__(self, servable: Servable) -> None:
        self._servable = servable
        self.signatures: Mapping[str, Signature] = servable.signatures

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        """Predict with the model within."""
        return self._servable.predict(inputs, signature_name)

    def close(self) -> None:
        """Close the model within."""
        self._servable.close()


class _Matrix(Wrapped):
    """Features without names, in one float64 matrix ``X``: all its methods take columns too."""

    def __init__(self, servable: Servable, names: list[str]) -> None:
        super().__init__(servable)
        self._rows = Rows(names, named=True)
        methods = [n for n in servable.signatures if not n.endswith((_COLUMNS, _MATRIX))]
        self.signatures = self._rows.signatures(
            {n: list(servable.signatures[n].outputs.values()) for n in methods}
        )

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        rows = self._rows.matrix(inputs, signature_name)
        method = signature_name.removesuffix(_MATRIX).removesuffix(_COLUMNS).removesuffix("_")
        return self._servable.predict({MATRIX: rows}, method or DEFAULT_SIGNATURE)


class _Renamed(Wrapped):
    """Columns that the model knows by other names: LightGBM's have no blanks in theirs."""

    def __init__(self, servable: Servable, own: dict[str, str]) -> None:
        super().__init__(servable)
        self._own = own
        self.signatures = {n: self._told(s) for n, s in servable.signatures.items()}
        self._kept = {n for n, s in servable.signatures.items() if self.signatures[n] is s}

    def _told(self, signature: Signature) -> Signature:
        if list(signature.inputs) != list(self._own.values()):
            return signature
        named = {n: replace(signature.inputs[own], name=n) for n, own in self._own.items()}
        return replace(signature, inputs=named)

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        if signature_name not in self._kept:
            inputs = {own: inputs[n] for n, own in self._own.items() if n in inputs}
        return self._servable.predict(inputs, signature_name)


class _Stacked(Wrapped):
    """A tensor of rank two, which may come as the columns that MLflow makes it of."""

    def __init__(self, servable: Servable, tensor: Spec, names: list[str]) -> None:
        super().__init__(servable)
        self._rows, self._tensor = Rows(names, named=True), tensor
        whole = default_of(servable)
        self._whole = next(n for n, s in servable.signatures.items() if s is whole)
        forms = self._rows.signatures({DEFAULT_SIGNATURE: list(whole.outputs.values())})
        self.signatures = {
            **servable.signatures,
            self._whole: replace(whole, also=_COLUMNS),
            _COLUMNS: forms[_COLUMNS],
        }

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        if signature_name == _COLUMNS:
            rows = self._rows.matrix(inputs, _COLUMNS).astype(self._tensor.dtype.numpy, order="C")
            inputs, signature_name = {self._tensor.name: rows}, self._whole
        return self._servable.predict(inputs, signature_name)


class Answering(Wrapped):
    """A servable whose default signature is one of its methods: that which MLflow calls."""

    def __init__(self, servable: Servable, method: str) -> None:
        super().__init__(servable)
        forms = {DEFAULT_SIGNATURE: method} | {
            form: f"{method}_{form}" for form in (_COLUMNS, _MATRIX)
        }
        self._own = {to: own for to, own in forms.items() if own in servable.signatures}
        called = {to: servable.signatures[own] for to, own in self._own.items()}
        self.signatures = {**servable.signatures, **called}

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        return self._servable.predict(inputs, self._own.get(signature_name, signature_name))
