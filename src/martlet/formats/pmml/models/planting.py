"""A TreeModel as it goes into a forest's flat arrays. Source: PMML 4.4.1, TreeModel.

Each place where a walk may end is an answer, a number; ``tree_tables`` says what it means.
"""

from __future__ import annotations

from dataclasses import dataclass
from dataclasses import field as dataclass_field

from martlet.formats.pmml.context import Context
from martlet.formats.pmml.grove import ORDERED, Grove
from martlet.formats.pmml.predicates import compile_predicate
from martlet.formats.pmml.scope import Field
from martlet.formats.pmml.tree_nodes import TreeNodes
from martlet.formats.pmml.values import DOUBLE, FLOAT, round32
from martlet.formats.trees import questions
from martlet.formats.trees.builder import Trees

_STRATEGIES = (
    "none",
    "lastPrediction",
    "nullPrediction",
    "defaultChild",
    "weightedConfidence",
    "aggregateNodes",
)
NOTHING = -1
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

    def _test(self, nodes: TreeNodes, node: int) -> questions.Predicate:
        # Most tests by far: a number against a number, spelled without detours.
        operator = ORDERED.get(nodes.operators[node] or "")
        field = self._fields.get(nodes.fields[node] or "")
        value = nodes.values[node]
        if operator is not None and field is not None and value is not None:
            number = _plain_number(field, value)
            if number is not None:
                return questions.Compare(self.grove.feature(field), operator, number)
        found = nodes.predicate(node)
        return self.grove.test(compile_predicate(found, self.context.scope), found)

    def _splits(
        self, nodes: TreeNodes, children: tuple[int, ...], test: questions.Predicate
    ) -> bool:
        """Whether there are two *children*, the second by what the first's *test* says no to."""
        if len(children) != 2 or type(test) is not questions.Compare:
            return False
        one, other = children
        return (
            nodes.fields[one] == nodes.fields[other]
            and nodes.values[one] == nodes.values[other]
            and _CONTRARY.get(nodes.operators[one] or "") == nodes.operators[other]
        )

    def plant(self, builder: Trees) -> None:
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
                    self.answers.append(Answer(nodes, NOTHING, ""))
                    unknown = builder.leaf(len(self.answers) - 1)
                case "defaultChild":
                    child = _default(nodes, node, children)
                    # With a penalty, what lies below is another place: it has one more of it.
                    count = penalties + 1 if self.penalised else penalties
                    unknown = nothing if child is None else place_of(child, scored, count)
                case _:
                    pass
            # The parent's own score: where it has none, there is no prediction.
            otherwise = leaf(scored, penalties) if self.last and scored == node else nothing
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
