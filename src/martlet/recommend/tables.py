"""The tables that one recommender declares, open, and checked to be of one generation."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from martlet.errors import UnsupportedModel
from martlet.stores import Embeddings, Features, Lists
from martlet.stores.tablefile import kind_of

Opened = Embeddings | Features | Lists
Kind = TypeVar("Kind", Embeddings, Features, Lists)

_OPENERS: Mapping[str, type[Embeddings] | type[Features] | type[Lists]] = {
    "embeddings": Embeddings,
    "features": Features,
    "lists": Lists,
}


class Tables:
    """
    Open tables by the name that the declaration gives them.

    Args:
        paths: Name to table file.

    Raises:
        UnsupportedModel: a file is not a table, or the tables come from different generations.
    """

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self._opened: dict[str, Opened] = {}
        for name, path in paths.items():
            kind = kind_of(path)
            if kind is None or kind not in _OPENERS:
                raise UnsupportedModel(f"table {name!r}: {path} is not a table file of martlet's")
            self._opened[name] = _OPENERS[kind](path)
        self.generation = self._one_generation()

    def _one_generation(self) -> str:
        found = {table.generation: name for name, table in self._opened.items() if table.generation}
        if len(found) > 1:
            each = "; ".join(f"{name!r} is of {generation!r}" for generation, name in found.items())
            raise UnsupportedModel(
                f"the tables were not trained together: {each}. Import one generation of them all"
            )
        return next(iter(found), "")

    @property
    def all_embeddings(self) -> Mapping[str, Embeddings]:
        """Those that hold embeddings."""
        return {name: t for name, t in self._opened.items() if isinstance(t, Embeddings)}

    def embeddings(self, name: str) -> Embeddings:
        """
        Return the embeddings called *name*.

        Raises:
            UnsupportedModel: that table holds something else.
        """
        return self._of(name, Embeddings)

    def features(self, name: str) -> Features:
        """
        Return the features called *name*.

        Raises:
            UnsupportedModel: that table holds something else.
        """
        return self._of(name, Features)

    def lists(self, name: str) -> Lists:
        """
        Return the lists called *name*.

        Raises:
            UnsupportedModel: that table holds something else.
        """
        return self._of(name, Lists)

    def _of(self, name: str, kind: type[Kind]) -> Kind:
        found = self._opened[name]
        if not isinstance(found, kind):
            raise UnsupportedModel(
                f"table {name!r} holds {type(found).__name__.lower()}; "
                f"{kind.__name__.lower()} are wanted where it is used"
            )
        return found
