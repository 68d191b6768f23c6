"""``model.*``: trees, clusters, neighbours, regression, bayes, networks, support vectors."""

from __future__ import annotations

import math
import operator
import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from martlet.formats.pfa.failure import Failure
from martlet.formats.pfa.library import entry
from martlet.formats.pfa.library import stats as _stats  # noqa: F401  # model.reg.* are there too
from martlet.formats.pfa.library.algebra import simple_euclidean
from martlet.formats.pfa.library.arrays import hashable
from martlet.formats.pfa.library.core import Run, divide
from martlet.formats.pfa.library.maths import ln
from martlet.formats.pfa.types import NULL, NUMBERS, Array, Record, Type, Union, accepts, union
from martlet.formats.pfa.values import Fields, key_of, promotion

Vector = Sequence[float]

# -- trees: numbers 32000 ----------------------------------------------------------------------

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    "<": operator.lt,
    ">=": operator.ge,
    ">": operator.gt,
    "==": operator.eq,
    "!=": operator.ne,
}
_COMPARISON = "T{field: F@, operator: string, value: V}"
Test = Callable[[Any, Any], Any]


def _comparison(params: Sequence[Type], number: int, missing: bool) -> Test:
    """
    Return the test of a datum by a comparison.

    Each field is tested by what its own type and the comparisons' value type allow, found once
    for each field and operator.

    Args:
        missing: Whether a missing value makes the answer unknown; otherwise it is compared.
    """
    datum_type, of = params[0], params[1]
    assert isinstance(datum_type, Record) and isinstance(of, Record)
    value_type, known = of.fields["value"], datum_type.fields
    made: dict[tuple[str, str], Test] = {}

    def test(datum: Any, comparison: Any) -> Any:
        field = comparison["field"]
        key = (field, comparison["operator"])
        step = made.get(key)
        if step is None:
            step = made[key] = _step(known[field], value_type, key[1], number, missing)
        return step(datum[field], comparison["value"])

    return test


def _step(field: Type, value: Type, name: str, number: int, missing: bool) -> Test:
    if name in ("alwaysTrue", "alwaysFalse"):
        return lambda x, v: name == "alwaysTrue"
    if not missing and name in ("isMissing", "notMissing"):
        return lambda x, v: (x is None) is (name == "isMissing")
    if missing and isinstance(field, Union):
        field = union([each for each in field.types if each != NULL])
    if name in ("in", "notIn"):
        members = value.types if isinstance(value, Union) else (value,)
        if not any(isinstance(m, Array) and accepts(m.items, field) for m in members):
            return _refused(number + 1, "bad value type")
        inside = name == "in"
        return lambda x, v: None if missing and x is None else (x in _listed(v, number)) is inside
    run = _OPERATORS.get(name)
    if run is None:
        return _refused(number, "invalid comparison operator")
    if not accepts(value, field) and not (field in NUMBERS and value in NUMBERS):
        return _refused(number + 1, "bad value type")
    if field in NUMBERS:
        if value in NUMBERS and not missing:
            return run
        return lambda x, v: None if missing and x is None else run(x, _number(v, number))
    convert, order = promotion(value, field), key_of(value)

    def ordered(x: Any, v: Any) -> Any:
        if missing and x is None:
            return None
        x = x if convert is None else convert(x)
        return run(x, v) if order is None else run(order(x), order(v))

    return ordered


def _refused(code: int, text: str) -> Test:
    def refuse(x: Any, v: Any) -> Any:
        raise Failure(code, text)

    return refuse


def _listed(value: Any, number: int) -> Any:
    if type(value) is not list:
        raise Failure(number + 1, "bad value type")
    return value


def _number(value: Any, number: int) -> Any:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise Failure(number + 1, "bad value type")


@entry("model.tree.simpleTest", f"D{{}}, {_COMPARISON} -> boolean", typed=True)
def simple_test(params: Sequence[Type], result: Type) -> Run:
    return _comparison(params, 32000, missing=False)


@entry("model.tree.missingTest", f"D{{}}, {_COMPARISON} -> (null|boolean)", typed=True)
def missing_test(params: Sequence[Type], result: Type) -> Run:
    """Unknown where the field is missing."""
    return _comparison(params, 32010, missing=True)


@entry("model.tree.compoundTest", "D{}, string, [T{}], fn(D, T -> boolean) -> boolean")
def compound_test(datum: Any, logic: str, comparisons: Sequence[Any], f: Run) -> bool:
    results = (f(datum, each) for each in comparisons)
    if logic == "and":
        return all(results)
    if logic == "or":
        return any(results)
    if logic == "xor":
        return bool(sum(results) % 2 == 1)
    raise Failure(32020, "unrecognized logical operator")


