"""One recommender: candidates, filters, features, ranking and re-ranking for a request."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.errors import (
    InvalidInput,
    ModelNotFound,
    NotAvailable,
    Overloaded,
    ServableFailed,
    UnsupportedModel,
)
from martlet.names import ModelRef
from martlet.recommend import sources, stages
from martlet.recommend.declaration import (
    ByDot,
    ByModel,
    Cap,
    Declaration,
    Dedupe,
    Diversity,
    DropSeen,
    DropUnknown,
    Filter,
    KeepWhere,
    Popular,
    ReRank,
    Step,
)
from martlet.recommend.joining import Join, Rows, inner
from martlet.recommend.sources import OpenIndex
from martlet.recommend.stages import Floats, Keys, Mask, Order, Pool
from martlet.recommend.subject import Subject, Unit
from martlet.recommend.tables import Tables
from martlet.servable import DEFAULT_SIGNATURE
from martlet.serving.engine import Engine

log = logging.getLogger(__name__)

STEP_DOWN = (NotAvailable, ModelNotFound, Overloaded, ServableFailed, InvalidInput)
"""What sends the ladder one step down: the model cannot answer; somebody else may."""

FILL = -1
"""The source of an item that came to fill the slate: from a popular list, past its count."""

Test = Callable[[Rows], Mask]


@dataclass(frozen=True, slots=True)
class Ask:
    """
    One request.

    Args:
        unit: Whom for; None for somebody unknown.
        size: Of the slate; None takes the declaration's.
        context: Values for the model's inputs that come from the request.
        history: Items the unit had to do with, oldest first; None takes those on file.
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
        items, scores: Shape [n]. A score is comparable within one slate alone.
        sources: Which source brought each: its name.
        features: The declaration's ``reply`` columns, each [n].
        step: What put them in order: a ranking step's name, ``order`` (that of the sources), or
            ``popular`` (nothing is known of the unit).
        versions: Of all that took part, by name.
        relaxed: Filters that were given up so as not to answer empty.
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
        tables: Open, under the declaration's names.
        versions: Of the recommender and its tables, by registered name.
        engine: Where its ranking models answer.
        pinned: The version of each ranking model that belongs with the tables; a model that is
            not there takes the version its reference names.

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
    ) -> None:
        self.declared = declared
        self._tables = tables
        self._versions = versions
        self._engine = engine
        self._pinned = pinned
        self._names = [each.name for each in declared.candidates]
        self._sources = [sources.make(each, tables, open_index) for each in declared.candidates]
        self._filters = [(_named(each), self._test(each)) for each in declared.filters]
        self._items = tables.features(declared.items) if declared.items else None
        self._fill = self._filler(open_index)
        self._joins: dict[tuple[str, int], Join] = {}
        self._dots = {
            step: inner(tables, step.query, step.items)
            for step in declared.ranking
            if isinstance(step, ByDot)
        }

    def close(self) -> None:
        """Let go of the tables."""

    # -- the whole way ---------------------------------------------------------------------

    def recommend(self, ask: Ask) -> Slate:
        """
        Return the slate for one request. It is empty only if no source has an item at all.

        Raises:
            InvalidInput: a size beyond the limit, a key of the wrong kind, or a value that the
                ranking model needs from the request is missing or unfit.
            ModelNotFound: nothing is known of the unit, and the declaration says to refuse.
        """
        size = self._size(ask)
        subject = Subject(ask.unit, ask.context, ask.history)
        subject.hidden = self._hidden(subject, ask.exclude)
        pool = stages.merge([source(subject) for source in self._sources])
        cold = not self._knows(subject)
        if cold and self.declared.cold == "refuse":
            raise ModelNotFound(f"nothing is known of {self.declared.unit} {ask.unit!r}")
        pool, rows, relaxed = self._filtered(pool, subject, ask.exclude, size)
        step, scores, used = ("popular", pool.scores, {}) if cold else self._ranked(rows, pool)
        order = np.argsort(-scores, kind="stable") if step != "order" else np.arange(len(pool))
        if cold:
            order = np.arange(len(pool))
        order = self._reranked(order, scores, rows, size)[:size]
        return Slate(
            items=pool.items[order],
            scores=scores[order],
            sources=[self._names[s] if s != FILL else "popular" for s in pool.sources[order]],
            features=self._reply(rows, order),
            step=step,
            versions={**self._versions, **used},
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
        for step in self.declared.ranking:
            if isinstance(step, ByModel) and step.model.name == model.name:
                break
        else:
            raise InvalidInput(f"the recommender does not rank by {model.name!r}")
        if step.units and subject.row(self._tables.features(step.units)) < 0:
            raise ModelNotFound(f"no {self.declared.unit} {subject.unit!r} in {step.units!r}")
        return self._by_model(step, model, Rows(subject, items))

    def _size(self, ask: Ask) -> int:
        size = self.declared.size if ask.size is None else ask.size
        if not 1 <= size <= self.declared.max_size:
            raise InvalidInput(f"size is {size}; 1 to {self.declared.max_size} is allowed")
        return size

    def _hidden(self, subject: Subject, exclude: Keys | None) -> Keys:
        parts = [
            subject.seen(self._tables.lists(each.history))
            for each in self.declared.filters
            if isinstance(each, DropSeen)
        ]
        parts += [] if exclude is None else [exclude]
        filled = [part for part in parts if len(part)]
        return np.concatenate(filled) if filled else np.empty(0, np.int64)

    def _knows(self, subject: Subject) -> bool:
        """Whether any table that is keyed by the unit knows it."""
        for step in self.declared.ranking:
            if isinstance(step, ByModel) and step.units:
                subject.row(self._tables.features(step.units))
        return subject.known

    # -- filters ---------------------------------------------------------------------------

    def _test(self, declared: Filter) -> Test:
        match declared:
            case DropSeen(history):
                histories = self._tables.lists(history)
                return lambda rows: ~np.isin(rows.items, rows.subject.seen(histories))
            case DropUnknown(items):
                table = self._tables.features(items)
                return lambda rows: rows.of(table) >= 0
            case KeepWhere(items, feature, operator, value):
                features = self._tables.features(items)
                if feature not in features.columns:
                    known = ", ".join(features.columns)
                    raise UnsupportedModel(
                        f"the rule on {feature!r}: {items!r} has no such column; it has: {known}"
                    )
                return lambda rows: stages.satisfies(
                    features.take(rows.of(features), (feature,))[feature], operator, value
                )

    def _filtered(
        self, pool: Pool, subject: Subject, exclude: Keys | None, size: int
    ) -> tuple[Pool, Rows, tuple[str, ...]]:
        """Return what passes, topped up from the popular lists; never empty if items exist."""
        whole = stages.merge([(pool.items, pool.scores), self._fill])
        sources = np.concatenate([pool.sources, np.full(len(whole) - len(pool), FILL)])
        whole = Pool(whole.items, whole.scores, sources)
        rows = Rows(subject, whole.items)
        masks = {name: test(rows) for name, test in self._filters}
        if exclude is not None and len(exclude):
            masks["exclude"] = ~np.isin(whole.items, exclude)
        given_up: list[str] = []
        while True:
            passes = np.ones(len(whole), dtype=bool)
            for name, mask in masks.items():
                if name not in given_up:
                    passes &= mask
            left = [name for name in masks if name not in (*given_up, "exclude")]
            if passes.any() or not left:
                break
            # Better something seen than nothing; what the owner ruled out goes last.
            given_up.append(left[0])
        own = passes & (whole.sources != FILL)
        missing = max(0, size - int(own.sum()))
        filling = np.flatnonzero(passes & (whole.sources == FILL))[:missing]
        chosen = np.concatenate([np.flatnonzero(own), filling])
        kept = whole.take(chosen)
        return kept, Rows(subject, kept.items), tuple(given_up)

    def _filler(self, open_index: OpenIndex) -> tuple[Keys, Floats]:
        """Return the popular lists past their counts: they fill a slate that came out short."""
        for each in self.declared.candidates:
            if isinstance(each, Popular):
                longest = Popular(each.name, each.lists, each.key, 10 * self.declared.max_size)
                return sources.make(longest, self._tables, open_index)(Subject(None))
        return sources.NOTHING

    # -- ranking ---------------------------------------------------------------------------

    def _ranked(self, rows: Rows, pool: Pool) -> tuple[str, Floats, dict[str, int]]:
        """Go down the ladder; return the step that answered, its scores, and what it used."""
        for step in self.declared.ranking if len(pool) else ():
            try:
                return self._scored(step, rows)
            except STEP_DOWN as exc:
                if isinstance(exc, InvalidInput) and not isinstance(exc, _Refused):
                    raise
                log.warning("ranking by %s steps down: %s", _step_name(step), exc)
        return "order", pool.scores, {}

    def _scored(self, step: Step, rows: Rows) -> tuple[str, Floats, dict[str, int]]:
        if isinstance(step, ByDot):
            return "dot", self._dots[step](rows), {}
        scores, version = self._by_model(step, self._pin(step.model), rows)
        return step.model.name, scores, {step.model.name: version}

    def _pin(self, model: ModelRef) -> ModelRef:
        pinned = self._pinned.get(model.name)
        return model if pinned is None else ModelRef(model.name, version=pinned)

    def _by_model(self, step: ByModel, ref: ModelRef, rows: Rows) -> tuple[Floats, int]:
        with self._engine.lease(ref) as variant:
            key = (variant.name, variant.version)
            join = self._joins.get(key)
            if join is None:
                signature = variant.servable.signatures[DEFAULT_SIGNATURE]
                join = self._joins[key] = Join(step, variant.name, signature, self._tables)
            inputs = join(rows)
            try:
                outputs = variant.servable.predict(inputs)
            except InvalidInput as exc:
                # The values came from our tables: the caller cannot mend them.
                raise _Refused(str(exc)) from exc
        return _score(step, outputs, len(rows.items)), variant.version

    # -- re-ranking and the reply ----------------------------------------------------------

    def _reranked(self, order: Order, scores: Floats, rows: Rows, size: int) -> Order:
        for each in self.declared.rerank:
            order = self._rerank(each, order, scores, rows, size)
        return order

    def _rerank(self, each: ReRank, order: Order, scores: Floats, rows: Rows, size: int) -> Order:
        match each:
            case Dedupe(feature):
                return stages.dedupe(order, self._column(rows, feature))
            case Cap(feature, most):
                return stages.cap(order, self._column(rows, feature), most, size)
            case Diversity(vectors, weight):
                table = self._tables.embeddings(vectors)
                # Only the best have a chance: the rest cost time and change nothing seen.
                head, tail = order[: 10 * size], order[10 * size :]
                found = table.take(rows.of(table))
                best = stages.diversify(head, scores, found, weight, size)
                return np.concatenate([best, tail])

    def _column(self, rows: Rows, name: str) -> NDArray[Any]:
        assert self._items is not None, "the declaration was checked"
        return self._items.take(rows.of(self._items), (name,))[name]

    def _reply(self, rows: Rows, order: Order) -> dict[str, NDArray[Any]]:
        if self._items is None or not self.declared.reply:
            return {}
        return self._items.take(rows.of(self._items)[order], self.declared.reply)


class _Refused(InvalidInput):
    """A model refused values that came from our own tables."""


def _score(step: ByModel, outputs: Mapping[str, NDArray[Any]], n: int) -> Floats:
    name = step.output or next(iter(outputs))
    if name not in outputs:
        known = ", ".join(outputs)
        raise ServableFailed(f"model {step.model} has no output {name!r}; its outputs are: {known}")
    values = outputs[name]
    if values.ndim == 2 and values.shape[1] in (1, 2):
        # Of two classes the second is the one that is scored: the click, the like.
        values = values[:, -1]
    if values.shape != (n,) or values.dtype.kind not in "fiu":
        raise ServableFailed(
            f"model {step.model}: output {name!r} is {values.dtype} {list(values.shape)}; "
            f"one number an item is wanted"
        )
    return values.astype(np.float64)


def _named(declared: Filter) -> str:
    match declared:
        case DropSeen():
            return "seen"
        case DropUnknown():
            return "unknown"
        case KeepWhere(_, feature, operator, value):
            return f"{feature} {operator} {value}"


def _step_name(step: Step) -> str:
    return "dot" if isinstance(step, ByDot) else step.model.name
