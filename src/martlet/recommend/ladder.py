"""The ladder of ranking steps: each answers, or the next one below it does."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from martlet import deadline
from martlet.deadline import HeldUp
from martlet.errors import (
    DeadlineExceeded,
    InvalidInput,
    MartletError,
    ServableFailed,
    UnsupportedModel,
)
from martlet.names import ModelRef
from martlet.recommend.breaker import Breaker
from martlet.recommend.declaration import ByDot, ByModel, Dot, Step, Vector
from martlet.recommend.joining import Join, Rows, Unfit, inner
from martlet.recommend.stages import Floats
from martlet.recommend.tables import Tables
from martlet.servable import DEFAULT_SIGNATURE, Servable
from martlet.serving.engine import Engine
from martlet.serving.traffic import Variant
from martlet.stores import Table
from martlet.tensors import Tensors

log = logging.getLogger(__name__)

SHARE = 0.75
"""The share of the request's remaining time that one step may take: the rest is for those below."""


class Ranked(NamedTuple):
    """What a step made of the candidates."""

    step: str
    """The model's name, or ``dot``."""
    scores: Floats
    """[n], higher is better."""
    versions: Mapping[str, int]
    """The version of the model that answered, by its name."""


class Ladder:
    """
    The ranking steps of a declaration, over open tables.

    Args:
        steps: Best first.
        tables: The declaration's.
        engine: Where the models answer.
        pinned: The version of each model that was trained with the tables; for a model that is
            not named, its reference decides.

    Raises:
        UnsupportedModel: a table holds something else than is wanted of it.
    """

    def __init__(
        self, steps: Sequence[Step], tables: Tables, engine: Engine, pinned: Mapping[str, int]
    ) -> None:
        self._steps = steps
        self._tables = tables
        self._engine = engine
        self._pinned = pinned
        self._joins: dict[tuple[str, int], Join] = {}
        self._breakers: defaultdict[str, Breaker] = defaultdict(Breaker)
        self._dots = {
            step: inner(tables, step.query, step.items) for step in steps if isinstance(step, ByDot)
        }
        self.unit_tables = [table for step in steps for table in _unit_tables(step, tables)]

    def rank(self, rows: Rows, apart: bool = False) -> Ranked | None:
        """
        Return the ranking of *rows* by the highest step that can answer; None if no step can.

        Args:
            apart: Ask each model in its own lane, and step down when it is late. Otherwise models
                answer in the caller's thread, however long that takes.

        Raises:
            InvalidInput: a value that a model needs from the request is missing or unfit.
            HeldUp: a model holds up the loop that asks.
        """
        for step in self._steps:
            try:
                if isinstance(step, ByDot):
                    return Ranked("dot", self._dots[step](rows), {})
                ask = self._in_time if apart else self.by_model
                scores, version = ask(step, self.pin(step.model), rows)
                return Ranked(step.model.name, scores, {step.model.name: version})
            except HeldUp:
                # The whole request is made again, where it may wait.
                raise
            except MartletError as exc:
                # An error that the client can mend goes to the client; else the next step answers.
                if isinstance(exc, InvalidInput) and not isinstance(exc, Unfit):
                    raise
                log.warning("ranking by %s steps down: %s", _named(step), exc)
        return None

    def _in_time(self, step: ByModel, ref: ModelRef, rows: Rows) -> tuple[Floats, int]:
        breaker = self._breakers[step.model.name]
        if not breaker.allows(time.monotonic()):
            raise DeadlineExceeded("it was late several times in a row, and is skipped for a while")
        try:
            found = self._apart(step, ref, rows)
        except DeadlineExceeded:
            breaker.was_late(time.monotonic())
            raise
        except MartletError:
            breaker.was_in_time()
            raise
        breaker.was_in_time()
        return found

    def _apart(self, step: ByModel, ref: ModelRef, rows: Rows) -> tuple[Floats, int]:
        left = deadline.remaining()
        limit_s = step.timeout_s if left is None else min(step.timeout_s, SHARE * left)
        variant = self._engine.acquire(ref)
        try:
            inputs = self._join(step, variant)(rows)
        except BaseException:
            variant.release()
            raise
        # The lease is released when the call ends, which may be after we stopped waiting.
        outputs = variant.lane.ask(lambda: _predicted(variant, inputs), limit_s, variant.release)
        return _score(step, outputs, len(rows.items)), variant.version

    @property
    def models(self) -> list[ModelRef]:
        """The models that rank, each at its pinned version."""
        return [self.pin(step.model) for step in self._steps if isinstance(step, ByModel)]

    def step_of(self, model: str) -> ByModel:
        """
        Return the step that ranks by *model*.

        Raises:
            InvalidInput: none does.
        """
        for step in self._steps:
            if isinstance(step, ByModel) and step.model.name == model:
                return step
        known = [step.model.name for step in self._steps if isinstance(step, ByModel)]
        raise InvalidInput(
            f"the recommender does not rank by {model!r}; it ranks by: {', '.join(known) or 'none'}"
        )

    def pin(self, model: ModelRef) -> ModelRef:
        """Return *model* at its pinned version, or as it is if it has none."""
        pinned = self._pinned.get(model.name)
        return model if pinned is None else ModelRef(model.name, version=pinned)

    def by_model(self, step: ByModel, ref: ModelRef, rows: Rows) -> tuple[Floats, int]:
        """
        Return the score of each item by *ref*, and the version that gave them.

        Raises:
            MartletError: the model does not answer, its inputs cannot be joined, or it failed.
        """
        with self._engine.lease(ref) as variant:
            outputs = _predicted(variant, self._join(step, variant)(rows))
        return _score(step, outputs, len(rows.items)), variant.version

    def _join(self, step: ByModel, variant: Variant[Any]) -> Join:
        key = (variant.name, variant.version)
        join = self._joins.get(key)
        if join is None:
            signature = variant.servable.signatures.get(DEFAULT_SIGNATURE)
            if signature is None:
                raise UnsupportedModel(
                    f"model {variant.name!r} has no signature {DEFAULT_SIGNATURE!r} to rank by"
                )
            join = self._joins[key] = Join(step, variant.name, signature, self._tables)
        return join


