"""TreeModel: a walk from the root to a node. Source: PMML 4.4.1, TreeModel.

A tree compiles into the forest's flat arrays. Each place where a walk may end is an answer, a
number; what the answer says (score, distribution, id) is looked up in tables.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from martlet.formats.pmml.column import Column
from martlet.formats.pmml.context import Context
from martlet.formats.pmml.frame import Frame, Record, RowError
from martlet.formats.pmml.grove import Grove
from martlet.formats.pmml.models.planting import Answer, Planting
from martlet.formats.pmml.models.tree_tables import Tables
from martlet.formats.pmml.prediction import Outcome, Prediction, label_column
from martlet.formats.pmml.values import STRING
from martlet.formats.trees.builder import Trees
from martlet.formats.trees.forest import Forest


@dataclass(frozen=True, slots=True)
class Tree:
    """One tree of a forest of one."""

    context: Context
    grove: Grove
    forest: Forest
    tables: Tables

    def predict(self, frame: Frame) -> Prediction:
        x, errors = self.grove.matrix(frame)
        answers = self.forest.leaves(x)
        if errors is not None:
            errors = self.grove.answers(self.forest, frame, answers, errors)
        answers = answers[:, 0]
        found = predicted(self.context, self.tables, answers)
        if self.tables.refuses:
            found = found.failing(self.tables.refused[answers])
        return found.failing(errors)

    @property
    def outcome(self) -> Callable[[Record], Outcome]:
        """A closure that answers one record."""
        row, leaves, tables = self.grove.row(), self.forest.leaves_of, self.tables
        lazily = self.grove.lazily(self.forest)

        def walk(record: Record) -> int:
            try:
                return leaves(row(record))[0]
            except RowError:
                return lazily(record)[0]

        refused = {at: why for at, why in enumerate(tables.refused.tolist()) if why is not None}
        ids = (*tables.ids, None)
        if tables.numbers is not None:
            scores = [None if x != x else x for x in tables.numbers.tolist()]

            def number(record: Record) -> Outcome:
                answer = walk(record)
                if answer in refused:
                    raise RowError(refused[answer])
                return Outcome(scores[answer], (), None, ids[answer])

            return number
        assert tables.codes is not None
        labels = [*tables.labels, None]
        values = [labels[code] for code in tables.codes.tolist()]
        classes = tables.labels
        shares = None if tables.probability is None else tables.probability.tolist()
        trusts = None if tables.confidence is None else tables.confidence.tolist()

        def label(record: Record) -> Outcome:
            answer = walk(record)
            if answer in refused:
                raise RowError(refused[answer])
            return Outcome(
                values[answer],
                classes,
                None if shares is None else shares[answer],
                ids[answer],
                None if trusts is None else {"confidence": trusts[answer]},
            )

        return label


def predicted(context: Context, tables: Tables, answers: np.ndarray) -> Prediction:
    """Return what *answers*, one a row, say by *tables*."""
    entity = label_column(answers, tables.ids, STRING)
    if tables.numbers is not None:
        scores = tables.numbers[answers]
        gone = np.isnan(scores)
        value = Column(context.number, scores, gone if gone.any() else None)
        return Prediction(value, entity=entity)
    assert tables.codes is not None
    return Prediction(
        label_column(tables.codes[answers], tables.labels, context.label),
        tables.labels,
        None if tables.probability is None else tables.probability[answers],
        None if tables.confidence is None else tables.confidence[answers],
        entity,
    )


def compile_model(context: Context) -> Tree:
    """Compile a TreeModel into a forest of one tree."""
    grove = Grove(context.scope)
    answers: list[Answer] = []
    planting = Planting.of(context, grove, answers)
    planting.scout()
    builder = Trees(max(1, grove.features), grove.arithmetic)
    planting.plant(builder)
    tables = Tables.of(context, answers)
    planting.release()
    return Tree(context, grove, builder.build(), tables)
