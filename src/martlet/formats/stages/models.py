"""Models whose score is a formula: linear, bayes, perceptron, factorisation, curves, factors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from martlet.errors import InvalidInput, UnsupportedModel
from martlet.formats.stages.classes import sigmoid
from martlet.formats.stages.stage import Kind, Port, Stage
from martlet.formats.stages.vectors import Blocks, Dense, Floats, Vector

Score = Callable[[Vector], Floats]


@dataclass(frozen=True, slots=True)
class Linear:
    """``x @ weights + intercept``, [rows]; *weights* are [width, 1]; *sparse* as of Affine."""

    weights: Floats
    intercept: float
    sparse: bool = False

    def __call__(self, x: Vector) -> Floats:
        return _product(x, self.weights, self.sparse)[:, 0] + self.intercept


@dataclass(frozen=True, slots=True)
class Affine:
    """
    ``x @ weights + intercepts``, [rows, classes]; *weights* are [width, classes].

    Args:
        sparse: A weight of 0 makes nothing of NaN or an infinity: sparse weights skip it.
    """

    weights: Floats
    intercepts: Floats
    sparse: bool = False

    def __call__(self, x: Vector) -> Floats:
        return _product(x, self.weights, self.sparse) + self.intercepts


def _product(x: Vector, weights: Floats, sparse: bool) -> Floats:
    if not sparse:
        return x.dot(weights)
    with np.errstate(invalid="ignore"):
        found = x.dot(weights)
        endless = np.asarray(~np.isfinite(found).all(axis=1))
        if endless.any():
            values = x.take(endless).dense()[:, :, None]
            found[endless] = np.where(weights == 0, 0.0, values * weights).sum(axis=1)
    return found


def linear(coefficients: Floats, intercept: float, *, sparse: bool = False) -> Linear:
    """Return ``x . coefficients + intercept``, [rows]."""
    return Linear(np.ascontiguousarray(coefficients)[:, None], intercept, sparse)


def affine(matrix: Floats, intercepts: Floats, *, sparse: bool = False) -> Affine:
    """Return ``matrix @ x + intercepts``, [rows, classes], of *matrix* [classes, width]."""
    return Affine(np.ascontiguousarray(matrix.T), intercepts, sparse)


def naive_bayes(name: str, kind: str, pi: Floats, theta: Floats, sigma: Floats | None) -> Score:
    """
    Return the log-likelihood of each class, [rows, classes].

    Args:
        kind: ``multinomial``, ``complement``, ``bernoulli`` or ``gaussian``.
        pi: Log priors [classes].
        theta: [classes, width] log probabilities; of ``gaussian`` the means.
        sigma: Of ``gaussian`` the variances.
    """
    if kind == "multinomial":
        return NotNegative(affine(theta, pi))
    if kind == "complement":
        return NotNegative(LogShares(affine(theta, np.zeros(len(theta)))))
    if kind == "bernoulli":
        absent = np.log1p(-np.exp(theta))
        return ZeroOrOne(affine(theta - absent, pi + absent.sum(axis=1)))
    if kind == "gaussian" and sigma is not None:
        return Gaussian(pi - 0.5 * np.log(sigma).sum(axis=1), theta, sigma)
    raise UnsupportedModel(f"{name}: naive Bayes of the kind {kind!r} is not supported")


@dataclass(frozen=True, slots=True)
class NotNegative:
    """*score* of vectors that hold no number below 0."""

    score: Score

    def __call__(self, x: Vector) -> Floats:
        if not (_numbers(x) >= 0).all():
            raise InvalidInput("naive Bayes takes numbers of 0 or more")
        return self.score(x)


@dataclass(frozen=True, slots=True)
class ZeroOrOne:
    """*score* of vectors of 0 and 1."""

    score: Score

    def __call__(self, x: Vector) -> Floats:
        values = _numbers(x)
        if not ((values == 0) | (values == 1)).all():
            raise InvalidInput("Bernoulli naive Bayes takes 0 and 1 only")
        return self.score(x)


@dataclass(frozen=True, slots=True)
class LogShares:
    """The logarithms of each row's exponentials over their sum."""

    score: Score

    def __call__(self, x: Vector) -> Floats:
        found = self.score(x)
        top = found.max(axis=1, keepdims=True)
        return np.asarray(found - top - np.log(np.exp(found - top).sum(axis=1, keepdims=True)))


@dataclass(frozen=True, slots=True)
class Gaussian:
    """``constant - sum((x - means) ** 2 / variances) / 2``, [rows, classes]."""

    constant: Floats
    means: Floats
    variances: Floats

    def __call__(self, x: Vector) -> Floats:
        away = x.dense()[:, None, :] - self.means
        return np.asarray(self.constant - 0.5 * (away * away / self.variances).sum(axis=2))


def _numbers(x: Vector) -> Floats:
    if isinstance(x, Blocks):
        return np.concatenate([_numbers(part).ravel() for part in x.parts])
    found = getattr(x, "values", None)
    return np.zeros(0) if found is None else np.asarray(found)


@dataclass(frozen=True, slots=True)
class Perceptron:
    """Layers of a matrix [in, out] and its biases, sigmoids between them."""

    layers: tuple[tuple[Floats, Floats], ...]

    def __call__(self, x: Vector) -> Floats:
        matrix, bias = self.layers[0]
        found = x.dot(matrix) + bias
        for matrix, bias in self.layers[1:]:
            found = sigmoid(found) @ matrix + bias
        return found


