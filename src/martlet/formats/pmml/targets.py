"""Targets: what becomes of the predicted value, and what stands in where there is none.

Source: PMML 4.4.1, Targets. In this order, as the reference engine: clip, rescale, cast.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from martlet.formats.pmml.column import Column, choose, constant
from martlet.formats.pmml.document import Element
from martlet.formats.pmml.prediction import Outcome, Prediction
from martlet.formats.pmml.values import DOUBLE, FLOAT, DataType, Value, parse, round32

_CASTS: dict[str, Callable[[float], int]] = {
    "round": lambda x: math.floor(x + 0.5),
    "ceiling": math.ceil,
    "floor": math.floor,
}
_VECTORS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "round": lambda x: np.floor(x + 0.5),
    "ceiling": np.ceil,
    "floor": np.floor,
}


@dataclass(frozen=True, slots=True)
class Target:
    """
    One line of Targets.

    Args:
        default: The number that stands in for a missing one, and is treated as another is.
        priors: The labels and probabilities that stand in for a missing label.
        display: What to show for a label.
        rounds: Whether the model computes in float32, and so its targets.
    """

    field: str | None
    low: float | None
    high: float | None
    factor: float
    constant: float
    cast: str | None
    default: Value
    priors: tuple[tuple[Value, float], ...]
    display: dict[Value, str]
    kind: DataType
    rounds: bool

    @classmethod
    def of(cls, element: Element, kind: DataType, rounds: bool) -> Target:
        """Read a Target of a field of *kind*."""
        values = element.all("TargetValue")
        default: Value = None
        priors: list[tuple[Value, float]] = []
        display: dict[Value, str] = {}
        for each in values:
            text = each.get("value")
            try:
                label = None if text is None else parse(text, kind)
            except ValueError as exc:
                raise each.error(f"is malformed: {exc}") from None
            if each.get("defaultValue") is not None:
                default = each.number("defaultValue")
            if each.get("priorProbability") is not None:
                priors.append((label, each.number("priorProbability")))
            shown = each.get("displayValue")
            if shown is not None:
                display[label] = shown

        def margin(name: str) -> float | None:
            return element.number(name) if element.get(name) is not None else None

        whole = sum(share for _, share in priors) or 1.0
        cast = element.get("castInteger")
        if cast is not None:
            element.choice("castInteger", tuple(_CASTS))
        return cls(
            element.get("field"),
            margin("min"),
            margin("max"),
            element.number("rescaleFactor", 1.0),
            element.number("rescaleConstant", 0.0),
            cast,
            default,
            tuple((label, share / whole) for label, share in priors),
            display,
            kind,
            rounds,
        )

    @property
    def changes(self) -> bool:
        """Whether a number passes unchanged."""
        return (
            self.low is not None
            or self.high is not None
            or self.factor != 1.0
            or self.constant != 0.0
            or self.cast is not None
        )

    def numbers(self, column: Column) -> Column:
        """Return the predicted numbers, treated."""
        missing = column.missing
        if self.default is not None and missing is not None:
            column = column.cast(DOUBLE)
            stand_in = constant(self.default, DOUBLE, len(column))
            column = choose(missing, stand_in, column).with_errors(column.errors)
        return self._changed(column) if self.changes else column

    def _changed(self, column: Column) -> Column:
        x = column.values
        kind = FLOAT if self.rounds else DOUBLE
        x = x.astype(kind.numpy, copy=False)
        if self.low is not None or self.high is not None:
            x = np.clip(x, self.low, self.high)
        if self.factor != 1.0:
            x = x * kind.numpy(self.factor)
        if self.constant != 0.0:
            x = x + kind.numpy(self.constant)
        if self.cast is not None:
            x = _VECTORS[self.cast](x)
        return Column(kind, x, column.missing, column.errors)

    def number(self, x: float | None) -> Value:
        """Return one predicted number, treated."""
        if x is None:
            x = self.default
        if x is None or not self.changes:
            return x
        if self.low is not None and x < self.low:
            x = self.low
        if self.high is not None and x > self.high:
            x = self.high
        if self.rounds:
            x = round32(round32(x * round32(self.factor)) + round32(self.constant))
        else:
            x = x * self.factor + self.constant
        return x if self.cast is None or math.isinf(x) else float(_CASTS[self.cast](x))

    def labels(self, prediction: Prediction) -> Prediction:
        """Return the predicted labels, with the likeliest by priors where there is none."""
        missing = prediction.value.missing
        if missing is None or not self.priors:
            return prediction
        label = max(self.priors, key=lambda each: each[1])[0]
        value = prediction.value
        stand_in = constant(label, value.type, len(value))
        probability = prediction.probability
        classes = prediction.classes or tuple(each for each, _ in self.priors)
        if probability is None:
            probability = np.full((len(value), len(classes)), np.nan)
        row = [dict(self.priors).get(each, 0.0) for each in classes]
        probability = np.where(missing[:, None], np.array(row), probability)
        return replace(
            prediction,
            value=choose(missing, stand_in, value).with_errors(value.errors),
            classes=classes,
            probability=probability,
        )

    def label(self, outcome: Outcome) -> Outcome:
        """Return one predicted label; as :meth:`labels`."""
        if outcome.value is not None or not self.priors:
            return outcome
        classes = outcome.classes or tuple(each for each, _ in self.priors)
        row = [dict(self.priors).get(each, 0.0) for each in classes]
        label = max(self.priors, key=lambda each: each[1])[0]
        return Outcome(label, classes, row, outcome.entity, outcome.features)
