"""One recommender: candidates, filters, features, ranking and re-ranking for a request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.errors import InvalidInput, ModelNotFound, UnsupportedModel
from martlet.names import ModelRef
from martlet.recommend import sources, stages
from martlet.recommend.declaration import (
    Candidates,
    Cap,
    Declaration,
    Dedupe,
    Diversity,
    DropSeen,
    Neighbours,
    Popular,
    ReRank,
    Similar,
    Stored,
)
from martlet.recommend.filtering import Filters, together
from martlet.recommend.joining import Rows
from martlet.recommend.ladder import Ladder, Ranked
from martlet.recommend.sources import OpenIndex
from martlet.recommend.stages import Floats, Keys, Order, Pool
from martlet.recommend.subject import Subject, Unit
from martlet.recommend.tables import Tables
from martlet.serving.engine import Engine
from martlet.stores import Embeddings, Table

FILL = -1
"""The source of an item that fills up the slate: from a popular list, beyond its ``count``."""


@dataclass(frozen=True, slots=True)
class Ask:
    """
    One request.

    Args:
        unit: Whom the slate is for; None for somebody unknown.
        size: Items in the slate; None: the declaration's size.
        context: Values for the model inputs that come from the request.
        history: Items the unit has interacted with, oldest first; None: those in the tables.
        exclude: Items that must not be shown.
    """

    unit: Unit | None
    size: int | None = None
    context: Mapping[str, Any] = field(default_factory=dict)
    history: Keys | None = None
    exclude: Keys | None = None


@dataclass(frozen=True, slots=True)
class Slate:
    """
    What is shown, best first.

    Args:
        items, scores: Shape [n]. Scores are comparable within one slate only.
        sources: The name of the source that brought each item.
        features: The declaration's ``reply`` columns, each [n].
        step: What ordered them: a ranking step's name, ``order`` (that of the sources), or
            ``popular`` (nothing is known about the unit).
        versions: The version of everything that took part, by name.
        generation: Of the tables; "" where they have none.
        relaxed: Filters that were given up so that the slate is not empty.
    """

    items: Keys
    scores: Floats
    sources: list[str]
    features: Mapping[str, NDArray[Any]]
    step: str
    versions: Mapping[str, int]
    generation: str
    relaxed: tuple[str, ...] = ()


class Recommender:
    """
    A declaration with its tables open. Threads may call it at once; it keeps nothing of a request.

    Args:
        declared: What it does.
        tables: Open, by the declaration's names.
        open_index: Opens the index of a table of embeddings.
        versions: Of the recommender and its tables, by registered name.
        engine: Where its ranking models answer.
        pinned: The version of each ranking model that was trained with the tables; for a model
            that is not named, its reference decides.
        embeddings: Its embedding tables and their versions, by registered name.

    Raises:
        UnsupportedModel: a table holds something else than is wanted of it.
    """

    def __init__(
        self,
        declared: Declaration,
        tables: Tables,
        open_index: OpenIndex,
        versions: Mapping[str, int],
        engine: Engine,
        pinned: Mapping[str, int],
        embeddings: Mapping[str, tuple[int, Embeddings]] = MappingProxyType({}),
    ) -> None:
        self.declared = declared
        self.embeddings = embeddings
        self._tables = tables
        self._versions = versions
        self._names = [each.name for each in declared.candidates]
        self._sources = [sources.make(each, tables, open_index) for each in declared.candidates]
        self._filters = Filters(declared.filters, tables)
        self._items = tables.features(declared.items) if declared.items else None
        self._fill = self._filler(open_index)
        self._ladder = Ladder(declared.ranking, tables, engine, pinned)
        self._unit_tables = [
            *(t for each in declared.candidates for t in _unit_tables(each, tables)),
            *(tables.lists(f.history) for f in declared.filters if isinstance(f, DropSeen)),
            *self._ladder.unit_tables,
        ]
        self._text = _text_items(declared, tables)
        self._check_columns()

    def close(self) -> None:
        """Let go of the tables."""

    # -- what the doors call ---------------------------------------------------------------

    @property
    def ranked_by(self) -> list[ModelRef]:
        """The models that rank, each at its pinned version."""
        return self._ladder.models

    def recommend(self, ask: Ask, apart: bool = False) -> Slate:
        """
        Return the slate for one request. It is never empty.

        Args:
            apart: Ask the ranking models in their own lanes, and step down the ladder when one is
                late. Else they answer in the caller's thread.

        Raises:
            InvalidInput: a size beyond the limit, a key of the wrong kind, or a value that the
                ranking model needs from the request is missing or unfit.
            ModelNotFound: nothing is known of the unit, and the declaration says to refuse; or
                no source has an item for it.
        """
        size = self._size(ask)
        self._check_keys("history", ask.history)
        self._check_keys("exclude", ask.exclude)
        subject = Subject(ask.unit, ask.context, ask.history)
        cold = not subject.known_to(self._unit_tables)
        if cold and self.declared.cold == "refuse":
            raise ModelNotFound(f"nothing is known of {self.declared.unit} {ask.unit!r}")
        pool, relaxed = self._pool(subject, ask.exclude, size)
        if len(pool) == 0:
            raise ModelNotFound(
                f"no source has an item for {self.declared.unit} {ask.unit!r}"
                + (" that is not excluded" if ask.exclude is not None else "")
            )
        rows = Rows(subject, pool.items)
        ranked = None if cold else self._ladder.rank(rows, apart)
        if ranked is None:
            # The order of the sources: their scores are not of one scale.
            ranked = Ranked("popular" if cold else "order", pool.scores, {})
            relevance = np.arange(len(pool), 0, -1.0)
        else:
            relevance = ranked.scores
        order = np.argsort(-relevance, kind="stable")
        for each in self.declared.rerank:
            order = self._rerank(each, order, relevance, rows, size)
        order = order[:size]
        return Slate(
            items=pool.items[order],
            scores=ranked.scores[order],
            sources=[self._names[s] if s != FILL else "popular" for s in pool.sources[order]],
            features=self._reply(rows, order),
            step=ranked.step,
            versions={**self._versions, **ranked.versions},
            generation=self._tables.generation,
            relaxed=relaxed,
        )

    def rank(self, model: ModelRef, subject: Subject, items: Keys) -> tuple[Floats, int]:
        """
        Return *model*'s score of each item for the subject, and the version that gave them.

        Raises:
            InvalidInput: the model has no ranking step here, or a value it needs is missing.
            ModelNotFound: the model does not answer, or nothing is known of the unit.
        """
        step = self._ladder.step_of(model.name)
        self._check_keys("items", items)
        self._check_keys("history", subject.history)
        if step.units and subject.unit is None:
            raise InvalidInput(f"{self.declared.unit!r} is missing: {model.name!r} needs it")
        if step.units and subject.row(self._tables.features(step.units)) < 0:
            raise ModelNotFound(f"no {self.declared.unit} {subject.unit!r} in {step.units!r}")
        if model.version is None and model.label is None:
            model = self._ladder.pin(step.model)
        return self._ladder.by_model(step, model, Rows(subject, items))

    def _size(self, ask: Ask) -> int:
        size = self.declared.size if ask.size is None else ask.size
        if not 1 <= size <= self.declared.max_size:
            raise InvalidInput(f"size is {size}; 1 to {self.declared.max_size} is allowed")
        return size

    def _check_keys(self, name: str, keys: Keys | None) -> None:
        if keys is not None and len(keys) and (keys.dtype == object) != self._text:
            kinds = ("text", "whole numbers")
            found, wanted = kinds if keys.dtype == object else kinds[::-1]
            raise InvalidInput(f"{name!r} holds {found}; the keys of items are {wanted} here")

    # -- candidates ------------------------------------------------------------------------

    def _pool(
        self, subject: Subject, exclude: Keys | None, size: int
    ) -> tuple[Pool, tuple[str, ...]]:
        """Return the candidates that pass, and the filters given up; never empty if items exist."""
        excluded = np.empty(0, np.int64) if exclude is None else exclude
        subject.hidden = together([self._filters.seen(subject), excluded])
        pool, relaxed = self._passing(subject, exclude, size)
        if len(pool) == 0 and len(subject.hidden) > len(excluded):
            # The sources left out what was seen, and nothing else is left: ask for that too.
            subject.hidden = excluded
            pool, relaxed = self._passing(subject, exclude, size)
        return pool, relaxed

    def _passing(
        self, subject: Subject, exclude: Keys | None, size: int
    ) -> tuple[Pool, tuple[str, ...]]:
        """Return what the sources bring and the filters pass, topped up from the popular list."""
        own = stages.merge([source(subject) for source in self._sources])
        whole = stages.merge([(own.items, own.scores), self._fill])
        whole.sources[: len(own)] = own.sources
        whole.sources[len(own) :] = FILL
        passes, relaxed = self._filters.passing(Rows(subject, whole.items), exclude)
        brought = np.flatnonzero(passes[: len(own)])
        missing = max(0, size - len(brought))
        filling = len(own) + np.flatnonzero(passes[len(own) :])[:missing]
        return whole.take(np.concatenate([brought, filling])), relaxed

    def _filler(self, open_index: OpenIndex) -> tuple[Keys, Floats]:
        """Return the popular list beyond its count, which fills up a slate that is too short."""
        for each in self.declared.candidates:
            if isinstance(each, Popular):
                longest = Popular(each.name, each.lists, each.key, 10 * self.declared.max_size)
                return sources.make(longest, self._tables, open_index)(Subject(None))
        return sources.NOTHING

    # -- re-ranking and the reply ----------------------------------------------------------

    def _rerank(self, each: ReRank, order: Order, scores: Floats, rows: Rows, size: int) -> Order:
        match each:
            case Dedupe(feature):
                return stages.dedupe(order, self._column(rows, feature))
            case Cap(feature, most):
                return stages.cap(order, self._column(rows, feature), most, size)
            case Diversity(vectors, weight):
                table = self._tables.embeddings(vectors)
                # Only the best can get into the slate: diversifying the rest would cost time.
                head, tail = order[: 10 * size], order[10 * size :]
                found = table.take(rows.of(table))
                best = stages.diversify(head, scores, found, weight, size)
                return np.concatenate([best, tail])

    def _check_columns(self) -> None:
        """Refuse columns of 'reply' and [[rerank]] that the items' table lacks or cannot serve."""
        single = [r.feature for r in self.declared.rerank if isinstance(r, (Dedupe, Cap))]
        for each in self.declared.rerank:
            if isinstance(each, Diversity):
                self._tables.embeddings(each.vectors)
        for name in (*self.declared.reply, *single):
            columns = {} if self._items is None else self._items.columns
            if name not in columns:
                known = ", ".join(columns)
                raise UnsupportedModel(
                    f"{self.declared.items!r} has no column {name!r}, which 'reply' or [[rerank]] "
                    f"asks for; it has: {known}"
                )
            if name in single and columns[name].width:
                raise UnsupportedModel(f"[[rerank]] cannot go by {name!r}: it holds vectors")

    def _column(self, rows: Rows, name: str) -> NDArray[Any]:
        assert self._items is not None, "the declaration was checked"
        return self._items.take(rows.of(self._items), (name,))[name]

    def _reply(self, rows: Rows, order: Order) -> dict[str, NDArray[Any]]:
        if self._items is None or not self.declared.reply:
            return {}
        return self._items.take(rows.of(self._items)[order], self.declared.reply)


