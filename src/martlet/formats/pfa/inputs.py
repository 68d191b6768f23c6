"""A PFA engine's types as tensors, and tensors as the values of its rows."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from martlet.errors import InvalidInput, UnsupportedModel
from martlet.formats.pfa.avrojson import reader
from martlet.formats.pfa.grove import Tested
from martlet.formats.pfa.types import (
    BOOLEAN,
    BYTES,
    DOUBLE,
    FLOAT,
    INT,
    LONG,
    NULL,
    STRING,
    Array,
    Enum,
    Fixed,
    Record,
    Type,
    Union,
)
from martlet.formats.pfa.values import Fields
from martlet.tensors import DType, Spec, Tensor, Tensors

INPUT = "input"
JSON = "JSON of "

_SCALARS: Mapping[Type, DType] = {
    BOOLEAN: DType.BOOL,
    INT: DType.INT32,
    LONG: DType.INT64,
    FLOAT: DType.FLOAT32,
    DOUBLE: DType.FLOAT64,
    STRING: DType.STRING,
    BYTES: DType.STRING,
}
_DEPTH = 3


def _scalar(of: Type) -> DType | None:
    if isinstance(of, Enum | Fixed):
        return DType.STRING
    return _SCALARS.get(of)


# An input may be given as numbers without a width: an int is held to its range, and a float
# rounded, here.
_GIVEN = {DType.INT32: DType.INT64, DType.FLOAT32: DType.FLOAT64}


def _asked(name: str, of: Type) -> tuple[Spec, int]:
    """Return the tensor for an input of a type, and how many axes it has past the rows."""
    spec, depth = spec_of(name, of)
    return replace(spec, dtype=_GIVEN.get(spec.dtype, spec.dtype)), depth


def spec_of(name: str, of: Type) -> tuple[Spec, int]:
    """Return the tensor for a type and how many axes it has past the rows; -1: it is JSON text."""
    dtype = _scalar(of)
    if dtype is not None:
        return Spec(name, dtype, (-1,), description=str(of)), 0
    if isinstance(of, Union) and len(of.types) == 2 and NULL in of.types:
        other = next(each for each in of.types if each != NULL)
        inner = _scalar(other)
        # A missing number is NaN: an int becomes a double, which holds it exactly.
        if inner is DType.INT32:
            inner = DType.FLOAT64
        if inner in (DType.FLOAT32, DType.FLOAT64, DType.STRING):
            return Spec(name, inner, (-1,), nullable=True, description=str(of)), 0
    depth = 0
    items: Type = of
    while isinstance(items, Array):
        depth, items = depth + 1, items.items
    inner = _scalar(items)
    if 0 < depth <= _DEPTH and inner is not None:
        shape = (-1,) * (depth + 1)
        return Spec(name, inner, shape, description=str(of)), depth
    return Spec(name, DType.STRING, (-1,), nullable=True, description=f"{JSON}{of}"), -1


def _take(of: Type, depth: int) -> Callable[[Tensor], list[Any]]:
    """Return what turns an input tensor into the rows' values."""
    read = reader(of)
    if depth < 0:
        return lambda column: [read(_parsed(each)) for each in column.tolist()]
    if depth == 0 and (of in _SCALARS and of not in (STRING, BYTES)):
        return lambda column: _held(column, of).tolist()
    if isinstance(of, Union):
        whole = {INT, LONG} & set(of.types)

        def nullable(column: Tensor) -> list[Any]:
            out = []
            for each in column.tolist():
                missing = each is None or each != each
                if not missing and whole and isinstance(each, float):
                    each = int(each) if each.is_integer() else each
                out.append(None if missing else read(each))
            return out

        return nullable
    items: Type = of
    while isinstance(items, Array):
        items = items.items
    if items in _SCALARS and items not in (STRING, BYTES):
        return lambda column: _held(column, items).tolist()
    # Rows of text that are shorter than others end in missing values.
    return lambda column: [read(_trimmed(each)) for each in column.tolist()]


def _held(column: Tensor, of: Type) -> Tensor:
    if of == INT and column.size and not (column.min() >= -(1 << 31) and column.max() < 1 << 31):
        raise InvalidInput(f"{column.max()} or {column.min()} is not int, which has 32 bits")
    return column.astype(np.float32) if of == FLOAT else column


def _trimmed(value: Any) -> Any:
    if isinstance(value, list):
        return [_trimmed(each) for each in value if each is not None]
    return value


