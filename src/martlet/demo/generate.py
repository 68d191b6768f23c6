"""Makes a data set shaped like MovieLens out of a seed, with structure that can be learnt.

Each user has a taste and each film a character, both vectors of `DIM`. A character comes from the
film's genres; a taste comes from the user's age, gender and occupation, and from nowhere else in
part. Whom a film suits decides what is watched, beside its popularity (Zipf), its freshness and
trends among genres; and it decides the stars. Tastes drift. So popularity is a fair baseline, and
the planted vectors (`Planted`) say how good a recommender could be at most.

The files are those of ``ml-latest-small`` with the users of ``ml-1m``, and a log of impressions
whose clicks depend on the place as well as on the taste.

Everything is drawn as uniform doubles from PCG64: numpy keeps that stream, while it may change how
`Generator.normal` or `choice` use it (NEP 19), and a data set must not change under its digest.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from martlet.demo.dataset import LIKED, Floats, Ints
from martlet.demo.evaluate import Progress, silent
from martlet.demo.titles import title
from martlet.errors import InvalidInput

DIM = 8
_GENRES = (
    "Action|Adventure|Animation|Children|Comedy|Crime|Documentary|Drama|Fantasy|Film-Noir|"
    "Horror|Musical|Mystery|Romance|Sci-Fi|Thriller|War|Western"
)
GENRES = _GENRES.split("|")
# How common each is, roughly as in MovieLens.
_GENRE_WEIGHT = np.array([18, 13, 6, 7, 39, 12, 5, 45, 8, 1, 10, 4, 6, 16, 10, 19, 4, 2], float)
AGES = np.array([1, 18, 25, 35, 45, 50, 56], float)
"""The lower ends of MovieLens' age brackets."""
_AGE_WEIGHT = np.array([4, 18, 35, 20, 9, 8, 6], float)
OCCUPATIONS = 21
START = 1_577_836_800
"""2020-01-01 00:00 UTC, when the first user joins."""
DAYS = 1095
_EPOCHS = 12
_IMPRESSIONS_EACH = 50
_SLATE = 10


@dataclass(frozen=True, slots=True)
class Settings:
    """
    What to make.

    Args:
        users, items, ratings: How many. Nobody rates more than half of the films.
        seed: The same seed and sizes give the same bytes.
    """

    users: int = 600
    items: int = 1000
    ratings: int = 60_000
    seed: int = 0

    def check(self) -> None:
        """
        Say whether such a data set can be made.

        Raises:
            InvalidInput: it cannot.
        """
        if self.users < 1 or self.items < 40 or self.seed < 0:
            raise InvalidInput(
                f"{self.users} users, {self.items} items, seed {self.seed}: "
                "1 user or more, 40 items or more and a seed of 0 or more are wanted"
            )
        least, most = 10 * self.users, self.users * self.items // 4
        if not least <= self.ratings <= most:
            raise InvalidInput(
                f"{self.ratings} ratings are too few or too many for {self.users} users and "
                f"{self.items} items: {least} to {most} are wanted"
            )


