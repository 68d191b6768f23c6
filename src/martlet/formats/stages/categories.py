"""Text to index, index to text, index to one-hot."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.errors import InvalidInput
from martlet.formats.stages.invalid import Invalid
from martlet.formats.stages.stage import Kind, Port, Stage
from martlet.formats.stages.vectors import Bools, Floats, OneHot

Text = NDArray[np.object_]
# What a decimal of a fixed scale is as text.
_DECIMAL = re.compile(r"-?\d+\.(\d+)")


def number_text(value: float) -> str:
    """
    Return *value* as Java writes it: labels that were learnt from numbers are in this form.

    >>> number_text(1005), number_text(0.5), number_text(1e7), number_text(2.5e-4)
    ('1005', '0.5', '1.0E7', '2.5E-4')
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if value != value:
        return "NaN"
    if value in (np.inf, -np.inf):
        return "Infinity" if value > 0 else "-Infinity"
    size = abs(value)
    if size == 0 or 1e-3 <= size < 1e7:
        digits = np.format_float_positional(value, unique=True, trim="0")
        return str(digits)
    mantissa, exponent = np.format_float_scientific(value, unique=True, trim="0").split("e")
    return f"{mantissa}E{int(exponent)}"


def label_table(labels: Sequence[str]) -> dict[object, float]:
    """
    Return the index of each label, to be asked by text or by number.

    Labels learnt from a number column are its text ("1005", "7.0"; of decimals "7.50"): the number
    finds them too, and so does a truth value those learnt from a column of them.
    """
    table: dict[object, float] = {label: float(i) for i, label in enumerate(labels)}
    if table.keys() <= {"true", "false"}:
        table.update({label == "true": index for label, index in table.items()})
    decimals = [_DECIMAL.fullmatch(label) for label in labels]
    one_scale = None not in decimals and len({len(each[1]) for each in decimals if each}) == 1
    for i, label in enumerate(labels):
        try:
            number = float(label)
        except ValueError:
            continue
        if number == number and (
            one_scale
            or label in (number_text(number), str(int(number) if number.is_integer() else ""))
        ):
            table.setdefault(number, float(i))
    return table


@dataclass(frozen=True, slots=True)
class StringIndexer:
    """The place of each value in its column's *labels*."""

    labels: Sequence[Sequence[str]]
    invalid: Invalid
    inputs: Sequence[str]
    _tables: Sequence[dict[object, float]] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_tables", [label_table(each) for each in self.labels])

    def __call__(self, *columns: Any) -> Any:
        if self.invalid is Invalid.KEEP:
            found = self._index(columns, [float(len(each)) for each in self.labels])
        else:
            found = self._index(columns, [-1.0] * len(columns))
            for column, codes, source in zip(columns, found, self.inputs, strict=True):
                if codes.size and codes.min() < 0:
                    value = column[int(np.argmin(codes))]
                    raise InvalidInput(
                        f"column {source!r} holds {value!r}, which the model has not seen"
                    )
        return found[0] if len(found) == 1 else tuple(found)

    def keep(self, *columns: Any) -> Bools:
        """Return the rows all of whose values have a place."""
        codes = self._index(columns, [-1.0] * len(columns))
        return np.asarray(np.logical_and.reduce([each >= 0 for each in codes]))

    def _index(self, columns: tuple[Any, ...], missing: Sequence[float]) -> list[Floats]:
        found = []
        for column, table, other in zip(columns, self._tables, missing, strict=True):
            find = table.get
            found.append(np.array([find(v, other) for v in column.tolist()], dtype=np.float64))
        return found


def string_indexer(
    name: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    labels: Sequence[Sequence[str]],
    invalid: Invalid,
) -> Stage:
    """Return the stage that gives each value its place in *labels*, float64."""
    run = StringIndexer(labels, invalid, inputs)
    return Stage(
        name,
        tuple(Port(each, Kind.CATEGORY) for each in inputs),
        tuple(Port(each, Kind.NUMBER) for each in outputs),
        run,
        run.keep if invalid is Invalid.SKIP else None,
    )


