"""What the answers of a forest say: scores, distributions, ids. Source: PMML 4.4.1, TreeModel."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from martlet.formats.pmml.context import Context
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.models.planting import NOTHING, Answer
from martlet.formats.pmml.tree_nodes import TreeNodes
from martlet.formats.pmml.values import Value


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
            if each.node == NOTHING:
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
        own = [(place, each) for place, each in run if each.node != NOTHING]
        if own:
            where, of = [place for place, _ in own], [each.node for _, each in own]
            yield own[0][1].nodes, where, of
