"""A PFA engine as a servable: its types as tensors, its rows one after another."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from martlet.errors import InvalidInput, ServableFailed
from martlet.formats.pfa.document import engine
from martlet.formats.pfa.failure import Failure
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
from martlet.formats.pfa.values import Fields, reader, writer
from martlet.servable import DEFAULT_SIGNATURE
from martlet.tensors import DType, Signature, Spec, Tensor, Tensors

INPUT, OUTPUT = "input", "output"

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
_JSON = "JSON of "


def _scalar(of: Type) -> DType | None:
    if isinstance(of, Enum | Fixed):
        return DType.STRING
    return _SCALARS.get(of)


# An input may be given as numbers without a width: an int is held to its range, and a float
# rounded, here.
_GIVEN = {DType.INT32: DType.INT64, DType.FLOAT32: DType.FLOAT64}


def _asked(name: str, of: Type) -> tuple[Spec, int]:
    """Return the tensor for an input of a type, and how many axes it has past the rows."""
    spec, depth = _spec(name, of)
    return replace(spec, dtype=_GIVEN.get(spec.dtype, spec.dtype)), depth


def _spec(name: str, of: Type) -> tuple[Spec, int]:
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
    return Spec(name, DType.STRING, (-1,), nullable=True, description=f"{_JSON}{of}"), -1


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


def _give(of: Type, spec: Spec, depth: int) -> Callable[[list[Any]], Tensor]:
    """Return what turns the rows' values into an output tensor."""
    dtype = spec.dtype.numpy
    if depth < 0:
        write = writer(of)

        def text(rows: list[Any]) -> Tensor:
            out = np.empty(len(rows), dtype=object)
            out[:] = [json.dumps(write(each), ensure_ascii=False) for each in rows]
            return out

        return text
    if depth == 0:
        missing: Any = np.nan if spec.dtype.is_float else None

        def plain(rows: list[Any]) -> Tensor:
            out = np.empty(len(rows), dtype=dtype)
            out[:] = [missing if each is None else each for each in rows]
            return out

        return plain
    return lambda rows: _stacked(rows, depth, dtype)


def _stacked(rows: list[Any], depth: int, dtype: Any) -> Tensor:
    """Stack the rows' arrays; shorter ones are filled up: with NaN, or None in text."""
    sizes = [0] * depth

    def measure(value: Any, axis: int) -> None:
        sizes[axis] = max(sizes[axis], len(value))
        if axis + 1 < depth:
            for each in value:
                measure(each, axis + 1)

    for row in rows:
        measure(row, 0)
    fill: Any = np.nan if dtype.kind == "f" else None
    out = np.full((len(rows), *sizes), fill if dtype.kind in "fO" else 0, dtype=dtype)

    def put(target: Tensor, value: Any, axis: int) -> None:
        if axis + 1 == depth:
            target[: len(value)] = value
        else:
            for i, each in enumerate(value):
                put(target[i], each, axis + 1)
        if dtype.kind not in "fO" and len(value) != sizes[axis]:
            raise InvalidInput(
                f"the rows' answers are arrays of different lengths ({len(value)} and "
                f"{sizes[axis]}), which {dtype} has no missing value for: ask for one row at a time"
            )

    for i, row in enumerate(rows):
        put(out[i], row, 0)
    return out


class PfaServable:
    """
    One engine.

    A record is one input (or output) a field, by its name; anything else is ``input`` (or
    ``output``). What no tensor holds (maps, unions, records within) is JSON text. Rows run one
    after another; an engine with state keeps it from call to call, and runs one call at a time.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._engine = engine(path)
        of = self._engine.input
        fields = of.fields if isinstance(of, Record) and of.fields else None
        inputs = [_asked(name, each) for name, each in (fields or {INPUT: of}).items()]
        self._kind = of.name if isinstance(of, Record) else ""
        self._readers = [
            (spec.name, _take(each, depth))
            for (spec, depth), each in zip(inputs, (fields or {INPUT: of}).values(), strict=True)
        ]
        self._record = fields is not None
        outputs, self._writers = self._outputs()
        self.signatures: Mapping[str, Signature] = {
            DEFAULT_SIGNATURE: Signature.of([spec for spec, _ in inputs], outputs)
        }

    def _outputs(self) -> tuple[list[Spec], list[tuple[str, Callable[[list[Any]], Tensor]]]]:
        of = self._engine.output
        if self._engine.method == "emit":
            # Each row emits none, one or many: a JSON array of them.
            of = Array(of)
            spec = Spec(OUTPUT, DType.STRING, (-1,), description=f"{_JSON}what the row emitted")
            return [spec], [(OUTPUT, _give(of, spec, -1))]
        if isinstance(of, Record) and of.fields:
            specs, writers = [], []
            for name, each in of.fields.items():
                spec, depth = _spec(name, each)
                give = _give(each, spec, depth)
                specs.append(spec)
                writers.append((name, _field(name, give)))
            return specs, writers
        spec, depth = _spec(OUTPUT, of)
        return [spec], [(OUTPUT, _give(of, spec, depth))]

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        """
        Run the action on each row, in order.

        Raises:
            InvalidInput: a value is not of its type, or the action raised a PFA exception; the
                text is PFA's, with its number.
        """
        rows = self._rows(inputs)
        running = self._engine
        if running.stateful:
            with running.lock:
                answers = self._run(rows)
        else:
            answers = self._run(rows)
        return {name: give(answers) for name, give in self._writers}

    def _rows(self, inputs: Tensors) -> list[Any]:
        columns = [(name, take(inputs[name])) for name, take in self._readers]
        if not self._record:
            return columns[0][1]
        if len({len(values) for _, values in columns}) > 1:
            raise InvalidInput(
                "the inputs differ in rows: "
                + ", ".join(f"{name} {len(values)}" for name, values in columns)
            )
        names = [name for name, _ in columns]
        kind = self._kind
        return [
            Fields(kind, zip(names, row, strict=True))
            for row in zip(*(values for _, values in columns), strict=True)
        ]

    def _run(self, rows: list[Any]) -> list[Any]:
        act, emitted = self._engine.act, self._engine.emitted
        emits = self._engine.method == "emit"
        answers = []
        try:
            for row in rows:
                found = act(row)
                if emits:
                    found = emitted.copy()
                    emitted.clear()
                answers.append(found)
        except Failure as exc:
            emitted.clear()
            raise InvalidInput(f"PFA exception in row {len(answers)}: {exc}") from None
        except RecursionError:
            emitted.clear()
            raise InvalidInput(f"row {len(answers)} recurs too deeply") from None
        except (ArithmeticError, LookupError, TypeError, ValueError, MemoryError) as exc:
            emitted.clear()
            raise ServableFailed(f"{self._path} failed in row {len(answers)}: {exc}") from exc
        return answers

    def close(self) -> None:
        """Run the document's ``end``."""
        try:
            self._engine.finish()
        except Failure as exc:
            raise ServableFailed(f"{self._path}: its end failed: {exc}") from None


def _field(name: str, give: Callable[[list[Any]], Tensor]) -> Callable[[list[Any]], Tensor]:
    return lambda rows: give([row[name] for row in rows])