@entry("model.tree.surrogateTest", "D{}, [T{}], fn(D, T -> (null|boolean)) -> boolean")
def surrogate_test(datum: Any, comparisons: Sequence[Any], f: Run) -> bool:
    """What the first comparison says that is not unknown."""
    for each in comparisons:
        found = f(datum, each)
        if found is not None:
            return bool(found)
    raise Failure(32030, "no successful surrogate")


def _node_kind(of: Type) -> str:
    assert isinstance(of, Record)
    return of.name


def _walk(
    params: Sequence[Type], branch: Callable[[Any, Any, Any], str]
) -> Callable[[Any, Any, Any], Any]:
    kind = _node_kind(params[1])

    def walk(datum: Any, node: Any, f: Any) -> Any:
        while type(node) is Fields and node.kind == kind:
            node = node[branch(datum, node, f)]
        return node

    return walk


@entry(
    "model.tree.simpleWalk",
    "D{}, T{pass: (T{}|S), fail: (T{}|S)}, fn(D, T -> boolean) -> S",
    typed=True,
)
def simple_walk(params: Sequence[Type], result: Type) -> Run:
    return _walk(params, lambda datum, node, f: "pass" if f(datum, node) else "fail")


def _three_ways(datum: Any, node: Any, f: Any) -> str:
    found = f(datum, node)
    return "missing" if found is None else "pass" if found else "fail"


@entry(
    "model.tree.missingWalk",
    "D{}, T{pass: (T{}|S), fail: (T{}|S), missing: (T{}|S)}, fn(D, T -> (null|boolean)) -> S",
    typed=True,
)
def missing_walk(params: Sequence[Type], result: Type) -> Run:
    return _walk(params, _three_ways)


@entry(
    "model.tree.simpleTree",
    "D{}, T{field: F@, operator: string, value: V, pass: (T{}|S), fail: (T{}|S)} -> S",
    typed=True,
)
def simple_tree(params: Sequence[Type], result: Type) -> Run:
    """
    A tree that is walked again is kept as tuples: field, test, value, and where it goes.

    Each node's test is found once, by its field and operator, not at every row.
    """
    datum_type, of = params[0], params[1]
    assert isinstance(datum_type, Record) and isinstance(of, Record)
    value_type, known, kind = of.fields["value"], datum_type.fields, of.name
    test = _comparison(params, 32060, missing=False)
    walk = _walk(params, lambda datum, node, f: "pass" if test(datum, node) else "fail")

    def inner(node: Any) -> bool:
        return type(node) is Fields and node.kind == kind

    def compiled(root: Any) -> Any:
        done: dict[int, Any] = {}
        pending = [root]
        while pending:
            node = pending[-1]
            below = [each for each in (node["pass"], node["fail"]) if inner(each)]
            waiting = [each for each in below if id(each) not in done]
            if waiting:
                pending.extend(waiting)
                continue
            pending.pop()
            field, name = node["field"], node["operator"]
            step = _step(known[field], value_type, name, 32060, False)
            ends = [done[id(e)] if inner(e) else e for e in (node["pass"], node["fail"])]
            done[id(node)] = (field, step, node["value"], *ends)
        return done[id(root)]

    def run(datum: Any, node: Any) -> Any:
        if not inner(node):
            return node
        owner, at = node.memo or (None, None)
        if owner is not run:
            node.memo = (run, None)
            return walk(datum, node, None)
        if at is None:
            at = compiled(node)
            node.memo = (run, at)
        while type(at) is tuple:
            field, step, value, yes, no = at
            at = yes if step(datum[field], value) else no
        return at

    return run


# -- clusters: numbers 29000 -------------------------------------------------------------------

_METRIC = "fn(A, B -> double)"


def _squares(x: Vector, y: Vector) -> float:
    """Return the squared distance over the elements that both have."""
    return sum((a - b) ** 2 for a, b in zip(x, y, strict=False))


def _distance(datum: Any, clusters: Sequence[Any], metric: Run | None) -> list[float]:
    if metric is None:
        return [_squares(datum, each["center"]) for each in clusters]
    return [metric(datum, each["center"]) for each in clusters]


