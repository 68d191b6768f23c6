"""What the pieces of a scikit-learn ColumnTransformer do to columns as they come."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.formats.sklearn.columns import all_text
from martlet.formats.sklearn.scalers import Step, step_of
from martlet.tensors import Tensor

_MOST_CATEGORIES = 1 << 17
_ENCODERS = ("OneHotEncoder", "OrdinalEncoder")
_NO_CATEGORY = "\x00 none of the categories"


class NotKnownHere(Exception):
    """A piece that scikit-learn alone can do."""


@dataclass(frozen=True, slots=True)
class Marks:
    """A block of ones: row i has them in the columns ``where[i]`` of *width*, but for the -1s."""

    where: NDArray[np.int32]  # [rows, features]
    width: int

    def dense(self) -> Tensor:
        """Return the block as a matrix of float64."""
        found = np.zeros((len(self.where), self.width + 1))  # the last stands for the -1s
        np.put_along_axis(found, self.where.astype(np.intp), 1.0, axis=1)
        return np.ascontiguousarray(found[:, :-1])


Block = Tensor | Marks


@dataclass(frozen=True)
class Piece:
    """
    One piece of a ColumnTransformer.

    Attributes:
        block: From its columns to what it gives; None: these rows are scikit-learn's to judge.
        known: For each of its columns that are categories, these.
    """

    block: Callable[[list[Tensor]], Block | None]
    known: Sequence[Sequence[Any]] = ()


def piece_of(transformer: Any, texts: Sequence[bool]) -> Piece:
    """
    Return what the fitted *transformer* does to columns of float64, or of text where *texts* says.

    Raises:
        NotKnownHere: scikit-learn alone can do it.
    """
    leaves = [each for each in _leaves(transformer) if not _passes(each)]
    while texts and all(texts) and leaves and _fills_no_text(leaves[0]):
        leaves = leaves[1:]  # only what is missing, and such rows are not walked
    encoder = leaves.pop() if leaves and type(leaves[-1]).__name__ in _ENCODERS else None
    if encoder is not None and not leaves:
        return _encoded(encoder, texts)
    if any(texts):
        raise NotKnownHere(type(transformer).__name__)
    numbers = _numbers([_step(each) for each in leaves])
    if encoder is None:
        return Piece(numbers)
    encoded = _encoded(encoder, texts)
    return Piece(_after(numbers, encoded.block), encoded.known)


def _leaves(transformer: Any) -> list[Any]:
    if hasattr(transformer, "steps"):
        return [leaf for _, each in transformer.steps for leaf in _leaves(each)]
    return [transformer]


def _passes(leaf: Any) -> bool:
    if leaf is None or isinstance(leaf, str):
        return leaf in (None, "passthrough")
    return type(leaf).__name__ == "FunctionTransformer" and leaf.func is None


def _fills_no_text(leaf: Any) -> bool:
    return (
        type(leaf).__name__ == "SimpleImputer"
        and not isinstance(leaf.missing_values, str)
        and not leaf.add_indicator
    )


# -- numbers ------------------------------------------------------------------------------------


def _numbers(steps: list[Step]) -> Callable[[list[Tensor]], Tensor | None]:
    def block(columns: list[Tensor]) -> Tensor | None:
        # By columns, as a data frame has them: BLAS adds in the order that it finds.
        rows: Tensor = np.concatenate(columns).reshape(len(columns), -1).T
        for step in steps:
            if not _free_of_infinities(rows):
                return None
            rows = step(rows)
        return rows if _free_of_infinities(rows) else None

    return block


def _free_of_infinities(rows: Any) -> bool:
    # Some of scikit-learn's steps refuse them; what is sparse is no block of numbers either.
    return isinstance(rows, np.ndarray) and not np.isinf(rows).any()


def _after(
    numbers: Callable[[list[Tensor]], Tensor | None],
    encoded: Callable[[list[Tensor]], Block | None],
) -> Callable[[list[Tensor]], Block | None]:
    def block(columns: list[Tensor]) -> Block | None:
        rows = numbers(columns)
        return None if rows is None else encoded(list(rows.T))

    return block


def _step(leaf: Any) -> Step:
    found = step_of(leaf) or _filled(leaf)
    if found is not None:
        return found
    # Without the names it was fitted with, nothing warns that an array has none.
    nameless = copy.copy(leaf)
    nameless.__dict__.pop("feature_names_in_", None)
    transform: Step = nameless.transform
    return transform


def _filled(imputer: Any) -> Step | None:
    if type(imputer).__name__ != "SimpleImputer" or imputer.add_indicator:
        return None
    values = np.asarray(imputer.statistics_)
    missing = imputer.missing_values
    if values.dtype != np.float64 or np.isnan(values).any() or missing == missing:
        return None  # what is empty is left out; what is missing may be a number
    return lambda rows: np.where(np.isnan(rows), values, rows)


# -- categories ---------------------------------------------------------------------------------


def _encoded(encoder: Any, texts: Sequence[bool]) -> Piece:
    """
    Look each category up, each in its column, in what the encoder itself says of it.

    That an output tells of one column alone is what an encoder is: so the ways to drop, to join
    and to number categories, and what stands for one that is not known, need not be written anew.
    """
    known = [list(each) for each in encoder.categories_]
    if sum(map(len, known)) > _MOST_CATEGORIES or not all(known):
        raise NotKnownHere("so many categories, or none")
    for values, is_text in zip(known, texts, strict=True):
        if any(isinstance(v, str) != is_text or v != v or v is None for v in values):
            raise NotKnownHere("a missing value as a category")
    lookups = [_lookup(v, is_text) for v, is_text in zip(known, texts, strict=True)]
    told = _told_of_each(encoder, known, texts)
    if type(encoder).__name__ == "OneHotEncoder":
        return Piece(_marked(lookups, *_columns_marked(encoder, told)), known)
    return Piece(_numbered(lookups, [(t[:, at], u) for at, (t, u) in enumerate(told)]), known)


Codes = NDArray[np.intp]


def _lookup(known: list[Any], is_text: bool) -> Callable[[Tensor], Codes | None]:
    """Return what makes positions in *known* of a column; ``len(known)``: it is not there."""
    unknown = len(known)
    if is_text:
        places = {value: place for place, value in enumerate(known)}

        def of_text(column: Tensor) -> Codes | None:
            if not all_text(column):
                return None  # one is missing
            found = map(places.get, column.tolist(), repeat(unknown))
            return np.fromiter(found, np.intp, len(column))

        return of_text
    numbers = np.array(known, np.float64)
    order = np.argsort(numbers)
    sorted_numbers = numbers[order]

    def of_numbers(column: Tensor) -> Codes | None:
        if not np.isfinite(column).all():
            return None
        at = np.minimum(np.searchsorted(sorted_numbers, column), unknown - 1)
        found: Codes = np.where(sorted_numbers[at] == column, order[at], unknown)
        return found

    return of_numbers


def _told_of_each(
    encoder: Any, known: list[list[Any]], texts: Sequence[bool]
) -> list[tuple[Any, Any]]:
    """
    Return, for each column, the encoder's rows for its categories and its row for none of them.

    The second is None where the encoder refuses what it does not know.
    """
    encoder = copy.copy(encoder)
    if hasattr(encoder, "sparse_output"):
        encoder.sparse_output = True
    first = [values[0] for values in known]
    found = []
    for at, values in enumerate(known):
        other = _NO_CATEGORY if texts[at] else float(np.max(np.array(values, np.float64))) + 1.0
        rows = [encoder.transform(_frame(encoder, first, at, values, texts))]
        try:
            rows.append(encoder.transform(_frame(encoder, first, at, [other], texts)))
        except ValueError:
            rows.append(None)
        found.append((rows[0], rows[1]))
    return found


def _frame(
    encoder: Any, first: list[Any], changed: int, values: list[Any], texts: Sequence[bool]
) -> Any:
    import pandas

    columns = {}
    for at, is_text in enumerate(texts):
        column = values if at == changed else [first[at]] * len(values)
        columns[at] = np.array(column, object if is_text else np.float64)
    found = pandas.DataFrame(columns)
    found.columns = getattr(encoder, "feature_names_in_", found.columns)
    return found if hasattr(encoder, "feature_names_in_") else found.to_numpy()


def _columns_marked(
    encoder: Any, told: list[tuple[Any, Any]]
) -> tuple[list[NDArray[np.int32]], list[bool], int]:
    """Return the output column of each category, and of none of them; -1: no column."""
    if encoder.dtype != np.float64:
        raise NotKnownHere("ones of another dtype")
    ends = np.cumsum([0, *encoder._n_features_outs])
    marks, takes_others = [], []
    for at, (rows, other) in enumerate(told):
        within = [
            each[:, ends[at] : ends[at + 1]].tocsr() for each in (rows, other) if each is not None
        ]
        where = np.concatenate([_only_one(each) for each in within])
        marks.append(np.where(where < 0, -1, where + ends[at]).astype(np.int32))
        takes_others.append(other is not None)
    return marks, takes_others, int(ends[-1])


def _only_one(rows: Any) -> NDArray[np.int32]:
    counts = np.diff(rows.indptr)
    if np.any(counts > 1) or np.any(rows.data != 1):
        raise NotKnownHere("more than one mark a category")
    found = np.full(rows.shape[0], -1, np.int32)
    found[counts == 1] = rows.indices
    return found


def _marked(
    lookups: list[Callable[[Tensor], Codes | None]],
    marks: list[NDArray[np.int32]],
    takes_others: list[bool],
    width: int,
) -> Callable[[list[Tensor]], Marks | None]:
    def block(columns: list[Tensor]) -> Marks | None:
        where = np.empty((len(columns[0]), len(columns)), np.int32)
        for at, column in enumerate(columns):
            codes = lookups[at](column)
            if codes is None or (not takes_others[at] and codes.max() >= len(marks[at])):
                return None
            where[:, at] = marks[at][codes]
        return Marks(where, width)

    return block


def _numbered(
    lookups: list[Callable[[Tensor], Codes | None]], told: list[tuple[Any, Any]]
) -> Callable[[list[Tensor]], Tensor | None]:
    outputs = [
        rows if other is None else np.append(rows, other[0, at])
        for at, (rows, other) in enumerate(told)
    ]

    def block(columns: list[Tensor]) -> Tensor | None:
        found = np.empty((len(columns[0]), len(columns)), outputs[0].dtype)
        for at, column in enumerate(columns):
            codes = lookups[at](column)
            if codes is None or codes.max() >= len(outputs[at]):
                return None
            found[:, at] = outputs[at][codes]
        return found

    return block


# -- the whole ----------------------------------------------------------------------------------


def stacked(blocks: Sequence[Block], sparse: Callable[..., Any] | None) -> Any:
    """
    Return the blocks side by side.

    Args:
        sparse: The class that scikit-learn gives of them; None: an array.
    """
    if sparse is None:
        return np.hstack([each.dense() if isinstance(each, Marks) else each for each in blocks])
    values, columns, start = [], [], 0
    for each in blocks:
        if isinstance(each, Marks):
            values.append((each.where >= 0).astype(np.float64))
            columns.append(each.where + np.int32(start))
            start += each.width
        else:
            values.append(each)
            numbers = np.arange(start, start + each.shape[1], dtype=np.int32)
            columns.append(np.broadcast_to(numbers, each.shape))
            start += each.shape[1]
    all_values, all_columns = np.hstack(values), np.hstack(columns)
    told = all_values != 0
    ends = np.zeros(len(told) + 1, np.int32)
    np.cumsum(told.sum(axis=1), out=ends[1:])
    return sparse((all_values[told], all_columns[told], ends), shape=(len(told), start))
