"""Where candidates come from. Each source is made once, and asked once a request."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from martlet.errors import UnsupportedModel
from martlet.recommend.declaration import Candidates, Neighbours, Popular, Similar, Stored
from martlet.recommend.stages import Floats, Keys, Mask, add_up
from martlet.recommend.subject import Subject
from martlet.recommend.tables import Tables
from martlet.retrieval import Index

Found = tuple[Keys, Floats]
Source = Callable[[Subject], Found]
OpenIndex = Callable[[str], Index]
"""The index of the embeddings that a declaration calls by this name."""

NOTHING: Found = (np.empty(0, np.int64), np.empty(0))


def make(declared: Candidates, tables: Tables, open_index: OpenIndex) -> Source:
    """
    Return the source that *declared* describes: a function of the subject.

    It returns item keys, best first, and their scores; nothing for a subject that it does not know.
    Hidden items are left out, and do not count towards the source's ``count``.

    Raises:
        UnsupportedModel: a table holds something else than is wanted of it.
    """
    match declared:
        case Neighbours():
            return _neighbours(declared, tables, open_index)
        case Similar():
            return _similar(declared, tables)
        case Stored():
            return _stored(declared, tables)
        case Popular():
            return _popular(declared, tables)


def _neighbours(declared: Neighbours, tables: Tables, open_index: OpenIndex) -> Source:
    units, items = tables.embeddings(declared.query), tables.embeddings(declared.items)
    if units.dim != items.dim:
        raise UnsupportedModel(
            f"candidates {declared.name!r}: {declared.query!r} has {units.dim} dimensions and "
            f"{declared.items!r} has {items.dim}; nearest neighbours need the same"
        )
    index = open_index(declared.items)

    def source(subject: Subject) -> Found:
        row = subject.row(units)
        if row < 0:
            return NOTHING
        hidden = items.rows_of(subject.hidden) if len(subject.hidden) else None
        found = index.search(
            units.take(np.array([row])),
            declared.count,
            exclude=None if hidden is None else [hidden],
        )
        rows, scores = found.rows[0], found.scores[0]
        kept = rows >= 0
        return items.keys.at(rows[kept]), scores[kept].astype(np.float64)

    return source


def _similar(declared: Similar, tables: Tables) -> Source:
    lists, histories = tables.lists(declared.lists), tables.lists(declared.history)

    def source(subject: Subject) -> Found:
        recent = subject.seen(histories)[-declared.recent :]
        if len(recent) == 0:
            return NOTHING
        found = lists.get_many(recent)
        if found.scores is None:
            # Lists without scores: the nearer the top, the more it says.
            lengths = np.diff(found.offsets)
            places = np.arange(len(found.items)) - np.repeat(found.offsets[:-1], lengths)
            scores = (1.0 / (1.0 + places)).astype(np.float64)
        else:
            scores = found.scores.astype(np.float64)
        shown = _shown(subject, found.items)
        return add_up(found.items[shown], scores[shown], declared.count)

    return source


def _stored(declared: Stored, tables: Tables) -> Source:
    lists = tables.lists(declared.lists)

    def source(subject: Subject) -> Found:
        found = lists.take(np.array([subject.row(lists)]))
        return _first(subject, found.items, _scores(found.scores, len(found.items)), declared.count)

    return source


def _popular(declared: Popular, tables: Tables) -> Source:
    lists = tables.lists(declared.lists)
    key = declared.key
    found = None
    # A key of the wrong kind is treated as one that is absent.
    if isinstance(key, str) if lists.text_keys else type(key) is int:
        found = lists.get(key)  # type: ignore[arg-type]  # it is str or int: see above
    if found is None:
        raise UnsupportedModel(
            f"candidates {declared.name!r}: {declared.lists!r} has no list under {declared.key!r}"
        )
    items, scores = found[0], _scores(found[1], len(found[0]))
    return lambda subject: _first(subject, items, scores, declared.count)


def _first(subject: Subject, items: Keys, scores: Floats, count: int) -> Found:
    """Return the first *count* of *items* that may be shown."""
    # Even if all hidden items come first, so many are enough.
    reach = count + len(subject.hidden)
    items, scores = items[:reach], scores[:reach]
    shown = _shown(subject, items)
    return items[shown][:count], scores[shown][:count]


def _shown(subject: Subject, items: Keys) -> Mask:
    if len(subject.hidden) == 0:
        return np.ones(len(items), dtype=bool)
    return ~np.isin(items, subject.hidden)


def _scores(scores: np.ndarray[tuple[int, ...], np.dtype[np.float32]] | None, n: int) -> Floats:
    # A list without scores says only an order; so does this.
    return np.arange(n, 0, -1.0) if scores is None else scores.astype(np.float64)
