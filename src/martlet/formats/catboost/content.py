"""What a file of CatBoost holds: what its trees test, and what training counted of categories."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from martlet.formats.catboost.file import MAGIC, counted_tables, slots_of, trees_of
from martlet.formats.flatbuffers import Table

_TREATMENTS = ("AsIs", "AsFalse", "AsTrue")  # of a missing number, by their numbers in a .cbm
_NO_KEY = (1 << 64) - 1


class Kind(IntEnum):
    """What of a combination becomes a number, by CatBoost's names."""

    Borders, Buckets, BinarizedTargetMeanValue, FloatTargetMeanValue, Counter, FeatureFreq = range(
        6
    )

    @property
    def is_mean(self) -> bool:
        """Whether targets were added up, not counted."""
        return self in (Kind.BinarizedTargetMeanValue, Kind.FloatTargetMeanValue)

    @property
    def is_count(self) -> bool:
        """Whether rows were counted, whatever their targets."""
        return self in (Kind.Counter, Kind.FeatureFreq)


@dataclass(frozen=True, slots=True)
class Combination:
    """
    Features that are counted together.

    Args:
        categories: By number.
        above: Tests whether a number lies above a border: number and border.
        equal: Tests whether a category is one: its number and hash.
    """

    categories: tuple[int, ...]
    above: tuple[tuple[int, float], ...] = ()
    equal: tuple[tuple[int, int], ...] = ()


Base = tuple[Combination, Kind, int]
"""What was counted: a combination, how, and by which classes of the target."""


@dataclass(frozen=True, slots=True, eq=False)
class Number:
    """A feature that is a number: its column, borders, and whether NaN lies above them."""

    column: int
    borders: NDArray[np.float32]
    nan_is_above: bool


@dataclass(frozen=True, slots=True, eq=False)
class Ctr:
    """
    A number made of what was counted: ((part + prior) / (all + weight) + shift) * scale.

    Args:
        base: What was counted.
        target: The class, or the border between classes, that the part is of.
        prior, weight, shift, scale: See above.
        borders: That the trees test it by.
    """

    base: Base
    target: int
    prior: float
    weight: float
    shift: float
    scale: float
    borders: NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Counted:
    """
    What training counted of one combination.

    Args:
        keys: Hashes of what occurred. Shape [keys], uint64.
        counts: Of each class, int32 [keys, classes]; of a mean, the number of rows, [keys, 1].
        sums: Of a mean, the sum of targets. Shape [keys].
        total: What counts of rows are divided by.
    """

    keys: NDArray[np.uint64]
    counts: NDArray[np.int32]
    sums: NDArray[np.float32]
    total: int


@dataclass(frozen=True, slots=True, eq=False)
class Nodes:
    """
    Of trees that grew leaf by leaf, what each split leads to.

    Args:
        steps: How many nodes on a row goes, up to the border and above it; where 0, it ends here.
            Shape [splits, 2].
        value: Where the value of those that end here stands. Shape [splits].
    """

    steps: NDArray[np.int64]
    value: NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Content:
    """
    Trees, and what they test.

    Args:
        sizes: Of each tree, how many splits it has. Shape [trees].
        splits: The test of each, tree by tree, counted through the borders of all numbers, the
            values of *equal*, the borders of all ctrs. Shape [splits].
        numbers: By their number.
        categories: The column of each, by its number.
        equal: Categories that are tested by value: number and hashes.
        ctrs, counted: Numbers made of categories, and what they are made of.
    """

    sizes: NDArray[np.int64]
    splits: NDArray[np.int64]
    numbers: Mapping[int, Number]
    categories: Mapping[int, int]
    equal: tuple[tuple[int, NDArray[np.int32]], ...]
    ctrs: tuple[Ctr, ...]
    counted: Mapping[Base, Counted]
    nodes: Nodes | None = None
    """Of trees that grew leaf by leaf. None: all nodes of a level make the same test, a split."""

    def __post_init__(self) -> None:
        for ctr in self.ctrs:
            kind, counted = ctr.base[1], self.counted.get(ctr.base)
            if counted is None or kind.is_mean or kind.is_count:
                continue
            classes = counted.counts.shape[1]
            two = kind is Kind.Borders and classes == 2  # then CatBoost asks not which border
            if not two and not 0 <= ctr.target < classes - (kind is Kind.Borders):
                raise ValueError(f"a category's number is of class {ctr.target} of {classes}")


def read(content: bytes) -> Content | None:
    """
    Return what the bytes of a model hold; None where its trees test text, or it is not known.

    Raises:
        ValueError: something counts what is not there, which CatBoost would not notice.
    """
    try:
        return _from_cbm(content) if content.startswith(MAGIC) else _from_json(content)
    except (IndexError, KeyError, TypeError, AttributeError, OverflowError, struct.error):
        return None  # CatBoost says what is wrong with it, or reads it all the same


