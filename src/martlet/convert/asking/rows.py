"""Logged rows: a file of real requests as the inputs of a model, with the outcome of each."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from martlet.convert.asking.probes import Probe
from martlet.errors import InvalidInput, MissingExtra, ModelNotFound
from martlet.tensors import DType, Signature, Spec, Tensor

MOST = 20_000
"""Most rows that are used; of a longer file so many, evenly spread."""

_LABELS = ("label", "click", "clicked", "target", "y")


@dataclass(frozen=True, slots=True)
class Logged:
    """
    A file of rows, column by column.

    Args:
        columns: By name, as the file has them: texts of a CSV, values of JSON and Parquet.
        label: The column with a row's outcome (0 or 1); None if there is none.
        group: The column with a row's user; None if there is none.
        segments: Columns whose values are compared one by one.
    """

    columns: dict[str, list[object]]
    label: str | None = None
    group: str | None = None
    segments: tuple[str, ...] = ()

    @property
    def labels(self) -> Tensor | None:
        """0 or 1 for each row; of a graded label, what is above the middle of its range is 1."""
        if self.label is None:
            return None
        values = np.array([_number(each) for each in self.columns[self.label]], np.float64)
        if not np.isfinite(values).all():
            raise InvalidInput(f"the label column {self.label!r} has rows without a number")
        graded = values.min() < 0 or values.max() > 1
        middle = (values.min() + values.max()) / 2 if graded else 0.5
        found: Tensor = (values > middle).astype(np.int64)
        return found

    def probe(self, signature: Signature) -> Probe:
        """
        Return the rows as inputs of *signature*.

        Raises:
            InvalidInput: an input has no column, or a value that it cannot take.
        """
        specs = signature.inputs.values()
        if len(signature.inputs) == 1 and not set(signature.inputs) & set(self.columns):
            inputs = {spec.name: self._matrix(spec) for spec in specs}
        else:
            inputs = {spec.name: self._input(spec) for spec in specs if self._has(spec)}
        return Probe(
            "logged",
            inputs,
            self.labels,
            None if self.group is None else _objects(self.columns[self.group]),
            {name: _objects(self.columns[name]) for name in self.segments},
        )

    def _has(self, spec: Spec) -> bool:
        if spec.name in self.columns:
            return True
        if spec.required:
            raise InvalidInput(
                f"the rows have no column for the input {spec.name!r}; their columns: "
                + ", ".join(self.columns)
            )
        return False

    def _input(self, spec: Spec) -> Tensor:
        values = self.columns[spec.name]
        made = [_value(each, spec) for each in values]
        try:
            found = _objects(made) if spec.dtype is DType.STRING else np.array(made)
            array: Tensor = found.astype(spec.dtype.numpy)
            if spec.shape is None:
                return array  # the rows say how many numbers one has
            shape = [len(values), *(spec.shape or (-1,))[1:]]
            return array.reshape([-1 if size == -1 else size for size in shape])
        except (ValueError, TypeError, OverflowError) as exc:
            raise InvalidInput(f"column {spec.name!r} does not fit {spec}: {exc}") from None

    def _matrix(self, spec: Spec) -> Tensor:
        """All columns but the named ones, side by side, for a model that takes one matrix."""
        width = (spec.shape or (-1,))[-1]
        left = {self.label, self.group, *self.segments}
        names = [name for name in self.columns if name not in left]
        if width != len(names):
            raise InvalidInput(
                f"the input {spec.name!r} takes {width} columns; the rows have {len(names)}"
            )
        columns = [self._input(Spec(name, spec.dtype, (-1,))) for name in names]
        return np.stack(columns, axis=1)


def read_rows(
    path: Path,
    *,
    label: str | None = None,
    group: str | None = None,
    segments: Sequence[str] = (),
    most: int | None = MOST,
) -> Logged:
    """
    Return the rows in a CSV (with a header), JSON-lines or Parquet file.

    Args:
        label: The column with the outcome; None takes one called ``label``, ``click``, ``target``.
        most: Rows that are used; None for all.

    Raises:
        ModelNotFound: there is no such file.
        InvalidInput: it holds no rows, or not the columns that were named.
    """
    if not path.is_file():
        raise ModelNotFound(f"there is no file of rows at {path}")
    try:
        columns = _read(path)
    except (ValueError, UnicodeDecodeError, AttributeError, csv.Error) as exc:
        raise InvalidInput(f"{path} holds no rows: {exc}") from None
    count = max(map(len, columns.values()), default=0)
    if not count:
        raise InvalidInput(f"{path} holds no rows")
    for name in filter(None, (label, group, *segments)):
        if name not in columns:
            raise InvalidInput(f"{path} has no column {name!r}; it has {', '.join(columns)}")
    if most is not None and count > most:
        chosen = np.linspace(0, count - 1, most).astype(int).tolist()
        columns = {name: [values[at] for at in chosen] for name, values in columns.items()}
    found = label or next((name for name in _LABELS if name in columns), None)
    return Logged(columns, found, group, tuple(segments))


def _read(path: Path) -> dict[str, list[object]]:
    if path.suffix == ".parquet":
        try:
            from pyarrow import parquet
        except ModuleNotFoundError as exc:
            raise MissingExtra("rows in Parquet", "parquet") from exc
        return dict(parquet.read_table(path).to_pydict())
    with path.open(encoding="utf-8-sig", newline="") as lines:
        if path.suffix in (".jsonl", ".ndjson", ".json"):
            rows = [json.loads(line) for line in lines if line.strip()]
            names = list(dict.fromkeys(name for row in rows for name in row))
            return {name: [row.get(name) for row in rows] for name in names}
        reader = csv.reader(lines)
        header = next(reader, [])
        body = [row for row in reader if row]
        if any(len(row) != len(header) for row in body):
            raise ValueError("a row has more or fewer cells than the header")
        return {name: [row[at] for row in body] for at, name in enumerate(header)}


def _value(value: object, spec: Spec) -> object:
    if isinstance(value, list):
        return [_value(each, spec) for each in value]
    empty = value is None or value == ""
    if spec.dtype is DType.STRING:
        return (None if spec.nullable and value is None else "") if empty else str(value)
    if spec.dtype is DType.BOOL:
        return str(value).strip().lower() in ("1", "1.0", "true", "yes", "t")
    if empty:
        # As TensorFlow's CSV reader, with which such models are trained: an empty cell is 0.
        return float("nan") if spec.nullable and spec.dtype.is_float else 0
    number = _number(value)
    return int(number) if spec.dtype.is_integer else number


def _number(value: object) -> float | int:
    if isinstance(value, bool | int | float):
        return value
    text = str(value).strip()
    try:
        return int(text)
    except ValueError:
        try:
            return float(text)
        except ValueError:
            raise InvalidInput(f"{text!r} is not a number") from None


def _objects(values: Sequence[object]) -> Tensor:
    found = np.empty(len(values), object)
    if values and isinstance(values[0], list):
        return np.array(values, object)
    found[:] = values
    return found
