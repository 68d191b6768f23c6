"""Both sides of a common ranking in one compiled pass: the user's share, and the items' rows.

A user's share is mostly one matrix product of what the user's graph is fed: the first layer's
columns for the user. Then the graph is not run, since the call of a session costs more than the
product.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from martlet import native
from martlet.errors import MartletError
from martlet.formats.package.items import OpenItems
from martlet.formats.package.part import OpenPart
from martlet.stores.embeddings import Embeddings
from martlet.stores.keys import KeyIndex, index_of
from martlet.tensors import DType, Spec, Tensor, Tensors

Floats = NDArray[np.float32]
Rows = NDArray[np.int64]

MOST_DEPTH = 2048
"""Numbers that a user's graph is fed, for it to be tried as a matrix."""

_LARGE = 2.0**40
_TOLERANCE = 1e-5


class Stretch(NamedTuple):
    """
    A part of what the user's graph is fed: an input as it comes, or rows of a table.

    Args:
        feeds: The graph's input.
        name: The package's.
        shape: Of a row.
        table: None: the input itself.
    """

    feeds: str
    name: str
    shape: tuple[int, ...]
    table: Embeddings | None

    @property
    def width(self) -> int:
        """How many numbers a row is."""
        return prod(self.shape)


class UserShare:
    """
    ``bias + x weights``, where x is what the user's graph is fed, side by side.

    Args:
        weights: Float32 [depth, width].
        bias: [width].
    """

    def __init__(
        self, part: OpenPart, stretches: list[Stretch], weights: Floats, bias: Floats
    ) -> None:
        self._part = part
        self.stretches = stretches
        self.weights, self.bias = weights, bias
        self.compiled: Any = None
        """What adds up the same bits for one user that it finds itself (see `Sides`)."""

    @classmethod
    def of(cls, part: OpenPart, specs: Mapping[str, Spec]) -> UserShare | None:
        """
        Return the share that *part* computes, found by running it; None: it is not a matrix.

        The matrix' rows are what the graph gives for one number at a time, so large that the bias
        is rounded away. It is then checked on numbers of every size and sign; and the certificate's
        probes are asked of the package that uses it.
        """
        stretches = _stretches(part, specs)
        if stretches is None:
            return None
        depth = sum(each.width for each in stretches)
        tried = np.random.default_rng(0).standard_normal((24, depth)).astype(np.float32)
        tried *= np.logspace(-3, 3, len(tried), dtype=np.float32)[:, None]
        x = np.concatenate([np.zeros((1, depth)), np.eye(depth) * _LARGE, tried])
        try:
            with np.errstate(over="ignore", invalid="ignore"):
                (found,) = part.run(_split(stretches, x.astype(np.float32)))
        except (MartletError, ValueError):
            return None
        if found.ndim != 2 or len(found) != len(x) or not np.isfinite(found).all():
            return None
        exact = found.astype(np.float64)
        bias, weights = exact[0], (exact[1 : depth + 1] - exact[0]) / _LARGE
        wide = tried.astype(np.float64)
        allowed = _TOLERANCE * (np.abs(wide) @ np.abs(weights) + np.abs(bias) + 1e-30)
        if (np.abs(wide @ weights + bias - exact[depth + 1 :]) > allowed).any():
            return None
        return cls(part, stretches, weights.astype(np.float32), bias.astype(np.float32))

    def __call__(self, inputs: Tensors) -> Floats:
        """
        Return the share of each user, [users, width].

        Raises:
            InvalidInput: the model refuses an id.
        """
        feed = self._part.feed(inputs)
        parts = [feed[each.feeds].reshape(-1, each.width) for each in self.stretches]
        x = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
        if self.compiled is None:
            return np.asarray(x @ self.weights + self.bias)
        out = np.empty((len(x), len(self.bias)), np.float32)
        self.compiled.share(np.require(x, requirements=("C", "A")), out)
        return out


class Sides:
    """
    What finds both sides of a common ranking: one user, items of the catalogue, rows of no table
    set since.

    Args:
        compiled: ``native/sides.c``'s.
        share: Of the user, where it is a matrix of tables that are read here.
    """

    def __init__(self, compiled: Any, items: OpenItems, share: UserShare | None) -> None:
        self._find = compiled.find
        self._key = items.items.key
        self._width = 0 if share is None else len(share.bias)
        stretches = [] if share is None else share.stretches
        self._users = [each.table for each in stretches if each.table is not None]
        self._items = items.set_rows
        self.finds_users = share is not None
        """Whether ``find`` finds the user's share too."""

    @classmethod
    def of(cls, items: OpenItems, share: UserShare | None) -> Sides | None:
        """Return what finds the sides of one package; None: its ids are text, or all is pure."""
        found, index = native.find("sides"), index_of(items.table.keys)
        if found is None or index is None:
            return None
        known = tuple((name, items.stored(name)) for name in items.items.columns)
        about = items.items.key, index, len(items.matrix), known
        feeds = None if share is None else _feeds(share.stretches)
        if share is not None and feeds is not None:
            share.compiled = found.Sides(share.weights, share.bias, feeds, about)
            return cls(share.compiled, items, share)
        return cls(found.Sides(None, None, (), about), items, None)

    def find(self, inputs: Tensors) -> tuple[Floats, Rows] | None:
        """Return the user's share, [1, width], and each item's row; None: find them otherwise."""
        for table in self._users:
            if table.live is not None:
                return None
        for marks in self._items:
            if marks.any_set():
                return None
        rows = np.empty(len(inputs[self._key]), np.int64)
        users = np.empty((1, self._width), np.float32)
        return (users, rows) if self._find(inputs, users, rows) else None


def _stretches(part: OpenPart, specs: Mapping[str, Spec]) -> list[Stretch] | None:
    """Return what *part* is fed, in an order of ours; None: not floats of fixed sizes alone."""
    found = []
    for name in part.floats:
        spec = specs[name]
        if spec.dtype is not DType.FLOAT32 or spec.shape is None:
            return None
        found.append(Stretch(name, name, spec.shape[1:], None))
    for _, table, gather in part.gathers:
        shape = specs[gather.input].shape
        if shape is None:
            return None
        shape = () if gather.column is not None else shape[1:]
        found.append(Stretch(gather.feeds, gather.input, (*shape, table.dim), table))
    if len(part.floats) != len(part.inputs) or any(-1 in each.shape for each in found):
        return None
    return found if 0 < sum(each.width for each in found) <= MOST_DEPTH else None


def _split(stretches: list[Stretch], x: Floats) -> dict[str, Tensor]:
    feed, at = {}, 0
    for each in stretches:
        columns = np.ascontiguousarray(x[:, at : at + each.width])
        feed[each.feeds] = columns.reshape(len(x), *each.shape)
        at += each.width
    return feed


_Feed = tuple[str, KeyIndex | None, Tensor | None, int]


def _feeds(stretches: list[Stretch]) -> tuple[_Feed, ...] | None:
    """Return what ``native/sides.c`` must know of each; None: it does not read one of them."""
    found: list[_Feed] = []
    for each in stretches:
        if each.table is None:
            found.append((each.name, None, None, each.width))
            continue
        mapped = each.table.mapped
        # More than one id of a user, or one of several columns, is gathered by others.
        if mapped is None or each.width != each.table.dim or len(each.shape) > 2:
            return None
        found.append((each.name, mapped[1], mapped[0], each.width))
    return tuple(found)
