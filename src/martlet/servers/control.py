"""What a client may ask of the server itself: other models, or a model loaded or unloaded.

A client's request reaches a worker, but the supervisor decides what should answer. So the worker
sends the request on, and sees its effect in its own table, as every worker does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from martlet.errors import DeadlineExceeded, NotAvailable, Unimplemented, WrongState
from martlet.servable import Servable
from martlet.serving.engine import Engine
from martlet.serving.traffic import Model
from martlet.states import State, VersionStatus
from martlet.wire.tfserving.config import ModelEntry

_LOOK_S, _SETTLE_S = 0.02, 5.0


@dataclass(frozen=True, slots=True)
class ServeModels:
    """Make exactly these the models that come from a model config."""

    entries: tuple[ModelEntry, ...]


@dataclass(frozen=True, slots=True)
class LoadModel:
    """Load a model that was unloaded, or look again for the versions of one that is loaded."""

    name: str


@dataclass(frozen=True, slots=True)
class UnloadModel:
    """Unload a model until a LoadModel names it."""

    name: str


Ask = ServeModels | LoadModel | UnloadModel


class Control:
    """
    Sends requests on and waits for their effect, one at a time. Called from the doors' threads.

    Args:
        engine: Its table shows the effect.
        send: Carries a request to the supervisor; None: every request is refused.
        unavailable_labels: Whether a new label may point at a version that does not answer yet.
    """

    def __init__(
        self,
        engine: Engine,
        send: Callable[[Ask], None] | None,
        unavailable_labels: bool = False,
    ) -> None:
        self._engine = engine
        self._send = send
        self._unavailable_labels = unavailable_labels

    @property
    def models(self) -> Mapping[str, Model[Servable]]:
        """Every model ever seen, by name."""
        return self._engine.table.models

    def serve(self, entries: Sequence[ModelEntry], until: float | None = None) -> None:
        """
        Make exactly *entries* true; returns once every new model answers.

        Args:
            until: As time.monotonic(); None waits for ever.

        Raises:
            WrongState: a label would point at a version that does not answer.
            NotAvailable: a new model cannot be loaded; the text says why.
            DeadlineExceeded: a new model does not answer by *until*.
        """
        before = self.models
        self._check_labels(entries, before)
        new = [e.name for e in entries if not _answers(before.get(e.name))]
        self._ask(ServeModels(tuple(entries)))
        for name in new:
            self._wait(name, _answers, until)
        for entry in entries:
            self._wait(entry.name, _labelled(entry), until)

    def load(self, name: str, until: float | None = None) -> None:
        """
        Load *name*, and return once it answers.

        Raises:
            NotAvailable: it cannot be loaded; the text says why.
        """
        self._ask(LoadModel(name))
        self._wait(name, _answers, until)

    def unload(self, name: str, until: float | None = None) -> None:
        """Unload *name*, and return once it no longer answers."""
        self._ask(UnloadModel(name))
        self._wait(name, _left, until)

    def _ask(self, ask: Ask) -> None:
        if self._send is None:
            raise Unimplemented("this server's models are fixed: nobody can change them")
        self._send(ask)

    def _check_labels(
        self, entries: Sequence[ModelEntry], before: Mapping[str, Model[Servable]]
    ) -> None:
        for entry in entries:
            model = before.get(entry.name)
            for label, version in entry.labels.items():
                if model is not None and version in model.variants:
                    continue
                moved = model is not None and label in model.labels
                if moved or not self._unavailable_labels:
                    raise WrongState(
                        f"Request to assign label to version {version} of model {entry.name}, "
                        "which is not currently available for inference"
                    )

    def _wait(
        self,
        name: str,
        done: Callable[[Model[Servable] | None], bool],
        until: float | None,
    ) -> None:
        before = _failures(self.models.get(name))
        settled_at = time.monotonic() + _SETTLE_S
        while not done(self.models.get(name)):
            model = self.models.get(name)
            failures = _failures(model)
            now = time.monotonic()
            # An old failure may be retried in a moment; a failure that stays is the answer.
            news = failures - before if now < settled_at or _moves(model) else failures
            if news and not _answers(model):
                why = max(news, key=lambda each: each.version).message
                raise NotAvailable(f"{name!r} cannot be loaded: {why}")
            if until is not None and now > until:
                raise DeadlineExceeded(f"{name!r} is still not as asked")
            time.sleep(_LOOK_S)


def _answers(model: Model[Servable] | None) -> bool:
    return model is not None and bool(model.variants)


def _left(model: Model[Servable] | None) -> bool:
    """Whether nothing of a model answers, or is about to."""
    if model is None:
        return True
    ended = (State.END, State.START)
    return not model.variants and all(each.state in ended for each in model.statuses)


def _labelled(entry: ModelEntry) -> Callable[[Model[Servable] | None], bool]:
    """Whether a model's labels are those of *entry*, where their versions answer."""

    def done(model: Model[Servable] | None) -> bool:
        if model is None:
            return False
        return all(
            model.labels.get(label) == version
            for label, version in entry.labels.items()
            if version in model.variants
        )

    return done


def _failures(model: Model[Servable] | None) -> set[VersionStatus]:
    if model is None:
        return set()
    return {v for v in model.statuses if v.state is State.END and v.error is not None}


def _moves(model: Model[Servable] | None) -> bool:
    """Whether a version is being loaded, or about to be."""
    return model is not None and any(
        each.state in (State.START, State.LOADING) for each in model.statuses
    )
