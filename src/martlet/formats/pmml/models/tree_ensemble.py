"""Ensembles whose segments are all trees: one forest, walked natively."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from martlet.formats.pmml.column import Reasons, failed, first
from martlet.formats.pmml.context import Context
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.frame import Frame, Record, RowError
from martlet.formats.pmml.grove import Grove
from martlet.formats.pmml.models.combination import VOTES, Combination
from martlet.formats.pmml.models.planting import Answer, Planting
from martlet.formats.pmml.models.tree_tables import Tables
from martlet.formats.pmml.prediction import (
    Model,
    Outcome,
    Prediction,
    classified,
    likeliest,
    numbers,
    outcome_of,
    winners,
)
from martlet.formats.pmml.values import Value
from martlet.formats.trees.builder import Trees
from martlet.formats.trees.forest import Forest, TreeSum

_SUMS = ("sum", "average", "weightedSum", "weightedAverage")
_SHARED = ("average", "weightedAverage", *VOTES)


@dataclass(frozen=True, slots=True)
class TreesSummed:
    """Trees whose scores, distributions or votes are added up."""

    context: Context
    grove: Grove
    sum: TreeSum
    divisor: float
    classes: tuple[Value, ...]
    votes: bool = False
    otherwise: TreesRanked | None = None
    """Answers the rows for which some tree has no answer, or votes tie; None: of numbers."""

    def predict(self, frame: Frame) -> Prediction:
        x, errors = self.grove.matrix(frame)
        total = self.sum(x)
        answers = None
        if errors is not None:
            rows = np.flatnonzero(failed(errors))
            answers = self.sum.forest.leaves(x)
            errors = self.grove.answers(self.sum.forest, frame, answers, errors)
            total[rows] = self.sum.add(answers[rows])
        if self.divisor != 1.0:
            total = _divided(total, self.divisor, self.sum.float32)
        if self.otherwise is None:
            return numbers(total[:, 0], self.context.number, errors)
        odd = np.flatnonzero(self._is_odd(total))
        if not odd.size:
            return classified(self.classes, total, self.context.label, errors)
        ends = self.sum.forest.leaves(x[odd]) if answers is None else answers[odd]
        whole, best = self.otherwise.shares(ends)
        total[odd] = whole
        places = winners(total)
        places[odd] = best
        return classified(self.classes, total, self.context.label, errors, places)

    def _is_odd(self, total: np.ndarray) -> np.ndarray:
        """Return which rows the sums do not settle. Shape [rows]."""
        odd = np.isnan(total).any(axis=1)
        if self.votes:
            odd |= (total == total.max(axis=1)[:, None]).sum(axis=1) > 1
        return np.asarray(odd)

    @property
    def outcome(self) -> Callable[[Record], Outcome]:
        """A closure that answers one record."""
        row, of, divisor, classes = self.grove.row(), self.sum.of, self.divisor, self.classes
        lazily, total_of = self.grove.lazily(self.sum.forest), self.sum.add

        def add(record: Record) -> list[float]:
            try:
                return of(row(record))
            except RowError:
                totals: list[float] = total_of(np.array([lazily(record)]))[0].tolist()
                return totals

        single, otherwise = self.sum.float32, self.otherwise
        if not classes:

            def number(record: Record) -> Outcome:
                total = add(record)[0]
                if total != total:
                    return Outcome(None)
                if divisor != 1.0:
                    total = float(np.float32(total) / np.float32(divisor)) if single else (
                        total / divisor
                    )  # fmt: skip
                return Outcome(total)

            return number

        assert otherwise is not None, "labels have"
        combine, votes = otherwise.outcome, self.votes

        def label(record: Record) -> Outcome:
            shares = [total / divisor for total in add(record)]
            if shares[0] != shares[0] or (votes and shares.count(max(shares)) > 1):
                return combine(record)
            return likeliest(classes, shares)

        return label


def _divided(total: np.ndarray, divisor: float, single: bool) -> np.ndarray:
    if single:
        return (total.astype(np.float32) / np.float32(divisor)).astype(np.float64)
    return total / divisor


@dataclass(frozen=True, slots=True)
class TreesRanked:
    """Trees whose scores are combined otherwise than by a sum, or with some that may lack."""

    context: Context
    grove: Grove
    forest: Forest
    tables: Tables
    weights: np.ndarray
    combination: Combination

    def predict(self, frame: Frame) -> Prediction:
        x, errors = self.grove.matrix(frame)
        answers = self.forest.leaves(x)
        if errors is not None:
            errors = self.grove.answers(self.forest, frame, answers, errors)
        if self.tables.refuses:
            for tree in answers.T:
                errors = first(errors, self.tables.refused[tree])
        return self.combined(answers, errors)

    def combined(self, answers: np.ndarray, errors: Reasons | None = None) -> Prediction:
        """Return what the trees' *answers*, [rows, trees], say together."""
        weights = np.broadcast_to(self.weights, answers.shape)
        active = np.ones(answers.shape, dtype=bool)
        if self.tables.numbers is not None:
            values = self.tables.numbers[answers]
            if self.context.number.numpy is np.float32:
                values = values.astype(np.float32)
            found = self.combination.numbers(values, weights, active)
            return numbers(found, self.context.number, errors)
        whole, best = self.shares(answers)
        return classified(self.tables.labels, whole, self.context.label, errors, best)

    def shares(self, answers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the classes' shares that *answers* give, and the places of the winners."""
        weights = np.broadcast_to(self.weights, answers.shape)
        active = np.ones(answers.shape, dtype=bool)
        shares = _shares(self.tables, self.combination.method)[answers]
        whole = self.combination.shares(shares, weights, active)
        return whole, self.combination.winners(shares, whole, active)

    @property
    def outcome(self) -> Callable[[Record], Outcome]:
        """A closure that answers one record."""
        row, leaves, lazily = (
            self.grove.row(),
            self.forest.leaves_of,
            self.grove.lazily(self.forest),
        )
        refused, refuses = self.tables.refused, self.tables.refuses

        def walked(record: Record) -> list[int]:
            try:
                answers = leaves(row(record))
            except RowError:
                answers = lazily(record)
            if refuses:
                why = next((w for w in refused[answers].tolist() if w is not None), None)
                if why is not None:
                    raise RowError(why)
            return answers

        scores = self.tables.numbers
        if scores is None:

            def label(record: Record) -> Outcome:
                return outcome_of(self.combined(np.array([walked(record)])))

            return label
        weights = self.weights[None]
        real, combine = self.context.number.numpy, self.combination.numbers
        active = np.ones(weights.shape, dtype=bool)

        def call(record: Record) -> Outcome:
            values = scores[walked(record)].astype(real, copy=False)[None]
            total = float(combine(values, weights, active)[0])
            return Outcome(None if total != total else total)

        return call


def _shares(tables: Tables, method: str) -> np.ndarray:
    """Return what each answer says of each class: its distribution, or one vote."""
    assert tables.codes is not None
    if method not in VOTES and tables.probability is not None:
        return tables.probability
    found = np.zeros((len(tables.codes), len(tables.labels)))
    known = tables.codes >= 0
    found[np.flatnonzero(known), tables.codes[known]] = 1.0
    found[~known] = np.nan
    return found


def is_plain_tree(segment: Element) -> bool:
    """Whether a segment is a tree for all rows, that does nothing but answer."""
    tree = segment.child("TreeModel")
    return (
        tree is not None
        and segment.child("True") is not None
        and segment.child("VariableWeight") is None
        and tree.child("Targets") is None
    )


def compile_forest(context: Context, segments: list[Element], combination: Combination) -> Model:
    """Compile *segments*, each a plain tree, into one forest."""
    method = combination.method
    grove = Grove(context.scope)
    answers: list[Answer] = []
    plantings = []
    for segment in segments:
        tree = segment.need_child("TreeModel")
        tree.choice("functionName", (context.element.need("functionName"),))
        inner = context.open(tree)
        planting = Planting.of(inner, grove, answers)
        planting.scout()
        plantings.append(planting)
    builder = Trees(grove.features, grove.arithmetic)
    for planting in plantings:
        planting.plant(builder)
    forest = builder.build()
    tables = Tables.of(plantings[0].context, answers)
    for planting in plantings:
        planting.release()
    weights = np.array([each.number("weight", 1.0) for each in segments])
    weighted = combination.is_weighted
    ranked = TreesRanked(context, grove, forest, tables, weights, combination)
    if combination.skips or tables.refuses:
        return ranked
    factors = weights if weighted else None
    if context.is_classification and method in _SHARED and tables.labels:
        divisor = float(weights.sum()) if weighted else float(len(segments))
        table = _shares(tables, method)[: forest.answers]
        total = forest.sum(table, weights=factors, float32=False)
        return TreesSummed(context, grove, total, divisor, tables.labels, method in VOTES, ranked)
    if not context.is_classification and method in _SUMS:
        divisor = 1.0
        if method.endswith("verage"):
            divisor = float(weights.sum()) if weighted else float(len(segments))
        assert tables.numbers is not None
        table = tables.numbers.astype(np.float64)[: forest.answers, None]
        single = context.number.numpy is np.float32
        total = forest.sum(table, weights=factors, float32=single)
        return TreesSummed(context, grove, total, divisor, ())
    return ranked
