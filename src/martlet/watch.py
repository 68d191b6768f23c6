"""All that should answer, from every side that has a say, and what clients asked of the server."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Protocol

from martlet.errors import MartletError
from martlet.servers.control import Ask, LoadModel, ServeModels, UnloadModel
from martlet.serving.settings import DEFAULT, ModelSettings
from martlet.serving.versions import Desired, Wanted

log = logging.getLogger(__name__)


class Wish(Protocol):
    """One side that has a say. Called by the supervisor alone."""

    def poll(self) -> Desired | None:
        """Return what should answer, if it has changed since the last call."""
        ...


class Folders(Wish, Protocol):
    """The side that a model config speaks for."""

    def ask(self, ask: Ask) -> None:
        """Take other models, or look at the folders at once."""
        ...

    def look(self) -> None:
        """Read the model config and look at the folders at the next poll, due or not."""
        ...


class Watch:
    """
    Merges the wishes; of two that name the same model the later one holds.

    Args:
        wishes: All of them, *folders* too.
        folders: Which of them takes a ServeModels.
        settings: How models are run, by name.
        default: How the others are.
    """

    def __init__(
        self,
        wishes: Sequence[Wish],
        folders: Folders,
        settings: Mapping[str, ModelSettings] = MappingProxyType({}),
        default: ModelSettings = DEFAULT,
    ) -> None:
        self._settings = settings
        self._default = default
        self._wishes = wishes
        self._folders = folders
        self._known: dict[int, Desired] = {}
        self._unloaded: set[str] = set()
        self._changed = False

    def ask(self, ask: Ask) -> None:
        """Take what a client asked; the next ``poll`` tells."""
        match ask:
            case LoadModel(name):
                self._unloaded.discard(name)
            case UnloadModel(name):
                self._unloaded.add(name)
            case ServeModels(entries):
                # Who lists a model wants it, whatever was said of it before.
                self._unloaded -= {entry.name for entry in entries}
        self._folders.ask(ask)
        self._changed = True

    def look(self) -> None:
        """Have the next ``poll`` look at everything: SIGHUP."""
        self._folders.look()

    def poll(self) -> Desired | None:
        """Return everything that should answer, if that may have changed since the last call."""
        changed, self._changed = self._changed, False
        for index, wish in enumerate(self._wishes):
            try:
                desired = wish.poll()
            except MartletError as exc:
                # At the start it is a reason not to start; later, what answers goes on answering.
                if index not in self._known:
                    raise
                log.warning("what should answer cannot be read now: %s", exc)
                continue
            if desired is not None:
                self._known[index] = desired
                changed = True
        return self._merged() if changed else None

    def _merged(self) -> Mapping[str, Wanted]:
        merged = {
            name: wanted
            for desired in self._known.values()
            for name, wanted in desired.items()
            if name not in self._unloaded
        }
        ranking = {
            reference.name
            for wanted in merged.values()
            for source in wanted.versions.values()
            for reference in source.references.values()
            if reference.kind == "model"
        }
        return {n: self._run_as_set(n, wanted, n in ranking) for n, wanted in merged.items()}

    def _run_as_set(self, name: str, wanted: Wanted, ranks: bool) -> Wanted:
        settings = self._settings.get(name, self._default)
        if ranks or any(each.kind != "model" for each in wanted.versions.values()):
            # A recommender has no time to wait until the model it ranks by is open.
            settings = replace(settings, on_demand=False)
        versions = {n: replace(s, settings=settings) for n, s in wanted.versions.items()}
        return replace(wanted, versions=versions)
