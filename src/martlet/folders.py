"""Models whose versions are the numbered children of folders, as TensorFlow Serving keeps them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from martlet.errors import InvalidInput, MartletError, UnsupportedModel
from martlet.servers.control import Ask, ServeModels
from martlet.serving.versions import Desired, Source, Wanted
from martlet.wire.tfserving.config import ModelEntry, read_model_config, versions_in

log = logging.getLogger(__name__)


class FoldersWish:
    """
    What the folders of a model config hold.

    Args:
        entries: The models at the start.
        trusted: Files may run code that they contain.
        config_file: Read again every *config_poll_s*; a broken one keeps the old models.
        config_poll_s: 0 never reads it again.
        folder_poll_s: How often the folders are looked at; 0 looks once, less never.
        now: The clock.

    Raises:
        UnsupportedModel: a folder is not there. Later, one that goes away unloads nothing.
    """

    def __init__(
        self,
        entries: Iterable[ModelEntry],
        trusted: bool,
        config_file: Path | None = None,
        config_poll_s: float = 0.0,
        folder_poll_s: float = 1.0,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._entries = tuple(entries)
        for entry in self._entries:
            versions_of(Path(entry.base_path))
        self._trusted = trusted
        self._file = config_file
        self._config_poll_s = config_poll_s
        self._folder_poll_s = folder_poll_s
        self._now = now
        self._hurry = False
        self._read_at = now()
        self._looked_at: float | None = None
        self._told: Desired | None = None

    def ask(self, ask: Ask) -> None:
        """Take other entries, or look at the folders at once."""
        if isinstance(ask, ServeModels):
            self._entries = ask.entries
        self._looked_at = None

    def look(self) -> None:
        """Read the config file and look at the folders at the next poll, due or not."""
        self._hurry = True

    def poll(self) -> Desired | None:
        """Return what should answer, if it has changed since the last call."""
        now = self._now()
        self._read_again(now)
        if not (self._due(now) or self._hurry):
            return None
        self._hurry = False
        self._looked_at = now
        desired: dict[str, Wanted] = {}
        for entry in self._entries:
            try:
                desired[entry.name] = self._wanted(entry)
            except MartletError as exc:
                # Nothing is unloaded because a mount is away. Upstream skips the whole round: here
                # the others go on.
                log.error("%r: %s", entry.name, exc)
                if self._told is not None and entry.name in self._told:
                    desired[entry.name] = self._told[entry.name]
        if desired == self._told:
            return None
        self._told = desired
        return desired

    def _read_again(self, now: float) -> None:
        if self._file is None or not (self._config_poll_s or self._hurry):
            return
        if now - self._read_at < self._config_poll_s and not self._hurry:
            return
        self._read_at = now
        try:
            found = read_model_config(self._file.read_text())
        except (InvalidInput, OSError, UnicodeDecodeError) as exc:
            log.error("%s is not read, and the models stay as they were: %s", self._file, exc)
            return
        if found is None:
            # As upstream: it may be about to be written.
            log.warning("%s is empty, and the models stay as they were", self._file)
            return
        entries = tuple(found)
        if entries != self._entries:
            self._entries = entries
            self._looked_at = None

    def _due(self, now: float) -> bool:
        if self._looked_at is None:
            return self._folder_poll_s >= 0 or self._told is None
        return self._folder_poll_s > 0 and now - self._looked_at >= self._folder_poll_s

    def _wanted(self, entry: ModelEntry) -> Wanted:
        there = versions_of(Path(entry.base_path))
        wanted = entry.wanted(there)
        if not wanted:
            log.warning("%r has no version in %s", entry.name, entry.base_path)
        return Wanted(
            {number: Source(there[number], trusted=self._trusted) for number in wanted},
            entry.labels,
        )


def versions_of(folder: Path) -> dict[int, Path]:
    """
    Return the versions in *folder*, by number.

    Raises:
        UnsupportedModel: there is no such folder.
    """
    try:
        names = [each.name for each in folder.iterdir()]
    except OSError as exc:
        raise UnsupportedModel(f"Could not find base path {folder}: {exc}") from None
    return {number: folder / name for number, name in versions_in(names).items()}
