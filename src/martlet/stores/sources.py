"""Plain files that tables are made from: CSV, JSON, npz and Parquet."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from martlet.errors import InvalidInput, MissingExtra, ModelNotFound
from martlet.stores.embeddings import write_embeddings
from martlet.stores.features import Default, write_features
from martlet.stores.lists import write_lists
from martlet.stores.strings import objects
from martlet.stores.tablefile import Array, check_unique

# A leading zero makes no number: 01234 is a postcode.
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]*)?([eE][+-]?[0-9]+)?|nan|[+-]?inf", re.IGNORECASE)

Columns = dict[str, Array]
"""Columns by name, in the file's order, all of one length."""


def read_columns(source: Path) -> Columns:
    """
    Return the columns of *source*, told by its suffix.

    - ``.csv``: a header, then rows. A column whose every cell is an integer, a number or
      true/false is one; an empty cell is a missing value (None).
    - ``.json``: a list of objects, or an object of columns.
    - ``.npz``: arrays by name.
    - ``.parquet``: needs the extra ``parquet``.

    Raises:
        ModelNotFound: there is nothing at *source*.
        InvalidInput: it cannot be read as that, or its columns differ in length.
        MissingExtra: pyarrow is not installed.
    """
    read = _READERS.get(source.suffix)
    if read is None:
        known = ", ".join(_READERS)
        raise InvalidInput(
            f"{source.name} is not a table that can be read; the suffixes are {known}"
        )
    if not source.is_file():
        raise ModelNotFound(f"there is no file at {source}")
    try:
        columns = read(source)
    except (OSError, ValueError, csv.Error) as exc:
        raise InvalidInput(f"{source} is not readable as {source.suffix[1:]}: {exc}") from exc
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise InvalidInput(f"the columns of {source} differ in length: {lengths}")
    return columns


def make_embeddings(
    source: Path, path: Path, *, key: str = "", precision: str = "float32", generation: str = ""
) -> None:
    """
    Write the embedding table that *source* holds to *path*.

    *source* has one key column (the first, or *key*) and either one column of vectors or a column
    for each dimension.

    Raises:
        ModelNotFound, MissingExtra: as ``read_columns``.
        InvalidInput: it is no such file, or ``write_embeddings`` refuses what it holds.
    """
    keys, vectors = read_embeddings(source, key)
    write_embeddings(path, keys, vectors, precision=precision, generation=generation)


def read_embeddings(source: Path, key: str = "") -> tuple[Array, Array]:
    """
    Return the keys [n] and vectors [n, dim] that *source* holds, as of ``make_embeddings``.

    Raises:
        ModelNotFound, MissingExtra: as ``read_columns``.
        InvalidInput: it is no such file.
    """
    keys, rest = _split(source, key)
    if len(rest) == 1:
        [vectors] = rest.values()
        if vectors.dtype == object:
            vectors = _stacked(keys, vectors)
        elif vectors.ndim == 1:
            vectors = vectors[:, None]
    else:
        for name, column in rest.items():
            if column.ndim != 1 or column.dtype.kind not in "iuf" or np.isnan(column).any():
                raise InvalidInput(
                    f"column {name!r} of {source.name} is not a dimension of a vector: every cell "
                    "must be a number"
                )
        vectors = np.stack(list(rest.values()), axis=1)
    return keys, vectors


def make_features(
    source: Path,
    path: Path,
    *,
    key: str = "",
    defaults: Mapping[str, Default] | None = None,
    generation: str = "",
) -> None:
    """
    Write the feature table that *source* holds to *path*: a key column (the first, or *key*), and
    a column for each feature.

    Raises:
        ModelNotFound, MissingExtra: as ``read_columns``.
        InvalidInput: it is no such file, or ``write_features`` refuses what it holds.
    """
    keys, rest = _split(source, key)
    columns = {
        name: _stacked(keys, column) if _holds_lists(column) else column
        for name, column in rest.items()
    }
    write_features(path, keys, columns, defaults=defaults, generation=generation)


def make_lists(source: Path, path: Path, *, generation: str = "") -> None:
    """
    Write the table of lists that *source* holds to *path*.

    - ``.json``: ``{key: [item, ...]}`` or ``{key: [[item, score], ...]}``. Keys that are all
      integers in quotes are integers.
    - any other: a row for each item, best first, with columns key, item and (maybe) score.

    Raises:
        ModelNotFound, MissingExtra: as ``read_columns``.
        InvalidInput: it is no such file, or ``write_lists`` refuses what it holds.
    """
    lists: dict[Any, list[Any]] = {}
    scores: dict[Any, list[float]] = {}
    if source.suffix == ".json":
        for key, entries in _json_lists(source).items():
            pairs = [entry for entry in entries if isinstance(entry, list)]
            if pairs and (len(pairs) < len(entries) or any(len(pair) != 2 for pair in pairs)):
                raise InvalidInput(f"the list of key {key!r} mixes items and [item, score] pairs")
            lists[key] = [pair[0] for pair in pairs] if pairs else entries
            if pairs:
                scores[key] = [pair[1] for pair in pairs]
        scored = bool(scores)
    else:
        columns = list(read_columns(source).values())
        if len(columns) not in (2, 3):
            raise InvalidInput(f"{source.name} needs columns key, item and (maybe) score")
        scored = len(columns) == 3
        for key, item, *score in zip(*(column.tolist() for column in columns), strict=True):
            lists.setdefault(key, []).append(item)
            scores.setdefault(key, []).extend(score)
    write_lists(path, lists, scores if scored else None, generation=generation)


