"""scikit-learn's networks (MLP) as products and sums: its checks of a call cost far more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from martlet.tensors import Tensor


def answers_of(model: Any) -> Callable[[Tensor], dict[str, Tensor]] | None:
    """
    Return what makes ``predict`` (and ``predict_proba``) of rows as *model* does; None: no network.

    Raises:
        AttributeError, KeyError: it is of another version, or not fitted.

    Source:
        scikit-learn, ``neural_network/_multilayer_perceptron.py``, ``_forward_pass_fast``.
    """
    kind = type(model)
    if not kind.__module__.startswith("sklearn.neural_network."):
        return None
    if kind.__name__ == "MLPRegressor":
        forward, single = _forward(model), model.n_outputs_ == 1
        return lambda rows: {"predict": forward(rows).ravel() if single else forward(rows)}
    if kind.__name__ == "MLPClassifier" and model.n_outputs_ == 1:
        return _of_two(_forward(model), model.classes_)
    if kind.__name__ == "MLPClassifier" and model.out_activation_ == "softmax":
        return _of_many(_forward(model), model.classes_)
    return None  # several labels for each row


def _forward(model: Any) -> Callable[[Tensor], Tensor]:
    layers = list(zip(model.coefs_, model.intercepts_, strict=True))
    between, last = _activation(model.activation), _activation(model.out_activation_)

    def forward(rows: Tensor) -> Tensor:
        found = rows
        for at, (weights, bias) in enumerate(layers, 1):
            found = found @ weights
            found += bias
            (between if at < len(layers) else last)(found)
        return found

    return forward


def _activation(name: str) -> Callable[[Tensor], object]:
    """Return what changes its argument."""
    from scipy.special import expit

    known: dict[str, Callable[[Tensor], object]] = {
        "identity": lambda x: None,
        "logistic": lambda x: expit(x, out=x),
        "relu": lambda x: np.maximum(x, 0, out=x),
        "softmax": _softmax,
        "tanh": lambda x: np.tanh(x, out=x),
    }
    return known[name]


def _softmax(x: Tensor) -> None:
    np.exp(x - x.max(axis=1, keepdims=True), out=x)
    x /= x.sum(axis=1, keepdims=True)


def _of_two(
    forward: Callable[[Tensor], Tensor], classes: Tensor
) -> Callable[[Tensor], dict[str, Tensor]]:
    def answers(rows: Tensor) -> dict[str, Tensor]:
        chance = forward(rows).ravel()
        chosen = classes.take((chance > 0.5).astype(np.intp))
        return {"predict": chosen, "predict_proba": np.stack([1 - chance, chance], axis=1)}

    return answers


def _of_many(
    forward: Callable[[Tensor], Tensor], classes: Tensor
) -> Callable[[Tensor], dict[str, Tensor]]:
    def answers(rows: Tensor) -> dict[str, Tensor]:
        chances = forward(rows)
        return {"predict": classes.take(chances.argmax(axis=1)), "predict_proba": chances}

    return answers
