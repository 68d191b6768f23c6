"""Rows with categories or text, handed to CatBoost the way that costs it least."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any

import numpy as np

from martlet.errors import InvalidInput, ServableFailed
from martlet.tensors import Tensor

# Fewer rows than this cost less as one matrix of Python's objects.
_FEW = 8
_PLAIN = {str, bytes}


class Pools:
    """
    Makes the pools of one model of which some features are categories or text.

    CatBoost takes numbers as float32 and categories as text, apart, in half the time of a matrix
    of objects. They then stand numbers first, unless the features bear names that it knows them by.

    Args:
        model: A loaded ``catboost.CatBoost``. Where a number stands behind a category, its
            features are given other names here.
        names: Of its inputs, for errors.
        threads: That making a pool may use.
    """

    def __init__(self, model: Any, names: Sequence[str], threads: int) -> None:
        import catboost

        self._pool, self._parts = catboost.Pool, catboost.FeaturesData
        self._failed = catboost.CatBoostError
        self._names, self._threads = names, threads
        self._categories: list[int] = model.get_cat_feature_indices()
        self._texts: list[int] = model.get_text_feature_indices()
        self._vectors: list[int] = model.get_embedding_feature_indices()
        self._worded = sorted(self._categories + self._texts)
        self._numbers = sorted({*range(len(names))} - {*self._worded})
        self._called: dict[str, list[str]] = {}
        self._plain = not self._texts and not self._vectors
        if self._plain and self._numbers and self._numbers[-1] > self._worded[0]:
            called = [f"feature {at}" for at in range(len(names))]
            model.set_feature_names(called)
            self._called = {
                "num_feature_names": [called[at] for at in self._numbers],
                "cat_feature_names": [called[at] for at in self._worded],
            }

    def of(self, columns: Sequence[Tensor]) -> Any:
        """
        Return the ``catboost.Pool`` of *columns*, one a feature, all of one length above 0.

        Raises:
            InvalidInput: a category is missing, or neither text nor a whole number.
            ServableFailed: CatBoost refuses the rows for another reason.
        """
        try:
            if not self._plain or len(columns[0]) < _FEW:
                return self._mixed([column.tolist() for column in columns])
            return self._apart(columns)
        except SystemError as exc:  # CatBoost's word for half a surrogate pair
            raise InvalidInput(f"a category is no text that UTF-8 can hold: {exc}") from exc
        except self._failed as exc:
            raise ServableFailed(f"CatBoost failed: {exc}") from exc

    def _mixed(self, cells: list[list[Any]]) -> Any:
        if not _plain(chain.from_iterable([cells[at] for at in self._worded])):
            for at in self._worded:
                cells[at] = self._as_text(at, cells[at])
        rows = [*zip(*cells, strict=True)]
        return self._pool(
            [*map(list, rows)] if self._vectors else np.array(rows, object),
            cat_features=self._categories,
            text_features=self._texts or None,
            embedding_features=self._vectors or None,
            thread_count=self._threads,
        )

    def _apart(self, columns: Sequence[Tensor]) -> Any:
        worded = _side_by_side([columns[at] for at in self._worded], object)
        if not _plain(worded.ravel("K").tolist()):
            cells = [self._as_text(at, columns[at].tolist()) for at in self._worded]
            worded = np.array(cells, object).T
        parts = {"cat_feature_data": worded}
        if self._numbers:
            with np.errstate(over="ignore"):  # infinite, as CatBoost has it
                numbers = _side_by_side([columns[at] for at in self._numbers], np.float32)
            parts["num_feature_data"] = numbers
        return self._pool(self._parts(**parts, **self._called), thread_count=self._threads)

    def _as_text(self, at: int, cells: list[Any]) -> list[str | bytes]:
        return [_text(cell, self._names[at]) for cell in cells]


def _plain(cells: Iterable[Any]) -> bool:
    return _PLAIN.issuperset(map(type, cells))


def _side_by_side(columns: list[Tensor], dtype: Any) -> Tensor:
    joined = np.concatenate(columns, dtype=dtype, casting="same_kind")
    return joined.reshape(len(columns), -1).T


def _text(cell: object, name: str) -> str | bytes:
    """Return what a category's value is as text, by CatBoost's rules."""
    if isinstance(cell, str | bytes):
        return cell
    if isinstance(cell, int | np.integer | np.bool_):
        return str(int(cell))
    if cell is None:
        raise InvalidInput(
            f"input {name!r} has a missing category: give the text that stood for it in training"
        )
    raise InvalidInput(
        f"input {name!r} has the category {cell!r}: a cat_feature is text or a whole number"
    )
