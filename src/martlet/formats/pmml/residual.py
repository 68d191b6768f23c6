"""residual: what came minus what is predicted. Source: PMML 4.4.1, Output."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from martlet.formats.pmml.column import Column, first, reasons
from martlet.formats.pmml.expressions import Expression
from martlet.formats.pmml.features import own_share
from martlet.formats.pmml.frame import Frame, Record, RowError, Single
from martlet.formats.pmml.prediction import Prediction
from martlet.formats.pmml.scope import Field, Scope
from martlet.formats.pmml.values import DOUBLE, DataType, Value


def residual(
    prediction: int,
    actual: Field,
    raw: int,
    scope: Scope,
    label: Value,
    classification: bool,
) -> Expression:
    """
    Return the expression of what came minus what is predicted.

    Args:
        raw: The slot of what the caller gave for *actual*.

    Of a class: 1 (0 where another came) minus the probability of *label*, or of the predicted.
    """
    read, frame_of = scope.reader(actual), scope.world.program.reader(0)
    lacking = f"field {actual.name!r} is missing, and the residual needs it"

    def column(frame: Frame) -> Column:
        p: Prediction = frame[prediction]
        came: Column = frame[actual.slot]
        errors = first(came.errors, p.value.errors)
        # An actual value that is not sent leaves the residual empty; one sent empty is refused.
        if came.missing is not None and frame[raw].dtype != object:
            errors = first(errors, reasons(came.missing, lacking))
        if not classification:
            values = came.cast(DOUBLE).floats() - p.value.cast(DOUBLE).floats()
        else:
            assert p.probability is not None
            if label is None:
                values = _came_equal(came, p.value) - own_share(p, p.probability)
            else:
                values = came.equals(label) - p.probability[:, p.classes.index(label)]
            values = np.where(came.known(), values, np.nan)
        gone = np.isnan(values)
        return Column(DOUBLE, values, gone if gone.any() else None, errors)

    def single(record: Record) -> Value:
        came = read(record)
        found = scope.world.program.reader(prediction)(record)
        if isinstance(found, Prediction):
            return column(frame_of(record)).objects()[0]
        if came is None and record[raw] is not None:
            raise RowError(lacking)
        if came is None or found.value is None:
            return None
        if not classification:
            return came - found.value
        wanted = found.value if label is None else label
        assert found.probability is not None
        return float(came == wanted) - found.probability[found.classes.index(wanted)]

    return _Direct(DOUBLE, column, single)


def _came_equal(came: Column, predicted: Column) -> np.ndarray:
    pairs = zip(came.objects(), predicted.objects(), strict=True)
    return np.array([float(a == b) for a, b in pairs])


@dataclass(frozen=True, slots=True)
class _Direct:
    type: DataType
    _column: Callable[[Frame], Column]
    _single: Single

    def column(self, frame: Frame) -> Column:
        return self._column(frame)

    def single(self) -> Single:
        return self._single
