"""What should answer, as the command line or a registry says it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from martlet.config import NamedPath
from martlet.errors import ModelNotFound
from martlet.registry import Kind, Model, Registry
from martlet.serving.versions import Desired, Source, Wanted


class FilesWish:
    """Files named on the command line: each is version 1, and they never change."""

    def __init__(self, models: Sequence[NamedPath], trusted: bool) -> None:
        for each in models:
            if not each.path.exists():
                raise ModelNotFound(f"there is no file or folder at {each.path}")
        self._desired = {
            each.name: Wanted({1: Source(each.path.resolve(), trusted=trusted)}) for each in models
        }
        self._told = False

    def poll(self) -> Desired | None:
        """Return what should answer, the first time."""
        if self._told:
            return None
        self._told = True
        return self._desired


class RegistryWish:
    """
    What a registry holds: of each model its latest version and every labelled one.

    The registry is opened in the process that polls: a catalog does not survive a fork.
    """

    def __init__(self, root: Path, trusted: bool) -> None:
        self._root = root
        self._trusted = trusted
        self._registry: Registry | None = None
        self._seen: int | None = None

    def poll(self) -> Desired | None:
        """Return what should answer, if the registry has changed since the last call."""
        if self._registry is None:
            self._registry = Registry.open(self._root, create=False)
        revision = self._registry.revision()
        if revision == self._seen:
            return None
        self._seen = revision
        return {
            model.name: self._wanted(self._registry, model)
            for model in self._registry.models(Kind.MODEL)
        }

    def _wanted(self, registry: Registry, model: Model) -> Wanted:
        numbers = {*model.labels.values()}
        if model.latest is not None:
            numbers.add(model.latest)
        found = {v.number: v for v in registry.versions(model.name) if v.number in numbers}
        sources = {
            number: Source(
                registry.path_of(version),
                format=version.lineage.format or None,
                trusted=self._trusted,
            )
            for number, version in found.items()
        }
        return Wanted(sources, model.labels)