def _predicted(variant: Variant[Servable], inputs: Tensors) -> Mapping[str, NDArray[Any]]:
    try:
        return variant.servable.predict(inputs)
    except InvalidInput as exc:
        # The values came from our tables: the client cannot mend them.
        raise Unfit(str(exc)) from exc


def _unit_tables(step: Step, tables: Tables) -> list[Table[Any]]:
    """Return the tables that *step* looks the unit up in; all tables it names are checked."""
    if isinstance(step, ByDot):
        return [tables.embeddings(step.query)]
    found: list[Table[Any]] = [tables.features(step.units)] if step.units else []
    if step.items:
        tables.features(step.items)
    for feature in step.features.values():
        match feature:
            case Dot(query, items):
                inner(tables, query, items)
                found.append(tables.embeddings(query))
            case Vector(of, table):
                vectors = tables.embeddings(table)
                found += [vectors] if of == "unit" else []
            case _:
                pass
    return found


def _score(step: ByModel, outputs: Mapping[str, NDArray[Any]], n: int) -> Floats:
    name = step.output or next(iter(outputs))
    if name not in outputs:
        known = ", ".join(outputs)
        raise ServableFailed(f"model {step.model} has no output {name!r}; its outputs are: {known}")
    values = outputs[name]
    if values.ndim == 2 and values.shape[1] in (1, 2):
        # Of two classes' probabilities the second counts: the click, the like.
        values = values[:, -1]
    if values.shape != (n,) or values.dtype.kind not in "fiu":
        raise ServableFailed(
            f"model {step.model}: output {name!r} is {values.dtype} {list(values.shape)}; "
            f"one number an item is wanted"
        )
    return values.astype(np.float64)


def _named(step: Step) -> str:
    return "dot" if isinstance(step, ByDot) else step.model.name
