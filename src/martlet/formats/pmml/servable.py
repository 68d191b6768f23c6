"""A PMML file as a servable: named columns in, named columns out."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from martlet.errors import InvalidInput, ServableFailed, UnsupportedModel, brief
from martlet.formats import LoadOptions
from martlet.formats.pmml.column import Column, failed, first
from martlet.formats.pmml.compile import _UNNAMED, Compiler, Input, first_model
from martlet.formats.pmml.context import NestedModel
from martlet.formats.pmml.describe import describe
from martlet.formats.pmml.document import parse, uncollected
from martlet.formats.pmml.frame import UNSET, Frame, Program, RowError
from martlet.formats.pmml.mining_schema import Given
from martlet.formats.pmml.outline import Branch, outline
from martlet.formats.pmml.prediction import Outcome, Prediction
from martlet.formats.pmml.tree_nodes import TreeNodes
from martlet.formats.pmml.values import (
    DOUBLE,
    FLOAT,
    STRING,
    DataType,
    Kind,
    Value,
    text_of,
)
from martlet.formats.pmml.verification import verify
from martlet.servable import DEFAULT_SIGNATURE
from martlet.tensors import DType, Signature, Spec, Tensor, Tensors

REASON = "_reason"
"""The output that says why a row has no answer: a sentence, None where it has one."""


class PmmlServable:
    """
    One PMML model.

    Inputs are the model's active fields: numbers as float64 (NaN: missing), all else as strings
    (None: missing). Outputs are its target and its output fields, then ``_reason``. A row with
    a value that the mining schema refuses has nothing in every output and its reason in the
    last; the other rows of the batch are answered.
    """

    def __init__(self, path: Path, options: LoadOptions) -> None:
        try:
            with uncollected():
                root = parse(path, {"Node": TreeNodes})
                compiler = Compiler.of(root)
                element = first_model(root)
                # Said now: the trees' elements are let go as they become arrays.
                self._description = describe(root, element)
                self._bind(compiler, compiler.model(element, None))
            verify(element, self)
        except UnsupportedModel as exc:
            raise UnsupportedModel(f"{path}: {exc}") from exc
        except (ArithmeticError, LookupError, TypeError, ValueError, RecursionError) as exc:
            # Every part names what is wrong with it; what none of them foresaw ends here.
            raise UnsupportedModel(f"{path} is not a PMML file that loads: {brief(exc)}") from exc

    def _bind(self, compiler: Compiler, model: NestedModel) -> None:
        self._program = compiler.world.program
        self._inputs = list(compiler.inputs.values())
        self._outputs = _outputs(compiler, model)
        reason = Spec(REASON, DType.STRING, (-1,), nullable=True, description="why a row is empty")
        signature = Signature.of(
            [_input_spec(each) for each in self._inputs],
            [*(each.spec for each in self._outputs), reason],
        )
        self.signatures: Mapping[str, Signature] = {DEFAULT_SIGNATURE: signature}
        self._slots = {each.data.name: each.slot for each in self._inputs}
        self._blank = [UNSET] * len(self._program.makers)
        for slot in self._slots.values():
            self._blank[slot] = None
        self._singles = [(each, self._program.reader(each.slot)) for each in self._outputs]

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        """
        Score the rows.

        A value that does not fit its field fails its row alone: a numeric column may also come
        as an object array, with text that is no number.
        """
        rows = len(next(iter(inputs.values()))) if inputs else 1
        try:
            return self._one(inputs) if rows == 1 else self._many(inputs, rows)
        except (ArithmeticError, LookupError, TypeError, ValueError) as exc:
            raise ServableFailed(f"the model cannot score these values: {brief(exc)}") from exc

    def _many(self, inputs: Tensors, rows: int) -> dict[str, Tensor]:
        if any(len(each) != rows for each in inputs.values()):
            raise _uneven(inputs)
        frame = Frame(self._program, rows)
        for name, slot in self._slots.items():
            given = inputs.get(name)
            frame[slot] = np.full(rows, None, dtype=object) if given is None else given
        # What infinities and overflows leave is said by what is missing, not by warnings.
        with np.errstate(all="ignore"):
            columns = [each.column(frame) for each in self._outputs]
        errors = None
        for each in columns:
            errors = first(errors, each.errors)
        bad = None if errors is None else failed(errors)
        found = {
            each.spec.name: each.tensor(column, bad)
            for each, column in zip(self._outputs, columns, strict=True)
        }
        found[REASON] = np.full(rows, None, dtype=object) if errors is None else errors
        return found

    def _one(self, inputs: Tensors) -> dict[str, Tensor]:
        record = self._blank.copy()
        slots = self._slots
        try:
            for name, given in inputs.items():
                record[slots[name]] = given.item()
        except ValueError:
            raise _uneven(inputs) from None
        reason = np.empty(1, dtype=object)
        try:
            found = {each.spec.name: each.scalar(read(record)) for each, read in self._singles}
        except RowError as exc:
            reason[0] = str(exc)
            found = {each.spec.name: each.scalar(None) for each in self._outputs}
        found[REASON] = reason
        return found

    @property
    def compiled(self) -> tuple[Program, list[Input], dict[str, int]]:
        """The program, its inputs and the slots of its outputs: for who writes them elsewhere."""
        return self._program, self._inputs, {each.spec.name: each.slot for each in self._outputs}

    @property
    def vocabularies(self) -> dict[str, list[Any]]:
        """Values that its inputs declare to be valid: all, or some of intervals."""
        return {each.data.name: each.data.examples() for each in self._inputs}

    def refusals(self, inputs: Tensors) -> Tensor:
        """Return why a field of each row is refused, whether a model asks for it or not."""
        rows = len(next(iter(inputs.values()))) if inputs else 1
        frame = Frame(self._program, rows)
        for name, slot in self._slots.items():
            given = inputs.get(name)
            frame[slot] = np.full(rows, None, dtype=object) if given is None else given
        found = None
        for slot, origin in self._program.origins.items():
            if isinstance(origin, Given):
                found = first(found, frame[slot].errors)
        return np.full(rows, None, dtype=object) if found is None else found

    def close(self) -> None:
        """Free what was compiled."""
        self._outputs, self._singles = [], []

    def describe(self) -> dict[str, Any]:
        """Return what the file holds, as plain values: fields, transformations, segments, ..."""
        return deepcopy(self._description)

    def outline(self) -> list[Branch]:
        """Return what :meth:`describe` says, as the lines of a tree."""
        return outline(self._description)


def _uneven(inputs: Tensors) -> InvalidInput:
    told = ", ".join(f"{name!r} has {len(each)}" for name, each in inputs.items())
    return InvalidInput(f"all inputs need as many rows: {told}")


class _Output:
    """One output: the slot that has it, and how it is shown to the caller."""

    def __init__(self, name: str, slot: int, kind: DataType, predicted: str | None = None) -> None:
        self.slot = slot
        self.kind = kind
        self._target = predicted
        self.dtype = _dtype(kind)
        self.spec = Spec(name, self.dtype, (-1,), nullable=True, description=str(kind))
        self._is_number = self.dtype is not DType.STRING
        self._numpy = self.dtype.numpy

    def column(self, frame: Frame) -> Column:
        found = frame[self.slot]
        if isinstance(found, Prediction):
            prediction = found
            if self._target is not None:
                prediction = found.others.get(self._target, found)
            found = prediction.value
        assert isinstance(found, Column)
        return found

    def tensor(self, column: Column, bad: Any) -> Tensor:
        """Return *column* for the caller, with nothing where *bad*."""
        kind = self.kind
        if column.type != kind and not (kind.is_number and column.type.is_number):
            column = column.cast(kind)
        if self._is_number:
            values = column.floats().astype(self._numpy)
            if bad is not None:
                values[bad] = np.nan
            return np.asarray(values)
        if column.levels is not None:
            found = np.empty(len(column.levels) + 1, dtype=object)
            for code, level in enumerate(column.levels):
                found[code] = text_of(level, STRING)
            found[-1] = None
            shown: Tensor = found[column.values]
        else:
            texts = [None if v is None else text_of(v, column.type) for v in column.objects()]
            shown = np.array(texts, dtype=object)
        if column.missing is not None:
            shown[column.missing] = None
        if bad is not None:
            shown[bad] = None
        return shown

    def scalar(self, value: Value) -> Tensor:
        """Return one *value* for the caller."""
        if isinstance(value, Outcome):
            value = value.value if value.others is None else value.of(self._target or "").value
        elif isinstance(value, Prediction):
            value = self._of_prediction(value)
        if self._is_number:
            if isinstance(value, str):
                value = float(value)
            return np.array([np.nan if value is None else value], dtype=self._numpy)
        found = np.empty(1, dtype=object)
        found[0] = None if value is None else text_of(value, self.kind)
        return found

    def _of_prediction(self, prediction: Prediction) -> Value:
        if self._target is not None:
            prediction = prediction.others.get(self._target, prediction)
        if prediction.value.errors is not None and prediction.value.errors[0] is not None:
            raise RowError(prediction.value.errors[0])
        return prediction.value.objects()[0]


def _dtype(kind: DataType) -> DType:
    if kind.kind is Kind.FLOAT:
        return DType.FLOAT32
    return DType.FLOAT64 if kind.is_number else DType.STRING


def _outputs(compiler: Compiler, model: NestedModel) -> list[_Output]:
    found: list[_Output] = []
    names = dict(_targets(model, compiler))
    for name, kind in names.items():
        found.append(_Output(name, model.slot, kind, name))
    for name in model.outputs:
        field = model.scope.find(name)
        if name not in names and field is not None:
            found.append(_Output(name, field.slot, field.type))
    return found


def _targets(model: NestedModel, compiler: Compiler) -> list[tuple[str, DataType]]:
    listed = [(name, kind) for name, kind, _ in model.targets]
    if listed:
        return listed
    return [(_UNNAMED, model.kind)]


def _input_spec(each: Input) -> Spec:
    data = each.data
    number = data.type.is_number or data.type is DOUBLE or data.type is FLOAT
    description = data.describe()
    default = each.mining.missing_value if each.mining is not None else None
    if default is not None:
        description += f"; {text_of(default)} where missing"
    dtype = DType.FLOAT64 if number and not data.type.is_moment else DType.STRING
    return Spec(data.name, dtype, (-1,), required=False, nullable=True, description=description)