@entry(
    "model.cluster.closest",
    f"[double], [C{{center: [double]}}] -> C; A, [C{{center: B}}], {_METRIC} -> C",
)
def closest(datum: Any, clusters: Sequence[Any], metric: Run | None = None) -> Any:
    if not clusters:
        raise Failure(29000, "no clusters")
    distances = _distance(datum, clusters, metric)
    return clusters[distances.index(min(distances))]


@entry(
    "model.cluster.closestN",
    f"int, [double], [C{{center: [double]}}] -> [C]; int, A, [C{{center: B}}], {_METRIC} -> [C]",
)
def closest_n(n: int, datum: Any, clusters: Sequence[Any], metric: Run | None = None) -> list[Any]:
    if n < 0:
        raise Failure(29010, "n must be nonnegative")
    distances = _distance(datum, clusters, metric)
    return [clusters[i] for i in sorted(range(len(clusters)), key=distances.__getitem__)[:n]]


@entry("model.cluster.randomSeeds", "[[A]], int, fn(int, [A] -> C{center: [B]}) -> [C]")
def random_seeds(data: Sequence[Any], k: int, make: Run) -> list[Any]:
    if k <= 0:
        raise Failure(29020, "k must be greater than zero")
    unique = list({hashable(each): each for each in data}.values())
    if len(unique) < k:
        raise Failure(29021, "not enough unique points")
    if any(len(each) != len(unique[0]) for each in unique):
        raise Failure(29022, "dimensions of vectors do not match")
    return [make(i, each) for i, each in enumerate(random.sample(unique, k))]


@entry(
    "model.cluster.kmeansIteration",
    "[[A]], [C{center: [B]}], fn([A], [B] -> double), fn([[A]], C -> C) -> [C]",
)
def kmeans_iteration(
    data: Sequence[Any], clusters: Sequence[Any], metric: Run, update: Run
) -> list[Any]:
    if not data:
        raise Failure(29030, "no data")
    if not clusters:
        raise Failure(29031, "no clusters")
    members: list[list[Any]] = [[] for _ in clusters]
    for datum in data:
        distances = _distance(datum, clusters, metric)
        members[distances.index(min(distances))].append(datum)
    return [update(own, each) if own else each for own, each in zip(members, clusters, strict=True)]


@entry("model.cluster.updateMean", "[[double]], C{center: [double]}, double -> C")
def update_mean(data: Sequence[Vector], cluster: Any, weight: float) -> Fields:
    if not data:
        raise Failure(29040, "no data")
    size = len(cluster["center"])
    if any(len(each) != size for each in data):
        raise Failure(29041, "dimensions of vectors do not match")
    total = len(data) + weight
    centre = [
        divide(sum(each[i] for each in data) + weight * old, total)
        for i, old in enumerate(cluster["center"])
    ]
    return Fields(cluster.kind, {**cluster, "center": centre})


# -- neighbours: numbers 30000 -----------------------------------------------------------------


def _from(datum: Any, codebook: Sequence[Any], metric: Run | None, code: int) -> list[float]:
    if metric is not None:
        return [metric(datum, each) for each in codebook]
    if any(len(each) != len(datum) for each in codebook):
        raise Failure(code, "inconsistent dimensionality")
    return [simple_euclidean(datum, each) for each in codebook]


@entry(
    "model.neighbor.nearestK",
    f"int, [double], [[double]] -> [[double]]; int, A, [B], {_METRIC} -> [B]",
)
def nearest_k(k: int, datum: Any, codebook: Sequence[Any], metric: Run | None = None) -> list[Any]:
    if k < 0:
        raise Failure(30010, "k must be nonnegative")
    distances = _from(datum, codebook, metric, 30011)
    return [codebook[i] for i in sorted(range(len(codebook)), key=distances.__getitem__)[:k]]


@entry(
    "model.neighbor.ballR",
    f"double, [double], [[double]] -> [[double]]; double, A, [B], {_METRIC} -> [B]",
)
def ball_r(r: float, datum: Any, codebook: Sequence[Any], metric: Run | None = None) -> list[Any]:
    if metric is None:
        distances = [math.sqrt(_squares(datum, each)) for each in codebook]
    else:
        distances = [metric(datum, each) for each in codebook]
    return [each for each, away in zip(codebook, distances, strict=True) if away < r]


@entry(
    "model.neighbor.mean", "[[double]] -> [double]; [[double]], fn([double] -> double) -> [double]"
)
def neighbor_mean(points: Sequence[Vector], weight: Run | None = None) -> list[float]:
    if not points:
        raise Failure(30000, "not enough points")
    if any(len(each) != len(points[0]) for each in points):
        raise Failure(30001, "inconsistent dimensionality")
    weights = [1.0 if weight is None else weight(each) for each in points]
    total = sum(weights)
    return [
        divide(sum(w * each[i] for w, each in zip(weights, points, strict=True)), total)
        for i in range(len(points[0]))
    ]


