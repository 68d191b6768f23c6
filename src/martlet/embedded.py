"""The engine without servers: models that swap inside one's own Python process."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from types import TracebackType

from numpy.typing import ArrayLike

from martlet.errors import (
    BY_CODE,
    Code,
    InvalidInput,
    UnsupportedModel,
)
from martlet.names import ModelRef, check_name, check_version
from martlet.opening import open_model
from martlet.servable import DEFAULT_SIGNATURE
from martlet.serving.engine import Engine as _Engine
from martlet.serving.engine import Prediction
from martlet.serving.manager import Manager
from martlet.serving.reconciler import Reconciler
from martlet.serving.residents import Residents
from martlet.serving.roster import LoadOrder, UnloadOrder
from martlet.serving.settings import DEFAULT, ModelSettings, Transition
from martlet.serving.versions import Source, Wanted
from martlet.states import VersionStatus

# A version that cannot be opened is what its file is, in no other state.
_CLASSES = {**BY_CODE, Code.FAILED_PRECONDITION: UnsupportedModel}


class Engine:
    """
    Models by name and version, in this process. Any thread may call it.

    A new version is opened, checked and warmed while the old one answers; then it answers, and
    the old one is closed once no call holds it. A version that fails changes nothing.

    Args:
        threads: That one ``predict`` may use.
        memory_mb: What the process may hold when a model is loaded with
            ``ModelSettings(on_demand=True)``: the longest unused of those is closed for it, and
            opened again by the ``predict`` that asks for it. 0: as much as it likes.

    Raises:
        InvalidInput: *threads* or *memory_mb* is too small.

    >>> engine = Engine()
    >>> engine.load("ctr", "models/ctr-1.onnx")                               # doctest: +SKIP
    1
    >>> engine.predict("ctr", {"x": x}).outputs["score"]                      # doctest: +SKIP
    """

    def __init__(self, *, threads: int = 1, memory_mb: int = 0) -> None:
        if threads < 1 or memory_mb < 0:
            raise InvalidInput(
                f"threads is {threads}, memory_mb {memory_mb}; wanted are 1 or more, and 0 or more"
            )
        self._engine = _Engine()
        self._manager = Manager(
            self._engine,
            {"model": lambda source: open_model(source, threads)},
            ours=False,
            residents=Residents(memory_mb << 20),
        )
        self._reconciler = Reconciler()
        self._wanted: dict[str, Wanted] = {}
        self._lock = threading.Lock()
        self._leaving: list[threading.Thread] = []

    def load(
        self,
        name: str,
        path: str | PathLike[str],
        *,
        version: int | None = None,
        label: str | None = None,
        keep: bool = False,
        format: str | None = None,
        trusted: bool = False,
        settings: ModelSettings = DEFAULT,
    ) -> int:
        """
        Have the file or folder at *path* answer as *name*, and return its version.

        Args:
            version: Its number; one more than the highest so far, if None.
            label: A name that then points at it.
            keep: The versions that answer now go on; else they leave.
            format, trusted: As of ``martlet.load``.
            settings: Processes, batches, deadline.

        Raises:
            ModelNotFound, UnsupportedModel, InvalidInput, ServableFailed: it cannot be opened, or
                answers its own examples wrongly. What answered before still does.
            Overloaded: there is no room for it.
        """
        check_name(name)
        source = Source(Path(path).resolve(), "model", format, trusted, settings=settings)
        with self._lock:
            before = self._wanted.get(name, Wanted({}))
            known = [status.version for status in self._statuses(name)]
            number = check_version(max(known, default=0) + 1 if version is None else version)
            if number in before.versions:
                raise InvalidInput(f"version {number} of {name!r} answers already")
            kept = {**before.versions} if keep else {}
            labels = {k: v for k, v in before.labels.items() if v in kept}
            if label is not None:
                labels[check_name(label, "label")] = number
            self._want(name, Wanted({**kept, number: source}, labels))
            failed = next((s for s in self._statuses(name) if s.version == number), None)
            if failed is not None and failed.error is not None:
                self._want(name, before)
                raise _CLASSES[failed.error](failed.message)
            return number

    def unload(self, name: str, version: int | None = None) -> None:
        """
        Have *version* of *name*, or all of it, answer no more.

        Raises:
            ModelNotFound: it does not answer.
        """
        with self._lock:
            before = self._wanted.get(name, Wanted({}))
            gone = set(before.versions) if version is None else {version}
            if not gone or not gone <= set(before.versions):
                self._engine.table.variant(ModelRef(name, version))
            kept = {n: s for n, s in before.versions.items() if n not in gone}
            labels = {k: v for k, v in before.labels.items() if v in kept}
            self._want(name, replace(before, versions=kept, labels=labels))

    def predict(
        self,
        model: str,
        inputs: Mapping[str, ArrayLike],
        signature_name: str = DEFAULT_SIGNATURE,
    ) -> Prediction:
        """
        Return every output of *model*, written ``ctr``, ``ctr@3`` or ``ctr@label``.

        Raises:
            ModelNotFound: no such model, version or label answers.
            InvalidInput: an input is missing, unknown, or of the wrong dtype or shape.
            ServableFailed: the model's own code raised.
        """
        return self._engine.predict(ModelRef.parse(model), inputs, signature_name)

    def models(self) -> dict[str, tuple[VersionStatus, ...]]:
        """Return every version ever loaded, by name, highest first, and its state."""
        return {name: model.told for name, model in self._engine.table.models.items()}

    def close(self) -> None:
        """Close every model, once no call holds it."""
        with self._lock:
            for name in list(self._wanted):
                self._want(name, Wanted({}))
        for each in self._leaving:
            each.join()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # -- the lock is held ------------------------------------------------------------------

    def _statuses(self, name: str) -> tuple[VersionStatus, ...]:
        entry = self._reconciler.roster.get(name)
        return entry.statuses if entry is not None else ()

    def _want(self, name: str, wanted: Wanted) -> None:
        """Make *wanted* true of *name*: the steps of a fleet whose one worker is this process."""
        self._wanted[name] = wanted
        self._reconciler.want(self._wanted)
        while orders := self._reconciler.step(time.monotonic()):
            leaving: list[UnloadOrder] = []
            for order in orders:
                match order:
                    case LoadOrder(of, version):
                        report = self._manager.load(order)
                        self._reconciler.loaded(
                            of, version, report.error, report.message, time.monotonic()
                        )
                    case UnloadOrder():
                        leaving.append(order)
            self._manager.publish(self._reconciler.roster)
            for order in leaving:
                self._free(order, wanted.transition is Transition.RESOURCE)
        self._manager.publish(self._reconciler.roster)

    def _free(self, order: UnloadOrder, wait: bool) -> None:
        variant = self._manager.let_go(order)
        self._reconciler.unloaded(order.name, order.version)
        # A call that holds it may take a while, and may be the caller's own.
        thread = threading.Thread(target=self._manager.free, args=(variant,), daemon=True)
        thread.start()
        self._leaving = [each for each in self._leaving if each.is_alive()] + [thread]
        if wait:
            # There is to be room for the next one before it is opened.
            thread.join()
