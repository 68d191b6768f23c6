"""The ranker: LightGBM over columns of the user, columns of the film, and three dots of vectors."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.demo.candidates import Candidates
from martlet.demo.dataset import Dataset, Floats, Ratings
from martlet.demo.evaluate import Progress, silent
from martlet.demo.tables import Tables
from martlet.errors import InvalidInput

DOTS = ("affinity", "recent_affinity", "genre_match")
_PARAMETERS: dict[str, Any] = {
    "objective": "binary",
    "metric": "auc",
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_data_in_leaf": 50,
    "feature_fraction": 0.7,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 10.0,
    "num_threads": 1,
    # So small a job is slower with more threads on a busy machine, which wait for each other; and
    # one thread gives the same file every time.
    "deterministic": True,
    "force_row_wise": True,
    "verbose": -1,
}
_TREES = 400
_PATIENCE = 40


def feature_columns(tables: Tables, pairs: Candidates) -> dict[str, Floats]:
    """Return what the ranker reads of each pair, by name, in its order. Shape [n] each."""
    user, item = pairs.user, pairs.item
    found: dict[str, Floats] = {}
    for columns, row in ((tables.users, user), (tables.items, item)):
        for name in columns.names:
            found[name] = columns[name][row].astype(np.float64)
    sides = (
        (tables.user_vectors, tables.item_vectors),
        (tables.recent_vectors, tables.item_vectors),
        (tables.user_genres, tables.item_genres),
    )
    for name, (left, right) in zip(DOTS, sides, strict=True):
        found[name] = np.einsum("nd,nd->n", left[user], right[item], dtype=np.float64)
    return found


def labels(dataset: Dataset, pairs: Candidates, future: Ratings) -> NDArray[np.bool_]:
    """Return for each pair whether the user liked the film in *future*. Shape [n]."""
    liked = future.where(future.liked)
    width = len(dataset.items)
    wanted = liked.user * width + liked.item
    return np.isin(pairs.user * width + pairs.item, wanted)


def train(
    tables: Tables,
    pairs: Candidates,
    label: NDArray[np.bool_],
    seed: int,
    progress: Progress = silent,
) -> Any:
    """
    Return a LightGBM booster that gives the chance that a candidate is liked later.

    It stops growing when the AUC on a fifth of the users, who teach it nothing, stops rising.

    Raises:
        InvalidInput: no candidate was liked later, or all were: there is nothing to tell apart.
    """
    import lightgbm

    rng = np.random.Generator(np.random.PCG64(seed))
    fold = rng.permutation(len(pairs.users)) % 5
    held = fold[pairs.row] == 0
    for part in (label[held], label[~held]):
        if part.all() or not part.any():
            raise InvalidInput(
                f"{int(label.sum())} of {len(label)} candidates of {len(pairs.users)} users were "
                "liked later: too few to train a ranker on; give more ratings"
            )
    columns = feature_columns(tables, pairs)
    rows, names = np.column_stack(list(columns.values())), list(columns)
    train_set = lightgbm.Dataset(rows[~held], label[~held].astype(float), feature_name=names)
    held_set = lightgbm.Dataset(rows[held], label[held].astype(float), reference=train_set)
    booster = lightgbm.train(
        {**_PARAMETERS, "seed": seed},
        train_set,
        _TREES,
        valid_sets=[held_set],
        callbacks=[
            lightgbm.early_stopping(_PATIENCE, verbose=False),
            lambda now: progress("ranker", 0.99 * (now.iteration + 1) / _TREES),
        ],
    )
    progress("ranker", 1.0)
    return booster


def score(booster: Any, tables: Tables, pairs: Candidates, progress: Progress = silent) -> Floats:
    """Return the chance that each pair is liked later. Shape [n]."""
    found = np.zeros(len(pairs.item))
    step = 100_000  # pairs at a time: a million rows of features would need half a gigabyte
    for start in range(0, len(found), step):
        part = slice(start, start + step)
        some = Candidates(pairs.users, pairs.row[part], pairs.item[part])
        rows = np.column_stack(list(feature_columns(tables, some).values()))
        found[part] = booster.predict(rows, num_threads=1)
        progress("score", min(start + step, len(found)) / len(found))
    return found
