"""A recommender small enough to work out by hand: three users, eight films, two models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from martlet.errors import MartletError
from martlet.recommend.reading import parse
from martlet.recommend.recommender import Recommender
from martlet.recommend.tables import Tables
from martlet.retrieval import open_index
from martlet.servable import DEFAULT_SIGNATURE
from martlet.serving.engine import Engine
from martlet.serving.traffic import Model, Table, Variant
from martlet.stores.embeddings import write_embeddings
from martlet.stores.features import write_features
from martlet.stores.lists import write_lists
from martlet.tensors import DType, Signature, Spec, Tensors

ITEMS = {
    # key: (year, genres, price, vector)
    10: (1990, "Drama", 1.0, [1.0, 0.0]),
    11: (1995, "Drama|War", 2.0, [0.9, 0.1]),
    12: (2000, "Comedy", 3.0, [0.0, 1.0]),
    13: (2005, "Comedy|Drama", 4.0, [0.5, 0.5]),
    14: (2010, "", 5.0, [-1.0, 0.0]),
    15: (2015, "War", float("nan"), [0.2, 0.8]),
    16: (2020, "Action", 7.0, [0.3, 0.3]),
}
USERS = {1: (30, [1.0, 0.0]), 2: (50, [0.0, 1.0]), 3: (20, [1.0, 1.0])}
SEEN = {1: [10, 11], 2: [12], 3: list(ITEMS)}
SIMILAR = {10: {11: 0.5, 13: 0.25}, 11: {13: 0.5, 16: 0.125}, 12: {15: 1.0}}
POPULAR = {12: 9.0, 10: 8.0, 17: 7.5, 13: 7.0, 16: 6.0, 11: 5.0, 15: 4.0, 14: 3.0}

WHOLE = """
[recommender]
size = 3
max_size = 20
items = "films"
reply = ["year", "genres"]

[tables]
people = "people"
films = "films"
person_vectors = "person_vectors"
film_vectors = "film_vectors"
seen = "seen"
similar = "similar"
popular = "popular"

[[candidates]]
from = "neighbours"
query = "person_vectors"
items = "film_vectors"
count = 4

[[candidates]]
from = "similar"
lists = "similar"
history = "seen"
count = 4

[[candidates]]
from = "popular"
lists = "popular"
count = 2

[[filters]]
drop = "seen"
history = "seen"

[[filters]]
drop = "unknown"

[[ranking]]
model = "ranker"
units = "people"
items = "films"

[ranking.features]
near = { dot = ["person_vectors", "film_vectors"] }
hour = "request.hour"

[[ranking]]
dot = ["person_vectors", "film_vectors"]
"""


def plain_score(age: float, year: int, price: float, near: float, hour: float) -> float:
    """What the ranker below computes, one item at a time."""
    return 2.0 * near + 0.01 * (year - 2000) - 0.001 * abs(age - hour) - (0.1 * price)


@dataclass
class Ranker:
    """A model that answers, or fails as it is told to."""

    fails: MartletError | None = None
    asked: list[Tensors] = field(default_factory=list)

    def __post_init__(self) -> None:
        inputs = [
            Spec("age", DType.INT64, (-1,)),
            Spec("year", DType.INT64, (-1, 1)),
            Spec("price", DType.FLOAT32, (-1,)),
            Spec("near", DType.FLOAT64, (-1, 1)),
            Spec("hour", DType.FLOAT32, (-1,)),
        ]
        outputs = [Spec("score", DType.FLOAT64, (-1,))]
        self.signatures: Mapping[str, Signature] = {
            DEFAULT_SIGNATURE: Signature.of(inputs, outputs)
        }

    def predict(self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE) -> dict[str, Any]:
        self.asked.append(inputs)
        if self.fails is not None:
            raise self.fails
        self.signatures[signature_name].check(inputs)
        year, near = inputs["year"][:, 0], inputs["near"][:, 0]
        return {
            "score": 2.0 * near
            + 0.01 * (year - 2000)
            - 0.001 * np.abs(inputs["age"] - inputs["hour"].astype(np.float64))
            - 0.1 * inputs["price"].astype(np.float64)
        }

    def close(self) -> None:
        pass


@dataclass
class Place:
    """The tables' files, the engine, and a way to open declarations over them."""

    folder: Path
    engine: Engine
    ranker: Ranker
    generations: dict[str, str] = field(default_factory=dict)

    def serve(self, **models: Any) -> None:
        self.engine.publish(
            Table({name: Model(name, {1: Variant(name, 1, m)}) for name, m in models.items()})
        )

    def write(self) -> None:
        f, g = self.folder, self.generations
        write_features(
            f / "people",
            list(USERS),
            {"age": [age for age, _ in USERS.values()]},
            generation=g.get("people", ""),
        )
        columns = list(zip(*ITEMS.values(), strict=True))
        films = {
            "year": list(columns[0]),
            "genres": list(columns[1]),
            "price": np.array(columns[2], np.float64),
            "vector": np.array(columns[3], np.float32),
        }
        write_features(f / "films", list(ITEMS), films, generation=g.get("films", ""))
        write_embeddings(f / "person_vectors", list(USERS), [v for _, v in USERS.values()])
        write_embeddings(f / "film_vectors", list(ITEMS), [row[3] for row in ITEMS.values()])
        write_lists(f / "seen", SEEN)
        write_lists(
            f / "similar",
            {key: list(found) for key, found in SIMILAR.items()},
            {key: list(found.values()) for key, found in SIMILAR.items()},
        )
        write_lists(f / "popular", {"all": list(POPULAR)}, {"all": list(POPULAR.values())})
        write_lists(f / "words", {"all": ["a", "b"]})

    def open(self, text: str = WHOLE, pinned: Mapping[str, int] | None = None) -> Recommender:
        declared = parse(text, "films.toml")
        tables = Tables({alias: self.folder / name for alias, name in declared.tables.items()})
        return Recommender(
            declared,
            tables,
            lambda alias: open_index(tables.embeddings(alias)),
            {"films": 4, "people": 2},
            self.engine,
            {"ranker": 1} if pinned is None else pinned,
        )
