"""A check of CatBoost's ``.cbm``, whose own reader follows the sizes and numbers in it anywhere."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.formats.flatbuffers import Table

MAGIC = b"CBM1"
_DEEPEST = 16  # of a tree whose levels test one border each
# Fields of TModelTrees, by number.
_SPLITS, _SIZES, _STARTS, _FLOATS, _ONE_HOTS, _CTRS = 1, 2, 3, 5, 6, 7
_VALUES, _WEIGHTS, _STEPS, _LEAF_OF_NODE = 8, 9, 10, 11
_PARTS = 3  # of TModelCore


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


def _core(content: bytes) -> Table:
    (size,) = struct.unpack_from("<I", content, len(MAGIC))
    start = len(MAGIC) + 4
    if start + size > len(content):
        raise ValueError("it is cut short")
    return Table.root(memoryview(content)[start : start + size])


def check(content: bytes) -> None:
    """
    Check that what the trees of a ``.cbm`` point to is there.

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
    # Of what else the file has parts, text has borders of its own, which stand elsewhere.
    text = bool(_core(content).array(_PARTS, "u1").size) and not trees.tables(_CTRS)
    borders = 1 << 31 if text else _borders(trees)
    values, weights = (len(trees.array(n, "<f8")) for n in (_VALUES, _WEIGHTS))
    steps = trees.array(_STEPS, "<u4").view("<u2").reshape(-1, 2)
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


def _borders(trees: Table) -> int:
    """Return how many borders all features have, which is what a split's number counts."""
    count = sum(len(each.array(3, "<f4")) for each in trees.tables(_FLOATS))
    count += sum(len(each.array(1, "<i4")) for each in trees.tables(_ONE_HOTS))
    return count + sum(len(each.array(1, "<f4")) for each in trees.tables(_CTRS))


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
