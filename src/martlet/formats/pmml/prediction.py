"""What a model answers: a value, and what its kind of model knows beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from martlet.formats.pmml.column import (
    Column,
    Mask,
    Reasons,
    Rows,
    failed,
    first,
    of_levels,
    scatter,
)
from martlet.formats.pmml.frame import Frame, Record
from martlet.formats.pmml.values import DataType, Value

Floats = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Prediction:
    """
    A batch's answers.

    Args:
        value: The label or the number.
        classes: The labels that the columns of *probability* and *confidence* are of.
        probability, confidence: Shape [rows, classes]; NaN where there is none.
        entity: The id of the node, rule, cluster or segment that decided.
        entities: The ids that the columns of *affinity* are of, where they are ranked.
        affinity: Shape [rows, entities]: distances, or similarities.
        nearest_first: Whether the smallest affinity ranks first: a distance.
        features: What else an OutputField may ask for, by feature.
        others: The predictions of further targets, by the field's name.
        errors: Rows that have no answer at all, and why.
    """

    value: Column
    classes: tuple[Value, ...] = ()
    probability: Floats | None = None
    confidence: Floats | None = None
    entity: Column | None = None
    entities: tuple[str, ...] = ()
    affinity: Floats | None = None
    nearest_first: bool = True
    features: dict[str, Any] = field(default_factory=dict)
    others: dict[str, Prediction] = field(default_factory=dict)

    def take(self, rows: Rows) -> Prediction:
        """Return the predictions of *rows*."""

        def part(each: Any) -> Any:
            if each is None:
                return None
            return each[rows] if isinstance(each, np.ndarray) else each.take(rows)

        return replace(
            self,
            value=part(self.value),
            probability=part(self.probability),
            confidence=part(self.confidence),
            entity=part(self.entity),
            affinity=part(self.affinity),
            features={name: _part(each, rows) for name, each in self.features.items()},
            others={name: each.take(rows) for name, each in self.others.items()},
        )

    def spread(self, rows: Rows, size: int) -> Prediction:
        """Return predictions of *size* rows: these at *rows*, nothing elsewhere."""

        def matrix(each: Floats | None) -> Floats | None:
            if each is None:
                return None
            found = np.full((size, each.shape[1]), np.nan, dtype=each.dtype)
            found[rows] = each
            return found

        return replace(
            self,
            value=scatter(self.value, rows, size),
            probability=matrix(self.probability),
            confidence=matrix(self.confidence),
            entity=None if self.entity is None else scatter(self.entity, rows, size),
            affinity=matrix(self.affinity),
            features={n: _spread(each, rows, size) for n, each in self.features.items()},
            others={name: each.spread(rows, size) for name, each in self.others.items()},
        )

    def failing(self, errors: Reasons | None) -> Prediction:
        """Return the predictions with rows failed for *errors* too."""
        if errors is None:
            return self
        return replace(
            self,
            value=replace(self.value, errors=first(self.value.errors, errors)),
            others={name: each.failing(errors) for name, each in self.others.items()},
        )


def _part(each: Any, rows: Rows) -> Any:
    if isinstance(each, list):
        return [_part(one, rows) for one in each]
    return each[rows] if isinstance(each, np.ndarray) else each.take(rows)


def _spread(each: Any, rows: Rows, size: int) -> Any:
    if isinstance(each, list):
        return [_spread(one, rows, size) for one in each]
    if isinstance(each, Column):
        return scatter(each, rows, size)
    if not isinstance(each, np.ndarray):
        return each.spread(rows, size)
    found = np.full((size, *each.shape[1:]), np.nan, dtype=each.dtype)
    found[rows] = each
    return found


class Outcome:
    """One record's answer; as Prediction, with plain values."""

    __slots__ = ("classes", "entity", "features", "others", "probability", "value")

    def __init__(
        self,
        value: Value,
        classes: tuple[Value, ...] = (),
        probability: Sequence[float] | None = None,
        entity: str | None = None,
        features: dict[str, Any] | None = None,
        others: dict[str, Outcome] | None = None,
    ) -> None:
        self.value = value
        self.classes = classes
        self.probability = probability
        self.entity = entity
        self.features = features
        self.others = others

    def of(self, target: str) -> Outcome:
        """Return the answer for *target*: one of the others, or this one."""
        return self if self.others is None else self.others.get(target, self)