def perceptron(name: str, layers: Sequence[int], weights: Floats) -> Score:
    """
    Return the last layer's sums, [rows, classes], of a perceptron with sigmoids between layers.

    *weights* holds for each layer its matrix, column by column [out, in], then its biases.
    """
    steps: list[tuple[Floats, Floats]] = []
    at = 0
    for size, out in pairwise(layers):
        matrix = weights[at : at + size * out].reshape(size, out)
        at += size * out
        steps.append((np.ascontiguousarray(matrix), weights[at : at + out]))
        at += out
    if at != len(weights) or not steps:
        raise UnsupportedModel(f"{name}: {len(weights)} weights do not fit layers {list(layers)}")
    return Perceptron(tuple(steps))


@dataclass(frozen=True, slots=True)
class FactorisationMachine:
    """
    A factorisation machine's score, [rows].

    Args:
        weights: The linear weights and the factors side by side, [width, 1 + k].
        squares: The sums of each feature's squared factors, [width, 1].
    """

    intercept: float
    weights: Floats
    squares: Floats

    def __call__(self, x: Vector) -> Floats:
        sums = x.dot(self.weights)
        squares = np.square(sums[:, 1:]).sum(axis=1)
        pairs = squares - _squared(x).dot(self.squares)[:, 0]
        large = np.asarray(squares > _LARGE)
        if large.any():
            pairs[large] = _pairs(x.take(large), self.weights[:, 1:])
        return np.asarray(self.intercept + sums[:, 0] + 0.5 * pairs)


# A sum whose square has lost the digits that the pairs are made of.
_LARGE = 1e8


def _pairs(x: Vector, factors: Floats) -> Floats:
    """Return twice the sum of all pairs, [rows], added up element by element as Spark does."""
    entries = x.sparse()
    out = np.zeros(x.rows)
    for factor in factors.T:
        terms = factor.take(entries.column) * entries.values
        # numpy's own sums add in pairs, bincount one after the other.
        sums, squares = (
            np.bincount(entries.at, weights=each, minlength=x.rows)
            for each in (terms, terms * terms)
        )
        out += sums * sums - squares
    return out


def _squared(x: Vector) -> Vector:
    if isinstance(x, Blocks):
        return Blocks([_squared(part) for part in x.parts])
    if isinstance(x, Dense):
        return Dense(x.values * x.values)
    entries = x.sparse()
    return type(entries)(entries.at, entries.column, entries.values**2, entries.rows, entries.width)


def factorisation_machine(intercept: float, linear: Floats, factors: Floats) -> Score:
    """
    Return a factorisation machine's score, [rows].

    Args:
        factors: [width, k].

    Source: Rendle, "Factorization Machines", ICDM 2010, lemma 3.1.
    """
    return FactorisationMachine(
        intercept,
        np.ascontiguousarray(np.column_stack([linear, factors])),
        np.ascontiguousarray((factors * factors).sum(axis=1)[:, None]),
    )


@dataclass(frozen=True, slots=True)
class Isotonic:
    """The value that *predictions* take at x: linear between boundaries, flat outside."""

    boundaries: Floats
    predictions: Floats

    def __call__(self, x: Floats) -> Floats:
        return np.asarray(np.interp(x, self.boundaries, self.predictions))


@dataclass(frozen=True, slots=True)
class Curve:
    """*curve* at a number, or at an *element* of a vector."""

    curve: Isotonic
    element: int

    def __call__(self, x: Any) -> Floats:
        return self.curve(x if isinstance(x, np.ndarray) else x.dense()[:, self.element])


@dataclass(frozen=True, slots=True)
class Factors:
    """A user's factors times an item's; ids rise, NaN for an id that is not there."""

    users: tuple[NDArray[np.int64], NDArray[np.float32]]
    items: tuple[NDArray[np.int64], NDArray[np.float32]]

    def __call__(self, users: Any, items: Any) -> NDArray[np.float32]:
        i, known_users = _places(self.users[0], users)
        j, known_items = _places(self.items[0], items)
        scores = np.einsum("ij,ij->i", self.users[1][i], self.items[1][j], dtype=np.float32)
        return np.where(known_users & known_items, scores, np.float32(np.nan))


def factors(
    name: str,
    user: str,
    item: str,
    prediction: str,
    users: tuple[NDArray[np.int64], NDArray[np.float32]],
    items: tuple[NDArray[np.int64], NDArray[np.float32]],
) -> Stage:
    """
    Return the stage that multiplies a user's factors with an item's, float32.

    Args:
        users, items: Ids [n] and factors [n, rank]. An id outside them answers NaN.
    """
    return Stage(
        name,
        (Port(user, Kind.LONG), Port(item, Kind.LONG)),
        (Port(prediction, Kind.SINGLE),),
        Factors(_by_id(name, users), _by_id(name, items)),
        predicts=True,
    )


def _by_id(
    name: str, table: tuple[NDArray[np.int64], NDArray[np.float32]]
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    ids, rows = table
    if len(ids) == 0 or rows.ndim != 2:
        raise UnsupportedModel(f"{name}: a table of factors is empty")
    order = np.argsort(ids, kind="stable")
    return ids[order], np.ascontiguousarray(rows[order])


def _places(ids: NDArray[np.int64], wanted: Any) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    place = np.searchsorted(ids, wanted)
    place[place == len(ids)] = 0
    return place, np.asarray(ids[place] == wanted)
