"""From keys to row numbers: an index that lies in the table's file and is used where it lies."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any, Final, Protocol, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from martlet import native
from martlet.errors import InvalidInput
from martlet.stores.strings import Strings, objects, pack
from martlet.stores.tablefile import Array, Sections, TableFile, check_unique

Rows = NDArray[np.int64]
"""Row numbers; -1 is not a row."""

# Integers that lie close together are looked up directly in a table of their whole span: 2 us
# for 200 keys, where hashing costs 35 (numpy) or 3 (compiled). See docs/decisions/0031.
_DENSE_SPAN: Final = 8
_GOLDEN = 0x9E3779B97F4A7C15

_native = native.find("keyindex")


class Keys(Protocol):
    """The keys of a table, in the order of its rows."""

    def __len__(self) -> int: ...

    def rows_of(self, keys: ArrayLike | Sequence[str]) -> Rows:
        """
        Return the row of each of *keys*, -1 where there is none.

        Raises:
            InvalidInput: *keys* are not of the table's kind (integers or strings), or not a list.
        """
        ...

    def at(self, rows: Array) -> Array:
        """Return the keys of *rows*: int64, or an object array of str."""
        ...

    @property
    def all(self) -> Array:
        """Every key, in the order of the rows."""
        ...


KeyIndex = tuple[Array, Array | None, int]
"""Slots, the keys by row where they are hashed, and the lowest key where they are not."""


def index_of(keys: Keys) -> KeyIndex | None:
    """Return what ``native/keys.h`` needs to find integers among *keys*; None: they are text."""
    return keys.index if isinstance(keys, DenseKeys | HashedKeys) else None


class DenseKeys:
    """Integers that lie close together: ``slots[key - lowest]`` is the row."""

    def __init__(self, keys: Array, slots: Array, lowest: int) -> None:
        self.all = keys
        self._slots = slots
        self._lowest = lowest
        self._beyond = np.uint64(len(slots) - 1)  # the last slot says -1
        self.index: KeyIndex = (slots, None, lowest)

    def __len__(self) -> int:
        return len(self.all)

    def rows_of(self, keys: ArrayLike | Sequence[str]) -> Rows:
        """See Keys."""
        wanted = integers(keys)
        if _native is not None:
            rows = np.empty(len(wanted), np.int64)
            _native.find_dense(np.ascontiguousarray(wanted), self._slots, self._lowest, rows)
            return rows
        # Modulo 2**64, so a key below the lowest is far beyond the highest.
        distance = (wanted - np.int64(self._lowest)).view(np.uint64)
        slots = np.minimum(distance, self._beyond).view(np.int64)
        return self._slots.take(slots, mode="clip").astype(np.int64)

    def at(self, rows: Array) -> Array:
        """See Keys."""
        return self.all.take(rows)


class HashedKeys:
    """Integers anywhere: open addressing with linear probes, at most half full."""

    def __init__(self, keys: Array, slots: Array) -> None:
        self.all = keys
        self._slots = slots
        self.index: KeyIndex = (slots, keys, 0)

    def __len__(self) -> int:
        return len(self.all)

    def rows_of(self, keys: ArrayLike | Sequence[str]) -> Rows:
        """See Keys."""
        wanted = integers(keys)
        if _native is not None:
            rows = np.empty(len(wanted), np.int64)
            _native.find_integers(np.ascontiguousarray(wanted), self.all, self._slots, rows)
            return rows
        return _probe(
            _places(wanted.view(np.uint64), len(self._slots)), self._slots, self.all, wanted
        )

    def at(self, rows: Array) -> Array:
        """See Keys."""
        return self.all.take(rows)


class StringKeys:
    """Strings: the same by their CRC-32, and the bytes compared."""

    def __init__(self, strings: Strings, hashes: Array, slots: Array) -> None:
        self._strings = strings
        self._hashes = hashes
        self._slots = slots

    def __len__(self) -> int:
        return len(self._strings)

    def rows_of(self, keys: ArrayLike | Sequence[str]) -> Rows:
        """See Keys."""
        wanted = texts(keys)
        if _native is not None:
            rows = np.empty(len(wanted), np.int64)
            strings = self._strings
            _native.find_strings(
                wanted, strings.blob, strings.offsets, self._hashes, self._slots, rows
            )
            return rows
        return self._find(wanted)

    def _find(self, wanted: list[str]) -> Rows:
        encoded = [key.encode("utf-8", "surrogatepass") for key in wanted]
        hashes = np.fromiter(map(zlib.crc32, encoded), np.uint32, len(encoded))
        places = _places(hashes.astype(np.uint64), len(self._slots))
        rows = _probe(places, self._slots, self._hashes, hashes)
        for i, row in enumerate(rows.tolist()):
            if row >= 0 and self._strings.encoded(row) != encoded[i]:
                rows[i] = self._walk(int(places[i]), encoded[i])
        return rows

    def _walk(self, place: int, encoded: bytes) -> int:
        # Two keys of one CRC: rare, so it may be slow.
        while True:
            row = int(self._slots[place])
            if row < 0 or self._strings.encoded(row) == encoded:
                return row
            place = (place + 1) % len(self._slots)

    def at(self, rows: Array) -> Array:
        """See Keys."""
        return self._strings.take(rows)

    @property
    def all(self) -> Array:
        """Every key, in the order of the rows."""
        return self._strings.take(np.arange(len(self)))


def pack_keys(keys: ArrayLike | Sequence[str]) -> tuple[dict[str, Any], Sections]:
    """
    Return the meta and the sections that ``open_keys`` needs to find *keys* again.

    Raises:
        InvalidInput: a key comes twice, or they are neither all integers nor all strings.
    """
    if is_text(keys):
        strings = texts(keys)
        check_unique(strings)
        packed = pack(strings, "keys")
        hashes = np.fromiter((zlib.crc32(k.encode()) for k in strings), np.uint32, len(strings))
        slots = _hash_table(hashes.astype(np.uint64))
        return {"keys": "string"}, {**packed, "keys.hashes": hashes, "keys.slots": slots}
    wanted = integers(keys)
    if len(np.unique(wanted)) != len(wanted):
        check_unique(wanted.tolist())
    if not len(wanted):
        return {"keys": "dense", "lowest": 0}, {
            "keys": wanted,
            "keys.slots": np.array([-1], np.int32),
        }
    lowest, span = int(wanted.min()), int(wanted.max()) - int(wanted.min()) + 1
    if span > _DENSE_SPAN * len(wanted) + 1024:
        return {"keys": "hashed"}, {
            "keys": wanted,
            "keys.slots": _hash_table(wanted.view(np.uint64)),
        }
    slots = np.full(span + 1, -1, np.int32 if len(wanted) < 2**31 else np.int64)
    slots[wanted - lowest] = np.arange(len(wanted))
    return {"keys": "dense", "lowest": lowest}, {"keys": wanted, "keys.slots": slots}


def open_keys(file: TableFile) -> Keys:
    """Return the keys that were packed into *file*."""
    match file.meta["keys"]:
        case "dense":
            return DenseKeys(file["keys"], file["keys.slots"], file.meta["lowest"])
        case "hashed":
            return HashedKeys(file["keys"], file["keys.slots"])
        case _:
            strings = Strings(file["keys"], file["keys.offsets"])
            return StringKeys(strings, file["keys.hashes"], file["keys.slots"])


def is_text(keys: ArrayLike | Sequence[str]) -> bool:
    """Whether *keys* are strings, judged by the first."""
    if isinstance(keys, np.ndarray) and keys.dtype.kind in "biuf":
        return False
    first = next(iter(cast(Sequence[object], keys)), 0)
    return isinstance(first, str | bytes)


_KINDS = {"U": "text", "S": "text", "f": "fractions", "b": "true and false", "O": "a mixture"}


def integers(keys: ArrayLike | Sequence[str]) -> Rows:
    """
    Return *keys* as int64 [n].

    Raises:
        InvalidInput: they are not integers, not all within 64 bits, or not one-dimensional.
    """
    if isinstance(keys, np.ndarray) and keys.dtype == np.int64 and keys.ndim == 1:
        return keys
    try:
        array = np.asarray(keys)
        if array.size == 0 and array.ndim == 1:
            return np.empty(0, np.int64)
        if array.dtype.kind in "iu" and array.ndim == 1:
            if array.dtype == np.uint64 and array.max() > np.uint64(2**63 - 1):
                raise InvalidInput(f"key {array.max()} is beyond 64 signed bits")
            return array.astype(np.int64)
    except (ValueError, OverflowError):
        raise InvalidInput("keys are a flat list of integers here") from None
    found = f"shape {list(array.shape)}" if array.ndim != 1 else _KINDS.get(array.dtype.kind, "")
    raise InvalidInput(f"keys are a flat list of integers here, not {found}")


def texts(keys: ArrayLike | Sequence[str]) -> list[str]:
    """
    Return *keys* as a list of str.

    Raises:
        InvalidInput: one is not a string.
    """
    if isinstance(keys, str | bytes) or not isinstance(keys, np.ndarray | Sequence):
        raise InvalidInput(f"keys are a flat list of strings here, not {keys!r}")
    found: list[Any] = list(keys.tolist() if isinstance(keys, np.ndarray) else keys)
    for i, key in enumerate(found):
        if not isinstance(key, str):
            if not isinstance(key, bytes):
                raise InvalidInput(f"keys are a flat list of strings here, not {key!r}")
            try:
                found[i] = key.decode()
            except UnicodeDecodeError:
                raise InvalidInput(f"key {key!r} is not UTF-8") from None
    return found


def concatenated(keys: Sequence[Any]) -> Array:
    """Return *keys*, all int or all str, as the array that ``Keys.at`` would give."""
    return objects(keys) if is_text(keys) else integers(keys)


def _places(hashes: NDArray[np.uint64], capacity: int) -> Rows:
    shift = np.uint64(64 - (capacity.bit_length() - 1))
    return ((hashes * np.uint64(_GOLDEN)) >> shift).view(np.int64)


def _hash_table(hashes: NDArray[np.uint64]) -> Array:
    capacity = 1 << max(1, (2 * len(hashes) - 1).bit_length())
    slots: Array = np.full(capacity, -1, np.int32 if len(hashes) < 2**31 else np.int64)
    rows, places = np.arange(len(hashes)), _places(hashes, capacity)
    # All keys step together: of those at one free slot the first takes it, the rest go on.
    while len(rows):
        free = np.flatnonzero(slots[places] < 0)
        taken, first = np.unique(places[free], return_index=True)
        winners = free[first]
        slots[taken] = rows[winners]
        left = np.ones(len(rows), bool)
        left[winners] = False
        rows, places = rows[left], (places[left] + 1) % capacity
    return slots


def _probe(places: Rows, slots: Array, stored: Array, wanted: Array) -> Rows:
    rows = slots.take(places).astype(np.int64)
    if not len(stored):
        return rows
    going = np.flatnonzero((rows >= 0) & (stored.take(rows, mode="wrap") != wanted))
    places = places.copy()
    while len(going):
        places[going] = (places[going] + 1) % len(slots)
        rows[going] = found = slots[places[going]]
        going = going[(found >= 0) & (stored[found] != wanted[going])]
    return rows
