"""Builds a :class:`~martlet.formats.trees.forest.Forest` node by node, of tests with unknowns.

A reader knows where a row goes when a test holds, when it does not, and when it cannot be told
because a value is missing. It says so here with three targets; whatever its format calls them
(default child, surrogate, last prediction) is spelled with targets alone.

>>> trees = Trees(features=1)
>>> low, high = trees.leaf(0), trees.leaf(1)
>>> trees.add(trees.compare(0, "<", 0.5, yes=low, no=high, missing=high))
>>> trees.build().leaves(np.array([[0.4], [0.5], [np.nan]])).tolist()
[[0], [1], [1]]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from martlet.errors import UnsupportedModel
from martlet.formats.trees.forest import Forest
from martlet.formats.trees.order import ALIAS, LEAF, OPEN, parents_first, stands_for
from martlet.formats.trees.questions import (
    And,
    Compare,
    Comparison,
    Member,
    Missing,
    Not,
    Or,
    Predicate,
    Surrogate,
    Xor,
    is_contrary,
)

NO_ANSWER = -1

_MOST_CODE = 2**31 - 1
_MOST_WORDS = 1 << 24  # of all sets together: 128 MB
_ONE_WORD = 64
_MOST_XORS = 6  # within each other: the nodes double with each


class Arithmetic(Enum):
    """In which precision a forest compares."""

    FLOAT64 = "float64"
    FLOAT32 = "float32"
    """Value and threshold are both rounded to float32: XGBoost, ``x-mathContext="float"``."""
    FLOAT32_VALUES = "float32 values"
    """The value is rounded to float32, the threshold is not: scikit-learn."""


class Trees:
    """
    Trees under construction. Every method that makes a node returns its id, for use as a target.

    ``reserve`` gives an id before its node is known, so trees may be built from the root down;
    pass it as *at* to the method that makes the node. Ids may be shared by several parents.
    """

    def __init__(self, features: int, arithmetic: Arithmetic = Arithmetic.FLOAT64) -> None:
        self._features = features
        self._arithmetic = arithmetic
        self._feature: list[int] = []
        self._threshold: list[float] = []
        self._children: list[tuple[int, int, int]] = []
        self._set_of: list[int] = []
        self._sets: dict[frozenset[int], int] = {}
        self._roots: list[int] = []
        self._xors = 0

    def reserve(self) -> int:
        """Return the id of a node to be made later, with *at*."""
        return self._entry(None, OPEN, (0, 0, 0))

    def leaf(self, answer: int = NO_ANSWER, at: int | None = None) -> int:
        """Make a leaf: rows that come here are answered *answer*, >= 0, or -1 for no answer.

        Number answers from 0 without gaps: every number up to the largest takes room.
        """
        if not NO_ANSWER <= answer <= 2**31 - 4:
            raise UnsupportedModel(f"answer {answer} of a leaf is out of range")
        return self._entry(at, LEAF, (answer, 0, 0))

    def alias(self, target: int, at: int) -> int:
        """Let the reserved id *at* stand for *target*."""
        return self._entry(at, ALIAS, (target, 0, 0))

    def compare(
        self,
        feature: int,
        operator: Comparison,
        value: float,
        *,
        yes: int,
        no: int,
        missing: int,
        at: int | None = None,
    ) -> int:
        """
        Make a node that compares the value of *feature* with *value*.

        Raises:
            UnsupportedModel: *value* is NaN.
        """
        if value != value:
            raise UnsupportedModel(f"a tree compares feature {feature} with NaN")
        match operator:
            case "<=":
                return self._at_most(feature, self._below(value, True), (yes, no, missing), at)
            case "<":
                return self._at_most(feature, self._below(value, False), (yes, no, missing), at)
            case ">":
                return self._at_most(feature, self._below(value, True), (no, yes, missing), at)
            case ">=":
                return self._at_most(feature, self._below(value, False), (no, yes, missing), at)
            case "!=":
                yes, no = no, yes
            case "==":
                pass
        if 0 <= value < _ONE_WORD and value == int(value):
            return self.member(feature, (int(value),), yes=yes, no=no, missing=missing, at=at)
        under = self._at_most(feature, self._below(value, False), (no, yes, missing), None)
        return self._at_most(feature, self._below(value, True), (under, no, missing), at)

    def member(
        self,
        feature: int,
        codes: Iterable[int],
        *,
        yes: int,
        no: int,
        missing: int,
        at: int | None = None,
    ) -> int:
        """
        Make a node that asks whether the value of *feature* is one of *codes*.

        A value that is no integer, is negative, or is in no set of the file is not.

        Raises:
            UnsupportedModel: a code is negative or past 2**31 - 1 (2**24 with float32 values).
        """
        key = frozenset(codes)
        most = _MOST_CODE if self._arithmetic is Arithmetic.FLOAT64 else 2**24
        if any(not 0 <= code <= most for code in key):
            raise UnsupportedModel(f"a set over feature {feature} has a code outside 0..{most}")
        number = self._sets.setdefault(key, len(self._sets))
        return self._entry(at, self._known(feature), (yes, no, missing), set_of=number)

    def missing(self, feature: int, *, yes: int, no: int, at: int | None = None) -> int:
        """Make a node that asks whether the value of *feature* is missing."""
        # Any number is <= infinity, so YES is every row that is not NaN.
        return self._at_most(feature, np.inf, (no, no, yes), at)

    def decide(
        self, predicate: Predicate, *, yes: int, no: int, unknown: int, at: int | None = None
    ) -> int:
        """Make the nodes that lead to *yes*, *no* or *unknown* as *predicate* says."""
        match predicate:
            case bool():
                target = yes if predicate else no
                return target if at is None else self.alias(target, at)
            case Compare(feature, operator, value):
                return self.compare(
                    feature, operator, value, yes=yes, no=no, missing=unknown, at=at
                )
            case Member(feature, codes):
                return self.member(feature, codes, yes=yes, no=no, missing=unknown, at=at)
            case Missing(feature):
                return self.missing(feature, yes=yes, no=no, at=at)
            case Not(part):
                return self.decide(part, yes=no, no=yes, unknown=unknown, at=at)
            case And(parts):
                return self._all(parts, yes, no, unknown, at)
            case Or(parts):
                # One holds unless all are false.
                return self._all(tuple(Not(each) for each in parts), no, yes, unknown, at)
            case Xor(parts):
                return self._xor(parts, yes, no, unknown, at)
            case Surrogate(parts):
                target = unknown
                for each in reversed(parts):
                    target = self.decide(each, yes=yes, no=no, unknown=target)
                return target if at is None else self.alias(target, at)

    def first(
        self,
        cases: Sequence[tuple[Predicate, int]],
        *,
        otherwise: int,
        unknown: int | None = None,
        at: int | None = None,
    ) -> int:
        """
        Make the nodes of one node with many children: the first case that holds is taken.

        Args:
            cases: A predicate and its target, in the order they are tried.
            otherwise: Where a row goes when none holds.
            unknown: Where it goes at the first predicate that cannot be told; None: on to the
                next case, as if it were false.
            at: A reserved id.
        """
        target, left = otherwise, len(cases)
        lost = otherwise if unknown is None else unknown
        if left >= 2 and is_contrary(cases[-2][0], cases[-1][0]):
            # One test for both: where the first cannot be told, neither can the second.
            (predicate, yes), (_, no) = cases[-2:]
            left -= 2
            target = self.decide(
                predicate, yes=yes, no=no, unknown=lost, at=at if left == 0 else None
            )
        for which in reversed(range(left)):
            predicate, taken = cases[which]
            target = self.decide(
                predicate,
                yes=taken,
                no=target,
                unknown=target if unknown is None else unknown,
                at=at if which == 0 else None,
            )
        return target if at is None or cases else self.alias(target, at)

    def add(self, root: int) -> None:
        """Add the tree that begins at *root*."""
        self._roots.append(root)

    def build(self) -> Forest:
        """
        Return the forest of the trees added so far.

        Raises:
            UnsupportedModel: a node that can be reached was never made, tests a feature that is
                not there, or leads back to itself.
        """
        kind = np.array(self._feature, np.int32).reshape(-1)
        children = np.array(self._children, np.int64).reshape(-1, 3)
        roots = np.array(self._roots, np.int64).reshape(-1)
        entries = len(kind)
        targets = np.concatenate([roots, children[kind >= 0].ravel(), children[kind == ALIAS, 0]])
        if ((targets < 0) | (targets >= entries)).any():
            raise UnsupportedModel("a tree leads to a node that was never made")
        whom = stands_for(kind, children)
        roots = whom[roots]
        inner = kind >= 0
        children[inner] = whom[children[inner]]
        order = parents_first(kind, children, roots)
        # An inner entry becomes its place in the order, a leaf the answer below zero.
        place = np.where(kind == LEAF, -children[:, 0] - 2, 0)
        place[order] = np.arange(len(order))
        sets, words = self._bits()
        return Forest(
            features=self._features,
            float32=self._arithmetic is not Arithmetic.FLOAT64,
            roots=place[roots].astype(np.int32),
            feature=kind[order],
            threshold=np.array(self._threshold, np.float64)[order],
            children=np.ascontiguousarray(place[children[order]].astype(np.int32)),
            set_of=np.array(self._set_of, np.int32)[order],
            sets=sets,
            words=words,
        )

    def _entry(
        self,
        at: int | None,
        feature: int,
        children: tuple[int, int, int],
        threshold: float = 0.0,
        set_of: int = -1,
    ) -> int:
        if at is None:
            self._feature.append(feature)
            self._threshold.append(threshold)
            self._children.append(children)
            self._set_of.append(set_of)
            return len(self._feature) - 1
        if not 0 <= at < len(self._feature) or self._feature[at] != OPEN:
            raise UnsupportedModel(f"tree node {at} was not reserved, or is made twice")
        self._feature[at] = feature
        self._threshold[at] = threshold
        self._children[at] = children
        self._set_of[at] = set_of
        return at

    def _known(self, feature: int) -> int:
        if not 0 <= feature < self._features:
            raise UnsupportedModel(f"a tree tests feature {feature} of {self._features}")
        return feature

    def _at_most(
        self, feature: int, threshold: float, children: tuple[int, int, int], at: int | None
    ) -> int:
        return self._entry(at, self._known(feature), children, threshold)

    def _below(self, value: float, inclusive: bool) -> float:
        """Return t such that ``x <= t`` says ``x <= value``, or ``x < value``, for every x."""
        if self._arithmetic is Arithmetic.FLOAT64:
            return float(value) if inclusive else _before(np.float64(value))
        with np.errstate(over="ignore"):
            rounded = np.float32(value)
        if self._arithmetic is Arithmetic.FLOAT32_VALUES and float(rounded) != value:
            # Between two float32 values: whether the value itself is included changes nothing.
            return float(rounded) if float(rounded) < value else _before(rounded)
        return float(rounded) if inclusive else _before(rounded)

    def _all(
        self, parts: Sequence[Predicate], yes: int, no: int, unknown: int, at: int | None
    ) -> int:
        # Two chains: in one all parts so far hold, in the other one of them was unknown.
        sure, unsure = yes, unknown
        for each in reversed(parts):
            before = self.decide(each, yes=sure, no=no, unknown=unsure)
            if unknown != no and unsure != sure:
                unsure = self.decide(each, yes=unsure, no=no, unknown=unsure)
            elif unsure == sure:
                unsure = before
            sure = before
        return sure if at is None else self.alias(sure, at)

    def _xor(
        self, parts: Sequence[Predicate], yes: int, no: int, unknown: int, at: int | None
    ) -> int:
        # Each part is made twice, after an even and after an odd number that held.
        self._xors += 1
        if self._xors > _MOST_XORS:
            raise UnsupportedModel(f"a tree's predicate nests xor more than {_MOST_XORS} deep")
        even, odd = no, yes
        for each in reversed(parts):
            even, odd = (
                self.decide(each, yes=odd, no=even, unknown=unknown),
                self.decide(each, yes=even, no=odd, unknown=unknown),
            )
        self._xors -= 1
        return even if at is None else self.alias(even, at)

    def _bits(self) -> tuple[NDArray[np.int64], NDArray[np.uint64]]:
        sets = np.zeros((len(self._sets), 3), np.int64)
        words: list[NDArray[np.uint64]] = []
        total = 0
        for number, codes in enumerate(self._sets):
            if not codes:
                continue
            sorted_codes = np.fromiter(codes, np.int64, len(codes))
            base = int(sorted_codes.min()) // 64
            size = int(sorted_codes.max()) // 64 - base + 1
            if total + size > _MOST_WORDS:
                raise UnsupportedModel("the trees' sets of categories are too large")
            bits = np.zeros(size, np.uint64)
            np.bitwise_or.at(
                bits,
                sorted_codes // 64 - base,
                np.uint64(1) << (sorted_codes % 64).astype(np.uint64),
            )
            sets[number] = total, base, size
            words.append(bits)
            total += size
        return sets, np.concatenate(words) if words else np.zeros(1, np.uint64)


def _before(value: np.float32 | np.float64) -> float:
    """Return the next float below; NaN below -inf, so that no value is <= it."""
    return float(np.nextafter(value, value.dtype.type(-np.inf))) if value != -np.inf else np.nan
