"""What answers now: an immutable table of variants, each of which counts who holds it."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from martlet.errors import Code, ModelNotFound
from martlet.names import ModelRef
from martlet.servable import Servable
from martlet.tensors import Signature


class State(Enum):
    """Where a version is in its life. The names are TensorFlow Serving's."""

    START = "START"
    LOADING = "LOADING"
    AVAILABLE = "AVAILABLE"
    UNLOADING = "UNLOADING"
    END = "END"


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """What a person asks of a version: its state and, where it failed, why."""

    version: int
    state: State
    error: Code | None = None
    message: str = ""


class Variant:
    """
    One version that answers, and a count of the requests that hold it.

    A draining variant refuses new leases; ``drained`` is set when the last holder lets go, so
    a servable is closed only when nobody uses it.
    """

    __slots__ = ("_draining", "_leases", "_lock", "drained", "name", "servable", "version")

    def __init__(self, name: str, version: int, servable: Servable) -> None:
        self.name = name
        self.version = version
        self.servable = servable
        self.drained = threading.Event()
        self._lock = threading.Lock()
        self._leases = 0
        self._draining = False

    @property
    def signatures(self) -> Mapping[str, Signature]:
        """The ways to call it."""
        return self.servable.signatures

    def acquire(self) -> bool:
        """Take a lease; False if the variant is draining. Each True is followed by ``release``."""
        with self._lock:
            if self._draining:
                return False
            self._leases += 1
            return True

    def release(self) -> None:
        """Give back one lease."""
        with self._lock:
            self._leases -= 1
            if self._draining and self._leases == 0:
                self.drained.set()

    def drain(self) -> None:
        """Refuse leases from now on."""
        with self._lock:
            self._draining = True
            if self._leases == 0:
                self.drained.set()


@dataclass(frozen=True, slots=True)
class Model:
    """
    A model's versions that answer.

    Args:
        variants: By version number; highest first. Empty while none answers.
        labels: Label to version number; each is in *variants*.
        statuses: Every version ever seen, highest first, failed and unloaded ones too.
    """

    name: str
    variants: Mapping[int, Variant] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    statuses: tuple[VersionStatus, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """Every model by name. Never changed: the manager publishes a new one."""

    models: Mapping[str, Model] = field(default_factory=dict)

    def model(self, name: str) -> Model:
        """
        Return the model called *name*.

        Raises:
            ModelNotFound: there is none; the text lists those there are.
        """
        try:
            return self.models[name]
        except KeyError:
            known = ", ".join(sorted(self.models)) or "none"
            raise ModelNotFound(f"no model {name!r}; available: {known}") from None

    def variant(self, ref: ModelRef) -> Variant:
        """
        Return the variant that *ref* names: by version, by label, or the highest that answers.

        Raises:
            ModelNotFound: no such model, version or label answers; the text lists those that do.
        """
        model = self.model(ref.name)
        version = ref.version
        if ref.label is not None:
            if ref.label not in model.labels:
                known = ", ".join(model.labels) or "none"
                raise ModelNotFound(f"{ref.name!r} has no label {ref.label!r}; labels: {known}")
            version = model.labels[ref.label]
        if version is None:
            version = next(iter(model.variants), None)
        if version is None or version not in model.variants:
            known = ", ".join(map(str, model.variants)) or "none"
            raise ModelNotFound(f"no version of {str(ref)!r} answers; answering: {known}")
        return model.variants[version]