def _from_cbm(content: bytes) -> Content | None:
    """Source: CatBoost ``libs/model/flatbuffers``: ``model``, ``features``, ``ctr_data.fbs``."""
    trees = trees_of(content)
    steps = trees.array(10, "<u4").view("<u2").reshape(-1, 2).astype(np.int64)
    found = Content(
        trees.array(2, "<i4").astype(np.int64),
        trees.array(1, "<i4").astype(np.int64),
        {
            each.number(1, "i", -1): Number(
                each.number(2, "i", -1),
                each.array(3, "<f4"),
                bool(each.number(0, "b", 0)) and _TREATMENTS[each.number(5, "b", 0)] == "AsTrue",
            )
            for each in trees.tables(5)
        },
        {each.number(0, "i", -1): each.number(1, "i", -1) for each in trees.tables(4)},
        tuple((each.number(0, "i", -1), each.array(1, "<i4")) for each in trees.tables(6)),
        tuple(_ctr(each) for each in trees.tables(7)),
        dict(map(_counted, counted_tables(content))),
        Nodes(steps, trees.array(11, "<u4").astype(np.int64)) if len(steps) else None,
    )
    made_of_text = trees.tables(13)
    return None if made_of_text else found


def _ctr(feature: Table) -> Ctr:
    ctr = feature.table(0)
    if ctr is None:
        raise ValueError("a ctr is missing")
    return Ctr(
        _base(ctr.table(0)),
        ctr.number(1, "i", 0),
        ctr.number(2, "f", 0.0),
        ctr.number(3, "f", 1.0),
        ctr.number(4, "f", 0.0),
        ctr.number(5, "f", 1.0),
        feature.array(1, "<f4"),
    )


def _base(base: Table | None) -> Base:
    together = base.table(0) if base is not None else None
    if base is None or together is None:
        raise ValueError("a combination is missing")
    combination = Combination(
        tuple(together.array(0, "<i4").tolist()),
        tuple(together.array(1, "<i4,<f4").tolist()),
        tuple(together.array(2, "<i4,<i4").tolist()),
    )
    return combination, Kind(base.number(1, "b", 0)), base.number(2, "i", 0)


def _counted(table: Table) -> tuple[Base, Counted]:
    base = _base(table.table(0))
    slots = slots_of(table)
    numbers, at = table.array(2, "u1").tobytes(), slots["at"]
    total = table.number(3, "i", 0)
    if base[1].is_mean:
        means = np.frombuffer(numbers, "<f4,<i4")[at]
        return base, Counted(slots["key"], means["f1"][:, np.newaxis], means["f0"], total)
    classes = 1 if base[1].is_count else max(table.number(4, "i", 0), 1)
    counts = np.frombuffer(numbers, "<i4").reshape(-1, classes)[at]
    return base, Counted(slots["key"], counts, np.zeros(0, np.float32), total)


def _from_json(content: bytes) -> Content | None:
    told = orjson.loads(content)
    features = told["features_info"]
    trees = told.get("oblivious_trees")
    known = {"FloatFeature", "OneHotFeature", "OnlineCtr"}
    splits = [split for tree in trees or () for split in tree["splits"] or ()]
    if not trees or any(split["split_type"] not in known for split in splits):
        return None
    categories = features.get("categorical_features") or ()
    tables = (told.get("ctr_data") or {}).items()
    return Content(
        np.array([len(tree["splits"] or ()) for tree in trees], np.int64),
        np.array([split["split_index"] for split in splits], np.int64),
        {
            each["feature_index"]: Number(
                each["flat_feature_index"],
                np.array(each["borders"] or (), np.float32),
                bool(each["has_nans"]) and each["nan_value_treatment"] == "AsTrue",
            )
            for each in features.get("float_features") or ()
        },
        {each["feature_index"]: each["flat_feature_index"] for each in categories},
        tuple(
            (each["feature_index"], np.array(each["values"], np.int64).astype(np.int32))
            for each in categories
            if "values" in each
        ),
        tuple(
            Ctr(
                _told_base(each["ctr_type"], each["elements"]),
                each["target_border_idx"],
                each["prior_numerator"],
                each["prior_denomerator"],  # its own spelling
                each["shift"],
                each["scale"],
                np.array(each["borders"], np.float32),
            )
            for each in features.get("ctrs") or ()
        ),
        dict(_told_counted(orjson.loads(name), table) for name, table in tables),
    )


def _told_base(kind: str, elements: list[dict[str, Any]]) -> Base:
    def of(called: str) -> Iterator[dict[str, Any]]:
        return (each for each in elements if each["combination_element"] == called)

    combination = Combination(
        tuple(each["cat_feature_index"] for each in of("cat_feature_value")),
        tuple(
            (each["float_feature_index"], float(np.float32(each["border"])))
            for each in of("float_feature")
        ),
        tuple((each["cat_feature_index"], each["value"]) for each in of("cat_feature_exact_value")),
    )
    return combination, Kind[kind], 0  # which classes, it does not say


def _told_counted(name: dict[str, Any], table: dict[str, Any]) -> tuple[Base, Counted]:
    base = _told_base(name["type"], name["identifier"])
    flat, width = table["hash_map"], table["hash_stride"]
    if width < 2 or len(flat) % width:
        raise ValueError("a table of categories does not fit its keys")
    keys = np.array([int(key) for key in flat[::width]], np.uint64)
    real = keys != np.uint64(_NO_KEY)
    columns = [flat[at::width] for at in range(1, width)]
    sums = np.array(columns.pop(0) if base[1].is_mean else (), np.float32)
    counts = np.array(columns, np.int32).T[real]
    return base, Counted(
        keys[real], counts, sums[real] if base[1].is_mean else sums, table["counter_denominator"]
    )
