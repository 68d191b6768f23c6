"""A recommender as its one readable file declares it: values only; ``reading`` makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from martlet.names import ModelRef

Scalar = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Neighbours:
    """The items nearest to the unit's vector: *query* has its vector, *items* theirs."""

    name: str
    query: str
    items: str
    count: int


@dataclass(frozen=True, slots=True)
class Similar:
    """Items listed as like the *recent* last ones of the unit's history; scores add up."""

    name: str
    lists: str
    history: str
    recent: int
    count: int


@dataclass(frozen=True, slots=True)
class Stored:
    """The list that was computed offline for the unit."""

    name: str
    lists: str
    count: int


@dataclass(frozen=True, slots=True)
class Popular:
    """One list for everybody, under *key*."""

    name: str
    lists: str
    key: Scalar
    count: int


Candidates = Neighbours | Similar | Stored | Popular


@dataclass(frozen=True, slots=True)
class DropSeen:
    """Drop what is in the unit's history."""

    history: str


@dataclass(frozen=True, slots=True)
class DropUnknown:
    """Drop what the item table does not hold."""

    items: str


@dataclass(frozen=True, slots=True)
class KeepWhere:
    """Keep the items of which ``feature operator value`` is true."""

    items: str
    feature: str
    operator: str
    value: Scalar


Filter = DropSeen | DropUnknown | KeepWhere


@dataclass(frozen=True, slots=True)
class Column:
    """A model's input that is a column of the step's table of units or of items."""

    of: str
    column: str


@dataclass(frozen=True, slots=True)
class Vector:
    """A model's input that is the vector of the unit, or of each item."""

    of: str
    table: str


@dataclass(frozen=True, slots=True)
class Dot:
    """A model's input that is the inner product of the unit's and the item's vector."""

    query: str
    items: str


@dataclass(frozen=True, slots=True)
class Given:
    """A model's input that the request brings in its context, or that is constant."""

    field: str
    default: Scalar | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """A model's input that is the unit's or the item's own id."""

    of: str


Feature = Column | Vector | Dot | Given | Key


@dataclass(frozen=True, slots=True)
class ByModel:
    """
    Rank by a registered model.

    Args:
        output: Which of its outputs is the score; "" for the first.
        units, items: Tables whose columns fill the inputs of the same name.
        features: Inputs that are filled otherwise, by name.
        timeout_s: How long it is waited for, where it is waited for apart.
    """

    model: ModelRef
    output: str
    units: str
    items: str
    features: Mapping[str, Feature]
    timeout_s: float = 2.0


@dataclass(frozen=True, slots=True)
class ByDot:
    """Rank by the inner product of the unit's and the item's vector."""

    query: str
    items: str


Step = ByModel | ByDot


@dataclass(frozen=True, slots=True)
class Dedupe:
    """Of items whose *feature* is the same, keep the best."""

    feature: str


@dataclass(frozen=True, slots=True)
class Cap:
    """At most *most* items of one value of *feature*; several values are split at ``|``."""

    feature: str
    most: int


@dataclass(frozen=True, slots=True)
class Diversity:
    """Maximal marginal relevance over *vectors*: *weight* 0 is relevance alone, 1 diversity."""

    vectors: str
    weight: float


ReRank = Dedupe | Cap | Diversity


@dataclass(frozen=True, slots=True)
class Declaration:
    """
    A whole recommender.

    Args:
        unit: What a request is for, in its owner's word: ``user``, ``session``.
        size, max_size: Of a slate, unless asked otherwise; and at most.
        cold: For a unit that no table knows: ``popular`` answers, ``refuse`` is not found.
        items: The table of item features that rules, re-ranking and replies use; "" for none.
        reply: Columns of it that come back with each item.
        tables: Name here to reference: a registered name, or a path beside the file.
        ranking: Steps of the ladder: each is tried when the one before it cannot answer. After
            the last, candidates keep the order of their sources.
    """

    unit: str
    size: int
    max_size: int
    cold: str
    items: str
    reply: tuple[str, ...]
    tables: Mapping[str, str]
    candidates: tuple[Candidates, ...]
    filters: tuple[Filter, ...] = ()
    ranking: tuple[Step, ...] = ()
    rerank: tuple[ReRank, ...] = ()
    models: tuple[ModelRef, ...] = ()
