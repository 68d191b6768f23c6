"""TreeModel: a walk from the root to a node. Source: PMML 4.4.1, TreeModel.

A tree compiles into the forest's flat arrays. Each place where a walk may end is an answer, a
number; what the answer says (score, distribution, id) is looked up in tables.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field as dataclass_field

import numpy as np

from martlet.formats import trees
from martlet.formats.forest import Forest
from martlet.formats.pmml.column import Column
from martlet.formats.pmml.context import Context
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.frame import Frame, Record, RowError
from martlet.formats.pmml.grove import ORDERED, Grove
from martlet.formats.pmml.predicates import TAGS, compile_predicate
from martlet.formats.pmml.prediction import Outcome, Prediction, label_column
from martlet.formats.pmml.scope import Field
from martlet.formats.pmml.values import DOUBLE, FLOAT, STRING, Value

_STRATEGIES = (
    "none",
    "lastPrediction",
    "nullPrediction",
    "defaultChild",
    "weightedConfidence",
    "aggregateNodes",
)
_NOTHING = -1


@dataclass(slots=True)
class Answer:
    """Where a walk may end: a node, and the default children taken on the way to it."""

    node: Element | None
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
        names: dict[str, Element] = {}
        for each in self._root().walk():
            if each.tag in ("SimplePredicate", "SimpleSetPredicate"):
                names.setdefault(each.need("field"), each)
        for name, element in names.items():
            self._fields[name] = self.context.scope.field(name, element)
            self.grove.feature(self._fields[name])

    def release(self) -> None:
        """Let go of the nodes, which are arrays now: they are most of a large file."""
        element = self.context.element
        element.children = [each for each in element.children if each.tag != "Node"]

    def _root(self) -> Element:
        return self.context.element.need_child("Node")

    def _test(self, node: Element) -> trees.Predicate:
        found = node.need_child(*TAGS)
        if found.tag == "SimplePredicate":
            # Most tests by far: a number against a number, spelled without detours.
            operator = ORDERED.get(found.attributes.get("operator", ""))
            field = self._fields.get(found.attributes.get("field", ""))
            if operator is not None and field is not None and _is_plain_number(field):
                value = field.parse(found.need("value"), found)
                return trees.Compare(self.grove.feature(field), operator, value)
        return self.grove.test(compile_predicate(found, self.context.scope), found)

    def plant(self, builder: trees.Trees) -> None:
        """Add the tree to *builder*."""
        root = self._root()
        # A node without an id is called by its place in document order, in which it is visited;
        # but not where a part of the tree is planted twice.
        ids: dict[int, str] = _identities(root) if self.penalised else {}
        leaves: dict[int, int] = {_NOTHING: builder.leaf()}
        places: dict[tuple[int, int], int] = {}
        stack: list[tuple[Element, Element | None, int, int]] = []

        def leaf(node: Element | None, penalties: int) -> int:
            if node is None:
                return leaves[_NOTHING]
            key = id(node) * 64 + min(penalties, 63)
            if key not in leaves:
                self.answers.append(Answer(node, ids[id(node)], penalties))
                leaves[key] = builder.leaf(len(self.answers) - 1)
            return leaves[key]

        def place_of(node: Element, scored: Element | None, penalties: int) -> int:
            key = (id(node), penalties)
            if key not in places:
                places[key] = builder.reserve()
                below.append((node, scored, penalties, places[key]))
            return places[key]

        below: list[tuple[Element, Element | None, int, int]] = []
        start = place_of(root, None, 0)
        visited = 0
        while below or stack:
            stack.extend(reversed(below))
            below.clear()
            node, scored, penalties, place = stack.pop()
            visited += 1
            if not self.penalised:
                ids[id(node)] = node.get("id") or str(visited)
            is_scored = _is_scored(node)
            if is_scored:
                scored = node
            children = [each for each in node.children if each.tag == "Node"]
            if not children:
                builder.alias(leaf(node if is_scored else None, penalties), at=place)
                continue
            cases = [(self._test(c), place_of(c, scored, penalties)) for c in children]
            unknown: int | None = None
            match self.strategy:
                case "lastPrediction":
                    unknown = leaf(scored, penalties)
                case "nullPrediction":
                    unknown = leaves[_NOTHING]
                case "weightedConfidence" | "aggregateNodes":
                    self.answers.append(Answer(None, ""))
                    unknown = builder.leaf(len(self.answers) - 1)
                case "defaultChild":
                    child = _default(node, children)
                    # With a penalty, what lies below is another place: it has one more of it.
                    count = penalties + 1 if self.penalised else penalties
                    unknown = leaves[_NOTHING] if child is None else place_of(child, scored, count)
                case _:
                    pass
            otherwise = leaf(scored, penalties) if self.last else leaves[_NOTHING]
            builder.first(cases, otherwise=otherwise, unknown=unknown, at=place)
        lost = leaves[_NOTHING]
        builder.add(builder.decide(self._test(root), yes=start, no=lost, unknown=lost))


def _is_plain_number(field: Field) -> bool:
    return field.type in (DOUBLE, FLOAT) and field.optype != "ordinal"


def _default(node: Element, children: list[Element]) -> Element | None:
    """Return the child that a row goes to when it cannot be told, or None: to no prediction."""
    wanted = node.get("defaultChild")
    if wanted is None:
        return None
    found = next((each for each in children if each.get("id") == wanted), None)
    if found is None:
        raise node.error(f"has no child {wanted!r}, its defaultChild")
    return found


def _is_scored(node: Element) -> bool:
    return node.get("score") is not None or node.child("ScoreDistribution") is not None


def _identities(root: Element) -> dict[int, str]:
    """Return each node's id: its own, or its place in document order, from 1."""
    nodes = (each for each in root.walk() if each.tag == "Node")
    return {id(n): n.get("id") or str(place) for place, n in enumerate(nodes, 1)}


