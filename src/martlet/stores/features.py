"""Feature tables: typed columns by key, in a mapped file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from martlet.errors import InvalidInput
from martlet.stores.keyed import Keyed
from martlet.stores.keys import Rows, pack_keys
from martlet.stores.strings import Strings, pack
from martlet.stores.tablefile import Array, Sections, write_table
from martlet.tensors import DType

KIND = "features"

Default = int | float | bool | str
_DEFAULTS: dict[DType, Default] = {
    DType.BOOL: False,
    DType.INT64: 0,
    DType.FLOAT32: float("nan"),
    DType.FLOAT64: float("nan"),
    DType.STRING: "",
}
_ALLOWED: dict[DType, type | tuple[type, ...]] = {
    DType.BOOL: bool,
    DType.INT64: int,
    DType.FLOAT32: (int, float),
    DType.FLOAT64: (int, float),
    DType.STRING: str,
}


@dataclass(frozen=True, slots=True)
class Column:
    """
    What one column holds.

    Args:
        dtype: BOOL, INT64, FLOAT32, FLOAT64 or STRING.
        width: 0 for one value a key; n for a vector of n.
        default: What an unknown key has, and a known one whose value is missing.
    """

    name: str
    dtype: DType
    width: int
    default: Default


class Features(Keyed):
    """
    An open table of features.

    Args:
        path: As ``write_features`` wrote it.

    Raises:
        ModelNotFound, UnsupportedModel: there is no such file, or it is not a feature table.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, KIND)
        self.columns: Mapping[str, Column] = {
            name: Column(name, DType(dtype), width, default)
            for name, dtype, width, default in self._file.meta["columns"]
        }
        # Each has one row more than there are keys: the default, so that row -1 needs no test.
        self._stored = {name: self._file[f"column.{name}"] for name in self.columns}
        self._names = {
            name: Strings(self._file[f"names.{name}"], self._file[f"names.{name}.offsets"])
            for name, column in self.columns.items()
            if column.dtype is DType.STRING
        }

    def get_many(
        self, keys: ArrayLike | Sequence[str], names: Sequence[str] | None = None
    ) -> dict[str, Array]:
        """
        Return the columns *names* (None: all) for *keys*: each [n] or [n, width].

        Strings are object arrays of str. An unknown key has each column's default.

        Raises:
            InvalidInput: *keys* are not of the table's kind, or there is no such column.
        """
        return self.take(self.keys.rows_of(keys), names)

    def take(self, rows: Rows, names: Sequence[str] | None = None) -> dict[str, Array]:
        """
        Return the columns *names* (None: all) for *rows* [n], defaults for -1.

        Raises:
            InvalidInput: there is no such column.
        """
        found: dict[str, Array] = {}
        for name in self.columns if names is None else names:
            if name not in self._stored:
                known = ", ".join(self.columns)
                raise InvalidInput(f"{self.path.name} has no column {name!r}; it has: {known}")
            values = self._stored[name].take(rows, axis=0, mode="wrap")
            found[name] = self._names[name].take(values) if name in self._names else values
        return found

    def stored(self, name: str) -> Array:
        """
        Return the column *name* as it lies in the file, not copied: [rows + 1, ...].

        The last row is the default. Strings are numbers here.
        """
        return self._stored[name]

    def scan(self, batch: int = 8192) -> Iterator[tuple[Array, dict[str, Array]]]:
        """Give every key once with its columns, in the order of the rows."""
        for start in range(0, len(self), batch):
            rows = np.arange(start, min(start + batch, len(self)))
            yield self.keys.at(rows), self.take(rows)


def write_features(
    path: Path,
    keys: ArrayLike | Sequence[str],
    columns: Mapping[str, ArrayLike],
    *,
    defaults: Mapping[str, Default] | None = None,
    generation: str = "",
) -> None:
    """
    Write a feature table; who opens *path* finds the old file or the whole new one.

    Args:
        path: Where it will be.
        keys: One a row, all integers or all strings, none twice.
        columns: By name, [rows] or [rows, width], of booleans, integers, floats or strings. A
            missing value is None, or NaN in a float column.
        defaults: By column: what an unknown key has, and a missing value. Without one it is
            False, 0, NaN or "".
        generation: The id shared by all that was trained together.

    Raises:
        InvalidInput: what comes does not fit together; the text names the column.
        NotAvailable: the disk is full, or refuses.
    """
    meta, sections = pack_keys(keys)
    rows = len(keys) if isinstance(keys, Sequence) else len(np.asarray(keys))
    given = dict(defaults or {})
    specs: list[list[Any]] = []
    for name, values in columns.items():
        column, packed = _column(name, values, given.pop(name, None))
        if len(packed[f"column.{name}"]) != rows + 1:
            found = len(packed[f"column.{name}"]) - 1
            raise InvalidInput(f"column {name!r} has {found} values for {rows} keys")
        specs.append([name, column.dtype.value, column.width, column.default])
        sections = {**sections, **packed}
    if given:
        raise InvalidInput(f"a default is given for {next(iter(given))!r}, which is not a column")
    write_table(path, KIND, sections, generation=generation, meta={**meta, "columns": specs})


