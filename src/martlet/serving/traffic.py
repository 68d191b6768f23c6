"""What answers now: an immutable table of variants, each of which counts its leases."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from martlet.errors import ModelNotFound, NotAvailable
from martlet.names import ModelRef
from martlet.servable import Servable
from martlet.serving.lane import Lane
from martlet.serving.lease import lease
from martlet.serving.ondemand import OnDemand
from martlet.states import VersionStatus

Content = TypeVar("Content")
"""What a version is once open: a Servable, or a recommender."""


class Variant(Generic[Content]):
    """
    One version that answers, and a count of the requests that hold it.

    A draining variant refuses new leases; ``drained`` is set when the last holder lets go, so
    a servable is closed only when nobody uses it.

    Args:
        lane: Threads for the calls that are not made on the loop.

    ``acquire``, ``release`` and ``drain`` are those of its ``Lease``.
    """

    __slots__ = ("acquire", "drain", "drained", "lane", "name", "release", "servable", "version")

    def __init__(
        self, name: str, version: int, servable: Content, lane: Lane | None = None
    ) -> None:
        self.name = name
        self.version = version
        self.servable = servable
        self.lane = lane if lane is not None else Lane(name)
        self.drained = threading.Event()
        held = lease(self.drained.set)
        # Attributes, not methods: every request calls two of them.
        self.acquire, self.release, self.drain = held.acquire, held.release, held.drain


@dataclass(frozen=True, slots=True)
class Model(Generic[Content]):
    """
    One name's versions that answer.

    Args:
        variants: By version number; highest first. Empty while none answers.
        labels: Label to version number; each is in *variants*.
        statuses: Every version ever seen, highest first, failed and unloaded ones too, as all
            workers agree on them. ``told`` is what clients are shown.
        wanted: Whether some version of it should answer.
    """

    name: str
    variants: Mapping[int, Variant[Content]] = field(default_factory=dict)
    labels: Mapping[str, int] = field(default_factory=dict)
    statuses: tuple[VersionStatus, ...] = ()
    wanted: bool = True

    @property
    def told(self) -> tuple[VersionStatus, ...]:
        """The statuses; a version that is opened on demand is as it is in this process now."""
        return tuple(self._told(each) for each in self.statuses)

    def _told(self, status: VersionStatus) -> VersionStatus:
        variant = self.variants.get(status.version)
        if variant is None or not isinstance(variant.servable, OnDemand):
            return status
        return variant.servable.status(status.version)

    @property
    def silent(self) -> bool:
        """Whether it should answer, and no version of it does."""
        return self.wanted and not self.variants


@dataclass(frozen=True, slots=True)
class Table:
    """Everything that answers, by name. Never changed: the manager readies a new one."""

    models: Mapping[str, Model[Servable]] = field(default_factory=dict)
    recommenders: Mapping[str, Model[object]] = field(default_factory=dict)

    def variant(self, ref: ModelRef) -> Variant[Servable]:
        """
        Return the model's variant that *ref* names: by version, label, or the highest there is.

        Raises:
            ModelNotFound: no such model, version or label answers; the text lists those that do.
            NotAvailable: the model is known, and no version of it answers.
        """
        return _variant(self.models, "model", ref)

    def recommender(self, ref: ModelRef) -> Variant[object]:
        """
        Return the recommender's variant that *ref* names; as ``variant``.

        Raises:
            ModelNotFound: no such recommender, version or label answers.
            NotAvailable: the recommender is known, and no version of it answers.
        """
        return _variant(self.recommenders, "recommender", ref)


def _variant(models: Mapping[str, Model[Content]], kind: str, ref: ModelRef) -> Variant[Content]:
    model = models.get(ref.name)
    if model is None:
        known = ", ".join(sorted(models)) or "none"
        raise ModelNotFound(f"no {kind} {ref.name!r}; available: {known}")
    version = ref.version
    if ref.label is not None:
        if ref.label not in model.labels:
            # A recommender's versions are labels of what answers for them.
            what = "version" if ref.label.isdecimal() else "label"
            known = ", ".join(
                each for each in model.labels if each.isdecimal() == (what == "version")
            )
            raise ModelNotFound(
                f"{kind} {ref.name!r} has no {what} {ref.label!r}; {what}s: {known or 'none'}"
            )
        version = model.labels[ref.label]
    if version is None:
        version = next(iter(model.variants), None)
        if version is None:
            raise NotAvailable(f"no version of {kind} {ref.name!r} answers{_why(model)}")
    if version not in model.variants:
        known = ", ".join(map(str, model.variants)) or "none"
        raise ModelNotFound(
            f"no version {version} of {kind} {ref.name!r} answers; answering: {known}"
        )
    return model.variants[version]


def _why(model: Model[Content]) -> str:
    if not model.wanted:
        return ": it was unloaded"
    return next((f" yet: {each.message}" for each in model.statuses if each.message), " yet")
