"""The embedding tables that answer now, by name: a recommender's, and those within a package."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import PurePosixPath
from typing import NamedTuple

from martlet.errors import ModelNotFound
from martlet.recommend.recommender import Recommender
from martlet.serving.engine import Engine
from martlet.serving.traffic import Table
from martlet.stores import Embeddings


class Served(NamedTuple):
    """One table that answers."""

    name: str
    """As it is registered; of a table within a model, ``model/table``."""
    version: int
    table: Embeddings

    def __str__(self) -> str:
        return f"{self.name}@{self.version}"


class TablesServed:
    """
    Finds open tables.

    Args:
        engine: Whose recommenders and models they belong to.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._of: Table | None = None
        self._known: dict[str, dict[int, Served]] = {}

    def find(self, name: str, version: int | None = None) -> Served:
        """
        Return *version* of the table *name*; the highest that answers, if None.

        Raises:
            ModelNotFound: no such table answers; the text lists those that do.
        """
        known = self._all()
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise ModelNotFound(f"no embedding table {name!r} answers; answering: {names}")
        versions = known[name]
        if version is None:
            version = max(versions)
        if version not in versions:
            numbers = ", ".join(map(str, sorted(versions)))
            raise ModelNotFound(
                f"no version {version} of the table {name!r} answers; answering: {numbers}"
            )
        return versions[version]

    def all(self) -> list[Served]:
        """Return every table that answers, by name and version."""
        return [each for _, found in sorted(self._all().items()) for each in found.values()]

    def _all(self) -> Mapping[str, Mapping[int, Served]]:
        table = self._engine.table
        if table is not self._of:
            known: dict[str, dict[int, Served]] = {}
            for each in _served(table):
                known.setdefault(each.name, {}).setdefault(each.version, each)
            self._of, self._known = table, known
        return self._known


def _served(table: Table) -> Iterator[Served]:
    for recommender in table.recommenders.values():
        for variant in recommender.variants.values():
            if isinstance(variant.servable, Recommender):
                for name, (version, found) in variant.servable.embeddings.items():
                    yield Served(name, version, found)
    for model in table.models.values():
        for number, scored in model.variants.items():
            within: Mapping[str, object] = getattr(scored.servable, "tables", {})
            for file, opened in within.items():
                if isinstance(opened, Embeddings):
                    yield Served(f"{model.name}/{PurePosixPath(file).stem}", number, opened)
