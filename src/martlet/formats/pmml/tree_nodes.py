"""A tree's nodes as columns: a large file holds millions, and an object for each is too much."""

from __future__ import annotations

from array import array
from math import nan

import numpy as np
from numpy.typing import NDArray

from martlet.errors import UnsupportedModel
from martlet.formats.pmml.document import MAX_DEPTH, Compact, Element, Source

_PREDICATES = frozenset({"CompoundPredicate", "False", "SimpleSetPredicate", "True"})
_EMBEDDED = frozenset({"DecisionTree", "Regression"})
_LEAF: tuple[int, ...] = ()


class TreeNodes(Compact):
    """
    A Node and all Nodes below it, numbered from 0 in document order.

    Each of *fields*, *operators* and *values* belongs to the node's SimplePredicate, None where
    it has a predicate of another kind, in *predicates*. A ScoreDistribution is one entry of each
    of *count_nodes* (whose it is), *count_labels*, *records*, *probabilities*, *confidences*: NaN
    where not given.
    """

    __slots__ = (
        "_at",
        "_children",
        "_source",
        "confidences",
        "count_labels",
        "count_nodes",
        "defaults",
        "fields",
        "ids",
        "lines",
        "operators",
        "parents",
        "predicates",
        "probabilities",
        "records",
        "scores",
        "values",
    )

    def __init__(self, source: Source, attributes: dict[str, str], line: int) -> None:
        super().__init__("Node", attributes, line)
        self._source = source
        self._at = -1
        self._children: list[tuple[int, ...]] | None = None
        self.parents = array("i")
        self.lines = array("q")
        self.ids: list[str | None] = []
        self.scores: list[str | None] = []
        self.defaults: list[str | None] = []
        self.fields: list[str | None] = []
        self.operators: list[str | None] = []
        self.values: list[str | None] = []
        self.predicates: dict[int, Element] = {}
        self.count_nodes = array("i")
        self.count_labels: list[str] = []
        self.records = array("d")
        self.probabilities = array("d")
        self.confidences = array("d")
        self._node(attributes)

    def __len__(self) -> int:
        return len(self.parents)

    # -- while the document is read ---------------------------------------------------------

    def start(self, name: str, attributes: dict[str, str]) -> None:
        tag = self._source.local(name)
        if tag == "Node":
            self._node(attributes)
        elif tag == "SimplePredicate":
            at = self._at
            self.fields[at] = attributes.get("field")
            self.operators[at] = attributes.get("operator")
            self.values[at] = attributes.get("value")
            if self.fields[at] is None or self.operators[at] is None:
                self.predicates[at] = Element(tag, attributes, self._source.line)
        elif tag == "ScoreDistribution":
            self._count(attributes)
        else:
            element = Element(tag, attributes, self._source.line)
            if tag in _EMBEDDED:
                raise element.error("within a tree's node is not supported")
            if tag in _PREDICATES:
                self.predicates[self._at] = element
            self._source.collect(element)

    def end(self, name: str) -> None:
        if self._source.local(name) == "Node":
            self._at = self.parents[self._at]
            if self._at < 0:
                self._source.finish()

    def _node(self, attributes: dict[str, str]) -> None:
        at = len(self.parents)
        self.parents.append(self._at)
        self.lines.append(self._source.line)
        get = attributes.get
        self.ids.append(get("id"))
        self.scores.append(get("score"))
        self.defaults.append(get("defaultChild"))
        self.fields.append(None)
        self.operators.append(None)
        self.values.append(None)
        self._at = at

    def _count(self, attributes: dict[str, str]) -> None:
        get = attributes.get
        try:
            self.count_labels.append(attributes["value"])
            self.records.append(float(get("recordCount", nan)))
            self.probabilities.append(float(get("probability", nan)))
            self.confidences.append(float(get("confidence", nan)))
        except (KeyError, ValueError):
            element = Element("ScoreDistribution", attributes, self._source.line)
            element.need("value")
            for name in ("recordCount", "probability", "confidence"):
                element.number(name, nan)
            raise
        self.count_nodes.append(self._at)

    # -- when it has been read --------------------------------------------------------------

    @property
    def below(self) -> list[tuple[int, ...]]:
        """The children of each node, in order."""
        if self._children is None:
            found: list[list[int] | None] = [None] * len(self)
            depth = [0] * len(self)
            for node, parent in enumerate(self.parents):
                if parent < 0:
                    continue
                depth[node] = depth[parent] + 1
                if depth[node] > MAX_DEPTH:
                    raise self.error_at(node, f"is nested deeper than {MAX_DEPTH} levels")
                siblings = found[parent]
                if siblings is None:
                    found[parent] = [node]
                else:
                    siblings.append(node)
            self._children = [_LEAF if each is None else tuple(each) for each in found]
        return self._children

    def predicate(self, node: int) -> Element:
        """
        Return the predicate of *node*.

        Raises:
            UnsupportedModel: it has none.
        """
        found = self.predicates.get(node)
        if found is not None:
            return found
        field, operator, value = self.fields[node], self.operators[node], self.values[node]
        if field is None or operator is None:
            raise self.error_at(node, "lacks a predicate")
        attributes = {"field": field, "operator": operator}
        if value is not None:
            attributes["value"] = value
        return Element("SimplePredicate", attributes, self.lines[node])

    def tested(self) -> dict[str, Element]:
        """Return the names of the fields that are tested, with an element that does."""
        found: dict[str, Element] = {}
        for node, name in enumerate(self.fields):
            if name is not None and name not in found:
                found[name] = self.predicate(node)
        for each in self.predicates.values():
            for part in each.walk():
                if part.tag in ("SimplePredicate", "SimpleSetPredicate"):
                    found.setdefault(part.need("field"), part)
        return found

    def error_at(self, node: int, message: str) -> UnsupportedModel:
        """Return the error that says *message* of *node* and its line."""
        name = self.ids[node]
        attributes = {} if name is None else {"id": name}
        return Element("Node", attributes, self.lines[node]).error(message)

    def counted(self) -> NDArray[np.bool_]:
        """Return which nodes have a ScoreDistribution."""
        found = np.zeros(len(self), dtype=bool)
        found[np.array(self.count_nodes, dtype=np.int64)] = True
        return found

    def shares(self) -> NDArray[np.float64]:
        """Return the probability of each ScoreDistribution: as given, or its part of the counts."""
        nodes = np.array(self.count_nodes, dtype=np.int64)
        records = np.nan_to_num(np.array(self.records, dtype=np.float64))
        total = np.bincount(nodes, records, minlength=len(self))[nodes]
        given = np.array(self.probabilities, dtype=np.float64)
        counted = np.divide(records, total, out=np.zeros_like(records), where=total != 0)
        return np.where(np.isnan(given), counted, given)

    def emptied(self) -> NDArray[np.bool_]:
        """Return which nodes have nothing but counts of 0, of which there are no shares."""
        nodes = np.array(self.count_nodes, dtype=np.int64)
        says = ~np.isnan(np.array(self.probabilities, dtype=np.float64))
        says |= np.nan_to_num(np.array(self.records, dtype=np.float64)) != 0
        silent: NDArray[np.bool_] = np.bincount(nodes, says, minlength=len(self)) == 0
        return self.counted() & silent

    def labels(self) -> list[str | None]:
        """Return the score of each node: as written, or the value that was counted most."""
        found = list(self.scores)
        most: dict[int, float] = {}
        for node, label, count in zip(
            self.count_nodes, self.count_labels, self.records, strict=True
        ):
            count = count if count == count else 0.0
            if self.scores[node] is None and count > most.get(node, -1.0):
                most[node], found[node] = count, label
        return found
