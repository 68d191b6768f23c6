"""Reads the layouts in which GroupLens gives MovieLens out, and ours, which is shaped like them.

========== ============================================ ===================== =========
layout     ratings                                      films                 users
========== ============================================ ===================== =========
latest     ratings.csv ``userId,movieId,rating,time``   movies.csv            none
generated  the same                                     the same              users.csv
100k       u.data, tab separated                        u.item, ``|``         u.user
1m         ratings.dat, ``::`` separated                movies.dat            users.dat
========== ============================================ ===================== =========

Source: the README of each set, https://grouplens.org/datasets/movielens/
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from martlet.demo.dataset import Dataset, Floats, Ints, Items, Ratings, Users
from martlet.errors import InvalidInput

_YEAR = re.compile(r"\((\d{4})\)\s*$")
_NO_GENRE = "(no genres listed)"
# u.item holds one flag a genre, in this order, after five columns of text.
_GENRES_100K = (
    "unknown|Action|Adventure|Animation|Children's|Comedy|Crime|Documentary|Drama|Fantasy|"
    "Film-Noir|Horror|Musical|Mystery|Romance|Sci-Fi|Thriller|War|Western"
)
# 100k writes occupations as words; the code is the place in this list, as u.occupation has it.
_OCCUPATIONS_100K = (
    "administrator|artist|doctor|educator|engineer|entertainment|executive|healthcare|"
    "homemaker|lawyer|librarian|marketing|none|other|programmer|retired|salesman|scientist|"
    "student|technician|writer"
)

Film = tuple[int, str, list[str]]
Person = tuple[int, float, str, float]


def read(folder: Path) -> Dataset:
    """
    Read the MovieLens folder *folder*; its layout is told by the files in it.

    A user who rated a film twice keeps the later rating.

    Raises:
        InvalidInput: no layout fits, or a file is broken: the message names the file.
    """
    if not folder.is_dir():
        raise InvalidInput(f"{folder} is not a folder; give one that holds a MovieLens data set")
    for marker, reader in _LAYOUTS.items():
        if (folder / marker).is_file():
            return reader(folder)
    raise InvalidInput(
        f"{folder} holds no MovieLens data set: one of {', '.join(_LAYOUTS)} is wanted"
    )


def _read_csv(folder: Path) -> Dataset:
    films = [
        _film(folder / "movies.csv", row["movieId"], row["title"], row["genres"])
        for row in _records(folder / "movies.csv", ["movieId", "title", "genres"])
    ]
    columns = ["userId", "movieId", "rating", "timestamp"]
    with _open(folder / "ratings.csv", "utf-8") as file:
        header = [name.strip() for name in file.readline().split(",")]
    _want_columns(folder / "ratings.csv", header, columns)
    ratings = _numbers(
        folder / "ratings.csv", ",", skip=1, columns=[header.index(name) for name in columns]
    )
    path = folder / "users.csv"
    if not path.is_file():
        return _assemble("latest", folder, ratings, films, [])
    people = [
        _person(path, row["userId"], row["age"], row["gender"], row["occupation"])
        for row in _records(path, ["userId", "gender", "age", "occupation"])
    ]
    return _assemble("generated", folder, ratings, films, people)


def _read_100k(folder: Path) -> Dataset:
    films: list[Film] = []
    for fields in _fields(folder / "u.item", "|", 24):
        flags = zip(_GENRES_100K.split("|"), fields[5:24], strict=True)
        genres = "|".join(name for name, flag in flags if flag == "1" and name != "unknown")
        films.append(_film(folder / "u.item", fields[0], fields[1], genres))
    codes = {word: str(code) for code, word in enumerate(_OCCUPATIONS_100K.split("|"))}
    people = [
        _person(folder / "u.user", user, age, gender, codes.get(occupation, ""))
        for user, age, gender, occupation, _ in _fields(folder / "u.user", "|", 5)
    ]
    return _assemble("100k", folder, _numbers(folder / "u.data", "\t"), films, people)


def _read_1m(folder: Path) -> Dataset:
    films = [
        _film(folder / "movies.dat", *fields[:3])
        for fields in _fields(folder / "movies.dat", "::", 3)
    ]
    people = [
        _person(folder / "users.dat", user, age, gender, occupation)
        for user, gender, age, occupation, _ in _fields(folder / "users.dat", "::", 5)
    ]
    return _assemble("1m", folder, _numbers(folder / "ratings.dat", "::"), films, people)


_LAYOUTS: dict[str, Callable[[Path], Dataset]] = {
    "ratings.csv": _read_csv,
    "u.data": _read_100k,
    "ratings.dat": _read_1m,
}


def _assemble(
    layout: str, folder: Path, ratings: Floats, films: list[Film], people: list[Person]
) -> Dataset:
    if len(ratings) == 0:
        raise InvalidInput(f"{folder} holds no ratings")
    user_id, item_id, time = (ratings[:, c].astype(np.int64) for c in (0, 1, 3))
    value = ratings[:, 2]
    if value.min() <= 0 or value.max() > 5:
        raise InvalidInput(
            f"{folder}: ratings run from {value.min():g} to {value.max():g}; "
            "above 0 and up to 5 is wanted"
        )
    items = _items(films)
    item = np.searchsorted(items.ids, item_id).clip(max=len(items) - 1)
    strange = items.ids[item] != item_id
    if strange.any():
        raise InvalidInput(
            f"{folder}: film {item_id[strange][0]} is rated, but is not in the list of films"
        )
    users = _users(np.unique(user_id), people)
    user = np.searchsorted(users.ids, user_id)
    return Dataset(layout, users, items, _in_order(user, item, value, time))


def _in_order(user: Ints, item: Ints, value: Floats, time: Ints) -> Ratings:
    order = np.lexsort((item, user, time))
    pair = (user * (item.max() + 1) + item)[order]
    # The first of the reversed pairs is the last in time.
    _, last = np.unique(pair[::-1], return_index=True)
    order = order[np.sort(len(pair) - 1 - last)]
    return Ratings(user[order], item[order], value[order], time[order])


def _items(films: list[Film]) -> Items:
    films = sorted({film[0]: film for film in films}.values())
    names = tuple(sorted({genre for _, _, genres in films for genre in genres}))
    column = {name: number for number, name in enumerate(names)}
    flags = np.zeros((len(films), len(names)), dtype=np.bool_)
    for row, (_, _, genres) in enumerate(films):
        flags[row, [column[genre] for genre in genres]] = True
    years = [float(m[1]) if (m := _YEAR.search(title)) else np.nan for _, title, _ in films]
    ids = np.array([film[0] for film in films], dtype=np.int64)
    return Items(ids, tuple(film[1] for film in films), np.array(years), names, flags)


def _users(ids: Ints, people: list[Person]) -> Users:
    known = {person[0]: person for person in people}
    nobody = (0, np.nan, "", np.nan)
    found = [known.get(int(user), nobody) for user in ids]
    genders = {"F": 1.0, "M": 0.0}
    return Users(
        ids,
        age=np.array([age for _, age, _, _ in found]),
        gender=np.array([genders.get(gender, np.nan) for _, _, gender, _ in found]),
        occupation=np.array([occupation for _, _, _, occupation in found]),
    )


def _film(path: Path, item: str, title: str, genres: str) -> Film:
    listed = [] if genres in ("", _NO_GENRE) else genres.split("|")
    return _integer(path, item), title.strip(), listed


def _person(path: Path, user: str, age: str, gender: str, occupation: str) -> Person:
    return (
        _integer(path, user),
        float(_integer(path, age)) if age else np.nan,
        gender,
        float(_integer(path, occupation)) if occupation else np.nan,
    )


def _integer(path: Path, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise InvalidInput(f"{path}: {text!r} stands where a whole number is wanted") from None


def _numbers(path: Path, separator: str, skip: int = 0, columns: list[int] | None = None) -> Floats:
    """Return user, item, rating and time of every line. Shape [n, 4]."""
    with _open(path, "latin-1") as file:
        lines = [line.replace("::", ",") for line in file][skip:]
        if not any(map(str.strip, lines)):
            return np.zeros((0, 4))
        try:
            table: NDArray[np.float64] = np.loadtxt(
                lines,
                delimiter="," if separator == "::" else separator,
                usecols=columns or range(4),
                ndmin=2,
            )
        except (ValueError, IndexError) as exc:
            raise InvalidInput(f"{path}: a line is not user, film, rating, time: {exc}") from None
    if not np.isfinite(table).all():
        raise InvalidInput(f"{path}: a value is not a finite number")
    return table


def _records(path: Path, columns: list[str]) -> Iterator[dict[str, str]]:
    with _open(path, "utf-8-sig") as file:
        reader = csv.DictReader(file)
        _want_columns(path, reader.fieldnames or [], columns)
        for row in reader:
            if any(row[name] is None for name in columns):
                raise InvalidInput(f"{path}, line {reader.line_num}: a column is missing")
            yield row


def _want_columns(path: Path, found: object, wanted: list[str]) -> None:
    names = list(found) if isinstance(found, (list, tuple)) else []
    missing = [name for name in wanted if name not in names]
    if missing:
        raise InvalidInput(
            f"{path} has no column {missing[0]!r}; its first line must name {', '.join(wanted)}"
        )


def _fields(path: Path, separator: str, count: int) -> Iterator[list[str]]:
    with _open(path, "latin-1") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            fields = line.rstrip("\r\n").split(separator)
            if len(fields) != count:
                raise InvalidInput(
                    f"{path}, line {number}: {len(fields)} fields; {count} are wanted"
                )
            yield fields


def _open(path: Path, encoding: str) -> TextIO:
    try:
        return path.open(encoding=encoding, newline="")
    except OSError as exc:
        raise InvalidInput(f"{path} cannot be read: {exc.strerror}") from None
