"""LightGBM's text model (``model.txt``), run by LightGBM."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from martlet.errors import ServableFailed, UnsupportedModel
from martlet.formats import Format, LoadOptions
from martlet.servable import DEFAULT_SIGNATURE
from martlet.tensors import DType, Signature, Spec, Tensor, Tensors

MATRIX = "X"
_UNNAMED = re.compile(r"Column_\d+|f\d+")


class LightGBMServable:
    """
    One Booster.

    Two signatures take the same features: ``matrix`` as one float64 ``X [-1, features]``, and
    ``columns`` as one float64 ``[-1]`` input a feature, by the names in the file. The default
    is ``columns`` where the file has names that somebody chose, else ``matrix``. NaN is a
    missing value. Outputs: ``predict`` (probability, or score) and ``raw_score``.
    """

    def __init__(self, path: Path, options: LoadOptions) -> None:
        import lightgbm

        try:
            self._booster = lightgbm.Booster(model_file=str(path))
        except lightgbm.basic.LightGBMError as exc:
            raise UnsupportedModel(f"{path} is not a LightGBM model that loads: {exc}") from exc
        self._threads = options.threads
        self._names = self._booster.feature_name()
        classes = self._booster.num_model_per_iteration()
        shape = (-1,) if classes == 1 else (-1, classes)
        outputs = [Spec(n, DType.FLOAT64, shape) for n in ("predict", "raw_score")]
        matrix = Signature.of(
            [Spec(MATRIX, DType.FLOAT64, (-1, len(self._names)), nullable=True)], outputs
        )
        columns = Signature.of(
            [Spec(n, DType.FLOAT64, (-1,), nullable=True) for n in self._names], outputs
        )
        named = not all(_UNNAMED.fullmatch(name) for name in self._names)
        self.signatures: Mapping[str, Signature] = {
            DEFAULT_SIGNATURE: columns if named else matrix,
            "matrix": matrix,
            "columns": columns,
        }

    def predict(
        self, inputs: Tensors, signature_name: str = DEFAULT_SIGNATURE
    ) -> dict[str, Tensor]:
        """Score the rows. Both outputs are float64, ``[rows]`` or ``[rows, classes]``."""
        if MATRIX in self.signatures[signature_name].inputs:
            rows = inputs[MATRIX]
        else:
            rows = np.column_stack([inputs[name] for name in self._names])
        return {
            "predict": self._score(rows, raw_score=False),
            "raw_score": self._score(rows, raw_score=True),
        }

    def _score(self, rows: Tensor, raw_score: bool) -> Tensor:
        import lightgbm

        try:
            found = self._booster.predict(rows, raw_score=raw_score, num_threads=self._threads)
        except lightgbm.basic.LightGBMError as exc:
            raise ServableFailed(f"LightGBM failed: {exc}") from exc
        return np.asarray(found)

    def close(self) -> None:
        """Free the trees."""
        del self._booster


def _sniff(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(256)
    return head.startswith(b"tree\n") and b"num_class=" in head


FORMAT = Format(
    name="lightgbm",
    suffixes=(),
    sniff=_sniff,
    load=LightGBMServable,
    extra="lightgbm",
)
