"""
Rows that reach every part of a model: each id of its tables, each branch of its trees.

A random row asks for one vector of each table, and ends in one leaf of each tree: what only one
vector in a hundred thousand holds, it would miss.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from martlet.convert.asking.draws import random_rows
from martlet.convert.asking.ranges import Domain, Range
from martlet.formats.trees.forest import NO, YES, Forest, Grown
from martlet.servable import Servable
from martlet.tensors import DType, Spec, Tensor

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_MOST = 1 << 20
"""Rows at most; beyond, ids and branches are taken evenly."""
_CELLS = 1 << 20
"""Numbers in one batch."""
_TWICE = 1 << 17
"""Up to so many ids, each is asked twice, beside other values of the rest."""


def each_id(
    servable: Servable, domain: Domain, random: np.random.Generator
) -> Iterator[dict[str, Tensor]]:
    """
    Give rows in which every integer input holds, in turn, every id that the model answers, and
    every text input every word that is known of it.

    Of an input that takes all numbers, the ids are those that the file names; numbers below 0 are
    none: edges and random rows hold those. Other inputs hold small random values: where one is
    huge, a net saturates and no id moves it.
    """
    tables: dict[str, _Held] = {}
    keys: dict[str, _Held] = {}
    for spec in domain.signature.inputs.values():
        if spec.name not in domain.ranges:
            continue
        known = domain.ranges[spec.name]
        if held := _held(spec, known):
            # Apart from ids in tables: what takes all numbers may be a feature, and these huge.
            group = keys if spec.dtype.is_integer and known.high is None else tables
            group[spec.name] = spec, held
    for group in (tables, keys):
        yield from _each(domain, group, random)


_Held = tuple[Spec, range | Sequence[object]]


def _each(
    domain: Domain, ids: Mapping[str, _Held], random: np.random.Generator
) -> Iterator[dict[str, Tensor]]:
    longest = 0
    for spec, held in ids.values():
        longest = max(longest, -(-len(held) // int(np.prod(domain.shape(spec, 1)))))
    rows, batch = min(longest, _MOST), _batch(domain)
    for _ in range(2 if 0 < rows <= _TWICE else min(rows, 1)):
        starts = {name: int(random.integers(0, 1 << 30)) for name in ids}
        for at in range(0, rows, batch):
            count = min(batch, rows - at)
            drawn = random_rows(domain, count, random, calm=True)
            for name, (spec, held) in ids.items():
                shape = domain.shape(spec, count)
                place = _places(len(held), shape, at, rows, starts[name])
                drawn[name] = _at(held, place, spec)
            yield drawn


def _held(spec: Spec, known: Range) -> range | Sequence[object]:
    """Return the ids or words that an input may hold; none of what holds numbers."""
    if spec.dtype is DType.STRING:
        return known.values
    if not spec.dtype.is_integer:
        return ()
    if known.low is None or known.high is None:
        return known.named  # the keys of a vocabulary, where it has one
    return range(max(known.low, min(0, known.high)), known.high + 1)


def _at(held: range | Sequence[object], place: Ints, spec: Spec) -> Tensor:
    if isinstance(held, range):
        return (place + held.start).astype(spec.dtype.numpy)
    found: Tensor = np.array(held, spec.dtype.numpy)[place]
    return found


def _batch(domain: Domain) -> int:
    specs = domain.signature.inputs.values()
    return max(1, _CELLS // max(1, sum(int(np.prod(domain.shape(each, 1))) for each in specs)))


def _places(size: int, shape: tuple[int, ...], at: int, rows: int, start: int) -> Ints:
    """Return which of *size* the rows from *at* on hold, of *rows* that hold them all."""
    width = int(np.prod(shape[1:]))
    place = np.arange(at * width, (at + shape[0]) * width, dtype=np.int64)
    if size > rows * width:
        place = (place.astype(np.float64) * (size / (rows * width))).astype(np.int64)
    found: Ints = ((place + start) % size).reshape(shape)
    return found


def each_branch(
    servable: Servable, domain: Domain, random: np.random.Generator
) -> Iterator[dict[str, Tensor]]:
    """
    Give rows of which one at least goes each way at each test of the model's trees.

    They stand on the thresholds, and on the next float: a threshold that was moved, by a rounding
    too, sends one of them elsewhere, and each leaf is met. Ways that only a missing value takes
    are left to the random rows.
    """
    grown: Grown | None = getattr(servable, "grown", None)
    specs = list(domain.signature.inputs.values())
    if grown is None or not all(spec.dtype.is_float for spec in specs):
        return
    forest = grown.trees.forest
    if grown.float32:
        forest = replace(forest, float32=True)
    widths = [int(np.prod(domain.shape(spec, 1))) for spec in specs]
    if sum(widths) != forest.features:
        return
    rows, features, values = _ways(forest)
    count = int(rows[-1]) + 1 if len(rows) else 0
    batch = _batch(domain)
    for at in range(0, count, batch):
        some = min(batch, count - at)
        drawn = random_rows(domain, some, random, calm=True)
        matrix = np.concatenate([drawn[spec.name].reshape(some, -1) for spec in specs], axis=1)
        here = slice(*np.searchsorted(rows, [at, at + some]).tolist())
        matrix[rows[here] - at, features[here]] = values[here]
        ends = np.cumsum(widths)[:-1]
        for spec, part in zip(specs, np.split(matrix, ends, axis=1), strict=True):
            column = np.ascontiguousarray(part.astype(spec.dtype.numpy))
            drawn[spec.name] = column.reshape(domain.shape(spec, some))
        yield drawn


def _ways(forest: Forest) -> tuple[Ints, Ints, Floats]:
    """Return what leads each way at each test: row numbers (rising), features, their values."""
    nodes = len(forest.feature)
    parents, sides = np.full(nodes, -1), np.full(nodes, YES)
    for way in (YES, NO):
        inner = np.flatnonzero(forest.children[:, way] >= 0)
        parents[forest.children[inner, way]] = inner
        sides[forest.children[inner, way]] = way
    every = max(1, -(-2 * nodes // _MOST))
    node, side = np.repeat(np.arange(nodes), 2)[::every], np.tile([YES, NO], nodes)[::every]
    row = np.arange(len(node))
    tests: list[tuple[Ints, Floats]] = []
    while len(row):  # all climb at once
        tests.append((row * forest.features + forest.feature[node], _beside(forest, node, side)))
        going = parents[node] >= 0
        row, side, node = row[going], sides[node[going]], parents[node[going]]
    if not tests:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    cells, values = (np.concatenate(each) for each in zip(*tests, strict=True))
    # Of the tests of one feature the last on the way is the tightest: it was met first.
    cells, first = np.unique(cells, return_index=True)
    return cells // forest.features, cells % forest.features, values[first]


def _beside(forest: Forest, node: Ints, side: Ints) -> Floats:
    """Return a value that goes to *side* of each node: its threshold, or the next float."""
    threshold = forest.threshold[node]
    kind = np.float32 if forest.float32 else np.float64
    above = np.nextafter(threshold.astype(kind), kind(np.inf)).astype(np.float64)
    found = np.where(side == YES, threshold, above)
    for at in np.flatnonzero(forest.set_of[node] >= 0).tolist():
        found[at] = _code(forest, int(forest.set_of[node[at]])) if side[at] == YES else -1.0
    return found


def _code(forest: Forest, number: int) -> float:
    start, base, size = forest.sets[number].tolist()
    for word in range(size):
        bits = int(forest.words[start + word])
        if bits:
            return float((base + word) * 64 + (bits & -bits).bit_length() - 1)
    return -1.0
