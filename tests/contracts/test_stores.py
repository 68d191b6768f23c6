"""What every store of values by key keeps, whatever its values are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from martlet.errors import InvalidInput
from martlet.stores import (
    Embeddings,
    Features,
    Lists,
    Table,
    write_embeddings,
    write_features,
    write_lists,
)

KEYS = {
    "close integers": [5, 3, 9, 4],
    "far integers": [2**62, -(2**62), 0, 7],
    "strings": ["ann", "bob", "", "çelik"],
}
UNKNOWN = {"close integers": 6, "far integers": 8, "strings": "nobody"}


def embeddings(path: Path, keys: list[Any]) -> Embeddings:
    write_embeddings(path, keys, np.arange(len(keys))[:, None], generation="g")
    return Embeddings(path)


def lists(path: Path, keys: list[Any]) -> Lists:
    write_lists(path, {key: [i, i + 100] for i, key in enumerate(keys)}, generation="g")
    return Lists(path)


def features(path: Path, keys: list[Any]) -> Features:
    columns = {"number": np.arange(len(keys))}
    write_features(path, keys, columns, defaults={"number": -1}, generation="g")
    return Features(path)


def number(values: Any, i: int) -> int | None:
    """The number that was written for the i-th key, out of what the store gave."""
    match values:
        case (vectors, known):
            return int(vectors[i, 0]) if known[i] else None
        case (items, _, offsets):
            return int(items[offsets[i]]) if offsets[i] < offsets[i + 1] else None
        case _:
            found = int(values["number"][i])
            return None if found < 0 else found


def count(values: Any) -> int:
    """How many keys the store gave values for."""
    match values:
        case (_, known):
            return len(known)
        case (_, _, offsets):
            return len(offsets) - 1
        case _:
            return len(values["number"])


@pytest.fixture(params=[embeddings, lists, features], ids=lambda make: make.__name__)
def make(request) -> Callable[[Path, list[Any]], Table[Any]]:
    return request.param


@pytest.mark.parametrize("kind", KEYS)
class TestEveryTable:
    def test_values_come_in_the_order_of_asking_and_as_often(self, make, kind, tmp_path):
        keys = KEYS[kind]
        table = make(tmp_path / "t", keys)
        values = table.get_many([keys[2], UNKNOWN[kind], keys[0], keys[2]])
        assert [number(values, i) for i in range(4)] == [2, None, 0, 2]

    def test_no_keys_have_no_values(self, make, kind, tmp_path):
        assert count(make(tmp_path / "t", KEYS[kind]).get_many([])) == 0

    def test_a_scan_gives_every_key_once(self, make, kind, tmp_path):
        table = make(tmp_path / "t", KEYS[kind])
        seen = {}
        for keys, values in table.scan(batch=3):
            seen.update({key: number(values, i) for i, key in enumerate(keys.tolist())})
        assert list(seen.items()) == [(key, i) for i, key in enumerate(KEYS[kind])]
        assert len(table) == len(seen)

    def test_rows_are_those_of_the_writer(self, make, kind, tmp_path):
        keys = KEYS[kind]
        rows = make(tmp_path / "t", keys).rows_of([*reversed(keys), UNKNOWN[kind]])
        assert rows.dtype == np.int64
        assert rows.tolist() == [3, 2, 1, 0, -1]

    def test_it_carries_its_generation_and_verifies(self, make, kind, tmp_path):
        table = make(tmp_path / "t", KEYS[kind])
        table.verify()
        assert table.generation == "g"

    def test_keys_of_the_other_kind_are_refused(self, make, kind, tmp_path):
        table = make(tmp_path / "t", KEYS[kind])
        with pytest.raises(InvalidInput):
            table.get_many([1] if kind == "strings" else ["1"])
