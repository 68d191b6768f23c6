"""Updates of rows as they come from files, streams and requests, and their applying in batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from martlet.errors import InvalidInput, ModelNotFound
from martlet.stores.embeddings import Embeddings
from martlet.stores.keys import concatenated
from martlet.stores.sources import read_embeddings

Vector = Sequence[float] | NDArray[np.float32]


class Update(NamedTuple):
    """One row that changes."""

    key: int | str
    vector: Vector | None
    """[dim]; None: the row is again as the table's file has it."""
    generation: str = ""
    """Of the model that made the vector; "" is not compared."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What became of some updates. ``why``: of the last that was refused."""

    set: int = 0
    removed: int = 0
    refused: int = 0
    why: str = ""

    def __add__(self, other: Applied) -> Applied:
        return Applied(
            self.set + other.set,
            self.removed + other.removed,
            self.refused + other.refused,
            other.why or self.why,
        )


def parse_update(line: bytes) -> Update:
    """
    Return the update of a line of NDJSON.

    ``{"key": 42, "vector": [0.1, ...]}`` sets a row, ``{"key": 42, "remove": true}`` takes it
    back. Either may name the ``generation`` that it belongs to.

    Raises:
        InvalidInput: it is neither.
    """
    try:
        return update_of(orjson.loads(line))
    except orjson.JSONDecodeError as exc:
        raise InvalidInput(f"an update is a JSON object: {exc}") from None


def update_of(document: object) -> Update:
    """
    Return the update that a JSON value says; see ``parse_update``.

    Raises:
        InvalidInput: it says none.
    """
    if not isinstance(document, dict):
        raise InvalidInput('an update is a JSON object, as {"key": 42, "vector": [0.1, 0.2]}')
    odd = document.keys() - {"key", "vector", "remove", "generation"}
    if odd:
        raise InvalidInput(f"an update has no {min(odd)!r}; it has key, vector, remove, generation")
    key, vector, remove = document.get("key"), document.get("vector"), document.get("remove")
    if not isinstance(key, int | str) or isinstance(key, bool):
        raise InvalidInput(f"'key' is {key!r}; a whole number or a text is wanted")
    if (vector is None) == (remove is not True):
        raise InvalidInput(f"key {key!r}: either 'vector' or 'remove': true is wanted")
    if vector is not None and not isinstance(vector, list):
        raise InvalidInput(f"key {key!r}: 'vector' is a list of numbers")
    generation = document.get("generation", "")
    if not isinstance(generation, str):
        raise InvalidInput(f"key {key!r}: 'generation' is a text")
    return Update(key, vector, generation)


def apply(table: Embeddings, updates: Sequence[Update]) -> Applied:
    """
    Apply *updates*, of which the last of a key holds; all of them, or none.

    Raises:
        InvalidInput: one does not fit the table; the text names its key.
        Overloaded, WrongState, NotAvailable: as of ``Embeddings.put_many``.
    """
    setting, removing = _sorted_out(table, updates)
    if setting:
        vectors = _stacked(table, setting)
        table.put_many(_keys(table, [update.key for update in setting]), vectors)
    removed = table.remove_many(_keys(table, removing)) if removing else np.zeros(0, bool)
    return Applied(len(setting), int(removed.sum()))


def check(table: Embeddings, updates: Sequence[Update]) -> None:
    """
    See that *updates* could be applied.

    Raises:
        InvalidInput: one does not fit the table; the text names its key.
    """
    setting, removing = _sorted_out(table, updates)
    keys = [update.key for update in setting]
    table.check(_keys(table, keys), _stacked(table, setting))
    table.rows_of(_keys(table, removing))


def _sorted_out(
    table: Embeddings, updates: Sequence[Update]
) -> tuple[list[Update], list[int | str]]:
    """Return what is set and which keys are taken back, of each key as its last update says."""
    last = {update.key: update for update in updates}
    for update in last.values():
        if update.generation and update.generation != table.generation:
            raise InvalidInput(
                f"the vector of key {update.key!r} is of generation {update.generation!r}, "
                f"and the table of {table.generation!r}"
            )
    setting = [update for update in last.values() if update.vector is not None]
    return setting, [update.key for update in last.values() if update.vector is None]


