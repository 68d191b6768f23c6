"""Writes what was trained as ordinary files that any tool could have made: npz, csv, json.

Keys are the ids of the data set's own files. Vectors: ``keys`` int64 [n] ascending and ``vectors``
float32 [n, dim]. Lists: ``{"<key>": [[item, score], ...]}``, best first, or ``[item, ...]`` where
there is no score. Features: CSV with a header, an empty field where unknown.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from martlet.demo.dataset import Dataset, Floats, Ints, Vectors
from martlet.demo.features import Columns
from martlet.demo.judge import Slates
from martlet.demo.light import INPUTS, Light
from martlet.demo.tables import Tables

List = list[Any]


def write_tables(dataset: Dataset, tables: Tables, folder: Path) -> None:
    """Write the look-up tables of those users and films that have a past."""
    folder.mkdir(parents=True, exist_ok=True)
    users = np.flatnonzero(np.diff(tables.starts))
    films = np.flatnonzero(tables.rated)
    user_ids, item_ids = dataset.users.ids[users], dataset.items.ids[films]
    for name, ids, vectors in (
        ("user_embeddings", user_ids, tables.user_vectors[users]),
        ("user_recent", user_ids, tables.recent_vectors[users]),
        ("user_genres", user_ids, tables.user_genres[users]),
        ("item_embeddings", item_ids, tables.item_vectors[films]),
        ("item_genres", item_ids, tables.item_genres[films]),
    ):
        np.savez(folder / f"{name}.npz", keys=ids, vectors=vectors)
    _write_columns(folder / "users.csv", "user_id", user_ids, users, tables.users, {})
    text = {
        "title": [dataset.items.titles[row] for row in films],
        "genres": ["|".join(dataset.items.genres_of(int(row))) for row in films],
    }
    _write_columns(folder / "items.csv", "item_id", item_ids, films, tables.items, text)
    ids = dataset.items.ids
    popular = tables.popular[tables.rated[tables.popular]]
    write_lists(folder / "popular.json", {"all": scored(ids[popular], tables.liked[popular])})
    write_lists(
        folder / "neighbours.json",
        {
            str(ids[row]): scored(ids[tables.neighbours[row]], tables.similarities[row])
            for row in films
        },
    )
    write_lists(
        folder / "seen.json",
        {str(dataset.users.ids[row]): ids[tables.history(int(row))].tolist()
         for row in users},
    )  # fmt: skip


def write_slates(path: Path, slates: Slates) -> None:
    """Write each user's slate as a stored list."""
    write_lists(path, {str(user): scored(*slate) for user, slate in slates.items()})


def write_liked_later(path: Path, liked: dict[int, set[int]]) -> None:
    """Write what each user liked in the held-out part: what a server's answers are judged by."""
    write_lists(path, {str(user): sorted(items) for user, items in liked.items()})


def scored(items: Ints, scores: Floats | Vectors) -> List:
    """Return the list of *items* with positive *scores*, which are written as float32."""
    good = scores > 0
    written = scores[good].astype(np.float32).astype(np.float64).tolist()
    return [list(pair) for pair in zip(items[good].tolist(), written, strict=True)]


def write_lists(path: Path, lists: dict[str, List]) -> None:
    """Write *lists* by key, a line each."""
    lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in lists.items())
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")


def write_light(light: Light, folder: Path) -> None:
    """Write the light model's arrays, and ``inputs``: what its input is made of, in order."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "light.npz", inputs=np.array(INPUTS), w0=light.w0, b0=light.b0)


def write_ranker(booster: Any, folder: Path) -> None:
    """Write the ranker in LightGBM's own text format."""
    folder.mkdir(parents=True, exist_ok=True)
    booster.save_model(str(folder / "model.txt"))


def _write_columns(
    path: Path,
    key: str,
    ids: Ints,
    rows: Ints,
    columns: Columns,
    text: dict[str, list[str]],
) -> None:
    numbers = [map(_number, columns[name][rows]) for name in columns.names]
    table: Iterable[tuple[Any, ...]] = zip(ids.tolist(), *text.values(), *numbers, strict=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([key, *text, *columns.names])
        writer.writerows(table)


def _number(value: np.float32) -> str:
    # In full: it is the same number, whether it is read as float32 or as float64. A shorter text
    # is not, and the last digit can send a tree the other way.
    return "" if np.isnan(value) else repr(float(value)).removesuffix(".0")
