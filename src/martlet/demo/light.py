"""The light model: logistic regression over a user's and a film's vector, kept as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from martlet.demo.candidates import Candidates
from martlet.demo.dataset import Floats
from martlet.demo.tables import Tables

INPUTS = ("product", "item")
"""What its input is made of: the element-wise product of the two vectors, then the film's."""


@dataclass(frozen=True, slots=True)
class Light:
    """
    ``sigmoid(x @ w0 + b0)`` where x is the product of the vectors, then the film's vector.

    Args:
        w0: Shape [2 * dim, 1].
        b0: Shape [1].
    """

    w0: NDArray[np.float32]
    b0: NDArray[np.float32]

    def score(self, tables: Tables, pairs: Candidates) -> Floats:
        """Return the chance that each pair is liked later. Shape [n]."""
        raw = inputs(tables, pairs) @ self.w0 + self.b0
        return 1 / (1 + np.exp(-raw[:, 0].astype(np.float64)))


def inputs(tables: Tables, pairs: Candidates) -> NDArray[np.float32]:
    """Return the model's input for each pair. Shape [n, 2 * dim]."""
    user, item = tables.user_vectors[pairs.user], tables.item_vectors[pairs.item]
    return np.concatenate([user * item, item], axis=1)


def train(tables: Tables, pairs: Candidates, label: NDArray[np.bool_], seed: int) -> Light:
    """Return the light model that *label* teaches."""
    from sklearn.linear_model import LogisticRegression

    rows = inputs(tables, pairs)
    scale = rows.std(axis=0)
    scale[scale == 0] = 1
    model = LogisticRegression(C=0.1, max_iter=200, random_state=seed)
    model.fit(rows / scale, label)
    # The scaling goes into the weights: who serves the model need not know of it.
    return Light(
        w0=(model.coef_[0] / scale).astype(np.float32)[:, None],
        b0=np.asarray(model.intercept_, dtype=np.float32),
    )
