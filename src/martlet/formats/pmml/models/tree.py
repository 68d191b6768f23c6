"""TreeModel: a walk from the root to a node. Source: PMML 4.4.1, TreeModel.

A tree compiles into the forest's flat arrays. Each place where a walk may end is an answer, a
number; what the answer says (score, distribution, id) is looked up in tables.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from itertools import groupby

import numpy as np

from martlet.formats import trees
from martlet.formats.forest import Forest
from martlet.formats.pmml.column import Column
from martlet.formats.pmml.context import Context
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.frame import Frame, Record, RowError
from martlet.formats.pmml.grove import ORDERED, Grove
from martlet.formats.pmml.predicates import compile_predicate
from martlet.formats.pmml.prediction import Outcome, Prediction, label_column
from martlet.formats.pmml.scope import Field
from martlet.formats.pmml.tree_nodes import TreeNodes
from martlet.formats.pmml.values import DOUBLE, FLOAT, STRING, Value, round32

_STRATEGIES = (
    "none",
    "lastPrediction",
    "nullPrediction",
    "defaultChild",
    "weightedConfidence",
    "aggregateNodes",
)
_NOTHING = -1
_MOST_PENALTIES = 63
_CONTRARY = {
    "lessThan": "greaterOrEqual",
    "lessOrEqual": "greaterThan",
    "greaterThan": "lessOrEqual",
    "greaterOrEqual": "lessThan",
}


@dataclass(slots=True)
class Answer:
    """Where a walk may end: a node of a tree, and the default children taken on the way to it."""

    nodes: TreeNodes
    node: int
    id: str
    penalties: int = 0


@dataclass(slots=True)
class Planting:
    """A tree as it goes into a forest's arrays."""

    context: Context
    grove: Grove
    strategy: str
    last: bool
    penalised: bool
    answers: list[Answer]
    """Shared by all trees of the grove: an answer's number is its place."""
    _fields: dict[str, Field] = dataclass_field(default_factory=dict)

    @classmethod
    def of(cls, context: Context, grove: Grove, answers: list[Answer]) -> Planting:
        """Read the strategies of a TreeModel."""
        element = context.element
        no_true = ("returnNullPrediction", "returnLastPrediction")
        return cls(
            context,
            grove,
            element.choice("missingValueStrategy", _STRATEGIES, "none"),
            element.choice("noTrueChildStrategy", no_true, no_true[0]) == no_true[1],
            element.number("missingValuePenalty", 1.0) != 1.0,
            answers,
        )

    def scout(self) -> None:
        """Let the grove meet every field that the tree tests, before its matrix has a width."""
        for name, element in self._nodes().tested().items():
            self._fields[name] = self.context.scope.field(name, element)
            self.grove.feature(self._fields[name])

    def release(self) -> None:
        """Let go of the nodes, which are arrays now: they are most of a large file."""
        element = self.context.element
        element.children = [each for each in element.children if each.tag != "Node"]

    def _nodes(self) -> TreeNodes:
        found = self.context.element.need_child("Node")
        assert isinstance(found, TreeNodes), "nodes are read as columns"
        return found

    def _test(self, nodes: TreeNodes, node: int) -> trees.Predicate:
        # Most tests by far: a number against a number, spelled without detours.
        operator = ORDERED.get(nodes.operators[node] or "")
        field = self._fields.get(nodes.fields[node] or "")
        value = nodes.values[node]
        if operator is not None and field is not None and value is not None:
            number = _plain_number(field, value)
            if number is not None:
                return trees.Compare(self.grove.feature(field), operator, number)
        found = nodes.predicate(node)
        return self.grove.test(compile_predicate(found, self.context.scope), found)

    def _splits(self, nodes: TreeNodes, children: tuple[int, ...], test: trees.Predicate) -> bool:
        """Whether there are two *children*, the second by what the first's *test* says no to."""
        if len(children) != 2 or type(test) is not trees.Compare:
            return False
        one, other = children
        return (
            nodes.fields[one] == nodes.fields[other]
            and nodes.values[one] == nodes.values[other]
            and _CONTRARY.get(nodes.operators[one] or "") == nodes.operators[other]
        )

    def plant(self, builder: trees.Trees) -> None:
        """Add the tree to *builder*."""
        nodes = self._nodes()
        below, names = nodes.below, nodes.ids
        is_scored = nodes.counted()
        for node, score in enumerate(nodes.scores):
            if score is not None:
                is_scored[node] = True
        scored_ones: list[bool] = is_scored.tolist()
        nothing = builder.leaf()
        leaves: dict[tuple[int, int], int] = {}
        places: dict[tuple[int, int], int] = {}
        stack: list[tuple[int, int, int, int]] = []
        later: list[tuple[int, int, int, int]] = []

        def leaf(node: int, penalties: int) -> int:
            if node < 0:
                return nothing
            key = (node, min(penalties, _MOST_PENALTIES))
            found = leaves.get(key)
            if found is None:
                # A node without an id is called by its place in document order, from 1.
                self.answers.append(Answer(nodes, node, names[node] or str(node + 1), penalties))
                found = leaves[key] = builder.leaf(len(self.answers) - 1)
            return found

        def place_of(node: int, scored: int, penalties: int) -> int:
            key = (node, penalties)
            found = places.get(key)
            if found is None:
                found = places[key] = builder.reserve()
                later.append((node, scored, penalties, found))
            return found

        start = place_of(0, -1, 0)
        while later or stack:
            stack.extend(reversed(later))
            later.clear()
            node, scored, penalties, place = stack.pop()
            if scored_ones[node]:
                scored = node
            children = below[node]
            if not children:
                builder.alias(leaf(node if scored == node else -1, penalties), at=place)
                continue
            targets = [place_of(child, scored, penalties) for child in children]
            unknown: int | None = None
            match self.strategy:
                case "lastPrediction":
                    unknown = leaf(scored, penalties)
                case "nullPrediction":
                    unknown = nothing
                case "weightedConfidence" | "aggregateNodes":
                    self.answers.append(Answer(nodes, _NOTHING, ""))
                    unknown = builder.leaf(len(self.answers) - 1)
                case "defaultChild":
                    child = _default(nodes, node, children)
                    # With a penalty, what lies below is another place: it has one more of it.
                    count = penalties + 1 if self.penalised else penalties
                    unknown = nothing if child is None else place_of(child, scored, count)
                case _:
                    pass
            otherwise = leaf(scored, penalties) if self.last else nothing
            tests = [self._test(nodes, children[0])]
            if self._splits(nodes, children, tests[0]):
                lost = otherwise if unknown is None else unknown
                builder.decide(tests[0], yes=targets[0], no=targets[1], unknown=lost, at=place)
                continue
            tests += [self._test(nodes, child) for child in children[1:]]
            cases = list(zip(tests, targets, strict=True))
            builder.first(cases, otherwise=otherwise, unknown=unknown, at=place)
        root = self._test(nodes, 0)
        builder.add(builder.decide(root, yes=start, no=nothing, unknown=nothing))