@dataclass(frozen=True, slots=True)
class Planted:
    """
    The truth behind a generated data set.

    Args:
        user: Tastes at the start. Shape [users, DIM].
        drift: What is added to a taste over the whole span. Shape [users, DIM].
        item: Characters. Shape [items, DIM].
        user_bias, item_bias: In stars.
        log_popularity: Shape [items].
        release: When each film came out, in the span's unit: 0 is its start, 1 its end.
        trend: The taste that everybody shares for a while: by epoch. Shape [epochs, DIM].
    """

    user: Floats
    drift: Floats
    item: Floats
    user_bias: Floats
    item_bias: Floats
    log_popularity: Floats
    release: Floats
    trend: Floats

    def affinity(self, epoch: int) -> Floats:
        """Return how well each film suits each user in *epoch*. Shape [users, items]."""
        now = (epoch + 0.5) / _EPOCHS
        return (self.user + now * self.drift) @ self.item.T

    def attraction(self, epoch: int) -> Floats:
        """
        Return the log odds of watching, up to a constant. Shape [users, items].

        A film that has not come out before the end of *epoch* has -inf.
        """
        age = (epoch + 1) / _EPOCHS - self.release
        fresh = np.where(self.release > 0, 1.5 * np.exp(-age.clip(min=0) * 4), 0.0)
        shared = self.trend[epoch] @ self.item.T
        common = np.where(age > 0, self.log_popularity + fresh + shared, -np.inf)
        return common + 1.2 * self.affinity(epoch)

    def stars(self, epoch: int) -> Floats:
        """Return the rating that each user would give each film but for noise, in stars."""
        return 3.3 + self.user_bias[:, None] + self.item_bias + 0.45 * self.affinity(epoch)

    def oracle(self, epoch: int = _EPOCHS - 1) -> Floats:
        """
        Return a score whose order is the best that a recommender could give. Shape [users, items].

        It is log of P(watched) times P(`LIKED` | watched), up to a constant: what is judged is
        whether a film that was not seen before is watched later and liked.
        """
        # A logistic curve stands for the normal one: within 0.01 at this scale.
        odds = 1.702 * (self.stars(epoch) - (LIKED - 0.25)) / _NOISE
        return self.attraction(epoch) - np.logaddexp(0, -odds)


_NOISE = 0.6


@dataclass(frozen=True, slots=True)
class Generated:
    """The tables as they are written, and the truth behind them."""

    users: list[list[Any]]
    movies: list[list[Any]]
    ratings: list[list[Any]]
    impressions: list[list[Any]]
    planted: Planted


class _Draw:
    """Draws from uniform doubles alone."""

    def __init__(self, seed: int) -> None:
        self._rng = np.random.Generator(np.random.PCG64(seed))

    def uniform(self, *shape: int) -> Floats:
        # Never 0, whose logarithm is taken below.
        return 1.0 - self._rng.random(shape)

    def normal(self, *shape: int) -> Floats:
        """Box and Muller, 1958."""
        radius = np.sqrt(-2 * np.log(self.uniform(*shape)))
        return np.asarray(radius * np.cos(2 * np.pi * self.uniform(*shape)))

    def gumbel(self, *shape: int) -> Floats:
        # Twice: a uniform of exactly 1 would give infinity.
        return np.asarray(-np.log(-np.log(self.uniform(*shape) * (1 - 1e-16))))

    def choice(self, weights: Floats, count: int) -> Ints:
        """Draw *count* numbers, each with the chance that its weight says."""
        edges = np.cumsum(weights / weights.sum())
        return np.searchsorted(edges[:-1], self.uniform(count)).astype(np.int64)


def generate(settings: Settings = Settings(), progress: Progress = silent) -> Generated:
    """
    Return the data set that *settings* ask for.

    Raises:
        InvalidInput: it cannot be made.
    """
    settings.check()
    draw = _Draw(settings.seed)
    genre_vectors = draw.normal(len(GENRES), DIM)
    movies, flags, release = _movies(settings.items, draw)
    users, profile = _users(settings.users, draw, genre_vectors)
    planted = _plant(settings, draw, flags @ genre_vectors, profile, release)
    ratings = _ratings(settings, draw, planted, progress)
    impressions = _impressions(settings, draw, planted)
    return Generated(users, movies, ratings, impressions, planted)


