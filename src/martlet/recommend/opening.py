"""Opens a recommender: its declaration, and the tables and models that it refers to."""

from __future__ import annotations

from collections.abc import Mapping

from martlet.errors import ModelNotFound
from martlet.recommend.reading import parse
from martlet.recommend.recommender import Recommender
from martlet.recommend.tables import Tables
from martlet.retrieval import open_index
from martlet.serving.engine import Engine
from martlet.serving.versions import Reference, Source


def open_recommender(source: Source, engine: Engine) -> Recommender:
    """
    Open the declaration and its tables.

    Raises:
        InvalidInput: the declaration is wrong.
        ModelNotFound: something it refers to is not there.
        UnsupportedModel: a table holds something else than is wanted of it, or the tables were
            not trained together.
    """
    declared = parse(source.path.read_bytes(), source.path.name)
    references = source.references
    for alias, text in declared.tables.items():
        if alias not in references:
            raise ModelNotFound(f"table {alias!r} refers to {text!r}, which is not registered")
    for model in declared.models:
        if f"model:{model.name}" not in references:
            raise ModelNotFound(f"it ranks by {str(model)!r}, which is not registered")
    tables = Tables({alias: references[alias].path for alias in declared.tables})
    return Recommender(
        declared,
        tables,
        lambda alias: open_index(tables.embeddings(alias)),
        _versions(references),
        engine,
        pinned={each.name: each.version for each in references.values() if each.kind == "model"},
        embeddings={
            references[alias].name: (references[alias].version, table)
            for alias, table in tables.all_embeddings.items()
        },
    )


def _versions(references: Mapping[str, Reference]) -> dict[str, int]:
    return {each.name: each.version for each in references.values() if each.kind != "model"}
