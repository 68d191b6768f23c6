"""A recommender's filters over its open tables, and the order in which they are given up."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from martlet.errors import UnsupportedModel
from martlet.recommend import stages
from martlet.recommend.declaration import DropSeen, DropUnknown, Filter, KeepWhere, Scalar
from martlet.recommend.joining import Rows
from martlet.recommend.stages import Keys, Mask
from martlet.recommend.subject import Subject
from martlet.recommend.tables import Tables
from martlet.stores.features import Column
from martlet.tensors import DType

Test = Callable[[Rows], Mask]


class Filters:
    """
    The filters of a declaration, over open tables.

    Raises:
        UnsupportedModel: a table holds something else than is wanted of it, or a rule compares
            a column with a value of another kind.
    """

    def __init__(self, declared: Sequence[Filter], tables: Tables) -> None:
        self._histories = [
            tables.lists(each.history) for each in declared if isinstance(each, DropSeen)
        ]
        # Showing something seen is better than showing nothing; the owner's rules are given up
        # after that, and what no table describes is let in last.
        given_up_in_order = sorted(declared, key=lambda each: _PATIENCE[type(each)])
        self._tests = [(_named(each), _test(each, tables)) for each in given_up_in_order]

    def seen(self, subject: Subject) -> Keys:
        """Return the items that sources should leave out, because they would be dropped as seen."""
        found = [subject.seen(histories) for histories in self._histories]
        return together(found)

    def passing(self, rows: Rows, exclude: Keys | None) -> tuple[Mask, tuple[str, ...]]:
        """
        Return which items pass, and which filters were given up so that at least one does.

        *exclude* is never given up: the client asked for it.
        """
        allowed = np.ones(len(rows.items), dtype=bool)
        if exclude is not None and len(exclude):
            allowed = ~np.isin(rows.items, exclude)
        masks = [(name, test(rows)) for name, test in self._tests]
        given_up = 0
        passes = _all(allowed, masks)
        while not passes.any() and given_up < len(masks):
            given_up += 1
            passes = _all(allowed, masks[given_up:])
        return passes, tuple(dict.fromkeys(name for name, _ in masks[:given_up]))


def _all(allowed: Mask, masks: Sequence[tuple[str, Mask]]) -> Mask:
    passes = allowed.copy()
    for _, mask in masks:
        passes &= mask
    return passes


def together(parts: Sequence[Keys]) -> Keys:
    """Return the keys of all *parts*; they are of one kind."""
    filled = [part for part in parts if len(part)]
    return np.concatenate(filled) if filled else np.empty(0, np.int64)


_PATIENCE: dict[type[Filter], int] = {DropSeen: 0, KeepWhere: 1, DropUnknown: 2}


def _test(declared: Filter, tables: Tables) -> Test:
    match declared:
        case DropSeen(history):
            histories = tables.lists(history)
            return lambda rows: ~np.isin(rows.items, rows.subject.seen(histories))
        case DropUnknown(items):
            table = tables.features(items)
            return lambda rows: rows.of(table) >= 0
        case KeepWhere(items, feature, operator, value):
            features = tables.features(items)
            if feature not in features.columns:
                known = ", ".join(features.columns)
                raise UnsupportedModel(
                    f"the rule on {feature!r}: {items!r} has no such column; it has: {known}"
                )
            _check_rule(features.columns[feature], value)
            return lambda rows: stages.satisfies(
                features.take(rows.of(features), (feature,))[feature], operator, value
            )


def _check_rule(column: Column, value: Scalar) -> None:
    kind = {DType.STRING: "text", DType.BOOL: "true or false"}.get(column.dtype, "a number")
    found = (
        "text"
        if isinstance(value, str)
        else "true or false"
        if isinstance(value, bool)
        else "a number"
    )
    if column.width or kind != found:
        what = f"a vector of {column.width}" if column.width else kind
        raise UnsupportedModel(
            f"the rule on {column.name!r} compares it with {value!r}; the column holds {what}"
        )


def _named(declared: Filter) -> str:
    match declared:
        case DropSeen():
            return "seen"
        case DropUnknown():
            return "unknown"
        case KeepWhere(_, feature, operator, value):
            return f"{feature} {operator} {value}"