def _unit_tables(declared: Candidates, tables: Tables) -> list[Table[Any]]:
    """Return the tables in which a source looks the unit up."""
    match declared:
        case Neighbours():
            return [tables.embeddings(declared.query)]
        case Similar():
            return [tables.lists(declared.history)]
        case Stored():
            return [tables.lists(declared.lists)]
        case Popular():
            return []


def _text_items(declared: Declaration, tables: Tables) -> bool:
    """
    Return whether the keys of items are text.

    Raises:
        UnsupportedModel: they are in one table, and numbers in another.
    """
    found: dict[bool, str] = {}
    for name, keys in _item_keys(declared, tables).items():
        if len(keys):
            found[keys.dtype == object] = name
    if len(found) > 1:
        raise UnsupportedModel(
            f"the keys of items are text in {found[True]!r} and whole numbers in {found[False]!r}"
        )
    return next(iter(found), False)


def _item_keys(declared: Declaration, tables: Tables) -> dict[str, Keys]:
    """Return some keys of items from every table that has them."""
    one = np.arange(1)
    found: dict[str, Keys] = {}
    if declared.items and len(tables.features(declared.items)):
        found[declared.items] = tables.features(declared.items).keys.at(one)
    for each in declared.candidates:
        if isinstance(each, Neighbours):
            if len(tables.embeddings(each.items)):
                found[each.items] = tables.embeddings(each.items).keys.at(one)
        elif len(tables.lists(each.lists)):
            found[each.lists] = tables.lists(each.lists).kinds
    return found
