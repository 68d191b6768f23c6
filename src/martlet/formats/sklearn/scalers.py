"""scikit-learn's scalers as the few operations of numpy that they are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from martlet.tensors import Tensor

Step = Callable[[Tensor], Tensor]


def step_of(transformer: Any) -> Step | None:
    """
    Return what *transformer* does to rows of finite numbers; None where it is no scaler.

    Raises:
        AttributeError: it is of another version, or not fitted.
    """
    kind = type(transformer)
    known = kind.__module__.startswith("sklearn.preprocessing.") and kind.__name__ in _SCALERS
    return _SCALERS[kind.__name__](transformer) if known else None


def _standard(scaler: Any) -> Step:
    mean = scaler.mean_ if scaler.with_mean else None
    return _shifted(mean, scaler.scale_ if scaler.with_std else None)


def _robust(scaler: Any) -> Step:
    center = scaler.center_ if scaler.with_centering else None
    return _shifted(center, scaler.scale_ if scaler.with_scaling else None)


def _shifted(mean: Tensor | None, scale: Tensor | None) -> Step:
    def scaled(rows: Tensor) -> Tensor:
        if mean is None:
            return rows if scale is None else rows / scale
        found: Tensor = rows - mean
        if scale is not None:
            found /= scale
        return found

    return scaled


def _to_a_range(scaler: Any) -> Step:
    scale, least, ends = scaler.scale_, scaler.min_, scaler.feature_range

    def scaled(rows: Tensor) -> Tensor:
        found: Tensor = rows * scale
        found += least
        return np.clip(found, *ends, out=found) if scaler.clip else found

    return scaled


_SCALERS: dict[str, Callable[[Any], Step]] = {
    "MinMaxScaler": _to_a_range,
    "RobustScaler": _robust,
    "StandardScaler": _standard,
}