def _movies(count: int, draw: _Draw) -> tuple[list[list[Any]], Floats, Floats]:
    weight = np.log(_GENRE_WEIGHT)
    ranked = np.argsort(-(weight + draw.gumbel(count, len(GENRES))), axis=1, kind="stable")
    how_many = 1 + draw.choice(np.array([0.35, 0.4, 0.25]), count)
    flags = np.zeros((count, len(GENRES)))
    for place in range(3):
        rows = np.flatnonzero(how_many > place)
        flags[rows, ranked[rows, place]] = 1
    # A fifth come out while people are watching; the others are older, most of them not by much.
    release = np.where(draw.uniform(count) < 0.2, draw.uniform(count) * 0.95, 0.0)
    old = 2019 - np.floor(-14 * np.log(draw.uniform(count))).clip(max=80)
    years = np.where(release > 0, 2020 + np.floor(release * DAYS / 365.25), old).astype(np.int64)
    names = draw.uniform(count).argsort(kind="stable")
    movies = [
        [row + 1, title(int(names[row]), int(years[row])), "|".join(_names(flags[row]))]
        for row in range(count)
    ]
    share = flags / np.sqrt(flags.sum(axis=1, keepdims=True))
    return movies, share, release


def _names(flags: Floats) -> list[str]:
    return [GENRES[g] for g in np.flatnonzero(flags)]


def _users(count: int, draw: _Draw, genre_vectors: Floats) -> tuple[list[list[Any]], Floats]:
    age = draw.choice(_AGE_WEIGHT, count)
    gender = draw.choice(np.array([0.7, 0.3]), count)
    occupation = draw.choice(1 / np.arange(2.0, OCCUPATIONS + 2), count)
    zips = np.floor(draw.uniform(count) * 99_999).astype(np.int64)
    users = [
        [row + 1, "MF"[gender[row]], int(AGES[age[row]]), int(occupation[row]), f"{zips[row]:05}"]
        for row in range(count)
    ]
    # Each group leans to some genres; the groups' leanings live where the genres do.
    lean = draw.normal(len(AGES) + 2 + OCCUPATIONS, len(GENRES)) @ genre_vectors
    lean /= np.sqrt(len(GENRES))
    profile = lean[age] + lean[len(AGES) + gender] + 0.5 * lean[len(AGES) + 2 + occupation]
    return users, profile


def _plant(
    settings: Settings, draw: _Draw, from_genres: Floats, profile: Floats, release: Floats
) -> Planted:
    users, items = settings.users, settings.items
    own = draw.normal(users, DIM)
    # Scaled so that a taste times a character is about standard normal.
    user = 0.28 * own + 0.2 * profile
    item = 0.8 * from_genres + 0.6 * draw.normal(items, DIM)
    rank = 1 + draw.uniform(items).argsort(kind="stable")
    quality = draw.normal(items)
    return Planted(
        user=user,
        drift=0.25 * draw.normal(users, DIM),
        item=item,
        user_bias=0.25 * draw.normal(users),
        item_bias=0.25 * quality,
        log_popularity=-0.9 * np.log(rank) + 0.2 * quality,
        release=release,
        trend=0.15 * draw.normal(_EPOCHS, DIM),
    )


def _ratings(
    settings: Settings, draw: _Draw, planted: Planted, progress: Progress
) -> list[list[Any]]:
    users, items = settings.users, settings.items
    each = _activity(settings, draw)
    seen = np.zeros((users, items), dtype=np.bool_)
    parts: list[Floats] = []
    for epoch in range(_EPOCHS):
        keys = planted.attraction(epoch) + draw.gumbel(users, items)
        keys[seen] = -np.inf
        # The best k of the odds plus Gumbel noise: k draws without putting back.
        order = np.argsort(-keys, axis=1, kind="stable")
        taken = np.arange(items) < each[:, epoch, None]
        taken &= np.isfinite(np.take_along_axis(keys, order, axis=1))
        user, place = np.nonzero(taken)
        item = order[user, place]
        seen[user, item] = True
        stars = planted.stars(epoch)[user, item] + _NOISE * draw.normal(len(user))
        value = np.clip(np.round(stars * 2), 1, 10) / 2
        when = START + (epoch + draw.uniform(len(user))) * (DAYS * 86_400 / _EPOCHS)
        # Not before the film came out.
        when = np.maximum(when, START + planted.release[item] * DAYS * 86_400)
        rows = [user + 1.0, item + 1.0, value, np.floor(when)]
        parts.append(np.column_stack(rows))
        progress("generate", (epoch + 1) / _EPOCHS)
    table = np.concatenate(parts)
    table = table[np.lexsort((table[:, 1], table[:, 3], table[:, 0]))]
    return [[int(u), int(i), float(v), int(t)] for u, i, v, t in table.tolist()]


