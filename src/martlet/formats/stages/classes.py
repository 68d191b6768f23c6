"""From scores to classes: probabilities, thresholds, the label that wins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from martlet.errors import UnsupportedModel
from martlet.formats.stages.stage import Kind, Port, Stage
from martlet.formats.stages.vectors import Dense, Floats, Vector


def sigmoid(x: Floats) -> Floats:
    """Return ``1 / (1 + exp(-x))``; below -709, where exp overflows, as at -709: 1e-308."""
    return np.asarray(1.0 / (1.0 + np.exp(-np.maximum(x, -709.0))))


def softmax(x: Floats) -> Floats:
    """
    Return each row's exponentials over their sum.

    A row with an infinity is 1 at the first, and 0 times its score elsewhere, as in Spark: NaN
    where that is infinite too.
    """
    top = x.max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore"):
        e: Floats = np.exp(x - top)
        e /= e.sum(axis=1, keepdims=True)
        if np.isfinite(top).all():
            return e
        endless = x == np.inf
        rows = np.flatnonzero(endless.any(axis=1))
        e[rows] = 0.0 * x[rows]
    e[rows, endless[rows].argmax(axis=1)] = 1.0
    return e


def mirrored(margin: Floats) -> Floats:
    """Return ``[-m, m]`` for each margin: the scores of two classes."""
    out = np.empty((len(margin), 2))
    out[:, 1] = margin
    np.negative(margin, out=out[:, 0])
    return out


def complemented(p: Floats) -> Floats:
    """Return ``[1 - p, p]`` for each probability."""
    out = np.empty((len(p), 2))
    out[:, 1] = p
    np.subtract(1.0, p, out=out[:, 0])
    return out


@dataclass(frozen=True, slots=True)
class Mirrored:
    """The scores of two classes, of the *margin* between them."""

    margin: Callable[[Vector], Floats]

    def __call__(self, x: Vector) -> Floats:
        return mirrored(self.margin(x))


@dataclass(frozen=True, slots=True)
class Logistic:
    """The probabilities of two classes: the sigmoid of *slope* times the second's score."""

    slope: float = 1.0

    def __call__(self, raw: Floats) -> Floats:
        return complemented(sigmoid(self.slope * raw[:, 1]))


@dataclass(frozen=True, slots=True)
class Names:
    """The columns a classifier takes and gives; "" where it gives none."""

    features: str
    raw: str
    probability: str
    prediction: str


Chooser = Callable[[Floats, Floats | None], Floats]
"""From scores and probabilities [rows, classes] to the class that wins, float64 [rows]."""


def argmax_choice(raw: Floats, probability: Floats | None) -> Floats:
    """Return the class with the highest score, the first of equals."""
    return np.asarray(raw.argmax(axis=1), dtype=np.float64)


def likeliest_choice(raw: Floats, probability: Floats | None) -> Floats:
    """Return the class with the highest probability, the first of equals."""
    assert probability is not None
    return np.asarray(probability.argmax(axis=1), dtype=np.float64)


@dataclass(frozen=True, slots=True)
class ThresholdChoice:
    """The class whose probability over its limit is highest."""

    limits: Floats

    def __call__(self, raw: Floats, probability: Floats | None) -> Floats:
        assert probability is not None
        limits = self.limits
        with np.errstate(divide="ignore", invalid="ignore"):
            scaled = np.where(
                limits == 0, np.where(probability == 0, 0.0, np.inf), probability / limits
            )
        scaled[np.isnan(scaled)] = -np.inf  # no class wins by a probability that is missing
        return np.asarray(scaled.argmax(axis=1), dtype=np.float64)


def threshold_choice(name: str, thresholds: Sequence[float]) -> Chooser:
    """Return the choice of the class whose probability over its threshold is highest."""
    limits = np.asarray(thresholds, dtype=np.float64)
    if (limits < 0).any() or np.count_nonzero(limits == 0) > 1:
        raise UnsupportedModel(f"{name}: thresholds {list(thresholds)} are not usable")
    return ThresholdChoice(limits)