# -- regression: numbers 31000 -----------------------------------------------------------------


def _product(datum: Any, coeff: Any, const: float) -> float:
    if type(datum) is dict:
        # A key that one side lacks counts as 0.
        return float(sum(x * coeff[k] for k, x in datum.items() if k in coeff) + const)
    if len(datum) != len(coeff):
        raise Failure(31000, "misaligned coeff")
    return float(sum(x * c for x, c in zip(datum, coeff, strict=True)) + const)


@entry(
    "model.reg.linear",
    "[double], M{coeff: [double], const: double} -> double; "
    "[double], M{coeff: [[double]], const: [double]} -> [double]; "
    "{double}, M{coeff: {double}, const: double} -> double; "
    "{double}, M{coeff: {{double}}, const: {double}} -> {double}",
)
def reg_linear(datum: Any, model: Any) -> Any:
    coeff, const = model["coeff"], model["const"]
    if type(const) is list:
        if len(coeff) != len(const):
            raise Failure(31001, "misaligned const")
        return [_product(datum, row, c) for row, c in zip(coeff, const, strict=True)]
    if type(const) is dict:
        keys = dict.fromkeys([*coeff, *const])
        return {k: _product(datum, coeff.get(k, {}), const.get(k, 0.0)) for k in keys}
    return _product(datum, coeff, const)


def _variance(datum: Any, covariance: Any) -> float:
    """Return x' C x with a last 1 in x, whose row is the constant's ("" in maps)."""
    if type(datum) is dict:
        x = {**datum, "": 1.0}
        products = (
            a * b * covariance.get(i, {}).get(j, 0.0) for i, a in x.items() for j, b in x.items()
        )
        return float(sum(products))
    values = [*datum, 1.0]
    if len(covariance) != len(values) or any(len(row) != len(values) for row in covariance):
        raise Failure(31010, "misaligned covariance")
    return float(
        sum(a * b * covariance[i][j] for i, a in enumerate(values) for j, b in enumerate(values))
    )


@entry(
    "model.reg.linearVariance",
    "[double], M{covar: [[double]]} -> double; [double], M{covar: [[[double]]]} -> [double]; "
    "{double}, M{covar: {{double}}} -> double; {double}, M{covar: {{{double}}}} -> {double}",
    typed=True,
)
def linear_variance(params: Sequence[Type], result: Type) -> Run:
    def run(datum: Any, model: Any) -> Any:
        covariance = model["covar"]
        if str(result) == "double":
            return _variance(datum, covariance)
        if type(covariance) is dict:
            return {k: _variance(datum, each) for k, each in covariance.items()}
        return [_variance(datum, each) for each in covariance]

    return run


@entry(
    "model.reg.gaussianProcess",
    "; ".join(
        f"{x}, [R{{x: {x}, to: {to}}}], (null|double), fn([double], [double] -> double) -> {to}"
        for x in ("double", "[double]")
        for to in ("double", "[double]")
    ),
)
def gaussian_process(x: Any, table: Sequence[Any], weight: float | None, kernel: Run) -> Any:
    """Universal Kriging: a linear trend by least squares, and the kernel's correction of it."""
    if not table:
        raise Failure(31080, "table must have at least 1 entry")
    single_x, single_to = type(x) is not list, type(table[0]["to"]) is not list
    points = [[each["x"]] if single_x else each["x"] for each in table]
    outputs = [[each["to"]] if single_to else each["to"] for each in table]
    at = [x] if single_x else x
    if not at:
        raise Failure(31081, "x must have at least 1 feature")
    if any(len(each) != len(at) for each in points):
        raise Failure(31082, "table must have the same number of features as x")
    if not outputs[0]:
        raise Failure(31083, "table outputs must have at least 1 dimension")
    if any(len(each) != len(outputs[0]) for each in outputs):
        raise Failure(31084, "table outputs must all have the same number of dimensions")
    if not all(map(math.isfinite, at)):
        raise Failure(31085, "x is not finite")
    if not all(math.isfinite(v) for row in (*points, *outputs) for v in row):
        raise Failure(31086, "table value is not finite")
    if weight is not None and not math.isfinite(weight):
        raise Failure(31087, "krigingWeight is not finite")
    a = np.array(points)
    y = np.array(outputs)
    gram = np.array([[kernel(p, q) for q in points] for p in points])
    if weight is not None:
        gram = gram + np.diag(np.full(len(points), weight))
    near = np.array([kernel(p, at) for p in points])
    trend = np.column_stack([np.ones(len(a)), a])
    inverse = np.linalg.pinv(gram)
    beta = np.linalg.pinv(trend.T @ inverse @ trend) @ trend.T @ inverse @ y
    found = np.array([1.0, *at]) @ beta + near @ inverse @ (y - trend @ beta)
    return float(found[0]) if single_to else found.tolist()