@dataclass(frozen=True, slots=True)
class Ranking:
    """
    One record's entities by how near they are: an Outcome's feature ``ranking``.

    Args:
        ids: Of all entities.
        places: The entities, the nearest first: places in *ids*. Shape [entities].
        affinity: Of each of *places*; NaN of those that are not ranked, which come last.
    """

    ids: Sequence[str]
    places: NDArray[np.intp]
    affinity: Floats

    @classmethod
    def of(cls, ids: Sequence[str], affinity: Floats, nearest_first: bool) -> Ranking:
        """Rank the entities by *affinity*, in the order of *ids*."""
        places = np.argsort(affinity if nearest_first else -affinity, kind="stable")
        return cls(ids, places, affinity[places])

    def entity(self, rank: int) -> str | None:
        """Return the id of the *rank*-th entity (the first is 1)."""
        return None if self.at(rank) is None else self.ids[int(self.places[rank - 1])]

    def at(self, rank: int) -> float | None:
        """Return the affinity of the *rank*-th entity."""
        found = float(self.affinity[rank - 1]) if rank <= len(self.places) else math.nan
        return None if found != found else found

    def affinity_of(self, identity: str) -> float | None:
        """Return the affinity of the entity called *identity*."""
        for rank, place in enumerate(self.places.tolist(), 1):
            if self.ids[place] == identity:
                return self.at(rank)
        return None


def answered(value: Column) -> Mask:
    """Return where there is a value, or a reason why it is none."""
    if value.missing is None:
        return np.ones(len(value), dtype=bool)
    return ~value.missing if value.errors is None else ~value.missing | failed(value.errors)


def is_nothing(found: Outcome | Prediction) -> bool:
    """Whether one record has no answer; as :func:`answered`."""
    if isinstance(found, Prediction):
        return not answered(found.value)[0]
    return found.value is None


class Model(Protocol):
    """A compiled model element."""

    def predict(self, frame: Frame) -> Prediction:
        """Return the answers of a batch."""
        ...


class SingleModel(Model, Protocol):
    """A model with a path of its own for one record; others answer a batch of one."""

    def outcome(self, record: Record) -> Outcome:
        """Return one record's answer."""
        ...


def label_column(codes: NDArray[Any], labels: Sequence[Value], kind: DataType) -> Column:
    """Return the column of *labels* by *codes*; -1 is missing."""
    if kind.is_text:
        return of_levels(codes, list(labels))
    table = np.zeros(len(labels) + 1, dtype=kind.numpy)
    known = np.zeros(len(labels) + 1, dtype=bool)
    for code, label in enumerate(labels):
        if label is not None:
            table[code], known[code] = label, True
    missing = ~known[codes]
    return Column(kind, table[codes], missing if missing.any() else None)


def winners(matrix: Floats) -> NDArray[np.int64]:
    """
    Return the column of each row's greatest number, the first among equals.

    A row in which a number is NaN has none: -1.
    """
    if not matrix.shape[1]:
        return np.full(len(matrix), -1)
    unknown: Mask = np.asarray(np.isnan(matrix).any(axis=1))
    return np.where(unknown, -1, np.where(unknown[:, None], 0.0, matrix).argmax(axis=1))


def classified(
    classes: tuple[Value, ...],
    probability: Floats,
    kind: DataType,
    errors: Reasons | None = None,
    best: NDArray[np.int64] | None = None,
) -> Prediction:
    """Return the prediction of the likeliest of *classes*, or of those whose places are *best*."""
    best = winners(probability) if best is None else best
    value = label_column(best, classes, kind)
    shares = np.where(best[:, None] < 0, np.nan, probability)
    return Prediction(value.with_errors(errors), classes, shares)


def likeliest(classes: tuple[Value, ...], shares: list[float]) -> Outcome:
    """Return one record's :func:`classified`."""
    total = sum(shares)
    if total != total and any(share != share for share in shares):
        return Outcome(None, classes)
    return Outcome(classes[shares.index(max(shares))], classes, shares)


def numbers(values: Floats, kind: DataType, errors: Reasons | None = None) -> Prediction:
    """Return the prediction of *values*, missing where NaN."""
    gone = np.isnan(values)
    missing = gone if gone.any() else None
    return Prediction(Column(kind, values.astype(kind.numpy, copy=False), missing, errors))


def outcome_of(prediction: Prediction) -> Outcome:
    """Return the answer of a batch of one, of a model that gives labels and probabilities."""
    shares = None if prediction.probability is None else prediction.probability[0].tolist()
    return Outcome(prediction.value.objects()[0], prediction.classes, shares)
