"""XGBoost's and LightGBM's own models as stages: pipelines of Spark ML and MLeap hold them."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from martlet.errors import MissingExtra, UnsupportedModel
from martlet.formats import LoadOptions
from martlet.formats.stages.classes import Chooser, Names, complemented, mirrored
from martlet.formats.stages.stage import Kind, Port, Stage
from martlet.formats.stages.vectors import Dense, Floats, Vector, kept_sparse

T = TypeVar("T")


class Boosted(Protocol):
    """A booster that its own format has opened."""

    @property
    def features(self) -> int:
        """How many columns a row has."""
        ...

    @property
    def trees(self) -> int:
        """How many trees there are."""
        ...

    def scores(self, rows: Floats) -> tuple[Any, Any]:
        """Return what it predicts for *rows*, and the sums that this is made of."""
        ...

    def leaves(self, rows: Floats) -> Any:
        """Return the leaf of each row in each tree."""
        ...


def xgboost(name: str, content: bytes, *, best: bool = False) -> Boosted:
    """
    Open a model as XGBoost saves it.

    Args:
        name: Of the stage, for messages.
        best: Leave out the rounds after the best one, where an early stop has named it.

    Raises:
        UnsupportedModel: it is damaged.
        MissingExtra: XGBoost is not installed.
    """
    from martlet.formats.xgboost.servable import XGBoostServable

    found = _opened(name, "xgboost", content, XGBoostServable)
    shorter = found.up_to_best() if best else None
    return found if shorter is None else _opened(name, "xgboost", shorter, XGBoostServable)


def lightgbm(name: str, content: bytes) -> Boosted:
    """
    Open a model in LightGBM's text form.

    Raises:
        UnsupportedModel: it is damaged.
        MissingExtra: LightGBM is not installed.
    """
    from martlet.formats.lightgbm.servable import LightGBMServable

    return _opened(name, "lightgbm", content, LightGBMServable)


def _opened(name: str, library: str, content: bytes, load: Callable[[Path, LoadOptions], T]) -> T:
    with tempfile.TemporaryDirectory(prefix="martlet-") as folder:
        path = Path(folder) / "booster"
        path.write_bytes(content)
        try:
            return load(path, LoadOptions())
        except UnsupportedModel as exc:
            raise UnsupportedModel(str(exc).replace(str(path), f"{name}: its booster")) from None
        except ModuleNotFoundError as exc:
            raise MissingExtra(f"{name}, which holds a booster of {library}", library) from exc


@dataclass(frozen=True, slots=True)
class Missing:
    """
    Which numbers of a vector a booster takes as missing, beside NaN.

    Args:
        number: That stands for a missing one; NaN: none other.
        absent: What a sparse vector leaves out is missing.
        spark: The version that tells which rows are kept sparse; MLeap follows Spark 3.
    """

    number: float = float("nan")
    absent: bool = False
    spark: tuple[int, int] = (3, 5)

    def __call__(self, x: Vector) -> Floats:
        rows = x.dense()
        if self.number == self.number:
            rows = np.where(rows.astype(np.float32) == np.float32(self.number), np.nan, rows)
        if self.absent:
            zero = rows == 0
            sparse = kept_sparse((~zero).sum(axis=1), rows.shape[1], self.spark)
            rows = np.where(zero & sparse[:, None], np.nan, rows)
        return rows


@dataclass(frozen=True, slots=True)
class BoostedClassifier:
    """Scores, chances and the class of each row, then leaves: of those that are *given*."""

    booster: Boosted
    missing: Missing
    choose: Chooser
    given: tuple[bool, bool, bool, bool]

    def __call__(self, x: Vector) -> Any:
        rows = self.missing(x)
        predicted, margin = (np.asarray(each, np.float64) for each in self.booster.scores(rows))
        raw = mirrored(margin) if margin.ndim == 1 else margin
        if predicted.ndim == 2:
            chances, chosen = predicted, self.choose(raw, predicted)
        elif margin.ndim == 1:
            chances = complemented(predicted)
            chosen = self.choose(raw, chances)
        else:  # of many classes the one that wins, as multi:softmax answers
            chances, chosen = raw, predicted
        leaves = self.booster.leaves(rows) if self.given[3] else None
        every = (Dense(raw), Dense(chances), chosen, leaves)
        found = [each for each, wanted in zip(every, self.given, strict=True) if wanted]
        if leaves is not None:
            found[-1] = Dense(np.asarray(leaves, np.float64))
        return found[0] if len(found) == 1 else tuple(found)


def boosted_classifier(
    name: str, booster: Boosted, names: Names, missing: Missing, choose: Chooser, leaf: str = ""
) -> Stage:
    """
    Return the classifier that *booster* is.

    Args:
        choose: The class, of the scores and the chances.
        leaf: The column of the leaf in each tree, "" for none.
    """
    predicted, margin = booster.scores(np.zeros((1, booster.features)))
    classes = 2 if margin.ndim == 1 else margin.shape[1]
    chances = bool(names.probability) and (margin.ndim == 1 or predicted.ndim == 2)
    given = (bool(names.raw), chances, bool(names.prediction), bool(leaf))
    ports = (
        Port(names.raw, Kind.VECTOR, classes),
        Port(names.probability, Kind.VECTOR, classes),
        Port(names.prediction, Kind.NUMBER),
        Port(leaf, Kind.VECTOR, booster.trees),
    )
    outputs = tuple(port for port, wanted in zip(ports, given, strict=True) if wanted)
    features = (Port(names.features, Kind.VECTOR, booster.features),)
    run = BoostedClassifier(booster, missing, choose, given)
    return Stage(name, features, outputs, run, predicts=True)


@dataclass(frozen=True, slots=True)
class BoostedRegressor:
    """What the booster predicts, then the leaf in each tree where it is *given*."""

    booster: Boosted
    missing: Missing
    leaf: bool

    def __call__(self, x: Vector) -> Any:
        rows = self.missing(x)
        found = np.asarray(self.booster.scores(rows)[0], np.float64)
        if not self.leaf:
            return found
        return found, Dense(np.asarray(self.booster.leaves(rows), np.float64))


def boosted_regressor(
    name: str, booster: Boosted, features: str, prediction: str, missing: Missing, leaf: str = ""
) -> Stage:
    """Return the model of one number that *booster* is; *leaf* is a column, "" for none."""
    if np.ndim(booster.scores(np.zeros((1, booster.features)))[0]) != 1:
        raise UnsupportedModel(f"{name}: its booster answers several numbers a row")
    outputs = [Port(prediction, Kind.NUMBER)]
    if leaf:
        outputs.append(Port(leaf, Kind.VECTOR, booster.trees))
    return Stage(
        name,
        (Port(features, Kind.VECTOR, booster.features),),
        tuple(outputs),
        BoostedRegressor(booster, missing, bool(leaf)),
        predicts=True,
    )