def _json_lists(source: Path) -> dict[Any, list[Any]]:
    if not source.is_file():
        raise ModelNotFound(f"there is no file at {source}")
    try:
        pairs = json.loads(source.read_bytes(), object_pairs_hook=_no_key_twice)
    except ValueError as exc:
        raise InvalidInput(f"{source} is not JSON: {exc}") from exc
    if not isinstance(pairs, dict) or not all(isinstance(each, list) for each in pairs.values()):
        raise InvalidInput(f"{source} must hold an object of lists: {{key: [item, ...]}}")
    if all(_is_integer(key) for key in pairs):
        return {int(key): items for key, items in pairs.items()}
    return pairs


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        check_unique([key for key, _ in pairs])
    return found


def _is_integer(text: str) -> bool:
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit() and (digits == "0" or digits[0] != "0")


def _split(source: Path, key: str) -> tuple[Array, Columns]:
    columns = read_columns(source)
    if len(columns) < 2:
        raise InvalidInput(f"{source.name} needs a key column and at least one more")
    key = key or next(iter(columns))
    if key not in columns:
        raise InvalidInput(f"{source.name} has no column {key!r}; it has: {', '.join(columns)}")
    return columns.pop(key), columns


def _holds_lists(column: Array) -> bool:
    return column.dtype == object and any(isinstance(v, list | np.ndarray) for v in column)


def _stacked(keys: Array, column: Array) -> Array:
    lengths = [len(v) if isinstance(v, list | np.ndarray) else -1 for v in column]
    for key, length in zip(keys.tolist(), lengths, strict=True):
        if length != lengths[0] or length < 0:
            found = "no vector" if length < 0 else f"{length} components"
            raise InvalidInput(f"key {key!r} has {found}, where {lengths[0]} are wanted")
    try:
        return np.array([np.asarray(v, np.float32) for v in column])
    except (TypeError, ValueError) as exc:
        raise InvalidInput(f"a vector holds what is not a number: {exc}") from None


def _csv(source: Path) -> Columns:
    with source.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.reader(file, strict=True)
        names = next(rows, [])
        if not names or len(set(names)) != len(names):
            raise ValueError(f"the header must name each column once: {names}")
        cells: list[list[str]] = []
        for row in rows:
            if row and len(row) != len(names):
                raise ValueError(f"line {rows.line_num} has {len(row)} cells, not {len(names)}")
            if row:
                cells.append(row)
    columns = zip(*cells, strict=True) if cells else ((),) * len(names)
    return {name: _cells(column) for name, column in zip(names, columns, strict=True)}


def _cells(cells: Sequence[str]) -> Array:
    present = [cell for cell in cells if cell]
    if not present:
        # Nothing says what it would be; numbers that are missing are what a model can take.
        return np.full(len(cells), np.nan)
    convert: Callable[[str], Any] = str
    if present and all(map(_is_integer, present)):
        convert = int
    elif present and all(map(_NUMBER.fullmatch, present)):
        convert = float
    elif present and all(cell.lower() in ("true", "false") for cell in present):
        convert = _truth
    if len(present) == len(cells) and convert is not str:
        return np.array([convert(cell) for cell in cells])
    return objects([convert(cell) if cell else None for cell in cells])


def _truth(cell: str) -> bool:
    return cell.lower() == "true"


def _json(source: Path) -> Columns:
    found = json.loads(source.read_bytes(), object_pairs_hook=_no_key_twice)
    if isinstance(found, list) and found and all(isinstance(row, dict) for row in found):
        names = dict.fromkeys(name for row in found for name in row)
        found = {name: [row.get(name) for row in found] for name in names}
    if not isinstance(found, dict) or not all(isinstance(v, list) for v in found.values()):
        raise ValueError("a list of objects or an object of columns is wanted")
    return {name: _values(values) for name, values in found.items()}


def _values(values: list[Any]) -> Array:
    if any(isinstance(value, list) for value in values):
        return objects(values)
    if any(value is None or isinstance(value, str) for value in values):
        return objects(values)
    return np.array(values)


def _npz(source: Path) -> Columns:
    # Without pickles: an object array could run code.
    with np.load(source, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _parquet(source: Path) -> Columns:
    try:
        from pyarrow import ArrowInvalid, parquet
    except ModuleNotFoundError:
        raise MissingExtra("reading Parquet", "parquet") from None
    try:
        table = parquet.read_table(source)
    except ArrowInvalid as exc:
        raise ValueError(str(exc)) from exc
    columns: Columns = {}
    for name in table.column_names:
        column = table.column(name)
        if column.null_count or column.type.num_fields or str(column.type).endswith("string"):
            columns[name] = _values(column.to_pylist())
        else:
            columns[name] = column.to_numpy()
    return columns


_READERS: dict[str, Callable[[Path], Columns]] = {
    ".csv": _csv,
    ".json": _json,
    ".npz": _npz,
    ".parquet": _parquet,
}
