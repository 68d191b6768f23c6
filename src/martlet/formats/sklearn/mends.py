"""What later versions of scikit-learn keep after ``fit``, given to estimators of earlier ones."""

from __future__ import annotations

from collections import UserList
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from martlet.formats.sklearn import before

_LOSSES = {
    "deviance": "log_loss",
    "ls": "squared_error",
    "lad": "absolute_error",
    "log": "log_loss",
    "squared_loss": "squared_error",
}


class Gone:
    """An object whose class is gone: it takes any state, and answers nothing."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def mend(part: Any) -> None:
    """Give one estimator what later versions of its class keep after ``fit``."""
    mender = _MENDERS.get(type(part).__name__)
    if mender is not None and (_is_fitted(part) or type(part).__name__ in _NEVER_FITTED):
        mender(part)


def mend_of(version: tuple[int, ...], part: Any) -> None:
    """Mend what only the *version* that wrote a file tells: as ``(1, 3, 2)``."""
    for until, kinds, mender in _BY_VERSION:
        if version < until and type(part).__name__ in kinds:
            mender(part)


def _is_fitted(part: Any) -> bool:
    # Those that are not are what others made copies of.
    return any(name.endswith("_") for name in vars(part))


def _is_gone(value: Any) -> bool:
    return value is None or isinstance(value, Gone)


def _boosting(part: Any) -> None:
    _loss_by_name(part)
    if not hasattr(part, "n_trees_per_iteration_"):
        part.n_trees_per_iteration_ = part.estimators_.shape[1]
    if _is_gone(getattr(part, "_loss", None)):
        part._loss = part._get_loss(sample_weight=None)
        if part._loss.is_multiclass:
            part._loss.link = _log_link()


def _log_link() -> Any:
    """Return the logarithm that boosted classes began from, where they are centred now."""
    from sklearn._loss.link import MultinomialLogit

    class Log(MultinomialLogit):  # type: ignore[misc]  # scikit-learn has no types
        def link(self, y_pred: Any, out: Any = None) -> Any:
            return np.log(y_pred, out=out)

    return Log()


def _boosting_by_histograms(part: Any) -> None:
    if _is_gone(part._loss.closs):
        part._loss = part._get_loss(sample_weight=None)
    if not hasattr(part, "_preprocessor"):
        part._preprocessor = None  # categories were their codes


def _adaptive_boosting(part: Any) -> None:
    if vars(part).get("algorithm") == "SAMME.R":
        before.boosted(part)


def _loss_by_name(part: Any) -> None:
    part.loss = _LOSSES.get(part.loss, part.loss)


def _ridge_classifier(part: Any) -> None:
    if not hasattr(part, "classes_"):
        part.classes_ = part._label_binarizer.classes_


def _frequencies(part: Any) -> None:
    if not hasattr(part, "idf_") and hasattr(part, "_idf_diag"):
        part.idf_ = part._idf_diag.diagonal()  # without it, frequencies would not be weighed


def _columns(part: Any) -> None:
    part.transformers_ = [
        (name, _passed(each), list(where) if isinstance(where, UserList) else where)
        for name, each, where in part.transformers_
    ]


def _passed(transformer: Any) -> Any:
    """Return what scikit-learn since 1.4 has instead of the word "passthrough"."""
    if not isinstance(transformer, str) or transformer != "passthrough":
        return transformer
    from sklearn.preprocessing import FunctionTransformer

    return FunctionTransformer(accept_sparse=True, check_inverse=False)


def _function(part: Any) -> None:
    if not isinstance(part.func, partial):
        return
    told = dict(part.func.keywords)
    if "force_all_finite" in told:  # of a check of rows: renamed in 1.6
        told["ensure_all_finite"] = told.pop("force_all_finite")
        part.func = partial(part.func.func, *part.func.args, **told)


def _kernel(part: Any) -> None:
    if not hasattr(part, "gamma_"):
        part.gamma_ = 1 / part.n_features_in_ if part.gamma is None else part.gamma


def _chain(part: Any) -> None:
    if getattr(part, "estimator", None) is None:
        part.estimator = part.base_estimator
    if not hasattr(part, "estimator_") and hasattr(part, "base_estimator_"):
        part.estimator_ = part.base_estimator_


def _least_squares(part: Any) -> None:
    if not hasattr(part, "_predict_1d"):
        part._predict_1d = False


def _coefficients_of_scaled(part: Any) -> None:
    # Rows were divided by their deviation; since then the coefficients are.
    part.coef_ = vars(part).get("_coef_", vars(part).get("coef_")) / part._x_std


def _shares(part: Any) -> None:
    """Make shares of the weights of classes that a tree's nodes held until 1.3."""
    values = part.tree_.value
    total = values.sum(axis=2, keepdims=True)
    weights = (np.abs(total - 1) > 1e-6) & (total > 0)
    np.divide(values, total, out=values, where=weights)


def _ordinals(part: Any) -> None:
    if not hasattr(part, "_infrequent_enabled"):
        part._infrequent_enabled = False


def _isolation(part: Any) -> None:
    if hasattr(part, "_decision_path_lengths"):
        return
    from sklearn.ensemble._iforest import _average_path_length

    trees = [each.tree_ for each in part.estimators_]
    part._average_path_length_per_tree = [_average_path_length(t.n_node_samples) for t in trees]
    part._decision_path_lengths = [each.compute_node_depths() for each in trees]


def _imputer(part: Any) -> None:
    if not hasattr(part, "_fill_dtype"):
        part._fill_dtype = getattr(part, "_fit_dtype", np.dtype(np.float64))


_Mender = Callable[[Any], None]

_NEVER_FITTED = frozenset({"FunctionTransformer"})

_MENDERS: Mapping[str, _Mender] = {
    "AdaBoostClassifier": _adaptive_boosting,
    "CCA": _least_squares,
    "ClassifierChain": _chain,
    "ColumnTransformer": _columns,
    "DecisionTreeClassifier": _shares,
    "ExtraTreeClassifier": _shares,
    "FunctionTransformer": _function,
    "GradientBoostingClassifier": _boosting,
    "GradientBoostingRegressor": _boosting,
    "HistGradientBoostingClassifier": _boosting_by_histograms,
    "HistGradientBoostingRegressor": _boosting_by_histograms,
    "IsolationForest": _isolation,
    "KernelPCA": _kernel,
    "LogisticRegression": before.logistic,
    "LogisticRegressionCV": before.logistic,
    "NearestCentroid": before.nearest_centroid,
    "OrdinalEncoder": _ordinals,
    "PLSCanonical": _least_squares,
    "PLSRegression": _least_squares,
    "RegressorChain": _chain,
    "RidgeClassifier": _ridge_classifier,
    "RidgeClassifierCV": _ridge_classifier,
    "SGDClassifier": _loss_by_name,
    "SGDRegressor": _loss_by_name,
    "SelfTrainingClassifier": _chain,
    "SimpleImputer": _imputer,
    "TfidfTransformer": _frequencies,
}

_BY_VERSION: tuple[tuple[tuple[int, ...], tuple[str, ...], _Mender], ...] = (
    ((1, 3, 1), ("AdaBoostClassifier",), before.boosted),
    ((1, 5), ("PLSRegression", "PLSCanonical", "CCA"), _coefficients_of_scaled),
)