def apply_each(table: Embeddings, updates: Sequence[Update]) -> Applied:
    """
    Apply those of *updates* that fit; return how many did not, and why the last did not.

    Raises:
        Overloaded, WrongState, NotAvailable: as of ``Embeddings.put_many``.
    """
    try:
        return apply(table, updates)
    except InvalidInput as exc:
        if len(updates) == 1:
            return Applied(refused=1, why=str(exc))
    # In halves, so that one bad row in thousands costs a dozen writes and not thousands.
    middle = len(updates) // 2
    return apply_each(table, updates[:middle]) + apply_each(table, updates[middle:])


def change(table: Embeddings, key: int | str, components: Mapping[str, Any]) -> Update:
    """
    Return the update that changes some components of *key*'s vector: ``{"3": 0.25}``.

    Raises:
        InvalidInput: there is no such component, or a value is not a number.
        ModelNotFound: the table does not know the key.
    """
    found = table.get_many(_keys(table, [key]))
    if not found.known[0]:
        raise ModelNotFound(f"no key {key!r} to change components of; set its whole vector first")
    vector = found.vectors[0]
    for name, value in components.items():
        if not name.isdecimal() or int(name) >= table.dim:
            raise InvalidInput(f"there is no component {name!r}; 0 to {table.dim - 1} there are")
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise InvalidInput(f"component {name} is {value!r}; a number is wanted")
        vector[int(name)] = value
    return Update(key, vector)


def read_updates(source: Path, key: str = "") -> list[Update]:
    """
    Return the updates of a file: ``.jsonl`` or ``.ndjson`` lines, or a table of vectors
    (``.npz``, ``.csv``, ``.parquet``), whose key column is the first, or *key*.

    Raises:
        ModelNotFound: there is no such file.
        InvalidInput: it is none of these; of lines, the text says which.
    """
    if source.suffix not in (".jsonl", ".ndjson"):
        keys, vectors = read_embeddings(source, key)
        return [Update(k, vector) for k, vector in zip(keys.tolist(), vectors, strict=True)]
    try:
        lines = source.read_bytes().splitlines()
    except OSError as exc:
        raise ModelNotFound(f"{source} cannot be read: {exc.strerror}") from None
    return parse_lines(lines, source.name)


def parse_lines(lines: Sequence[bytes], name: str) -> list[Update]:
    """
    Return the update of each line that is not empty.

    Raises:
        InvalidInput: a line is none; the text says which of *name*.
    """
    found = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found.append(parse_update(line))
            except InvalidInput as exc:
                raise InvalidInput(f"{name}, line {number}: {exc}") from None
    return found


def _keys(table: Embeddings, keys: list[int | str]) -> Any:
    odd = next((key for key in keys if isinstance(key, str) != table.text_keys), None)
    if odd is not None:
        kind = "texts" if table.text_keys else "whole numbers"
        raise InvalidInput(f"key {odd!r} is given, and the keys of this table are {kind}")
    return concatenated(keys) if keys else []


@np.errstate(over="ignore")  # what is beyond float32 is refused as not finite
def _stacked(table: Embeddings, updates: Sequence[Update]) -> NDArray[np.float32]:
    vectors = np.empty((len(updates), table.dim), np.float32)
    for row, update in enumerate(updates):
        vector = update.vector
        assert vector is not None
        try:
            array = np.asarray(vector)
        except (ValueError, OverflowError):
            raise InvalidInput(
                f"the vector of key {update.key!r} is not a list of numbers"
            ) from None
        if array.dtype.kind not in "iuf" or array.shape != (table.dim,):
            raise InvalidInput(
                f"the vector of key {update.key!r} is {array.dtype} {list(array.shape)}; "
                f"{table.dim} numbers are wanted"
            )
        vectors[row] = array
    return vectors