def _parsed(value: Any) -> Any:
    if isinstance(value, bytes | str):
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as exc:
            raise InvalidInput(f"{str(value)[:60]!r} is not JSON: {exc}") from None
    return value


def _absent(of: Type, spec: Spec, depth: int, default: Any) -> Tensor:
    """
    Return one row of a field that is not given, from the *default* that its record declares.

    Raises:
        UnsupportedModel: the default is not of the field's type.
    """
    try:
        reader(of)(default)
        if depth < 0:
            default = json.dumps(default)
        elif default is None and spec.dtype.is_float:
            default = np.nan
        if depth > 0:
            return np.array([default], dtype=spec.dtype.numpy)
        out = np.empty(1, dtype=spec.dtype.numpy)
        out[0] = default
        return out
    except (InvalidInput, ValueError) as exc:
        raise UnsupportedModel(f"the default of the field {spec.name!r} is none: {exc}") from None


@dataclass(frozen=True, slots=True)
class _Column:
    """One input: its type, and what turns its tensor into the rows' values."""

    spec: Spec
    type: Type
    take: Callable[[Tensor], list[Any]]

    plain: bool
    """Whether the tensor holds the values as they are."""

    absent: Tensor | None
    """One row of it where it is not given; None: it must be."""


class Inputs:
    """
    What an engine takes: a record is one tensor a field, anything else is one tensor.

    Args:
        of: The engine's input type.
    """

    def __init__(self, of: Type) -> None:
        fields = of.fields if isinstance(of, Record) and of.fields else None
        self.kind = of.name if isinstance(of, Record) and fields else None
        """The record's name; None where the input is no record."""
        self.columns: dict[str, _Column] = {}
        defaults = of.defaults if isinstance(of, Record) and fields else {}
        for name, each in (fields or {INPUT: of}).items():
            spec, depth = _asked(name, each)
            plain = each in _SCALARS and each not in (STRING, BYTES)
            absent = _absent(each, spec, depth, defaults[name]) if name in defaults else None
            spec = replace(spec, required=absent is None)
            self.columns[name] = _Column(spec, each, _take(each, depth), plain, absent)

    @property
    def specs(self) -> list[Spec]:
        """The tensors, in the order of the fields."""
        return [each.spec for each in self.columns.values()]


@dataclass(slots=True)
class Given:
    """The inputs of one call."""

    inputs: Inputs
    tensors: Tensors
    _read: dict[str, list[Any]] = field(default_factory=dict)

    def count(self) -> int:
        """
        Return how many rows there are.

        Raises:
            InvalidInput: the inputs differ.
        """
        columns = self.inputs.columns
        counts = {name: len(self.tensors[name]) for name in columns if name in self.tensors}
        if len(set(counts.values())) > 1:
            told = ", ".join(f"{name} {count}" for name, count in counts.items())
            raise InvalidInput(f"the inputs differ in rows: {told}")
        if not counts:
            raise InvalidInput(f"none of the inputs is given: {', '.join(columns)}")
        count = next(iter(counts.values()))
        if len(counts) < len(columns):
            missing = {
                name: column.absent.repeat(count, axis=0)
                for name, column in columns.items()
                if name not in counts and column.absent is not None
            }
            self.tensors = {**self.tensors, **missing}
        return count

    def tested(self, by: Tested) -> Any:
        """Return the values of a field that trees test, as :meth:`Grove.walk` asks for them."""
        column = self.inputs.columns[by.name]
        if column.plain:
            return _held(self.tensors[by.name], column.type)
        values = self._values(by.name)
        return self.tensors[by.name] if by.codes is None else values

    def rows(self) -> Sequence[Any]:
        """Return the value of each row."""
        columns = [self._values(name) for name in self.inputs.columns]
        if self.inputs.kind is None:
            return columns[0]
        names, kind = list(self.inputs.columns), self.inputs.kind
        return [Fields(kind, zip(names, row, strict=True)) for row in zip(*columns, strict=True)]

    def check(self) -> None:
        """Read every value that may be refused, for a call that asks for none of them."""
        for name, column in self.inputs.columns.items():
            if column.type in (INT, FLOAT):
                _held(self.tensors[name], column.type)
            elif not column.plain:
                self._values(name)

    def _values(self, name: str) -> list[Any]:
        if name not in self._read:
            self._read[name] = self.inputs.columns[name].take(self.tensors[name])
        return self._read[name]