# -- bayes: numbers 10000 ----------------------------------------------------------------------


@entry(
    "model.naive.gaussian",
    "[double], [C{mean: double, variance: double}] -> double; "
    "{double}, {C{mean: double, variance: double}} -> double",
)
def naive_gaussian(datum: Any, model: Any) -> float:
    pairs = _paired(datum, model, 10000)
    total = 0.0
    for x, each in pairs:
        variance = each["variance"]
        if variance <= 0:
            raise Failure(10001, "variance less than or equal to zero")
        total += -0.5 * ln(2 * math.pi * variance) - (x - each["mean"]) ** 2 / (2 * variance)
    return total


def _paired(datum: Any, model: Any, code: int) -> list[tuple[Any, Any]]:
    if len(datum) != len(model) or (type(datum) is dict and datum.keys() != model.keys()):
        raise Failure(code, "datum and classModel misaligned")
    if type(datum) is dict:
        return [(x, model[k]) for k, x in datum.items()]
    return list(zip(datum, model, strict=True))


@entry(
    "model.naive.multinomial",
    "[double], C{values: [double]} -> double; {double}, C{values: {double}} -> double; "
    "[double], [double] -> double; {double}, {double} -> double",
)
def naive_multinomial(datum: Any, model: Any) -> float:
    table = model["values"] if type(model) is Fields else model
    by_name = type(table) is dict
    values = list(table.values()) if by_name else table
    # The reference implementation takes a map's values for probabilities as they are.
    total = 1.0 if by_name else sum(values)
    if not values or min(values) <= 0:
        raise Failure(10011, "classModel must be non-empty and strictly positive")
    return float(sum(x * ln(p / total) for x, p in _paired(datum, table, 10010)))


@entry(
    "model.naive.bernoulli",
    "[string], C{values: {double}} -> double; [string], {double} -> double",
)
def naive_bernoulli(datum: Sequence[str], model: Any) -> float:
    table = model["values"] if type(model) is Fields else model
    if not all(0 < p < 1 for p in table.values()):
        raise Failure(10020, "probability in classModel cannot be less than 0 or greater than 1")
    found = sum(ln(1.0 - p) for p in table.values())
    return found + sum(ln(table[w]) - ln(1.0 - table[w]) for w in datum if w in table)


# -- networks and support vectors: numbers 11000 and 12000 ---------------------------------------


@entry(
    "model.neural.simpleLayers",
    "[double], [M{weights: [[double]], bias: [double]}], fn(double -> double) -> [double]",
)
def simple_layers(datum: Vector, model: Sequence[Any], activation: Run) -> list[float]:
    """The activation follows every layer but the last."""
    if not model:
        raise Failure(11000, "no layers")
    x: Sequence[float] = datum
    for i, layer in enumerate(model):
        weights, bias = layer["weights"], layer["bias"]
        if len(weights) != len(bias) or any(len(row) != len(x) for row in weights):
            raise Failure(11001, "weights, bias, or datum misaligned")
        sums = [
            sum(a * w for a, w in zip(x, row, strict=True)) + b
            for row, b in zip(weights, bias, strict=True)
        ]
        x = sums if i == len(model) - 1 else [activation(v) for v in sums]
    return list(x)


@entry(
    "model.svm.score",
    "[double], L{const: double, posClass: [M{supVec: [double], coeff: double}], "
    "negClass: [N{supVec: [double], coeff: double}]}, fn([double], [double] -> double) -> double",
)
def svm_score(datum: Vector, model: Any, kernel: Run) -> float:
    positive, negative = model["posClass"], model["negClass"]
    if not positive and not negative:
        raise Failure(12000, "no support vectors")
    total = model["const"]
    for each in (*negative, *positive):
        if len(each["supVec"]) != len(datum):
            raise Failure(12001, "support vectors must have same length as datum")
        total += kernel(each["supVec"], datum) * each["coeff"]
    return float(total)
