"""RegressionModel: sums of coefficients, one table a class. Source: PMML 4.4.1, Regression."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from martlet.formats.pmml import links
from martlet.formats.pmml.asked import Asked
from martlet.formats.pmml.column import first, reasons
from martlet.formats.pmml.context import Context
from martlet.formats.pmml.frame import Frame, Record, RowError
from martlet.formats.pmml.models.regression_table import Table, read_table
from martlet.formats.pmml.prediction import Outcome, Prediction, classified, likeliest, numbers
from martlet.formats.pmml.values import FLOAT, DataType, Value, round32

_METHODS = (
    "none",
    "simplemax",
    "softmax",
    "logit",
    "probit",
    "cloglog",
    "exp",
    "loglog",
    "cauchit",
)


@dataclass(frozen=True, slots=True)
class Regression:
    """One table, through an inverse link."""

    table: Table
    method: str

    def predict(self, frame: Frame) -> Prediction:
        asked = Asked()
        total = self.table.column(frame, asked)
        with np.errstate(invalid="ignore"):
            found = links.INVERSE[self.method][0](total)
        return numbers(found, self.table.kind, asked.errors)

    @property
    def outcome(self) -> Callable[[Record], Outcome]:
        """A closure that answers one record."""
        total, inverse = self.table.single(alone=True), links.INVERSE[self.method][1]
        held: Callable[[float], float] = float
        if self.table.kind is FLOAT:
            inverse, held = links.single32(self.method), round32

        def call(record: Record) -> Outcome:
            x = total(record)
            if x is None:
                return Outcome(None)
            found = held(inverse(x))
            return Outcome(None if found != found else found)

        return call


@dataclass(frozen=True, slots=True)
class Classification:
    """A table a class, and what makes probabilities of their sums."""

    classes: tuple[Value, ...]
    tables: tuple[Table, ...]
    method: str
    ordinal: bool
    label: DataType

    def predict(self, frame: Frame) -> Prediction:
        asked = Asked()
        scores = np.stack([table.column(frame, asked) for table in self.tables], axis=1)
        # A row that lacks a number in any table has no distribution.
        scores[np.isnan(scores).any(axis=1)] = np.nan
        found = probabilities(scores, self.method, self.ordinal)
        unshared = np.isfinite(scores).all(axis=1) & np.isnan(found).all(axis=1)
        errors = first(asked.errors, reasons(np.asarray(unshared), links.NO_SHARES))
        return classified(self.classes, found, self.label, errors)

    @property
    def outcome(self) -> Callable[[Record], Outcome]:
        """A closure that answers one record."""
        alone = sum(bool(table.terms) for table in self.tables) == 1
        totals = [table.single(alone) for table in self.tables]
        classes, method, ordinal = self.classes, self.method, self.ordinal
        binary = len(classes) == 2 and not ordinal
        inverse = links.INVERSE[method][1] if binary and method in links.INVERSE else None
        if inverse is not None and self.tables[0].kind is FLOAT:
            inverse = links.single32(method)
        if binary and inverse is not None and method != "softmax":
            first, one_class, other_class = totals[0], classes[0], classes[1]
            rest = totals[1]
            single = self.tables[0].kind is FLOAT
            constant_rest, clipped = not self.tables[1].terms, method == "none"

            def two(record: Record) -> Outcome:
                x = first(record)
                if x is None or (not constant_rest and rest(record) is None):
                    return Outcome(None, classes)
                p = inverse(x)
                if p != p:
                    return Outcome(None, classes)
                if clipped:
                    p = min(max(p, 0.0), 1.0)
                q = 1 - p
                if single:
                    p = round32(p)
                    q = round32(1 - p)
                return Outcome(one_class if p >= q else other_class, classes, (p, q))

            return two

        def many(record: Record) -> Outcome:
            sums: list[float] = []
            for total in totals:
                x = total(record)
                if x is None:
                    return Outcome(None, classes)
                sums.append(x)
            try:
                if method == "softmax" and not ordinal:
                    found = links.softmax_one(sums)
                else:
                    found = probabilities(np.array([sums]), method, ordinal)[0].tolist()
            except (OverflowError, ValueError) as exc:
                raise RowError(f"the scores {sums} have no probabilities: {exc}") from None
            if all(p != p for p in found) and all(map(math.isfinite, sums)):
                raise RowError(links.NO_SHARES)
            return likeliest(classes, found)

        return many


def probabilities(scores: np.ndarray, method: str, ordinal: bool) -> np.ndarray:
    """
    Return the classes' probabilities from the sums of their tables. Shape [rows, classes].

    Two classes: the first by the link, the second is the rest. Ordinal: the links are
    cumulative. More: softmax and simplemax share out; ``none`` leaves the rest to the last.
    """
    with np.errstate(all="ignore"):
        return _shares(scores, method, ordinal)


def _shares(scores: np.ndarray, method: str, ordinal: bool) -> np.ndarray:
    if ordinal:
        return _cumulative(scores, method)
    if method == "softmax":
        return links.softmax(scores)
    if method == "simplemax":
        return links.simplemax(scores)
    inverse = links.INVERSE[method][0]
    if scores.shape[1] == 2:
        first = inverse(scores[:, 0])
        if method == "none":
            first = np.clip(first, 0.0, 1.0)
        return np.stack([first, 1 - first], axis=1)
    found = np.array(inverse(scores))
    if method == "none":
        found[:, -1] = 1 - found[:, :-1].sum(axis=1)
        return found
    return links.simplemax(found)


def _cumulative(scores: np.ndarray, method: str) -> np.ndarray:
    if method in ("softmax", "simplemax"):
        return links.softmax(scores) if method == "softmax" else links.simplemax(scores)
    total = np.array(links.INVERSE[method][0](scores))
    if method == "none":
        total = np.clip(total, 0.0, 1.0)
    total[:, -1] = 1.0
    found = total.copy()
    found[:, 1:] -= total[:, :-1]
    return found


def compile_model(context: Context) -> Regression | Classification:
    """Compile a RegressionModel."""
    element = context.element
    method = element.choice("normalizationMethod", _METHODS, "none")
    tables = element.all("RegressionTable")
    if not tables:
        raise element.error("holds no RegressionTable")
    read = tuple(read_table(each, context.scope, context.number) for each in tables)
    if not context.is_classification:
        if len(read) != 1:
            raise element.error(f"holds {len(read)} RegressionTable; a regression has one")
        if method == "simplemax":
            raise element.error("normalizes a single number by simplemax")
        return Regression(read[0], method)
    classes = tuple(context.parse_label(e.need("targetCategory"), e) for e in tables)
    ordinal = any(n == context.target and o == "ordinal" for n, _, o in context.targets)
    if len(read) == 1:
        # The 3.x way: one table, whose class has a twin among the target's values.
        rest = [each for each in context.labels if each not in classes]
        if len(rest) != 1:
            raise element.error("classifies by one RegressionTable, for no two known classes")
        classes, read = (*classes, rest[0]), (*read, Table(0.0, (), context.number, context.scope))
    return Classification(classes, read, method, ordinal, context.label)
