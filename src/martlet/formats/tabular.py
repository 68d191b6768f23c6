"""Rows of features, given as one matrix or as one column a feature: for models of tables."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.errors import InvalidInput
from martlet.servable import DEFAULT_SIGNATURE
from martlet.tensors import DType, Signature, Spec, Tensor, Tensors

MATRIX = "X"
Matrix = NDArray[np.float64]


class Categories:
    """The values of a column that the model knows by number, in the order of their numbers."""

    def __init__(self, values: Sequence[Any]) -> None:
        self._codes = {value: float(code) for code, value in enumerate(values)}
        text = not values or isinstance(values[0], str)
        # A whole number or a boolean may be missing too, which only a float can say.
        self.dtype = DType.STRING if text else DType.FLOAT64
        self.description = f"one of {len(values)} categories; any other is missing"

    def codes(self, column: Tensor) -> Matrix:
        """Return the number of each value; NaN where the value is unknown or missing."""
        get, nan = self._codes.get, float("nan")
        if self.dtype is DType.STRING:
            found = (get(v.decode() if isinstance(v, bytes) else v, nan) for v in column)
        else:
            found = (get(v, nan) for v in column.tolist())
        return np.fromiter(found, np.float64, len(column))


_ZERO = np.zeros(1)  # as a column of one, it stands for every row


class Rows:
    """
    The features of a table, and the two forms in which its rows may come.

    ``matrix``: one float64 input ``X [-1, features]``. ``columns``: one ``[-1]`` input a feature,
    by name; a column of length 1 stands for every row. NaN is a missing value. The default
    signature is ``columns`` where somebody chose the names, else ``matrix``, and takes the other
    form too. Where a feature is text, a vector, or a category known by its value, there is no
    matrix. A column that the model does not use may be left out, or be anything; it is given as
    zeros.

    Attributes:
        names: The features, in the order of the matrix.
        may_miss: Those of text whose values may be missing: None. To be set before ``signatures``.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        named: bool,
        categories: Mapping[str, Categories] | None = None,
        texts: Sequence[str] = (),
        vectors: Mapping[str, int] | None = None,
        takes_numbers: bool = False,
        unused: Sequence[str] = (),
    ) -> None:
        self.names = list(names)
        self._unused = frozenset(unused)
        self._categories = categories or {}
        self._texts = frozenset(texts)
        self._vectors = vectors or {}
        self.may_miss: Collection[str] = ()
        self._takes_numbers = takes_numbers
        self._forms = ["columns", "matrix"] if named else ["matrix", "columns"]
        odd = self._categories or self._texts or self._vectors or self._unused
        if odd or not self.names:
            self._forms = ["columns"] if self.names else ["matrix"]
        self._matrices: set[str] = set()

    def signatures(self, outputs: Mapping[str, list[Spec]]) -> dict[str, Signature]:
        """Return, for each way to call the model (by name, with its outputs), its forms."""
        found: dict[str, Signature] = {}
        for name, specs in outputs.items():
            prefix = "" if name == DEFAULT_SIGNATURE else f"{name}_"
            forms = [(f"{prefix}{form}", self._inputs(form)) for form in self._forms]
            found[name] = Signature.of(forms[0][1], specs, also=forms[-1][0])
            for called, inputs in forms:
                found[called] = Signature.of(inputs, specs)
            self._matrices.add(f"{prefix}matrix")
            if self._forms[0] == "matrix":
                self._matrices.add(name)
        return found

    def _inputs(self, form: str) -> list[Spec]:
        if form == "matrix":
            return [Spec(MATRIX, DType.FLOAT64, (-1, len(self.names)), nullable=True)]
        return [self._column(name) for name in self.names]

    def _column(self, name: str) -> Spec:
        if name in self._unused:
            told = "not used"
            return Spec(name, DType.STRING, (-1,), False, True, told, takes_numbers=True)
        if name in self._texts:
            missing = name in self.may_miss
            return Spec(
                name, DType.STRING, (-1,), nullable=missing, takes_numbers=self._takes_numbers
            )
        if name in self._vectors:
            return Spec(name, DType.FLOAT64, (-1, self._vectors[name]))
        known = self._categories.get(name)
        if known is None:
            return Spec(name, DType.FLOAT64, (-1,), nullable=True)
        return Spec(name, known.dtype, (-1,), nullable=True, description=known.description)

    def matrix(self, inputs: Tensors, signature_name: str) -> Matrix:
        """
        Return the rows as one ``[rows, features]`` matrix, contiguous by row or by column.

        Raises:
            InvalidInput: the columns differ in length.
        """
        if signature_name in self._matrices:
            rows = inputs[MATRIX]
            return rows if rows.flags.forc else np.ascontiguousarray(rows)
        columns = self.columns(inputs, signature_name)
        return np.concatenate(columns).reshape(len(columns), len(columns[0])).T

    def columns(self, inputs: Tensors, signature_name: str) -> list[Tensor]:
        """
        Return the columns, of one length; a category's as its codes.

        Raises:
            InvalidInput: they differ in length.
        """
        if signature_name in self._matrices:
            return list(inputs[MATRIX].T)
        columns = [_ZERO if name in self._unused else inputs[name] for name in self.names]
        if self._categories:
            columns = [
                self._categories[name].codes(column) if name in self._categories else column
                for name, column in zip(self.names, columns, strict=True)
            ]
        return columns if len(set(map(len, columns))) == 1 else self._aligned(columns)

    def _aligned(self, columns: list[Tensor]) -> list[Tensor]:
        lengths = set(map(len, columns)) - {1}
        if len(lengths) > 1:
            found = ", ".join(f"{n!r} {len(c)}" for n, c in zip(self.names, columns, strict=True))
            raise InvalidInput(f"the columns differ in length: {found}")
        count = lengths.pop()
        return [np.broadcast_to(column, (count, *column.shape[1:])) for column in columns]
