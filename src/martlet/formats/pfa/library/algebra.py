"""``la.*``: number 24000."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from martlet.formats.pfa.failure import Failure
from martlet.formats.pfa.library import entry
from martlet.formats.pfa.library.core import Run

Vector = Sequence[float]
Matrix = Sequence[Sequence[float]]

_VECTORS_AND_MATRICES = (
    "[double], [double] -> [double]; [[double]], [[double]] -> [[double]]; "
    "{double}, {double} -> {double}; {{double}}, {{double}} -> {{double}}"
)


def _each(x: Any, f: Callable[[float], float]) -> Any:
    if type(x) is list:
        return [_each(v, f) for v in x]
    if type(x) is dict:
        return {k: _each(v, f) for k, v in x.items()}
    return f(x)


def _both(x: Any, y: Any, f: Callable[[Any, Any], float], code: int) -> Any:
    """Combine element by element; a key that one map lacks counts as 0."""
    if isinstance(x, list) and isinstance(y, list):
        if len(x) != len(y):
            raise Failure(code, "misaligned matrices")
        return [_both(a, b, f, code) for a, b in zip(x, y, strict=True)]
    if isinstance(x, dict) and isinstance(y, dict):
        nested = any(type(v) is dict for m in (x, y) for v in m.values())
        zero: Any = {} if nested else 0.0
        keys = [*x, *(k for k in y if k not in x)]
        if not nested:
            return {k: f(x.get(k, 0.0), y.get(k, 0.0)) for k in keys}
        # Every row is as wide as the widest: what no row names is 0 in all.
        columns = list(dict.fromkeys(c for m in (x, y) for row in m.values() for c in row))
        return {
            k: {c: f(x.get(k, zero).get(c, 0.0), y.get(k, zero).get(c, 0.0)) for c in columns}
            for k in keys
        }
    return f(x, y)


entry("la.map", "[[double]], fn(double -> double) -> [[double]]; "
      "{{double}}, fn(double -> double) -> {{double}}")(_each)  # fmt: skip


@entry(
    "la.scale",
    "[double], double -> [double]; [[double]], double -> [[double]]; "
    "{double}, double -> {double}; {{double}}, double -> {{double}}",
)
def scale(x: Any, alpha: float) -> Any:
    return _each(x, lambda v: v * alpha)


@entry(
    "la.zipmap",
    "[[double]], [[double]], fn(double, double -> double) -> [[double]]; "
    "{{double}}, {{double}}, fn(double, double -> double) -> {{double}}",
)
def zipmap(x: Any, y: Any, f: Run) -> Any:
    return _both(x, y, f, 24020)


entry("la.add", _VECTORS_AND_MATRICES)(lambda x, y: _both(x, y, lambda a, b: a + b, 24030))
entry("la.sub", _VECTORS_AND_MATRICES)(lambda x, y: _both(x, y, lambda a, b: a - b, 24040))


def _array(x: Any, code: int, square: int | None = None) -> tuple[Any, list[str], list[str]]:
    """Return a matrix of lists or of maps as an array, with the names of its rows and columns."""
    if type(x) is dict:
        rows = list(x)
        columns = sorted({c for row in x.values() for c in row})
        if square is not None:
            rows = columns = sorted({*rows, *columns})
        if not rows or not columns:
            raise Failure(code, "too few rows/cols")
        return np.array([[x.get(r, {}).get(c, 0.0) for c in columns] for r in rows]), rows, columns
    if not x or not x[0]:
        raise Failure(code, "too few rows/cols")
    if any(len(row) != len(x[0]) for row in x):
        raise Failure(code + 1, "ragged columns")
    if square is not None and len(x) != len(x[0]):
        raise Failure(square, "non-square matrix")
    return np.array(x, dtype=np.float64), [], []


def _back(a: Any, rows: list[str], columns: list[str]) -> Any:
    if not rows:
        return a.tolist()
    return {
        r: dict(zip(columns, values, strict=True))
        for r, values in zip(rows, a.tolist(), strict=True)
    }


@entry(
    "la.dot",
    "[[double]], [double] -> [double]; {{double}}, {double} -> {double}; "
    "[[double]], [[double]] -> [[double]]; {{double}}, {{double}} -> {{double}}",
)
def dot(x: Any, y: Any) -> Any:
    if not x or not y:
        raise Failure(24051, "too few rows/cols")
    if type(x) is dict:
        return _dot_maps(x, y)
    a, _, _ = _array(x, 24050)
    b = np.array(y, dtype=np.float64)
    if a.shape[1] != len(b):
        raise Failure(24050, "misaligned matrices")
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise Failure(24052, "contains non-finite value")
    return (a @ b).tolist()


def _dot_maps(x: dict[str, dict[str, float]], y: Any) -> Any:
    inner = sorted({c for row in x.values() for c in row})
    a = np.array([[row.get(c, 0.0) for c in inner] for row in x.values()])
    if all(type(v) is not dict for v in y.values()):
        b = np.array([y.get(c, 0.0) for c in inner])
        _finite(a, np.array(list(y.values())))
        return dict(zip(x, (a @ b).tolist(), strict=True))
    columns = sorted({c for row in y.values() for c in row})
    b = np.array([[y.get(i, {}).get(c, 0.0) for c in columns] for i in inner])
    _finite(a, b)
    return _back(a @ b, list(x), columns)


def _finite(*arrays: Any) -> None:
    if not all(np.isfinite(each).all() for each in arrays):
        raise Failure(24052, "contains non-finite value")


@entry("la.transpose", "[[double]] -> [[double]]; {{double}} -> {{double}}")
def transpose(x: Any) -> Any:
    if type(x) is dict and len({frozenset(row) for row in x.values()}) > 1:
        raise Failure(24061, "ragged columns")
    a, rows, columns = _array(x, 24060)
    return _back(a.T, columns, rows)


@entry("la.inverse", "[[double]] -> [[double]]; {{double}} -> {{double}}")
def inverse(x: Any) -> Any:
    """The pseudo-inverse, where there is no inverse."""
    a, rows, columns = _array(x, 24070)
    return _back(np.linalg.pinv(a), columns, rows)


@entry("la.trace", "[[double]] -> double; {{double}} -> double")
def trace(x: Any) -> float:
    if not x:
        return 0.0
    if type(x) is dict:
        return float(sum(row.get(k, 0.0) for k, row in x.items()))
    if any(len(row) != len(x[0]) for row in x):
        raise Failure(24080, "ragged columns")
    return float(sum(row[i] for i, row in enumerate(x) if i < len(row)))


def _symmetric_input(x: Any, code: int) -> Any:
    return _array(x, code, square=code + 2)


@entry("la.det", "[[double]] -> double; {{double}} -> double")
def det(x: Any) -> float:
    a, _, _ = _symmetric_input(x, 24090)
    return float(np.linalg.det(a)) if np.isfinite(a).all() else math.nan


@entry("la.symmetric", "[[double]], double -> boolean; {{double}}, double -> boolean")
def symmetric(x: Any, tolerance: float) -> bool:
    a, _, _ = _symmetric_input(x, 24100)
    same = (a == a.T) | (np.isnan(a) & np.isnan(a.T)) | (np.abs(a - a.T) < tolerance)
    return bool(same.all())


@entry("la.eigenBasis", "[[double]] -> [[double]]; {{double}} -> {{double}}")
def eigen_basis(x: Any) -> Any:
    """Rows are eigenvectors over the roots of their eigenvalues, the largest first."""
    a, rows, columns = _symmetric_input(x, 24110)
    if not np.isfinite(a).all():
        raise Failure(24113, "non-finite matrix")
    values, vectors = np.linalg.eigh((a + a.T) / 2.0)
    basis = []
    for i in np.argsort(-np.abs(values), kind="stable"):
        vector = vectors[:, i]
        sign = 1.0 if vector[0] >= 0 else -1.0
        with np.errstate(divide="ignore", invalid="ignore"):
            basis.append(vector * sign / np.sqrt(abs(values[i])))
    found = np.array(basis)
    if not rows:
        return found.tolist()
    names = [str(i) for i in range(len(rows))]
    return _back(found, names, columns)


@entry("la.truncate", "[[double]], int -> [[double]]; {{double}}, [string] -> {{double}}")
def truncate(x: Any, keep: Any) -> Any:
    if not x or not all(x.values() if type(x) is dict else x):
        raise Failure(24120, "too few rows/cols")
    if type(x) is dict:
        return {k: v for k, v in x.items() if k in keep}
    return x[: max(0, keep)]
