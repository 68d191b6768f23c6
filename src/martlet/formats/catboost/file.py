"""A check of CatBoost's ``.cbm``, whose own reader follows the sizes and numbers in it anywhere."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.formats.flatbuffers import Table

MAGIC = b"CBM1"
_DEEPEST = 16  # of a tree whose levels test one border each
# Fields of TModelTrees, by number.
_SPLITS, _SIZES, _STARTS, _FLOATS, _ONE_HOTS, _CTRS = 1, 2, 3, 5, 6, 7
_VALUES, _WEIGHTS, _STEPS, _LEAF_OF_NODE = 8, 9, 10, 11
_BINS, _BORDERS_A_BYTE = 17, 254
_CATEGORIES, _TEXTS, _EMBEDDINGS = 4, 12, 18
_ESTIMATED = 13  # made of text or embeddings
_PARTS = 3  # of TModelCore
_COUNTED = b"static_provider_v1"  # the part that holds what was counted of categories
_BASE, _SLOTS, _NUMBERS, _CLASSES = 0, 1, 2, 4  # fields of TCtrValueTable
_SLOT = np.dtype([("key", "<u8"), ("at", "<u4")])
_NO_KEY = (1 << 64) - 1


def trees_of(content: bytes) -> Table:
    """
    Return the trees of a ``.cbm``: the table TModelTrees.

    Raises:
        ValueError, struct.error: there are none.

    Source:
        CatBoost ``catboost/libs/model/flatbuffers/model.fbs``.
    """
    found = _core(content).table(1)
    if found is None:
        raise ValueError("it has no trees")
    return found


def counted_tables(content: bytes) -> Iterator[Table]:
    """
    Yield what training counted of categories: the tables TCtrValueTable behind the trees.

    Raises:
        ValueError, struct.error: they are cut short.

    Source:
        CatBoost ``libs/model/flatbuffers/ctr_data.fbs``, ``libs/model/ctr_data.cpp``.
    """
    if _core(content).texts(_PARTS)[:1] != [_COUNTED]:
        return
    at = parts_of(content)
    (count,) = struct.unpack_from("<I", content, at)
    at += 4
    for _ in range(count):
        (size,) = struct.unpack_from("<I", content, at)
        at += 4
        if at + size > len(content):
            raise ValueError("its tables of categories are cut short")
        yield Table.root(memoryview(content)[at : at + size])
        at += size


def parts_of(content: bytes) -> int:
    """Return where the parts behind the trees begin."""
    (size,) = struct.unpack_from("<I", content, len(MAGIC))
    return len(MAGIC) + 4 + int(size)


def slots_of(table: Table) -> NDArray[np.void]:
    """
    Return the slots of a table of categories that hold a key: "key" and "at", its place.

    Raises:
        ValueError: they are no table by open addressing.
    """
    raw = table.array(_SLOTS, "u1")
    count = raw.size // _SLOT.itemsize
    slots = np.frombuffer(raw.tobytes(), _SLOT)
    taken = slots["key"] != np.uint64(_NO_KEY)
    if count & (count - 1) or taken.all():  # a search for a key that is not there has no end
        raise ValueError("a table of categories has no empty slot")
    found: NDArray[np.void] = slots[taken]
    return found


def _core(content: bytes) -> Table:
    end = parts_of(content)
    if end > len(content):
        raise ValueError("it is cut short")
    return Table.root(memoryview(content)[len(MAGIC) + 4 : end])


def check(content: bytes) -> None:
    """
    Check that what the trees of a ``.cbm`` point to is there, and its tables of categories.

    Raises:
        ValueError, struct.error: it is not.
    """
    trees = trees_of(content)
    outputs = trees.number(0, "i", 0)
    sizes, splits = (trees.array(n, "<i4").astype(np.int64) for n in (_SIZES, _SPLITS))
    starts = np.cumsum(sizes) - sizes
    if outputs < 1 or np.any(sizes < 0) or sizes.sum() != len(splits):
        raise ValueError("its trees do not fit their splits")
    if not np.array_equal(trees.array(_STARTS, "<i4"), starts):
        raise ValueError("its trees do not stand one after another")
    parts = _border_counts(trees)
    borders = sum(parts)  # which is what a split's number counts
    values, weights = (len(trees.array(n, "<f8")) for n in (_VALUES, _WEIGHTS))
    steps = trees.array(_STEPS, "<u4").view("<u2").reshape(-1, 2)
    # The splits again, as CatBoost walks them: the byte of a row, and what it is compared with.
    compared = trees.array(_BINS, "<u4").view("<u2")[::2].astype(np.int64)
    walked = steps.any(axis=1) if len(steps) else slice(None)
    if len(compared) not in (0, len(splits)):
        raise ValueError("its trees do not fit their splits")
    if len(compared) and len(steps) in (0, len(splits)):
        row = sum(-(-part // _BORDERS_A_BYTE) for part in parts)
        _within(compared[walked], row, "a split")
    if len(steps):
        if len(steps) != len(splits):
            raise ValueError("its steps do not fit its splits")
        _within(splits[steps.any(axis=1)], borders, "a split")  # where a row stops there is none
        _check_steps(trees, steps, starts, sizes, values - outputs + 1)
    else:
        _within(splits, borders, "a split")
        if np.any(sizes > _DEEPEST):
            raise ValueError(f"a tree is deeper than {_DEEPEST}")
        leaves = int((1 << sizes).sum())
        if values != leaves * outputs or weights not in (0, leaves):
            raise ValueError(f"it has {values} values for {leaves} leaves")
    for table in counted_tables(content):
        places = slots_of(table)["at"].astype(np.int64)
        _within(places, table.array(_NUMBERS, "u1").size // _size(table), "a category")


def has_numbers_alone(content: bytes) -> bool:
    """Return whether a ``.cbm`` knows no categories, texts or embeddings: `check` reads it all."""
    trees = trees_of(content)
    fields = (_CATEGORIES, _ONE_HOTS, _CTRS, _TEXTS, _EMBEDDINGS, _ESTIMATED)
    return not any(trees.array(n, "<u4").size for n in fields) and not _core(content).texts(_PARTS)


def _size(table: Table) -> int:
    """Return the bytes that CatBoost reads of one category."""
    base = table.table(_BASE)
    kind, classes = base.number(1, "b", 0) if base else 0, table.number(_CLASSES, "i", 0)
    # Counts of two or more classes; of any number of them; a sum and a count; a count.
    return int({0: 4 * max(classes, 2), 1: 4 * max(classes, 1), 2: 8, 3: 8}.get(kind, 4))


def _border_counts(trees: Table) -> list[int]:
    """Return how many borders each feature has."""
    parts = [len(each.array(3, "<f4")) for each in trees.tables(_FLOATS)]
    parts += [len(each.array(1, "<i4")) for each in trees.tables(_ONE_HOTS)]
    parts += [len(each.array(3, "<f4")) for each in trees.tables(_ESTIMATED)]
    return parts + [len(each.array(1, "<f4")) for each in trees.tables(_CTRS)]


def _check_steps(trees: Table, steps: NDArray[Any], starts: Any, sizes: Any, places: int) -> None:
    """Check trees that grew leaf by leaf: each node says how far on its children stand."""
    nodes = np.arange(len(steps))
    ends = np.repeat(starts + sizes, sizes)
    if len(ends) != len(steps) or np.any(nodes[:, np.newaxis] + steps >= ends[:, np.newaxis]):
        raise ValueError("a tree's steps lead outside of it")
    leaf = trees.array(_LEAF_OF_NODE, "<u4").astype(np.int64)
    if len(leaf) != len(steps):
        raise ValueError("its nodes do not fit their leaves")
    ends_here = (steps == 0).any(axis=1)
    _within(leaf[ends_here], places, "a leaf")  # where its first value stands


def _within(values: NDArray[np.int64], end: int, what: str) -> None:
    if np.any((values < 0) | (values >= end)):
        raise ValueError(f"{what} points outside of the model")