def _any(refused: np.ndarray) -> bool:
    return any(each is not None for each in refused.tolist())


def _is_empty(node: Element) -> bool:
    """Whether a node has nothing but counts of 0, of which there are no shares."""
    counts = node.all("ScoreDistribution")
    return bool(counts) and all(
        each.get("probability") is None and each.number("recordCount", 0.0) == 0 for each in counts
    )


def score_text(node: Element) -> str | None:
    """Return the node's score: as written, or the value of its largest ScoreDistribution."""
    score = node.get("score")
    if score is not None:
        return score
    counts = node.all("ScoreDistribution")
    if not counts:
        return None
    return max(counts, key=lambda each: each.number("recordCount", 0.0)).get("value")


def distribution(node: Element) -> dict[str, float]:
    """Return the probabilities of a node's ScoreDistributions, by value."""
    counts = node.all("ScoreDistribution")
    total = sum(each.number("recordCount", 0.0) for each in counts)
    found: dict[str, float] = {}
    for each in counts:
        if each.get("probability") is not None:
            found[each.need("value")] = each.number("probability")
        else:
            found[each.need("value")] = each.number("recordCount") / total if total else 0.0
    return found


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
            if each.node is None:
                refused[place] = (
                    f"a value that the tree needs is missing, and {strategy} is not supported"
                )
            elif context.is_classification and _is_empty(each.node):
                refused[place] = f"node {each.id!r} of the tree has counted no record"
        ids = tuple(each.id for each in answers)
        nodes = [each.node for each in answers]
        if not context.is_classification:
            real = context.number.numpy
            scores = np.full(len(answers) + 1, np.nan, dtype=real)
            for place, node in enumerate(nodes):
                text = None if node is None else score_text(node)
                if text is not None:
                    assert node is not None
                    try:
                        scores[place] = real(float(text))
                    except ValueError:
                        raise node.error(f"has the score {text!r}, no number") from None
            return cls(scores, (), None, None, None, ids, refused, _any(refused))
        return cls._of_classes(context, answers, ids, refused)

    @classmethod
    def _of_classes(
        cls,
        context: Context,
        answers: list[Answer],
        ids: tuple[str, ...],
        refused: np.ndarray,
    ) -> Tables:
        index: dict[Value, int] = {label: code for code, label in enumerate(context.labels)}
        codes = np.full(len(answers) + 1, -1)
        shares: list[dict[int, float]] = []
        trusts: list[dict[int, float]] = []
        penalty = context.element.number("missingValuePenalty", 1.0)
        for place, answer in enumerate(answers):
            node, share, trust = answer.node, {}, {}
            if node is not None:
                text = score_text(node)
                if text is not None:
                    label = context.parse_label(text, node)
                    codes[place] = index.setdefault(label, len(index))
                for value, p in distribution(node).items():
                    label = context.parse_label(value, node)
                    share[index.setdefault(label, len(index))] = p
                for each in node.all("ScoreDistribution"):
                    label = context.parse_label(each.need("value"), each)
                    sure = each.number("confidence", 0.0)
                    trust[index[label]] = sure * penalty**answer.penalties
            shares.append(share)
            trusts.append(trust)
        return cls(
            None,
            tuple(index),
            codes,
            _dense(shares, len(index), 0.0),
            _dense(trusts, len(index), 0.0),
            ids,
            refused,
            _any(refused),
        )


def _dense(rows: list[dict[int, float]], width: int, empty: float) -> np.ndarray | None:
    """Return *rows* as a matrix, with one row of NaN at the end; None where all are empty."""
    if not any(rows):
        return None
    found = np.full((len(rows) + 1, width), np.nan)
    for place, row in enumerate(rows):
        if row:
            found[place] = empty
            for code, number in row.items():
                found[place, code] = number
    return found


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