@dataclass(frozen=True, slots=True)
class MarginChoice:
    """Class 1 where its score is above *limit*."""

    limit: float

    def __call__(self, raw: Floats, probability: Floats | None) -> Floats:
        return np.asarray(raw[:, 1] > self.limit, dtype=np.float64)


def margin_choice(limit: float) -> Chooser:
    """Return the choice of class 1 where its score is above *limit*."""
    return MarginChoice(limit)


def logit_limit(threshold: float) -> float:
    """Return the margin at which the probability is *threshold*."""
    if threshold <= 0:
        return -np.inf
    return np.inf if threshold >= 1 else float(np.log(threshold / (1.0 - threshold)))


@dataclass(frozen=True, slots=True)
class Classifier:
    """
    Scores, probabilities and the class that wins, then what *more* gives.

    Args:
        gives: Whether it gives the scores, the probabilities, the class.
    """

    score: Callable[[Vector], Floats]
    probability: Callable[[Floats], Floats] | None
    choose: Chooser
    gives: tuple[bool, ...]
    more: Callable[[Vector], tuple[Any, ...]] | None = None

    def __call__(self, features: Vector) -> Any:
        raw = self.score(features)
        chances = None if self.probability is None else self.probability(raw)
        gives_raw, gives_probability, gives_class = self.gives
        found: list[Any] = []
        if gives_raw:
            found.append(Dense(raw))
        if gives_probability and chances is not None:
            found.append(Dense(chances))
        if gives_class:
            found.append(self.choose(raw, chances))
        if self.more is not None:
            found.extend(self.more(features))
        return found[0] if len(found) == 1 else tuple(found)


def classifier(
    name: str,
    names: Names,
    width: int,
    classes: int,
    score: Callable[[Vector], Floats],
    probability: Callable[[Floats], Floats] | None,
    choose: Chooser,
    extra: tuple[Port, ...] = (),
    more: Callable[[Vector], tuple[Any, ...]] | None = None,
) -> Stage:
    """
    Return a model stage that gives scores, probabilities (if it has them) and the class.

    Args:
        width: Of the features.
        classes: How many.
        score: The scores, ``[rows, classes]``.
        probability: Of the scores.
        choose: The class, from both.
        extra, more: Columns beside these, and what computes them.
    """
    outputs: list[Port] = []
    if names.raw:
        outputs.append(Port(names.raw, Kind.VECTOR, classes))
    if names.probability and probability is not None:
        outputs.append(Port(names.probability, Kind.VECTOR, classes))
    if names.prediction:
        outputs.append(Port(names.prediction, Kind.NUMBER))
    outputs.extend(extra)

    run = Classifier(
        score,
        probability,
        choose,
        tuple(map(bool, (names.raw, names.probability, names.prediction))),
        more,
    )
    return Stage(
        name, (Port(names.features, Kind.VECTOR, width),), tuple(outputs), run, predicts=True
    )


@dataclass(frozen=True, slots=True)
class Regressor:
    """One number a row, then what *more* gives."""

    score: Callable[[Vector], Floats]
    more: Callable[[Vector], tuple[Any, ...]] | None = None

    def __call__(self, column: Vector) -> Any:
        found = self.score(column)
        return found if self.more is None else (found, *self.more(column))


def regressor(
    name: str,
    features: str,
    width: int,
    prediction: str,
    score: Callable[[Vector], Floats],
    extra: tuple[Port, ...] = (),
    more: Callable[[Vector], tuple[Any, ...]] | None = None,
) -> Stage:
    """Return a model stage that gives one number a row."""
    return Stage(
        name,
        (Port(features, Kind.VECTOR, width),),
        (Port(prediction, Kind.NUMBER), *extra),
        Regressor(score, more),
        predicts=True,
    )