@dataclass(frozen=True, slots=True)
class IndexToString:
    """The label at each index."""

    labels: Text
    source: str

    def __call__(self, column: Floats) -> Text:
        codes, labels = column.astype(np.int64), self.labels
        if codes.size and not (codes.min() >= 0 and codes.max() < len(labels)):
            raise InvalidInput(
                f"column {self.source!r} holds an index outside 0..{len(labels) - 1}"
            )
        return np.asarray(labels[codes])


def index_to_string(name: str, source: str, output: str, labels: Sequence[str]) -> Stage:
    """Return the stage that gives the label at each index."""
    run = IndexToString(np.array([*labels, None], dtype=object)[:-1], source)
    return Stage(name, (Port(source, Kind.NUMBER),), (Port(output, Kind.TEXT),), run)


@dataclass(frozen=True, slots=True)
class OneHotEncoder:
    """A 1 in the place of each index, of *widths*; what is none of *sizes* is kept, or refused."""

    sizes: Sequence[int]
    widths: Sequence[int]
    keeps: bool
    inputs: Sequence[str]

    def __call__(self, *columns: Floats) -> Any:
        found = []
        for column, size, width, source in zip(
            columns, self.sizes, self.widths, self.inputs, strict=True
        ):
            # The usual case: every index is a place in the vector (NaN is less than nothing).
            if column.size and column.min() >= 0 and column.max() < min(size, width):
                found.append(OneHot(column.astype(np.int64), None, width))
                continue
            codes = np.full(len(column), -1, dtype=np.int64)
            np.copyto(codes, column, where=np.isfinite(column), casting="unsafe")
            outside = (codes < 0) | (codes >= size)
            if outside.any():
                if not self.keeps:
                    value = column[int(np.argmax(outside))]
                    raise InvalidInput(
                        f"column {source!r} holds {value}, outside the {size} categories known"
                    )
                codes[outside] = size
            here = codes < width
            codes[~here] = -1
            found.append(OneHot(codes, here.astype(np.float64), width))
        return found[0] if len(found) == 1 else tuple(found)


def one_hot(
    name: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    sizes: Sequence[int],
    drop_last: bool,
    invalid: Invalid,
) -> Stage:
    """
    Return the stage that spreads indices into one-hot vectors.

    A vector has a place a category, one more where invalid indices are kept, one fewer where
    the last is dropped.
    """
    keeps = invalid is Invalid.KEEP
    widths = [size + keeps - drop_last for size in sizes]
    return Stage(
        name,
        tuple(Port(each, Kind.NUMBER) for each in inputs),
        tuple(Port(each, Kind.VECTOR, width) for each, width in zip(outputs, widths, strict=True)),
        OneHotEncoder(sizes, widths, keeps, inputs),
    )


def target_encoder(
    name: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    tables: Sequence[Mapping[float, float]],
    others: Sequence[float],
    nulls: Sequence[float],
    invalid: Invalid,
) -> Stage:
    """
    Return the stage that puts a learnt number in each category's place.

    Args:
        tables: The number of each category, by column.
        others: The number of a category not seen; it is refused where *invalid* is not KEEP.
        nulls: The number of a missing category; NaN: it is treated as one not seen.
    """

    def run(*columns: Floats) -> Any:
        found = []
        for column, table, other, null, source in zip(
            columns, tables, others, nulls, inputs, strict=True
        ):
            find = table.get
            absent = other if invalid is Invalid.KEEP else np.nan
            coded = np.array([find(v, absent) for v in column.tolist()], dtype=np.float64)
            coded[np.isnan(column)] = absent if null != null else null
            if invalid is not Invalid.KEEP and np.isnan(coded).any():
                value = column[int(np.argmax(np.isnan(coded)))]
                raise InvalidInput(f"column {source!r} holds {value}, which the model has not seen")
            found.append(coded)
        return found[0] if len(found) == 1 else tuple(found)

    return Stage(
        name,
        tuple(Port(each, Kind.NUMBER) for each in inputs),
        tuple(Port(each, Kind.NUMBER) for each in outputs),
        run,
    )