def _column(name: str, values: ArrayLike, default: Default | None) -> tuple[Column, Sections]:
    array, missing = _typed(name, values)
    dtype = DType.of(array.dtype)
    if default is None:
        default = _DEFAULTS[dtype]
    if not isinstance(default, _ALLOWED[dtype]) or (
        isinstance(default, bool) != (dtype is DType.BOOL)
    ):
        raise InvalidInput(
            f"column {name!r} is {dtype.value}, so its default cannot be {default!r}"
        )
    if dtype is DType.STRING:
        if array.ndim != 1:
            raise InvalidInput(f"column {name!r} of strings holds one value a key")
        return Column(name, dtype, 0, default), _coded(name, array, missing, str(default))
    stored = np.empty((len(array) + 1, *array.shape[1:]), array.dtype)
    stored[:-1] = array
    stored[:-1][missing] = default
    stored[-1] = default
    width = 0 if array.ndim == 1 else array.shape[1]
    return Column(name, dtype, width, default), {f"column.{name}": stored}


def _typed(name: str, values: ArrayLike) -> tuple[Array, NDArray[np.bool_]]:
    try:
        array = np.asarray(values)
    except ValueError:
        raise InvalidInput(f"column {name!r} has values of different lengths") from None
    if array.ndim not in (1, 2) or (array.ndim == 2 and array.shape[1] == 0):
        raise InvalidInput(
            f"column {name!r} has shape {list(array.shape)}; [rows] or [rows, width]"
        )
    missing = np.zeros(array.shape, bool)
    if array.dtype == object:
        missing = np.array([value is None for value in array.flat], bool).reshape(array.shape)
        array = _filled(name, array, missing)
    if array.dtype.kind == "S":
        array = np.char.decode(array, "utf-8")
    if array.dtype.kind == "U":
        array = array.astype(object)
    elif array.dtype.kind in "iu":
        if array.dtype == np.uint64 and array.max(initial=np.uint64(0)) > 2**63 - 1:
            raise InvalidInput(f"column {name!r} has an integer beyond 64 signed bits")
        array = array.astype(np.int64)
    elif array.dtype.kind == "f":
        array = array.astype(np.float64 if array.dtype.itemsize > 4 else np.float32)
        missing |= np.isnan(array)
    elif array.dtype.kind not in "Ob":
        raise InvalidInput(f"column {name!r} is {array.dtype}, which no feature can be")
    return array, missing


def _filled(name: str, array: Array, missing: NDArray[np.bool_]) -> Array:
    # Of Python values: what the present ones are decides what the column is.
    present = array[~missing]
    kinds = {type(value) for value in present.tolist()}
    if kinds <= {str}:
        return array
    if not kinds <= {int, float, bool} or (bool in kinds and len(kinds) > 1):
        named = ", ".join(sorted(kind.__name__ for kind in kinds))
        raise InvalidInput(f"column {name!r} mixes {named}: one type a column is wanted")
    try:
        dtype = np.float64 if float in kinds else bool if bool in kinds else np.int64
        filled = np.zeros(array.shape, dtype)
        filled[~missing] = present
    except (OverflowError, ValueError, TypeError):
        raise InvalidInput(f"column {name!r} has an integer beyond 64 signed bits") from None
    return filled


def _coded(name: str, array: Array, missing: NDArray[np.bool_], default: str) -> Sections:
    values = [default if gone else value for value, gone in zip(array, missing, strict=True)]
    for value in values:
        if not isinstance(value, str):
            raise InvalidInput(f"column {name!r} mixes str and {type(value).__name__}")
    codes: dict[str, int] = {}
    for value in [*values, default]:
        codes.setdefault(value, len(codes))
    numbers = np.fromiter((codes[v] for v in [*values, default]), np.int32, len(values) + 1)
    return {f"column.{name}": numbers, **pack(list(codes), f"names.{name}")}
