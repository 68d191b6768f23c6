"""``la.*``, ``metric.*`` and ``interp.*``: numbers 24000, 28000, 22000."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from martlet.formats.pfa.failure import Failure
from martlet.formats.pfa.library import entry
from martlet.formats.pfa.library.core import Run, divide, power
from martlet.formats.pfa.library.maths import exp

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


# -- metrics -----------------------------------------------------------------------------------


@entry("metric.simpleEuclidean", "[double], [double] -> double")
def simple_euclidean(x: Vector, y: Vector) -> float:
    if len(x) != len(y):
        raise Failure(28000, "dimensions of vectors do not match")
    return math.sqrt(sum((a - b) ** 2 for a, b in zip(x, y, strict=True)))


entry("metric.absDiff", "double, double -> double")(lambda x, y: abs(x - y))


@entry("metric.gaussianSimilarity", "double, double, double -> double")
def gaussian_similarity(x: float, y: float, sigma: float) -> float:
    return exp(-math.log(2) * divide((x - y) ** 2, sigma**2))


_METRIC = (
    "fn(A, B -> double), [(null|A)], [(null|B)]{0} -> double; "
    "fn(A, B -> double), [(null|A)], [(null|B)]{0}, [double] -> double"
)


def _differences(
    similarity: Run, x: Sequence[Any], y: Sequence[Any], weights: Vector | None, code: int
) -> tuple[list[float], float]:
    """Return the differences that neither side misses, and what weighs up those that do."""
    if len(x) != len(y) or (weights is not None and len(weights) != len(x)):
        raise Failure(code, "dimensions of vectors do not match")
    found: list[float] = []
    share = total = 0.0
    for i, (a, b) in enumerate(zip(x, y, strict=True)):
        weight = 1.0 if weights is None else weights[i]
        total += weight
        if a is not None and b is not None:
            found.append(similarity(a, b))
            share += weight
    return found, divide(share, total)


def _metric(
    name: str, code: int, run: Callable[[list[float]], float], after: Callable[[float], float]
) -> None:
    @entry(f"metric.{name}", _METRIC.format(""))
    def call(similarity: Run, x: Any, y: Any, weights: Vector | None = None) -> float:
        found, share = _differences(similarity, x, y, weights, code)
        return after(divide(run(found), share)) if found else math.nan


_metric("euclidean", 28030, lambda d: sum(v * v for v in d), math.sqrt)
_metric("squaredEuclidean", 28040, lambda d: sum(v * v for v in d), float)
_metric("chebyshev", 28050, lambda d: max(0.0, *d), float)
_metric("taxicab", 28060, sum, float)


@entry("metric.minkowski", _METRIC.format(", double"))
def minkowski(similarity: Run, x: Any, y: Any, p: float, weights: Vector | None = None) -> float:
    if p <= 0:
        raise Failure(28071, "Minkowski parameter p must be positive")
    found, share = _differences(similarity, x, y, weights, 28070)
    if math.isinf(p):
        return max(0.0, *found) if found else 0.0
    return power(divide(sum(power(v, p) for v in found), share), 1.0 / p) if found else math.nan


def _counts(x: Sequence[bool], y: Sequence[bool], code: int) -> tuple[int, int, int, int]:
    if len(x) != len(y):
        raise Failure(code, "dimensions of vectors do not match")
    pairs = list(zip(x, y, strict=True))
    return (
        pairs.count((False, False)),
        pairs.count((False, True)),
        pairs.count((True, False)),
        pairs.count((True, True)),
    )


_BITS = "[boolean], [boolean]{0} -> double"


@entry("metric.simpleMatching", _BITS.format(""))
def simple_matching(x: Any, y: Any) -> float:
    a00, a01, a10, a11 = _counts(x, y, 28080)
    return divide(a11 + a00, a11 + a10 + a01 + a00)


@entry("metric.jaccard", _BITS.format(""))
def jaccard(x: Any, y: Any) -> float:
    _, a01, a10, a11 = _counts(x, y, 28090)
    return divide(a11, a11 + a10 + a01)


@entry("metric.tanimoto", _BITS.format(""))
def tanimoto(x: Any, y: Any) -> float:
    a00, a01, a10, a11 = _counts(x, y, 28100)
    return divide(a11 + a00, a11 + 2 * (a10 + a01) + a00)


@entry("metric.binarySimilarity", _BITS.format(", double" * 8))
def binary_similarity(x: Any, y: Any, *weights: float) -> float:
    counts = _counts(x, y, 28110)
    over = sum(w * n for w, n in zip(weights[:4], counts, strict=True))
    under = sum(w * n for w, n in zip(weights[4:], counts, strict=True))
    return divide(over, under)


# -- interpolation -----------------------------------------------------------------------------


@entry("interp.bin", "double, int, double, double -> int; double, double, double -> int")
def bin_of(x: float, *given: float) -> int:
    if len(given) == 3:
        count, low, high = given
        if low >= high or not (math.isfinite(low) and math.isfinite(high)):
            raise Failure(22000, "bad histogram range")
        if count < 1:
            raise Failure(22001, "bad histogram scale")
        if not low <= x < high:
            raise Failure(22002, "x out of range")
        return math.floor(count * (x - low) / (high - low))
    origin, width = given
    if not math.isfinite(origin):
        raise Failure(22000, "bad histogram range")
    if width <= 0 or not math.isfinite(width):
        raise Failure(22001, "bad histogram scale")
    if not math.isfinite(x):
        raise Failure(22002, "x out of range")
    return math.floor((x - origin) / width)


@entry(
    "interp.nearest",
    "double, [R{x: double, to: T}] -> T; [double], [R{x: [double], to: T}] -> T; "
    "X, [R{x: Y, to: T}], fn(X, Y -> double) -> T",
)
def nearest(x: Any, table: Sequence[Any], metric: Run | None = None) -> Any:
    if not table:
        raise Failure(22010, "table must have at least one entry")

    def away(entry: Any) -> float:
        there = entry["x"]
        if metric is not None:
            return float(metric(x, there))
        if type(x) is list:
            if len(x) != len(there):
                raise Failure(22011, "inconsistent dimensionality")
            return float(sum((a - b) ** 2 for a, b in zip(x, there, strict=True)))
        return float(abs(x - there))

    return min(table, key=away)["to"]


_TABLE = (
    "double, [R{{x: double, to: double}}] -> {0}; double, [R{{x: double, to: [double]}}] -> {1}"
)


def _around(x: float, table: Sequence[Any], code: int) -> tuple[Any, Any, bool]:
    """Return the points on both sides of *x* and True, or the two nearest ones and False."""
    below = [each for each in table if each["x"] <= x]
    above = [each for each in table if each["x"] > x]
    if below and above:
        one = max(below, key=lambda each: each["x"])
        return one, min(above, key=lambda each: each["x"]), True
    one = two = None
    for each in table:
        away = abs(x - each["x"])
        if one is None or away < abs(x - one["x"]):
            one, two = each, one
        elif away != abs(x - one["x"]) and (two is None or away < abs(x - two["x"])):
            two = each
    if one is None or two is None:
        raise Failure(code, "table must have at least two distinct x values")
    return one, two, False


def _between(x: float, one: Any, two: Any, code: int) -> Any:
    share = divide(x - one["x"], two["x"] - one["x"])
    a, b = one["to"], two["to"]
    if type(a) is not list:
        return (1.0 - share) * a + share * b
    if len(a) != len(b):
        raise Failure(code + 1, "inconsistent dimensionality")
    return [(1.0 - share) * p + share * q for p, q in zip(a, b, strict=True)]


@entry("interp.linear", _TABLE.format("double", "[double]"))
def linear(x: float, table: Sequence[Any]) -> Any:
    """Beyond the table the line through the two nearest points goes on."""
    one, two, _ = _around(x, table, 22020)
    return _between(x, one, two, 22020)


@entry("interp.linearFlat", _TABLE.format("double", "[double]"))
def linear_flat(x: float, table: Sequence[Any]) -> Any:
    """Beyond the table the outermost value stays."""
    one, two, inside = _around(x, table, 22030)
    return _between(x, one, two, 22030) if inside else one["to"]


@entry("interp.linearMissing", _TABLE.format("(null|double)", "(null|[double])"))
def linear_missing(x: float, table: Sequence[Any]) -> Any:
    """Beyond the table there is nothing."""
    one, two, inside = _around(x, table, 22040)
    return _between(x, one, two, 22040) if inside or one["x"] == x else None
