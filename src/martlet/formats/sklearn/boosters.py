"""Boosters behind scikit-learn's interface: which of their columns were pandas categories."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from martlet.formats.lightgbm.text import LightGBMText
from martlet.formats.xgboost.file import XGBoostFile


def categories_of(estimator: Any, names: list[str]) -> dict[str, list[Any]]:
    """
    Return the values of each column of *names* that is a category, in order of code.

    They are in the booster, which its own format reads. None for estimators of other libraries,
    and for boosters that do not keep them.
    """
    if getattr(getattr(estimator, "booster_", None), "pandas_categorical", None):
        booster, read = estimator.booster_, _of_lightgbm
    elif "c" in (getattr(_xgboost(estimator), "feature_types", None) or ()):
        booster, read = _xgboost(estimator), _of_xgboost
    else:
        return {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "booster.json")
        booster.save_model(path)
        return {names[at]: values for at, values in read(path).items()}


def mend(estimator: Any) -> None:
    """Let LightGBM's regressors and rankers of before 4.0, which have no classes, tell that."""
    for each in (estimator, *(step for _, step in getattr(estimator, "steps", ()))):
        if getattr(each, "_n_classes", -1) is None:
            each._n_classes = -1


def forget_names(estimator: Any) -> None:
    """Let XGBoost's estimators take an array: their linear models ask for the names they know."""
    booster = getattr(estimator, "_Booster", None)
    if booster is not None:
        booster.feature_names = None


def _xgboost(estimator: Any) -> Any:
    return estimator.get_booster() if hasattr(estimator, "get_booster") else None


def _of_lightgbm(path: Path) -> dict[int, list[Any]]:
    text = LightGBMText.read(path)
    return {text.features.index(name): values for name, values in text.categories.items()}


def _of_xgboost(path: Path) -> dict[int, list[Any]]:
    return XGBoostFile.read(path).categories