def _activity(settings: Settings, draw: _Draw) -> Ints:
    """Return how many ratings each user gives in each epoch. Shape [users, epochs]."""
    users = settings.users
    eager = np.exp(0.6 * draw.normal(users))
    joins = np.floor(draw.uniform(users) * 0.6 * _EPOCHS)
    busy = eager[:, None] * draw.uniform(users, _EPOCHS)
    busy *= np.arange(_EPOCHS) >= joins[:, None]
    # The eager are held to half of the films; the others make up for it.
    most, each = settings.items / 2, busy.sum(axis=1)
    low, high = 0.0, settings.ratings / each[each > 0].min()
    for _ in range(80):
        middle = (low + high) / 2
        enough = np.minimum(most, middle * each).sum() >= settings.ratings
        low, high = (low, middle) if enough else (middle, high)
    busy *= (np.minimum(most, high * each) / np.where(each > 0, each, 1))[:, None]
    # Rounding the running sum keeps the total: exactly as many ratings as were asked for.
    share = np.cumsum(busy / busy.sum()) * settings.ratings
    counts = np.diff(np.concatenate([[0], np.round(share)])).astype(np.int64)
    return counts.reshape(users, _EPOCHS)


def _impressions(settings: Settings, draw: _Draw, planted: Planted) -> list[list[Any]]:
    """Slates of ten, half popular and half at random, over the last epoch; clicks as planted."""
    users, items = settings.users, settings.items
    slates = _IMPRESSIONS_EACH // _SLATE
    rows: list[list[Any]] = []
    affinity = planted.affinity(_EPOCHS - 1)
    width = DAYS * 86_400 / _EPOCHS
    for slate in range(slates):
        keys = draw.gumbel(users, items) + 0.5 * planted.log_popularity
        shown = np.argsort(-keys, axis=1, kind="stable")[:, :_SLATE]
        place = np.arange(1, _SLATE + 1)
        suits = np.take_along_axis(affinity, shown, axis=1)
        chance = 1 / (1 + np.exp(-(-1.5 + suits - 0.4 * np.log(place))))
        clicked = draw.uniform(users, _SLATE) < chance
        when = START + (_EPOCHS - 1 + (slate + draw.uniform(users)) / slates) * width
        for user in range(users):
            for spot in range(_SLATE):
                rows.append([
                    int(when[user]), user + 1, int(shown[user, spot]) + 1,
                    spot + 1, int(clicked[user, spot]),
                ])  # fmt: skip
    rows.sort(key=lambda row: (row[0], row[1], row[3]))
    return rows


def write(generated: Generated, folder: Path) -> None:
    """Write *generated* into *folder* as CSV files, and the truth as ``planted.npz``."""
    folder.mkdir(parents=True, exist_ok=True)
    tables: dict[str, tuple[str, Sequence[Iterable[Any]]]] = {
        "users.csv": ("userId,gender,age,occupation,zip", generated.users),
        "movies.csv": ("movieId,title,genres", generated.movies),
        "ratings.csv": ("userId,movieId,rating,timestamp", generated.ratings),
        "impressions.csv": ("timestamp,userId,movieId,position,click", generated.impressions),
    }
    for name, (header, rows) in tables.items():
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            file.write(header + "\n")
            csv.writer(file, lineterminator="\n").writerows(rows)
    planted = generated.planted
    np.savez(
        folder / "planted.npz",
        **{name: getattr(planted, name) for name in Planted.__slots__},
    )


def read_planted(folder: Path) -> Planted | None:
    """Return the truth behind the data set in *folder*, None where there is none."""
    path = folder / "planted.npz"
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as arrays:
        return Planted(**{name: arrays[name] for name in Planted.__slots__})
