"""What the server has and what it has done, as the Open Inference Protocol asks for it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from martlet.errors import ModelNotFound, NotAvailable, Unimplemented
from martlet.monitor.counts import Totals, Work
from martlet.names import ModelRef
from martlet.servable import Servable
from martlet.servers.control import Control
from martlet.servers.openinference_calls import signature_of
from martlet.serving.engine import Engine
from martlet.serving.traffic import Model
from martlet.wire.openinference import describe


class Catalogue:
    """What the server has, and what it has done."""

    def __init__(self, engine: Engine, control: Control, totals: Callable[[], Totals]) -> None:
        self._engine = engine
        self.control = control
        self._totals = totals

    @property
    def models(self) -> Mapping[str, Model[Servable]]:
        """Every model ever seen, by name."""
        return self._engine.table.models

    def ready(self) -> bool:
        """Whether every model that should answer does."""
        return not any(each.silent for each in self.models.values())

    def model_ready(self, ref: ModelRef) -> bool:
        """
        Return whether *ref* answers. A version that the next request would open counts.

        Raises:
            ModelNotFound: there is no such model, version or label.
        """
        try:
            with self._engine.lease(ref) as variant:
                told = self.models[ref.name].told
                return all(v.error is None for v in told if v.version == variant.version)
        except NotAvailable:
            return False

    def metadata(self, ref: ModelRef) -> dict[str, Any]:
        """
        Return what *ref* takes and gives.

        Raises:
            ModelNotFound, NotAvailable: nothing answers to it.
        """
        with self._engine.lease(ref) as variant:
            _, signature = signature_of(variant.servable)
            versions = sorted(self.models[ref.name].variants)
            return describe.model_metadata(ref.name, versions, signature)

    def config(self, ref: ModelRef) -> dict[str, Any]:
        """
        Return *ref*'s configuration.

        Raises:
            ModelNotFound, NotAvailable: nothing answers to it.
        """
        with self._engine.lease(ref) as variant:
            return describe.model_config(ref.name, signature_of(variant.servable)[1])

    def index(self, only_ready: bool) -> list[dict[str, str]]:
        """Return every version of every model and its state; only those that answer."""
        entries = [
            describe.repository_entry(name, each)
            for name, model in sorted(self.models.items())
            for each in model.told
        ]
        return [each for each in entries if each["state"] == "READY" or not only_ready]

    def statistics(self, ref: ModelRef | None) -> list[dict[str, Any]]:
        """
        Return what the versions of *ref*, or of every model, have done.

        Raises:
            ModelNotFound, NotAvailable: nothing answers to it.
        """
        if ref is None:
            chosen = [(name, v) for name, m in sorted(self.models.items()) for v in m.variants]
        elif ref.version is None and ref.label is None:
            self.config(ref)
            chosen = [(ref.name, version) for version in self.models[ref.name].variants]
        else:
            with self._engine.lease(ref) as variant:
                chosen = [(ref.name, variant.version)]
        done = self._totals().work
        return [_statistics(name, v, done.get((name, v), Work())) for name, v in chosen]

    def load(self, name: str, parameters: Collection[str], until: float | None) -> None:
        """
        Load *name* again, and return once it answers.

        Raises:
            ModelNotFound: it was never a model here.
            Unimplemented: *parameters* bring files or a configuration.
            NotAvailable, DeadlineExceeded: it does not load, or not in time.
        """
        if parameters:
            raise Unimplemented(
                f"loading {name!r} with {', '.join(sorted(parameters))} is not supported: publish "
                "the model's files, then load it by its name"
            )
        self._check_known(name)
        self.control.load(name, until)

    def unload(self, name: str, until: float | None) -> None:
        """
        Unload *name*, and return once it no longer answers.

        Raises:
            ModelNotFound: it was never a model here.
            DeadlineExceeded: requests hold it still.
        """
        self._check_known(name)
        self.control.unload(name, until)

    def _check_known(self, name: str) -> None:
        if name not in self.models:
            known = ", ".join(sorted(self.models)) or "none"
            raise ModelNotFound(f"no model {name!r}; available: {known}")


def _statistics(name: str, version: int, work: Work) -> dict[str, Any]:
    return describe.statistics(
        name,
        version,
        succeeded=work.succeeded,
        succeeded_ns=work.succeeded_ns,
        failed=work.failed,
        failed_ns=work.failed_ns,
        model_ns=work.model_ns,
        rows=work.rows,
        last_ms=work.last_ms,
    )
