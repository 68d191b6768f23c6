"""What every store keeps: values by key, many at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from martlet.stores.keys import Rows
from martlet.stores.tablefile import Array

Values_co = TypeVar("Values_co", covariant=True)
Given_contra = TypeVar("Given_contra", contravariant=True)


class Store(Protocol[Values_co]):
    """
    Values by key. Any thread may read; a request asks once for all the keys it needs.

    *Values* holds one value for each key that was asked for, in the order of asking: for
    embeddings ``Gathered``, for lists ``Listed``, for features a dict of columns.
    """

    @property
    def generation(self) -> str:
        """The id shared by all that was trained together; "" for none."""
        ...

    def __len__(self) -> int:
        """How many keys it has."""
        ...

    def get_many(self, keys: ArrayLike | Sequence[str]) -> Values_co:
        """
        Return the values of *keys*, in their order; what an unknown key has, the store says.

        Raises:
            InvalidInput: *keys* are not of the store's kind: integers or strings.
            NotAvailable: the store cannot be reached.
        """
        ...

    def scan(self, batch: int = 8192) -> Iterator[tuple[Array, Values_co]]:
        """Give every key once with its value, at most *batch* at a time."""
        ...


class Table(Store[Values_co], Protocol[Values_co]):
    """A store whose values lie in rows of a mapped file, which is written once."""

    def rows_of(self, keys: ArrayLike | Sequence[str]) -> Rows:
        """
        Return the row of each key, -1 where there is none; what costs most of a ``get_many``.

        Raises:
            InvalidInput: *keys* are not of the table's kind.
        """
        ...

    def verify(self) -> None:
        """
        Read the whole file.

        Raises:
            UnsupportedModel: it is damaged; the text says where.
        """
        ...


class Writable(Store[Values_co], Protocol[Values_co, Given_contra]):
    """A store that also takes values while it serves; *Given* holds one for each key."""

    def put_many(self, keys: ArrayLike | Sequence[str], values: Given_contra, /) -> None:
        """
        Keep *values*, one for each of *keys*; who reads afterwards sees all of them.

        Raises:
            InvalidInput: keys or values are not of the store's kind, or differ in number.
            NotAvailable: the store cannot be reached.
        """
        ...

    def remove_many(self, keys: ArrayLike | Sequence[str]) -> NDArray[np.bool_]:
        """
        Forget what was put under each of *keys*; return under which there was something.

        Raises:
            InvalidInput: *keys* are not of the store's kind.
            NotAvailable: the store cannot be reached.
        """
        ...