def _plain_number(field: Field, text: str) -> float | None:
    """Return the number that *text* writes for *field*; None: it is compared another way."""
    if field.optype == "ordinal" or field.type not in (DOUBLE, FLOAT):
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if field.type is DOUBLE else round32(number)


def _default(nodes: TreeNodes, node: int, children: tuple[int, ...]) -> int | None:
    """Return the child that a row goes to when it cannot be told, or None: to no prediction."""
    wanted = nodes.defaults[node]
    if wanted is None:
        return None
    for child in children:
        if nodes.ids[child] == wanted:
            return child
    raise nodes.error_at(node, f"has no child {wanted!r}, its defaultChild")


def _any(refused: np.ndarray) -> bool:
    return any(each is not None for each in refused.tolist())


@dataclass(frozen=True, slots=True)
class Tables:
    """What the answers of a forest say; the last row of each is answer -1: nothing."""

    numbers: np.ndarray | None
    labels: tuple[Value, ...]
    codes: np.ndarray | None
    probability: np.ndarray | None
    confidence: np.ndarray | None
    ids: tuple[str, ...]
    refused: np.ndarray
    """Why an answer is none, a sentence; None where it is one."""

    refuses: bool
    """Whether some answer is none."""

    @classmethod
    def of(cls, context: Context, answers: list[Answer]) -> Tables:
        """Read the scores of the nodes that *answers* are."""
        refused = np.full(len(answers) + 1, None, dtype=object)
        strategy = context.element.get("missingValueStrategy")
        for place, each in enumerate(answers):
            if each.node == _NOTHING:
                refused[place] = (
                    f"a value that the tree needs is missing, and {strategy} is not supported"
                )
        ids = tuple(each.id for each in answers)
        if context.is_classification:
            return cls._of_classes(context, answers, ids, refused)
        real = context.number.numpy
        scores = np.full(len(answers) + 1, np.nan, dtype=real)
        for nodes, where, of in _by_tree(answers):
            texts = nodes.labels()
            for place, node in zip(where, of, strict=True):
                text = texts[node]
                if text is not None:
                    try:
                        scores[place] = real(float(text))
                    except ValueError:
                        message = f"has the score {text!r}, no number"
                        raise nodes.error_at(node, message) from None
        return cls(scores, (), None, None, None, ids, refused, _any(refused))

    @classmethod
    def _of_classes(
        cls,
        context: Context,
        answers: list[Answer],
        ids: tuple[str, ...],
        refused: np.ndarray,
    ) -> Tables:
        index: dict[Value, int] = {label: code for code, label in enumerate(context.labels)}
        by_text: dict[str, int] = {}

        def code_of(text: str, nodes: TreeNodes, node: int) -> int:
            code = by_text.get(text)
            if code is None:
                at = Element("Node", {"id": nodes.ids[node] or ""}, nodes.lines[node])
                label = context.parse_label(text, at)
                code = by_text[text] = index.setdefault(label, len(index))
            return code

        codes = np.full(len(answers) + 1, -1)
        trees_of = list(_by_tree(answers))
        for nodes, where, of in trees_of:
            texts = nodes.labels()
            for place, node in zip(where, of, strict=True):
                text = texts[node]
                if text is not None:
                    codes[place] = code_of(text, nodes, node)
            for node, text in zip(nodes.count_nodes, nodes.count_labels, strict=True):
                code_of(text, nodes, node)
        shares = trusts = None
        if any(nodes.count_labels for nodes, _, _ in trees_of):
            shares = np.full((len(answers) + 1, len(index)), np.nan)
            trusts = shares.copy()
        penalty = context.element.number("missingValuePenalty", 1.0)
        for nodes, where, of in trees_of if shares is not None else ():
            assert shares is not None and trusts is not None
            # The rows of a tree's nodes, then of its answers: a node may be several of those.
            counted = np.array(nodes.count_nodes, dtype=np.int64)
            labels = np.array([by_text[text] for text in nodes.count_labels], dtype=np.int64)
            own = np.where(nodes.counted()[:, None], np.zeros(len(index)), np.nan)
            sure = own.copy()
            own[counted, labels] = nodes.shares()
            sure[counted, labels] = np.nan_to_num(np.array(nodes.confidences, dtype=np.float64))
            taken = np.array([answers[place].penalties for place in where])
            shares[where] = own[of]
            trusts[where] = sure[of] * (penalty**taken)[:, None]
            for place in np.array(where)[nodes.emptied()[of]].tolist():
                refused[place] = f"node {answers[place].id!r} of the tree has counted no record"
        return cls(None, tuple(index), codes, shares, trusts, ids, refused, _any(refused))


def _by_tree(answers: list[Answer]) -> Iterator[tuple[TreeNodes, list[int], list[int]]]:
    """Yield each tree, the places of its answers that are nodes, and those nodes."""
    for _, run in groupby(enumerate(answers), key=lambda each: id(each[1].nodes)):
        own = [(place, each) for place, each in run if each.node != _NOTHING]
        if own:
            where, of = [place for place, _ in own], [each.node for _, each in own]
            yield own[0][1].nodes, where, of


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
    builder = trees.Trees(max(1, grove.features), grove.arithmetic)
    planting.plant(builder)
    tables = Tables.of(context, answers)
    planting.release()
    return Tree(context, grove, builder.build(), tables)
